//! Reads the heads of answers, and how they say that their bodies are framed (RFC 9112, §6.3). What has two meanings is
//! refused.

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use hyper::ext::ReasonPhrase;

use super::{Broken, Chunks, Framing, ON_STACK, content_length, has_empty_line, lists};
use crate::limits::Limits;

/// How many interim answers a server may send before the final one.
const INTERIM: u32 = 10_000;

/// What a peer's head may be, at most.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// In bytes.
    pub bytes: usize,
    /// In fields.
    pub fields: usize,
}

impl From<&Limits> for HeadLimits {
    /// Heads from servers have the limits of those from clients.
    fn from(limits: &Limits) -> Self {
        Self {
            bytes: limits.max_head_bytes as usize,
            fields: limits.max_headers.into(),
        }
    }
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// The server's phrase, if it is one of its own.
    pub phrase: Option<ReasonPhrase>,
    /// The version that the server speaks.
    pub version: Version,
    /// Its fields.
    pub headers: HeaderMap,
    /// How its body is framed.
    pub framing: Framing,
    /// Whether the server takes another request on this connection (RFC 9112, §9.3).
    pub keeps: bool,
}

/// Reads the head of the answer to one request.
#[derive(Debug)]
pub struct HeadReader {
    limits: HeadLimits,
    /// Whether the request was a HEAD, whose answer has no body.
    to_head: bool,
    /// An empty map to put the fields in.
    headers: HeaderMap,
    /// How many bytes were looked at and are not yet a head.
    looked: usize,
    interim: u32,
}

/// What a head says something about, noted as its fields pass by.
#[derive(Clone, Copy, Default)]
struct Says {
    connection: bool,
    length: bool,
    encoding: bool,
}

impl HeadReader {
    /// For the answer to a request; `to_head`: to a HEAD.
    pub fn new(limits: HeadLimits, to_head: bool) -> Self {
        Self {
            limits,
            to_head,
            headers: HeaderMap::new(),
            looked: 0,
            interim: 0,
        }
    }

    /// Takes a map that is not needed any more, whose memory is used again.
    pub fn reuse(&mut self, mut headers: HeaderMap) {
        headers.clear();
        self.headers = headers;
    }

    /// The head of the final answer, or of a switch of protocols, once it is there. Interim answers are left out.
    ///
    /// # Errors
    /// When the bytes are no head, or it is too large.
    pub fn read(&mut self, buf: &mut BytesMut) -> Result<Option<Head>, Broken> {
        while !buf.is_empty() {
            // Who sends a head byte by byte does not have it read anew with each.
            let ends = self.looked == 0 || has_empty_line(&buf[self.looked.saturating_sub(2)..]);
            let head = if ends { self.parse(buf)? } else { None };
            let Some(head) = head else {
                if buf.len() >= self.limits.bytes {
                    return Err(too_large());
                }
                self.looked = buf.len();
                return Ok(None);
            };
            self.looked = 0;
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some(head));
            }
            self.interim += 1;
            if self.interim > INTERIM {
                return Err(Broken::Unreadable("there are too many interim answers"));
            }
            self.reuse(head.headers);
        }
        Ok(None)
    }

    fn parse(&mut self, buf: &mut BytesMut) -> Result<Option<Head>, Broken> {
        let parsed = if self.limits.fields <= ON_STACK {
            let mut fields = [const { MaybeUninit::uninit() }; ON_STACK];
            self.parse_into(buf, &mut fields[..self.limits.fields])?
        } else {
            self.parse_into(buf, &mut vec![MaybeUninit::uninit(); self.limits.fields])?
        };
        Ok(parsed.map(|(head, length)| {
            buf.advance(length);
            head
        }))
    }

    /// A head, and how long it is.
    fn parse_into<'b>(
        &mut self,
        bytes: &'b [u8],
        fields: &mut [MaybeUninit<httparse::Header<'b>>],
    ) -> Result<Option<(Head, usize)>, Broken> {
        let mut response = httparse::Response::new(&mut []);
        let length = match httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            bytes,
            fields,
        ) {
            Ok(httparse::Status::Complete(length)) if length > self.limits.bytes => return Err(too_large()),
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(Broken::Unreadable(why(error))),
        };
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(Broken::Unreadable("its status is none"))?;
        let version = match response.version {
            Some(1) => Version::HTTP_11,
            _ => Version::HTTP_10,
        };
        let phrase = response
            .reason
            .filter(|phrase| Some(*phrase) != status.canonical_reason())
            .and_then(|phrase| ReasonPhrase::try_from(phrase.as_bytes()).ok());
        let mut headers = std::mem::take(&mut self.headers);
        headers.reserve(response.headers.len());
        let mut says = Says::default();
        for field in &*response.headers {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_bytes(field.value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(Broken::Unreadable("it has a field that is none"));
            };
            match name {
                CONNECTION => says.connection = true,
                CONTENT_LENGTH => says.length = true,
                TRANSFER_ENCODING => says.encoding = true,
                _ => {}
            }
            headers.append(name, value);
        }
        let framing = self.framing(status, version, says, &headers)?;
        // Lengths beside chunks are how answers are smuggled: nothing comes after them.
        let ambiguous = says.encoding && says.length;
        let head = Head {
            status,
            phrase,
            version,
            keeps: keeps(version, says, &headers) && !ambiguous,
            headers,
            framing,
        };
        Ok(Some((head, length)))
    }

    fn framing(
        &self,
        status: StatusCode,
        version: Version,
        says: Says,
        headers: &HeaderMap,
    ) -> Result<Framing, Broken> {
        let never = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if self.to_head || never || status.is_informational() {
            return Ok(Framing::Length(0));
        }
        if says.encoding {
            if version == Version::HTTP_10 {
                return Err(Broken::Unreadable("HTTP/1.0 has no transfer-encoding"));
            }
            let last = headers.get_all(TRANSFER_ENCODING).iter().next_back();
            let coding = last.and_then(|last| last.as_bytes().rsplit(|byte| *byte == b',').next());
            return Ok(match coding.unwrap_or_default().trim_ascii() {
                coding if coding.eq_ignore_ascii_case(b"chunked") => {
                    Framing::Chunked(Chunks::new(self.limits))
                }
                _ => Framing::UntilClose,
            });
        }
        let length = if says.length {
            content_length(headers)?
        } else {
            None
        };
        Ok(length.map_or(Framing::UntilClose, Framing::Length))
    }
}

fn too_large() -> Broken {
    Broken::Unreadable("its head is too large (--max-head-bytes)")
}

fn why(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "the name of a field is none",
        httparse::Error::HeaderValue => "the value of a field is none",
        httparse::Error::NewLine => "a line does not end",
        httparse::Error::Status => "its status is none",
        httparse::Error::Token => "it begins with what is no status line",
        httparse::Error::TooManyHeaders => "it has too many fields (--max-headers)",
        httparse::Error::Version => "its version is not HTTP/1.1",
    }
}

/// Whether the connection stays (RFC 9112, §9.3): once any field says that it closes, it does.
fn keeps(version: Version, says: Says, headers: &HeaderMap) -> bool {
    if !says.connection {
        return version == Version::HTTP_11;
    }
    let said = |word: &[u8]| headers.get_all(CONNECTION).iter().any(|list| lists(list, word));
    !said(b"close") && (version == Version::HTTP_11 || said(b"keep-alive"))
}

#[cfg(test)]
mod tests;
