//! The request's body on its way to the server: what was read ahead comes first, splices are put in, every byte passes
//! the scanner, and the beginning is remembered so that a request no server saw can be sent again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use mesh_api::inference::rewrite::{CannotRewrite, Splice, rewrite};
use mesh_api::inference::{BodyScanner, ModelRequest, Operation, Refusal, RefusalReason};
use mesh_api::route::ModelRewrite;
use tokio::time::Instant;

use super::upload::Waiting;
use super::{BodyError, BrokenOff, FromClient};
use crate::error::{Failure, Reason};

mod attempt;

pub use attempt::RequestBody;

/// How much of a body is remembered for sending it again.
const REPLAY_BYTES: usize = 64 << 10;
/// In how many pieces: each may keep the whole of what it was read into.
const REPLAY_PIECES: usize = 64;

/// Where a request's body comes from, shared by the attempts to send it and by whoever waits for the response.
pub struct Source {
    incoming: Option<FromClient>,
    /// Read from the client and not sent yet.
    held: VecDeque<Bytes>,
    held_bytes: usize,
    trailers: Option<http::HeaderMap>,
    ended: bool,
    scanner: Option<Watch>,
    /// What the head says is asked, for a body that names a model.
    operation: Option<Operation>,
    /// Whether the bytes within which the name is looked for have passed without it.
    late: bool,
    /// Still to be put in, in order.
    splices: VecDeque<Splice>,
    /// Of the next byte to be sent, before splices.
    offset: u64,
    /// Sent so far; none: too much to remember.
    sent: Option<Vec<Bytes>>,
    sent_bytes: usize,
    /// Bytes received from the client.
    received: u64,
    /// The change of length that the splices make.
    growth: i64,
    /// What every message is made to ask for.
    rewrite: Option<ModelRewrite>,
    /// What the messages ask for that were read before it was known whether they are rewritten.
    messages: Vec<ModelRequest>,
    /// The attempt that may read.
    attempt: u32,
    /// Whether anybody waits for the response, for what still sends this to an HTTP/2 server beside it.
    waiting: Option<Rc<Waiting>>,
    /// Whether a response has begun.
    answered: bool,
    /// Why the body was cut off.
    failure: Option<Failure>,
    last_moved: Instant,
    /// Since when the client is waited for.
    waits_since: Option<Instant>,
    /// How long the client may send nothing.
    silence: Duration,
}

/// A scanner that reads along.
struct Watch {
    scanner: BodyScanner,
    /// Within how many bytes routing looks for the name, and refuses everything that is wrong; none: routing does not
    /// depend on it, and only what is ambiguous is refused.
    within: Option<usize>,
}

impl Source {
    /// The body as it comes from the client. `scanner` reads along; `within` how many bytes routing depends on what it
    /// finds, if it does. `silence`: how long the client may send nothing.
    pub fn new(
        incoming: FromClient,
        scanner: Option<BodyScanner>,
        within: Option<usize>,
        now: Instant,
        silence: Duration,
    ) -> Rc<RefCell<Self>> {
        let ended = incoming.is_end_stream();
        Rc::new(RefCell::new(Self {
            incoming: Some(incoming),
            held: VecDeque::new(),
            held_bytes: 0,
            trailers: None,
            ended,
            operation: scanner.as_ref().map(BodyScanner::operation),
            scanner: scanner.map(|scanner| Watch { scanner, within }),
            late: false,
            splices: VecDeque::new(),
            offset: 0,
            sent: Some(Vec::new()),
            sent_bytes: 0,
            received: 0,
            growth: 0,
            rewrite: None,
            messages: Vec::new(),
            attempt: 0,
            waiting: None,
            answered: false,
            failure: None,
            last_moved: now,
            waits_since: None,
            silence,
        }))
    }

    /// What the scanner found so far.
    pub fn found(&self) -> Option<&ModelRequest> {
        self.scanner.as_ref().and_then(|watch| watch.scanner.found())
    }

    /// What the head alone says is asked of the model, for a body that names one.
    pub fn operation(&self) -> Option<Operation> {
        self.operation
    }

    /// Whether the client's body is over.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the name does not stand within the bytes that it is looked for in.
    pub fn late(&self) -> bool {
        self.late
    }

    /// Bytes received from the client.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// When a byte last moved.
    pub fn last_moved(&self) -> Instant {
        self.last_moved
    }

    /// When the client will have sent nothing for too long, at the earliest, as far as that is known; none: it owes
    /// nothing. `looked`: when it was not so, and nobody waited.
    pub fn silent_at(&self, looked: Instant) -> Option<Instant> {
        (!self.ended).then(|| self.waits_since.unwrap_or(looked) + self.silence)
    }

