//! One attempt to send a request's body: what earlier attempts sent comes first, then the rest of the source.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Source;
use crate::body::BodyError;
use crate::body::upload::Waiting;

/// One attempt to send a request's body.
pub struct RequestBody {
    source: Rc<RefCell<Source>>,
    attempt: u32,
    replayed: usize,
}

impl RequestBody {
    /// The first attempt, or the next one while the body is [replayable](Source::replayable). Earlier ones read no more.
    pub fn attempt(source: &Rc<RefCell<Source>>) -> Self {
        let mut inner = source.borrow_mut();
        inner.attempt += 1;
        Self {
            source: Rc::clone(source),
            attempt: inner.attempt,
            replayed: 0,
        }
    }

    /// Whether another attempt can send all that was taken from this one.
    pub fn replayable(&self) -> bool {
        self.source.borrow().replayable()
    }

    /// Tells, from now on, when nobody waits for the response any more.
    pub(in crate::body) fn waiting(&self) -> Rc<Waiting> {
        let waiting = Rc::default();
        self.source.borrow_mut().waiting = Some(Rc::clone(&waiting));
        waiting
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut source = this.source.borrow_mut();
        if source.attempt != this.attempt {
            return Poll::Ready(Some(Err("another attempt has taken over".into())));
        }
        if let Some(data) = source.sent.as_ref().and_then(|sent| sent.get(this.replayed)) {
            this.replayed += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        let next = ready!(source.poll_next(cx));
        if let Some(Ok(frame)) = &next
            && let Some(data) = frame.data_ref()
        {
            source.remember(data);
            this.replayed += 1;
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        let source = self.source.borrow();
        let replayed = source
            .sent
            .as_ref()
            .is_none_or(|sent| self.replayed >= sent.len());
        source.ended
            && source.held.is_empty()
            && source.trailers.is_none()
            && source.splices.is_empty()
            && replayed
    }

    fn size_hint(&self) -> SizeHint {
        let source = self.source.borrow();
        let rest = source
            .incoming
            .as_ref()
            .filter(|_| !source.ended)
            .map_or(SizeHint::with_exact(0), Body::size_hint);
        let replay: usize = source
            .sent
            .iter()
            .flatten()
            .skip(self.replayed)
            .map(Bytes::len)
            .sum();
        let pending: i64 = source
            .splices
            .iter()
            .map(|splice| splice.with.len() as i64 - (splice.range.end - splice.range.start) as i64)
            .sum();
        let here = (source.held_bytes + replay) as u64;
        let Some(exact) = rest.exact() else {
            return SizeHint::default();
        };
        (exact + here)
            .checked_add_signed(pending)
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
