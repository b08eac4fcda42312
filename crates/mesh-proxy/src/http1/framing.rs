//! The body of an answer, in whichever of the three ways it is framed (RFC 9112, §6).

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::{Broken, Chunks};

/// How a body is framed, and what is left of it.
#[derive(Debug)]
pub enum Framing {
    /// As so many more bytes.
    Length(u64),
    /// In chunks.
    Chunked(Chunks),
    /// Until the connection closes.
    UntilClose,
}

/// What comes next of a body.
#[derive(Debug)]
pub enum Piece {
    /// Data, not empty, and not copied.
    Data(Bytes),
    /// Trailers, and with them the end.
    Trailers(HeaderMap),
    /// The end.
    Over,
    /// Nothing, until there are more bytes.
    More,
}

impl Framing {
    /// What comes next, from the bytes that there are.
    ///
    /// # Errors
    /// When they are not framed so.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Piece, Broken> {
        match self {
            Self::Length(0) => Ok(Piece::Over),
            Self::Chunked(chunks) => chunks.next(buf),
            _ if buf.is_empty() => Ok(Piece::More),
            Self::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                *left -= length as u64;
                Ok(Piece::Data(buf.split_to(length).freeze()))
            }
            Self::UntilClose => Ok(Piece::Data(buf.split().freeze())),
        }
    }

    /// Whether the end has come.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.is_over(),
            Self::UntilClose => false,
        }
    }

    /// The server has closed the connection, when there were no more bytes.
    ///
    /// # Errors
    /// When it was not the end.
    pub fn closed(&self) -> Result<(), Broken> {
        match self {
            Self::UntilClose => Ok(()),
            _ if self.is_over() => Ok(()),
            Self::Length(_) | Self::Chunked(_) => Err(Broken::Closed),
        }
    }

    /// How many bytes are to come, if that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::HeadLimits;
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 300,
        fields: 4,
    };

    #[test]
    fn bodies_end_where_their_framing_says() {
        for (mut framing, bytes, data, over, closed) in [
            (Framing::Length(2), "okay", "ok", true, true),
            (Framing::Length(5), "okay", "okay", false, false),
            (Framing::Length(u64::MAX), "okay", "okay", false, false),
            (Framing::UntilClose, "okay", "okay", false, true),
            (
                Framing::Chunked(Chunks::new(LIMITS)),
                "2\r\nok\r\n",
                "ok",
                false,
                false,
            ),
            (
                Framing::Chunked(Chunks::new(LIMITS)),
                "2\r\nok\r\n0\r\n\r\n",
                "ok",
                true,
                true,
            ),
        ] {
            let mut buf = BytesMut::from(bytes);
            let mut read = Vec::new();
            while let Ok(Piece::Data(piece)) = framing.next(&mut buf) {
                read.extend_from_slice(&piece);
            }
            assert_eq!(
                (read.as_slice(), framing.is_over(), framing.closed().is_ok()),
                (data.as_bytes(), over, closed),
                "{framing:?} {bytes:?}"
            );
        }
    }
}