    /// For how long the client has sent nothing, if that is too long.
    pub fn too_silent(&self, now: Instant) -> Option<Duration> {
        let since = self.waits_since.filter(|_| !self.ended)?;
        (now >= since + self.silence).then_some(self.silence)
    }

    /// Why the body was cut off, if it was.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The end of the body: what the scanner makes of it.
    ///
    /// # Errors
    /// When the body is not what it should be.
    pub fn finish(&mut self) -> Result<Option<ModelRequest>, Refusal> {
        match &mut self.scanner {
            Some(watch) => watch.scanner.finish().map(Some),
            None => Ok(None),
        }
    }

    /// Makes the body, message by message, ask for another model. Nothing was sent yet.
    ///
    /// # Errors
    /// When what was read so far can't be made to.
    pub fn rewrite(&mut self, to: &ModelRewrite) -> Result<(), CannotRewrite> {
        self.rewrite = Some(to.clone());
        for message in std::mem::take(&mut self.messages) {
            self.add_splices(&message, to)?;
        }
        Ok(())
    }

    fn add_splices(&mut self, message: &ModelRequest, to: &ModelRewrite) -> Result<(), CannotRewrite> {
        // The target was rewritten with the head: only the body is left.
        let rewritten = rewrite(message, "/", to)?;
        self.growth += rewritten.growth();
        self.splices.extend(rewritten.splices);
        Ok(())
    }

    /// By how many bytes the body sent is longer than the body received.
    pub fn growth(&self) -> i64 {
        self.growth
    }

