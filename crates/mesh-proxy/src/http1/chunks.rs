//! Reads a body that comes in chunks (RFC 9112, §7.1), from bytes that come as they please.

use bytes::{Buf, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Broken, HeadLimits, Piece, has_empty_line};

/// How many bytes the extensions of all chunks of a body may have. Nobody reads them.
const EXTENSIONS: usize = 16 << 10;
/// How many digits a size has at most.
const DIGITS: usize = 16;

/// What is left of a body in chunks.
#[derive(Debug)]
pub struct Chunks {
    next: Next,
    /// Bytes of extensions so far.
    extensions: usize,
    limits: HeadLimits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Size,
    Data(u64),
    DataEnd,
    /// Of which so many bytes were looked at and hold no end.
    Trailers(usize),
    Nothing,
}

impl Chunks {
    /// From the first chunk on. Trailers have the limits of heads.
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            next: Next::Size,
            extensions: 0,
            limits,
        }
    }

    /// Whether the end has come.
    pub fn is_over(&self) -> bool {
        self.next == Next::Nothing
    }

    /// What comes next, from the bytes that there are.
    ///
    /// # Errors
    /// When they are not chunks, or too much stands between them.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Piece, Broken> {
        loop {
            self.next = match self.next {
                Next::Nothing => return Ok(Piece::Over),
                Next::Size => match self.size(buf)? {
                    None => return Ok(Piece::More),
                    Some(0) => Next::Trailers(0),
                    Some(size) => Next::Data(size),
                },
                Next::Data(left) => {
                    if buf.is_empty() {
                        return Ok(Piece::More);
                    }
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                    let data = buf.split_to(length).freeze();
                    self.next = match left - length as u64 {
                        0 => Next::DataEnd,
                        left => Next::Data(left),
                    };
                    self.end_early(buf);
                    return Ok(Piece::Data(data));
                }
                Next::DataEnd => match &buf[..] {
                    [b'\r', b'\n', ..] => {
                        buf.advance(2);
                        Next::Size
                    }
                    [] | [b'\r'] => return Ok(Piece::More),
                    _ => return Err(Broken::Unreadable("a chunk is longer than its size")),
                },
                Next::Trailers(looked) => match self.trailers(buf, looked)? {
                    Ok(trailers) if trailers.is_empty() => Next::Nothing,
                    Ok(trailers) => {
                        self.next = Next::Nothing;
                        return Ok(Piece::Trailers(trailers));
                    }
                    Err(looked) => {
                        self.next = Next::Trailers(looked);
                        return Ok(Piece::More);
                    }
                },
            }
        }
    }

    /// Sees that the last chunk is the last when its end came with it: whoever gets it may send it with its own end.
    fn end_early(&mut self, buf: &mut BytesMut) {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        if self.next == Next::DataEnd && buf.starts_with(END) {
            buf.advance(END.len());
            self.next = Next::Nothing;
        }
    }

    /// The size of the next chunk, once its line is there.
    fn size(&mut self, buf: &mut BytesMut) -> Result<Option<u64>, Broken> {
        let Some(end) = buf.iter().position(|byte| *byte == b'\n') else {
            return if buf.len() > DIGITS + EXTENSIONS + 1 {
                Err(Broken::Unreadable("the extensions of its chunks are too long"))
            } else {
                Ok(None)
            };
        };
        let bad = Broken::Unreadable("the size of a chunk is no number");
        let Some(line) = buf[..end].strip_suffix(b"\r") else {
            return Err(bad);
        };
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (number, extension) = line.split_at(digits);
        let text = std::str::from_utf8(number).unwrap_or_default();
        let size = u64::from_str_radix(text, 16);
        let Some(size) = size.ok().filter(|_| digits <= DIGITS) else {
            return Err(bad);
        };
        // Space may stand before an extension, and nothing else.
        let extension_begins = extension.trim_ascii_start().first();
        if extension_begins.is_some_and(|byte| *byte != b';') || extension.contains(&b'\r') {
            return Err(bad);
        }
        self.extensions += extension.len();
        if self.extensions > EXTENSIONS {
            return Err(Broken::Unreadable("the extensions of its chunks are too long"));
        }
        buf.advance(end + 1);
        Ok(Some(size))
    }

    /// The trailers, once they are there; before, how many bytes were looked at.
    fn trailers(&self, buf: &mut BytesMut, looked: usize) -> Result<Result<HeaderMap, usize>, Broken> {
        if buf.starts_with(b"\r\n") {
            buf.advance(2);
            return Ok(Ok(HeaderMap::new()));
        }
        // What ends with what was looked at before begins there.
        if !has_empty_line(&buf[looked.saturating_sub(2)..]) {
            return if buf.len() > self.limits.bytes {
                Err(Broken::Unreadable("its trailers are too large"))
            } else {
                Ok(Err(buf.len()))
            };
        }
        let mut fields = vec![httparse::EMPTY_HEADER; self.limits.fields];
        let Ok(httparse::Status::Complete((length, fields))) = httparse::parse_headers(buf, &mut fields)
        else {
            return Err(Broken::Unreadable("its trailers are none"));
        };
        let bare = buf[..length]
            .iter()
            .zip(&buf[1..length])
            .any(|(before, byte)| *byte == b'\n' && *before != b'\r');
        if bare || length > self.limits.bytes {
            return Err(Broken::Unreadable("its trailers are none"));
        }
        let trailers = fields
            .iter()
            .map(|field| {
                let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
                Some((name, HeaderValue::from_bytes(field.value).ok()?))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or(Broken::Unreadable("its trailers are none"))?;
        buf.advance(length);
        let mut map = HeaderMap::with_capacity(trailers.len());
        for (name, value) in trailers {
            map.append(name, value);
        }
        Ok(Ok(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 200,
        fields: 3,
    };

    type Body = (Vec<u8>, Vec<String>, bool, usize);

    /// What a body comes to when its bytes come in pieces of this length: its data, and its trailers; whether anything is
    /// missing; what is left.
    fn read(bytes: &[u8], piece: usize) -> Result<Body, &'static str> {
        let mut chunks = Chunks::new(LIMITS);
        let (mut buf, mut data, mut trailers) = (BytesMut::new(), Vec::new(), Vec::new());
        let mut pieces = bytes.chunks(piece);
        loop {
            match chunks.next(&mut buf) {
                Ok(Piece::Data(piece)) => data.extend_from_slice(&piece),
                Ok(Piece::Trailers(map)) => {
                    trailers.extend(map.iter().map(|(name, value)| format!("{name}: {value:?}")));
                }
                Ok(Piece::Over) => {
                    return Ok((
                        data,
                        trailers,
                        false,
                        buf.len() + pieces.map(<[u8]>::len).sum::<usize>(),
                    ));
                }
                Ok(Piece::More) => match pieces.next() {
                    Some(piece) => buf.extend_from_slice(piece),
                    None => return Ok((data, trailers, true, buf.len())),
                },
                Err(Broken::Unreadable(why)) => return Err(why),
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn chunks_are_read_however_they_come() {
        let long = format!("2;{}\r\nok\r\n0\r\n\r\n", "x".repeat(EXTENSIONS - 1));
        for (bytes, data, trailers, missing, left) in [
            ("2\r\nok\r\n0\r\n\r\n", "ok", &[][..], false, 0),
            ("0\r\n\r\n", "", &[], false, 0),
            ("1\r\no\r\n001\r\nk\r\n000\r\n\r\n", "ok", &[], false, 0),
            (
                "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\nnext",
                "01234567890123456789",
                &[],
                false,
                4,
            ),
            ("2;a=b;c\r\nok\r\n0;d\r\n\r\n", "ok", &[], false, 0),
            ("2 \t;a\r\nok\r\n0 \r\n\r\n", "ok", &[], false, 0),
            (&long, "ok", &[], false, 0),
            (
                "2\r\nok\r\n0\r\nX-Sum: 7\r\nx-b:  8 \r\n\r\nnext",
                "ok",
                &["x-sum: \"7\"", "x-b: \"8\""],
                false,
                4,
            ),
            ("2\r\nok\r\n0\r\n\r", "ok", &[], true, 1),
            ("5\r\nhel", "hel", &[], true, 0),
            ("5", "", &[], true, 1),
            ("", "", &[], true, 0),
        ] {
            for piece in [1, 2, 3, 7, usize::MAX] {
                let read = read(bytes.as_bytes(), piece).unwrap();
                let trailers: Vec<String> = trailers.iter().map(|text: &&str| (*text).to_owned()).collect();
                assert_eq!(
                    read,
                    (data.as_bytes().to_vec(), trailers, missing, left),
                    "{bytes:?} in pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let long = format!("2;{}\r\nok\r\n0\r\n\r\n", "x".repeat(EXTENSIONS));
        let longer = format!("2;{}", "x".repeat(2 * EXTENSIONS));
        let together = "1;x\r\na\r\n".repeat(EXTENSIONS / 2 + 1);
        let trailers = format!("0\r\nx: {}\r\n\r\n", "y".repeat(300));
        for bytes in [
            "zz\r\n",
            "\r\n",
            ";a\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 1\r\n",
            "1\n",
            "1\rx\r\n",
            "1;a\rb\r\nx\r\n",
            "ffffffffffffffff1\r\n",
            "00000000000000001\r\n",
            "2\r\nokay\r\n0\r\n\r\n",
            "2\r\nok\n0\r\n\r\n",
            "0\r\nno trailer\r\n\r\n",
            "0\r\nx: a\rb\r\n\r\n",
            "0\r\nx: y\n\r\n",
            "0\r\nx: y\n\n",
            "0\r\na: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n\r\n",
            &long,
            &longer,
            &together,
            &trailers,
        ] {
            for piece in [1, 3, usize::MAX] {
                assert!(
                    read(bytes.as_bytes(), piece).is_err(),
                    "{bytes:?} in pieces of {piece}"
                );
            }
        }
    }
}
