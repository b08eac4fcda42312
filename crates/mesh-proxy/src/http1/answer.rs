//! Writes the heads of answers, with the framing of their bodies (RFC 9112, §6).

use http::header::{CONTENT_LENGTH, DATE, TRAILER, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;

use super::request::{FIELD, declared, write_field};
use super::{Encoder, content_length};

/// How a request is to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// In HTTP/1.0, which has no chunks.
    pub http10: bool,
    /// Without a body: it was a HEAD.
    pub to_head: bool,
    /// As a CONNECT, which success makes a tunnel.
    pub to_connect: bool,
    /// Whether the client reads trailers.
    pub trailers: bool,
    /// Whether another request may follow.
    pub keeps: bool,
}

/// What is known of the body of an answer before it comes.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Whether there is none.
    pub over: bool,
    /// How many bytes it has.
    pub length: Option<u64>,
}

impl Manner {
    /// Whether this answer is the last thing in HTTP on its connection.
    pub fn switches(&self, status: StatusCode) -> bool {
        status == StatusCode::SWITCHING_PROTOCOLS || self.to_connect && status.is_success()
    }

    /// Writes a head, and decides how the body is framed. `today`: the date, if the answer has none. Whether another request
    /// may follow is known then.
    pub fn write(&mut self, out: &mut Vec<u8>, head: &Parts, body: Known, today: &HeaderValue) -> Encoder {
        out.reserve(128 + head.headers.len() * FIELD);
        self.write_status(out, head);
        let (mut dated, mut sized, mut trailer) = (false, false, false);
        for (name, value) in &head.headers {
            match *name {
                CONTENT_LENGTH => sized = true,
                TRAILER => trailer = true,
                TRANSFER_ENCODING => {}
                _ => {
                    dated |= *name == DATE;
                    write_field(out, name, value);
                }
            }
        }
        let announced = if sized {
            content_length(&head.headers).ok().flatten()
        } else {
            None
        };
        let encoder = self.frame(out, head, body, announced);
        if trailer && matches!(encoder, Encoder::Chunked(_)) {
            let announced = head.headers.get_all(TRAILER);
            announced
                .iter()
                .for_each(|value| write_field(out, &TRAILER, value));
        }
        if !dated {
            write_field(out, &DATE, today);
        }
        match (self.keeps, self.http10) {
            _ if self.switches(head.status) => {}
            (false, false) => out.extend_from_slice(b"connection: close\r\n"),
            (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (true, false) | (false, true) => {}
        }
        out.extend_from_slice(b"\r\n");
        encoder
    }

    fn write_status(&self, out: &mut Vec<u8>, head: &Parts) {
        let phrase = head.extensions.get::<ReasonPhrase>();
        if head.status == StatusCode::OK && phrase.is_none() && !self.http10 {
            return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        }
        out.extend_from_slice(if self.http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
        out.extend_from_slice(head.status.as_str().as_bytes());
        out.push(b' ');
        let usual = || head.status.canonical_reason().unwrap_or("<none>").as_bytes();
        out.extend_from_slice(phrase.map_or_else(usual, ReasonPhrase::as_bytes));
        out.extend_from_slice(b"\r\n");
    }

    /// Decides how the body is framed, and says so. `announced`: the length that the head had.
    fn frame(&mut self, out: &mut Vec<u8>, head: &Parts, body: Known, announced: Option<u64>) -> Encoder {
        let status = head.status;
        let never =
            status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if never || self.switches(status) {
            return Encoder::Length(0);
        }
        if self.to_head {
            // What a GET would be answered.
            if let Some(length) = announced {
                write_length(out, length);
            }
            return Encoder::Length(0);
        }
        let length = if body.over {
            Some(0)
        } else {
            announced.or(body.length)
        };
        if let Some(length) = length {
            write_length(out, length);
            return Encoder::Length(length);
        }
        if self.http10 {
            self.keeps = false;
            return Encoder::UntilClose;
        }
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        let fields = if self.trailers {
            declared(&head.headers)
        } else {
            Vec::new()
        };
        Encoder::Chunked(fields)
    }
}

fn write_length(out: &mut Vec<u8>, mut length: u64) {
    // As many digits as a u64 has.
    let mut digits = [0; 20];
    let mut begin = digits.len();
    loop {
        begin -= 1;
        digits[begin] = b'0' + (length % 10) as u8;
        length /= 10;
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(&digits[begin..]);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
