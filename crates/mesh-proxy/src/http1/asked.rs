//! Reads the heads of requests, and how they say that their bodies are framed (RFC 9112, §6.3). What has two meanings is
//! refused.

use std::fmt;
use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};

use super::{Chunks, Framing, HeadLimits, Manner, ON_STACK, digits, has_empty_line, lists};

/// How long a target may be, in bytes: what `http::Uri` takes.
const TARGET: usize = u16::MAX as usize - 1;

/// A request without its body.
#[derive(Debug)]
pub struct Asked {
    /// Its head.
    pub head: Parts,
    /// How its body is framed.
    pub framing: Framing,
    /// Whether the client waits for an interim answer (100) before it sends the body (RFC 9110, §10.1.1).
    pub expects: bool,
    /// Whether it asks for its connection to become something else.
    pub switches: bool,
    /// How it is to be answered.
    pub manner: Manner,
}

/// Why what a client sent is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its head has too many bytes or fields.
    TooLarge,
    /// Its target is too long.
    TargetTooLong,
    /// It is not HTTP/1.1, for this reason.
    Malformed(&'static str),
}

impl Refused {
    /// What it is answered.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "its head is too large (--max-head-bytes, --max-headers)",
            Self::TargetTooLong => "its target is too long",
            Self::Malformed(why) => why,
        })
    }
}

/// Reads the head of one request.
#[derive(Debug)]
pub struct RequestReader {
    limits: HeadLimits,
    /// How many bytes were looked at and are not yet a head.
    looked: usize,
}

/// The first line of a head, and where it and the fields end.
struct Line {
    method: Method,
    target: Place,
    version: Version,
    fields: usize,
    length: usize,
}

/// Where something stands in a head.
#[derive(Clone, Copy, Default)]
struct Place {
    begin: u32,
    end: u32,
}

impl Place {
    /// Of a part of these bytes.
    fn of(part: &[u8], bytes: &[u8]) -> Self {
        let begin = part.as_ptr().addr() - bytes.as_ptr().addr();
        Self {
            begin: begin as u32,
            end: (begin + part.len()) as u32,
        }
    }

    fn bytes(self, head: &Bytes) -> Bytes {
        head.slice(self.begin as usize..self.end as usize)
    }
}

/// Where a field's name and value stand.
type Field = (Place, Place);