    /// Reads the next piece from the client and holds it. True: there is more to come.
    pub fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        match ready!(self.poll_incoming(cx)) {
            Some(Ok(data)) => {
                self.held_bytes += data.len();
                self.held.push_back(data);
                Poll::Ready(Ok(!self.ended))
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(false)),
        }
    }

    /// The next data from the client, scanned.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Some(incoming) = self.incoming.as_mut().filter(|_| !self.ended) else {
                return Poll::Ready(None);
            };
            let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) else {
                self.waits_since.get_or_insert_with(Instant::now);
                return Poll::Pending;
            };
            self.waits_since = None;
            let frame = match frame {
                Some(Ok(frame)) => frame,
                // The stream's task sees that the client has left, and lets go of the request.
                Some(Err(BrokenOff::Reset)) if !self.answered => return Poll::Pending,
                // What is left of a request beside its response has a task of its own, and ends by itself.
                Some(Err(error)) => {
                    let failure = Failure::new(
                        Reason::ClientAborted,
                        format!("the client broke off its request: {error}"),
                    );
                    return Poll::Ready(Some(Err(self.fail(failure))));
                }
                None => {
                    self.ended = true;
                    continue;
                }
            };
            self.ended = incoming.is_end_stream();
            match frame.into_data() {
                Ok(data) => {
                    self.received += data.len() as u64;
                    self.last_moved = Instant::now();
                    return Poll::Ready(Some(
                        self.scan(&data)
                            .map(|()| data)
                            .map_err(|failure| self.fail(failure)),
                    ));
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    fn fail(&mut self, failure: Failure) -> BodyError {
        self.failure = Some(failure.clone());
        failure.into()
    }

    fn scan(&mut self, data: &[u8]) -> Result<(), Failure> {
        let Some(watch) = &mut self.scanner else {
            return Ok(());
        };
        let routed_by = watch.within.is_some();
        let before = self.received - data.len() as u64;
        let left = watch
            .within
            .map_or(u64::MAX, |within| (within as u64).saturating_sub(before));
        let near = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        let mut read = Ok(());
        for (part, beyond) in [(&data[..near], false), (&data[near..], true)] {
            if read.is_err() || part.is_empty() {
                continue;
            }
            // However the body is cut into pieces, a name beyond the bound comes too late.
            self.late |= beyond && watch.scanner.found().is_none();
            let messages = &mut self.messages;
            read = watch.scanner.push_messages(part, |message| {
                if routed_by {
                    messages.push(message.clone());
                }
            });
        }
        // What was routed without its name is not routed by it any more.
        let strict = routed_by && !self.late;
        match read {
            Err(refusal) if strict || ambiguous(refusal.reason) => return Err(refused(&refusal)),
            // The server will say what is wrong with it; the name, for labels, is not worth refusing it here.
            Err(_) => self.scanner = None,
            Ok(()) => {}
        }
        if let Some(to) = self.rewrite.clone() {
            for message in std::mem::take(&mut self.messages) {
                self.add_splices(&message, &to)
                    .map_err(|why| Failure::new(Reason::CannotRewrite, why.to_string()))?;
            }
        } else if self.sent_bytes > 0 {
            self.messages.clear();
        }
        Ok(())
    }

    /// From which byte on nothing may be sent yet, because a message may still be rewritten.
    fn must_hold_from(&self) -> Option<u64> {
        self.rewrite.as_ref()?;
        self.scanner.as_ref()?.scanner.hold_from()
    }

    /// The next piece to send.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(splice) = self
                .splices
                .front()
                .filter(|splice| splice.range.start == self.offset)
                && splice.range.is_empty()
            {
                return Poll::Ready(
                    self.splices
                        .pop_front()
                        .map(|splice| Ok(Frame::data(splice.with))),
                );
            }
            let Some(data) = ready!(self.poll_sendable(cx)) else {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            };
            let data = match data {
                Ok(data) => data,
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            // An empty piece says nothing, and an HTTP/2 server ends a connection that brings too many of them.
            if let Some(data) = self.put_in(data).filter(|data| !data.is_empty()) {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    /// The next data from what is held or from the client, up to where it must be held.
    fn poll_sendable(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Some(mut data) = self.held.pop_front() else {
                let next = ready!(self.poll_incoming(cx));
                let (Some(Ok(data)), Some(_)) = (&next, self.must_hold_from()) else {
                    return Poll::Ready(next);
                };
                self.hold_again(data.clone());
                continue;
            };
            let hold_from = self.must_hold_from().filter(|_| !self.ended);
            let may = hold_from.map_or(u64::MAX, |at| at.saturating_sub(self.offset));
            if may == 0 {
                self.held.push_front(data);
                // More must come before this may go.
                match ready!(self.poll_hold(cx)) {
                    Ok(_) => continue,
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
            self.held_bytes -= data.len();
            if may < data.len() as u64 {
                let rest = data.split_off(may as usize);
                self.hold_again(rest);
            }
            return Poll::Ready(Some(Ok(data)));
        }
    }

    /// Sends the data up to the next splice, or the splice in the place of what it replaces; the rest is held again.
    fn put_in(&mut self, mut data: Bytes) -> Option<Bytes> {
        let Some(splice) = self.splices.front_mut() else {
            self.offset += data.len() as u64;
            return Some(data);
        };
        let before = usize::try_from(splice.range.start.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        if before > 0 {
            let now = data.split_to(before.min(data.len()));
            self.offset += now.len() as u64;
            self.hold_again(data);
            return Some(now);
        }
        let gone = usize::try_from(splice.range.end - self.offset)
            .unwrap_or(usize::MAX)
            .min(data.len());
        data.advance(gone);
        self.offset += gone as u64;
        splice.range.start = self.offset;
        let done = splice.range.is_empty();
        let with = if done {
            self.splices.pop_front().map(|splice| splice.with)
        } else {
            None
        };
        self.hold_again(data);
        with.filter(|with| !with.is_empty())
    }

    fn hold_again(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.held_bytes += data.len();
            self.held.push_front(data);
        }
    }

    fn remember(&mut self, data: &Bytes) {
        self.sent_bytes += data.len();
        if self.sent_bytes > REPLAY_BYTES
            || self.sent.as_ref().is_some_and(|sent| sent.len() >= REPLAY_PIECES)
        {
            self.sent = None;
        } else if let Some(sent) = &mut self.sent {
            sent.push(data.clone());
        }
    }

    /// Whether all that was sent is remembered, so that another attempt sends the same.
    pub fn replayable(&self) -> bool {
        self.sent.is_some()
    }

    /// Nobody waits for the response any more: what still sends the request is let go of.
    pub fn abandon(&self) {
        if let Some(waiting) = &self.waiting {
            waiting.end();
        }
    }

    /// A response has begun: the request will not be sent again.
    pub fn forget(&mut self) {
        self.answered = true;
        self.sent = None;
    }
}

/// A refusal as an answer.
pub(crate) fn refused(refusal: &Refusal) -> Failure {
    Failure::new(Reason::Refused(refusal.reason), refusal.detail.clone())
}

/// What is refused even where routing does not depend on it: servers and mesh would disagree about the model.
fn ambiguous(reason: RefusalReason) -> bool {
    matches!(
        reason,
        RefusalReason::DuplicateModel | RefusalReason::AmbiguousModel | RefusalReason::AmbiguousVersion
    )
}
