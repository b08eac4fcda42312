//! Sends an answer: its head and what its body begins with as one, then whatever there is of the body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Connection;
use super::ended::Ended;
use crate::body::{BodyError, ResponseBody};
use crate::http1::{Encoder, Known, Manner, Out};
use crate::serve::head::today;

/// How many bytes of a body are gathered before they are sent.
const ENOUGH: usize = 64 << 10;

/// An answer on its way.
pub(super) struct Sending {
    out: Out,
    encoder: Encoder,
    body: ResponseBody,
    /// Whether more of the body is to come.
    more: bool,
    /// Why there is no more of the body, when what there was of it is sent.
    broken_off: Option<Ended>,
}

impl Sending {
    /// An answer, sent in this `manner`.
    pub(super) fn new(answer: Response<ResponseBody>, manner: &mut Manner) -> Self {
        let (head, body) = answer.into_parts();
        let known = Known {
            over: body.is_end_stream(),
            length: body.size_hint().exact(),
        };
        let mut out = Out::default();
        let encoder = manner.write(out.own(), &head, known, &today());
        Self {
            out,
            more: !encoder.is_over(),
            encoder,
            body,
            broken_off: None,
        }
    }

    /// Sends what there is; ready when that is all.
    pub(super) fn poll<I>(
        &mut self,
        connection: &Connection<I>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Ended>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let waits = self.fill(cx);
            if !self.more {
                // Whoever has the whole answer finds it counted: its record closes before its last bytes go.
                self.body = ResponseBody::empty();
            }
            ready!(connection.poll_write(&mut self.out, cx)).map_err(Ended::Broken)?;
            if !self.more {
                ready!(connection.poll_flush(cx)).map_err(Ended::Broken)?;
                return Poll::Ready(self.broken_off.take().map_or(Ok(()), Err));
            }
            if waits {
                // What TLS has not written yet, it writes before the next piece.
                let _ = connection.poll_flush(cx).map_err(Ended::Broken)?;
                return Poll::Pending;
            }
        }
    }

    /// Takes what there is of the body, and not too much of it. True: there is no more now.
    fn fill(&mut self, cx: &mut Context<'_>) -> bool {
        while self.more && self.out.len() < ENOUGH && !self.out.is_full() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return true,
                Poll::Ready(frame) => {
                    if let Err(error) = self.take(frame) {
                        self.more = false;
                        self.broken_off = Some(error);
                    }
                }
            }
        }
        false
    }

    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> Result<(), Ended> {
        let out = &mut self.out;
        let trailers = match frame {
            Some(Err(error)) => return Err(Ended::Answer(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => return Ok(()),
                Ok(data) => {
                    let last = self.body.is_end_stream();
                    self.encoder.piece(data, last, out)?;
                    self.more = !last && !self.encoder.is_over();
                    return Ok(());
                }
                Err(frame) => frame.into_trailers().ok(),
            },
            None => None,
        };
        self.more = false;
        Ok(self.encoder.end(trailers.as_ref(), out)?)
    }
}