impl RequestReader {
    /// For one request.
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, looked: 0 }
    }

    /// The head, once it is there.
    ///
    /// # Errors
    /// When the bytes are no head, or it is too large.
    pub fn read(&mut self, buf: &mut BytesMut) -> Result<Option<Asked>, Refused> {
        // An empty line before a request is left out (RFC 9112, §2.2).
        while self.looked == 0 && buf.starts_with(b"\r\n") {
            buf.advance(2);
        }
        if buf.is_empty() {
            return Ok(None);
        }
        // Who sends a head byte by byte does not have it read anew with each.
        let ends = self.looked == 0 || has_empty_line(&buf[self.looked.saturating_sub(2)..]);
        let asked = if ends { self.parse(buf)? } else { None };
        if asked.is_none() {
            if buf.len() >= self.limits.bytes {
                return Err(Refused::TooLarge);
            }
            self.looked = buf.len();
        }
        Ok(asked)
    }

    fn parse(&self, buf: &mut BytesMut) -> Result<Option<Asked>, Refused> {
        let count = self.limits.fields;
        if count > ON_STACK {
            let mut fields = vec![Field::default(); count];
            let line = locate(buf, &mut vec![MaybeUninit::uninit(); count], &mut fields)?;
            return line.map(|line| self.take(buf, line, &fields)).transpose();
        }
        let mut fields = [Field::default(); ON_STACK];
        let mut room = [const { MaybeUninit::uninit() }; ON_STACK];
        let line = locate(buf, &mut room[..count], &mut fields)?;
        line.map(|line| self.take(buf, line, &fields)).transpose()
    }

    /// Takes a head whose parts are known from the bytes. They are not copied.
    fn take(&self, buf: &mut BytesMut, line: Line, fields: &[Field]) -> Result<Asked, Refused> {
        if line.length > self.limits.bytes {
            return Err(Refused::TooLarge);
        }
        let head = buf.split_to(line.length).freeze();
        let target = line.target.bytes(&head);
        if target.len() > TARGET {
            return Err(Refused::TargetTooLong);
        }
        let uri = Uri::from_maybe_shared(target).map_err(|_| Refused::Malformed("its target is none"))?;
        let newer = line.version == Version::HTTP_11;
        let mut said = Said::default();
        let mut headers = HeaderMap::with_capacity(line.fields);
        for (name, value) in &fields[..line.fields] {
            let name = &head[name.begin as usize..name.end as usize];
            let name = HeaderName::from_bytes(name);
            let value = HeaderValue::from_maybe_shared(value.bytes(&head));
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(Refused::Malformed("it has a field that is none"));
            };
            if said.note(&name, &value, newer)? {
                headers.append(name, value);
            }
        }
        let framing = self.framing(&said)?;
        if said.encoding {
            headers.remove(CONTENT_LENGTH);
        }
        let keeps = if newer {
            !said.close
        } else {
            said.keep && !said.close
        };
        let manner = Manner {
            http10: !newer,
            to_head: line.method == Method::HEAD,
            to_connect: line.method == Method::CONNECT,
            trailers: said.trailers,
            // Lengths beside chunks are how requests are smuggled: nothing comes after them.
            keeps: keeps && !(said.encoding && said.length.is_some()),
        };
        let expects = said.expects && newer && !framing.is_over();
        let switches = said.upgrade || manner.to_connect;
        let mut request = Request::new(());
        *request.method_mut() = line.method;
        *request.uri_mut() = uri;
        *request.version_mut() = line.version;
        *request.headers_mut() = headers;
        Ok(Asked {
            head: request.into_parts().0,
            framing,
            expects,
            switches,
            manner,
        })
    }

    fn framing(&self, said: &Said) -> Result<Framing, Refused> {
        match (said.encoding, said.length) {
            (true, _) if said.chunked => Ok(Framing::Chunked(Chunks::new(self.limits))),
            (true, _) => Err(Refused::Malformed("its body is not in chunks at last")),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// Finds the parts of a head, if all of it is there.
fn locate<'b>(
    bytes: &'b [u8],
    room: &mut [MaybeUninit<httparse::Header<'b>>],
    fields: &mut [Field],
) -> Result<Option<Line>, Refused> {
    let mut request = httparse::Request::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, room);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refused::TooLarge),
        Err(error) => return Err(Refused::Malformed(why(error))),
    };
    let method = request
        .method
        .and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let (Some(method), Some(target)) = (method, request.path) else {
        return Err(Refused::Malformed("its first line is none"));
    };
    for (place, field) in fields.iter_mut().zip(&*request.headers) {
        *place = (
            Place::of(field.name.as_bytes(), bytes),
            Place::of(field.value, bytes),
        );
    }
    Ok(Some(Line {
        method,
        target: Place::of(target.as_bytes(), bytes),
        version: match request.version {
            Some(1) => Version::HTTP_11,
            _ => Version::HTTP_10,
        },
        fields: request.headers.len(),
        length,
    }))
}

fn why(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "the name of a field is none",
        httparse::Error::HeaderValue => "the value of a field is none",
        httparse::Error::NewLine => "a line does not end",
        httparse::Error::Token => "it begins with what is no method and target",
        httparse::Error::Version => "its version is not HTTP/1.1",
        httparse::Error::Status | httparse::Error::TooManyHeaders => "its first line is none",
    }
}

/// What the fields of a head say about the connection and the body.
#[derive(Default)]
struct Said {
    /// Whether there are transfer encodings, and whether the last is chunked.
    encoding: bool,
    chunked: bool,
    length: Option<u64>,
    close: bool,
    keep: bool,
    expects: bool,
    upgrade: bool,
    trailers: bool,
}

impl Said {
    /// Notes what a field says; `newer`: it is not HTTP/1.0. False: it says nothing that was not said before.
    fn note(&mut self, name: &HeaderName, value: &HeaderValue, newer: bool) -> Result<bool, Refused> {
        match *name {
            TRANSFER_ENCODING if !newer => {
                return Err(Refused::Malformed("HTTP/1.0 has no transfer-encoding"));
            }
            TRANSFER_ENCODING => {
                self.encoding = true;
                let last = value.as_bytes().rsplit(|byte| *byte == b',').next();
                self.chunked = last.is_some_and(|it| it.trim_ascii().eq_ignore_ascii_case(b"chunked"));
            }
            CONTENT_LENGTH => {
                let length = digits(value.as_bytes());
                let length = length.ok_or(Refused::Malformed("its length is no number"))?;
                let before = self.length.replace(length);
                if before.is_some_and(|before| before != length) {
                    return Err(Refused::Malformed("it has lengths that differ"));
                }
                return Ok(before.is_none());
            }
            CONNECTION => {
                self.close |= lists(value, b"close");
                self.keep |= lists(value, b"keep-alive");
            }
            EXPECT => self.expects = value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
            UPGRADE => self.upgrade = newer,
            TE => {
                let mut items = value.as_bytes().split(|byte| *byte == b',');
                self.trailers |= items.any(|item| {
                    let word = item.split(|byte| *byte == b';').next().unwrap_or_default();
                    word.trim_ascii().eq_ignore_ascii_case(b"trailers")
                });
            }
            _ => {}
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
