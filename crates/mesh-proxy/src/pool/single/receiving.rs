//! Reads a response: its head, then the pieces of its body as they come, not copied. What nobody asks for stays with the
//! server.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Connection;
use super::rest::Beside;
use crate::http1::{Broken, Framing, Head, HeadReader, Piece};
use crate::inbox::Inbox;
use crate::pool::Pool;

/// Every how many reads of a body of unknown length the kernel is told to acknowledge late.
const REMINDED: u8 = 16;

/// What comes from a connection.
pub(super) struct Incoming {
    connection: Connection,
    inbox: Inbox,
    /// How many reads of a body of unknown length are left until the kernel is reminded.
    unreminded: u8,
}

impl Incoming {
    /// From this connection.
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            inbox: Inbox::default(),
            unreminded: 0,
        }
    }

    /// The connection, and what was read ahead.
    pub(super) fn into_parts(self) -> (Connection, Bytes) {
        (self.connection, self.inbox.buf.freeze())
    }

    /// The head of the response, if all of it was read.
    pub(super) fn read_head(&mut self, reader: &mut HeadReader) -> Result<Option<Head>, Broken> {
        reader.read(&mut self.inbox.buf)
    }

    /// Reads more, behind what was read; 0 is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.inbox.poll_read(&mut *self.connection.io(), cx)
    }

    /// The same of a body of unknown length. Events come in many small pieces, and the kernel would answer each.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let io = &mut *self.connection.io();
        let read = ready!(self.inbox.poll_piece(io, cx))?;
        if self.unreminded == 0 {
            self.unreminded = REMINDED;
            io.acknowledge_late();
        }
        self.unreminded -= 1;
        Poll::Ready(Ok(read))
    }
}

/// The body of a response on its way. Dropped before its end, it closes the connection.
pub struct Receiving(Option<Open>);

/// What a response holds until its end.
struct Open {
    incoming: Incoming,
    framing: Framing,
    /// What is left of the request.
    rest: Option<Beside>,
    /// Where the connection goes when both are over; none: it can't be used again.
    home: Option<Rc<Pool>>,
}

impl Receiving {
    /// A body that is framed so. `rest`: what is left of the request; `home`: where the connection goes at the end.
    pub(super) fn new(
        incoming: Incoming,
        framing: Framing,
        rest: Option<Beside>,
        home: Option<Rc<Pool>>,
    ) -> Self {
        let open = Open {
            incoming,
            framing,
            rest,
            home,
        };
        if open.framing.is_over() {
            open.end();
            return Self(None);
        }
        Self(Some(open))
    }

    /// Whether the end has come.
    pub fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    /// How much is to come.
    pub fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(open) => open
                .framing
                .left()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }

    /// What comes next.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(open) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let next = ready!(open.poll_next(cx));
        let over = !matches!(next, Ok(Some(_))) || open.framing.is_over();
        if over
            && let Some(open) = self.0.take()
            && next.is_ok()
        {
            open.end();
        }
        Poll::Ready(next.transpose())
    }
}

impl Open {
    /// The next frame, or the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Broken>> {
        loop {
            if let Some(rest) = &self.rest {
                rest.check(cx)?;
            }
            match self.framing.next(&mut self.incoming.inbox.buf)? {
                Piece::Data(data) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                Piece::Trailers(trailers) => return Poll::Ready(Ok(Some(Frame::trailers(trailers)))),
                Piece::Over => return Poll::Ready(Ok(None)),
                Piece::More => {}
            }
            let read = match self.framing.left() {
                Some(_) => self.incoming.poll_read(cx),
                None => self.incoming.poll_piece(cx),
            };
            if ready!(read)? == 0 {
                self.framing.closed()?;
                self.home = None;
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// The response is over. The connection carries the next request if this one is over too, and nothing came unasked.
    fn end(self) {
        let sent = self.rest.is_none_or(Beside::response_over);
        if let Some(home) = self.home.filter(|_| sent && self.incoming.inbox.buf.is_empty()) {
            home.idle.put(self.incoming.connection);
        }
    }
}
