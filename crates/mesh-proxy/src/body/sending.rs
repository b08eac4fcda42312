//! A body on its way out on a stream of HTTP/2: a request to a server or a response to a client.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, SendStream};
use http_body::{Body, Frame};
use tokio::time::Instant;

/// Pieces shorter than this are sent together when more than two are there at once: h2 holds a few hundred bytes for each
/// that waits for its connection, whatever is in it, and counts only what is in it.
const SMALL: usize = 256;
/// How long small pieces together may be, in bytes, before they are sent.
const TOGETHER: usize = 4 << 10;

/// What a body gives; none: its end.
type Given<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

/// Sends a body piece by piece, and of each as much as there is a window for.
pub struct Sending<B: Body> {
    body: B,
    stream: SendStream<Bytes>,
    /// Taken from the body and waiting for the window; whether it is the last.
    piece: Option<(Bytes, bool)>,
    /// What the body gave behind small pieces that are sent together.
    next: Option<Box<Given<B>>>,
    /// Whether the last piece was small, and came with no wait behind it.
    small: bool,
    /// How long the next piece may be that is handed to h2 before there is a window for it, in bytes.
    at_once: usize,
    /// Since when a piece waits for the window.
    waits_since: Option<Instant>,
    /// Whether h2 wakes the task if the stream is reset.
    hears_reset: bool,
    /// What the stream is reset with if the body breaks off.
    broken_off: Reason,
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Sends `body` on the stream, which is reset with `broken_off` if the body breaks off. The first piece, if it has no
    /// more than `at_once` bytes, is handed to h2 before there is a window for it.
    pub fn new(body: B, stream: SendStream<Bytes>, at_once: usize, broken_off: Reason) -> Self {
        Self {
            body,
            stream,
            piece: None,
            next: None,
            small: false,
            at_once,
            waits_since: None,
            hears_reset: false,
            broken_off,
        }
    }

    /// What is sent.
    pub(super) fn body(&self) -> &B {
        &self.body
    }

    /// Gives the stream up.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// Since when a piece waits for the peer, which takes nothing of the stream; none: it waits for the body.
    pub fn waits_since(&self) -> Option<Instant> {
        self.waits_since
    }

    /// Sends what there is, until the whole body is sent, or has broken off.
    ///
    /// # Errors
    /// When the peer wants no more of it, or is gone.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let Poll::Ready(sent) = self.poll_pieces(cx) {
            return Poll::Ready(sent);
        }
        // A stream that was reset takes nothing, so it is enough to ask when there is nothing to send.
        self.hears_reset = true;
        let reason = ready!(self.stream.poll_reset(cx))?;
        Poll::Ready(Err(reason.into()))
    }

    fn poll_pieces(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if let Some((mut piece, last)) = self.piece.take() {
                let room = if piece.len() > self.at_once {
                    poll_room(&mut self.stream, cx)?
                } else {
                    Poll::Ready(piece.len())
                };
                let Poll::Ready(room) = room else {
                    self.waits_since.get_or_insert_with(Instant::now);
                    self.piece = Some((piece, last));
                    return Poll::Pending;
                };
                self.at_once = 0;
                self.waits_since = None;
                if room < piece.len() {
                    self.stream.send_data(piece.split_to(room), false)?;
                    self.piece = Some((piece, last));
                    continue;
                }
                self.stream.send_data(piece, last)?;
                if last {
                    return Poll::Ready(Ok(()));
                }
            }
            let Poll::Ready(frame) = self.poll_frame(cx) else {
                self.small = false;
                return Poll::Pending;
            };
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => {
                    self.reset(self.broken_off);
                    return Poll::Ready(Ok(()));
                }
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true)),
            };
            match frame.into_data() {
                // A part of the window is asked for only when there is something to send: what is kept in reserve
                // is kept from other streams.
                Ok(mut piece) => {
                    let small = piece.len() < SMALL;
                    if std::mem::replace(&mut self.small, small) && small {
                        piece = self.gather(piece, cx);
                    }
                    self.reserve(piece.len());
                    self.piece = Some((piece, self.next.is_none() && self.body.is_end_stream()));
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.reserve_capacity(0);
                        return Poll::Ready(self.stream.send_trailers(trailers));
                    }
                }
            }
        }
    }

    /// Asks for so much of the window. h2 tells whoever waits for anything of the stream what it gets at once: that would
    /// be this task, which knows and would be polled again for nothing. Whether the stream was reset, sending tells.
    fn reserve(&mut self, bytes: usize) {
        if std::mem::take(&mut self.hears_reset) {
            let _ = self.stream.poll_reset(&mut Context::from_waker(Waker::noop()));
        }
        self.stream.reserve_capacity(bytes);
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Given<B>> {
        match self.next.take() {
            Some(next) => Poll::Ready(*next),
            None => Pin::new(&mut self.body).poll_frame(cx),
        }
    }

    /// A small piece, and the small pieces behind it that are there.
    fn gather(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut all = BytesMut::from(first);
        while all.len() < TOGETHER
            && !self.body.is_end_stream()
            && let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(cx)
        {
            let piece = match &next {
                Some(Ok(frame)) => frame.data_ref().filter(|piece| piece.len() < SMALL),
                _ => None,
            };
            let Some(piece) = piece else {
                self.next = Some(Box::new(next));
                break;
            };
            all.extend_from_slice(piece);
        }
        all.freeze()
    }
}

/// How many bytes of those asked for may be sent now: at least one.
///
/// h2 (0.4.20) would take more and keep it until there is a window. But if it has the end of an answer and no window for
/// it when the stream is let go of, and the request has not ended, a client that resets the stream has it counted as open
/// for good: the connection has a place less, and is never idle when it drains. So it still does if the client lowers its
/// window in between.
pub(crate) fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, h2::Error>> {
    loop {
        match stream.capacity() {
            0 => {}
            room => return Poll::Ready(Ok(room)),
        }
        match ready!(stream.poll_capacity(cx)) {
            Some(capacity) => capacity.map(drop)?,
            // It was reset, or is over.
            None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use http::{Request, Response};
    use http_body_util::Full;
    use tokio::io::DuplexStream;
    use tokio::sync::mpsc;
    use tokio::task::spawn;
    use tokio::time::timeout;

    use super::*;

    const ANSWER: &[u8] = b"answered before the request has ended";

    /// Answers every request without reading it, one at a time.
    async fn serve(io: DuplexStream) {
        let mut connection = h2::server::Builder::new()
            .max_concurrent_streams(1)
            .handshake(io)
            .await
            .unwrap();
        while let Some(Ok((request, mut reply))) = connection.accept().await {
            let outgoing = reply.send_response(Response::new(()), false).unwrap();
            let body = Full::new(Bytes::from_static(ANSWER));
            let mut sending = Sending::new(body, outgoing, 0, Reason::INTERNAL_ERROR);
            drop(request);
            spawn(async move { poll_fn(|cx| sending.poll_send(cx)).await });
        }
    }

    /// Asks for an answer and reads so much of it, and resets the stream then.
    async fn ask(client: h2::client::SendRequest<Bytes>, bytes: usize) -> Result<(), h2::Error> {
        let (answer, mut outgoing) = client.ready().await?.send_request(Request::new(()), false)?;
        let mut incoming = answer.await?.into_body();
        let mut read = 0;
        while read < bytes {
            read += incoming.data().await.unwrap()?.len();
        }
        outgoing.send_reset(Reason::CANCEL);
        Ok(())
    }

    #[tokio::test]
    async fn a_stream_that_is_reset_before_its_answer_was_sent_is_not_counted_for_ever() {
        for window in [1, 8, ANSWER.len() - 1, ANSWER.len(), 1 << 10] {
            let (near, far) = tokio::io::duplex(1 << 10);
            let served = spawn(serve(far));
            let mut builder = h2::client::Builder::new();
            let asking = async {
                let (client, connection) = builder
                    .initial_window_size(window as u32)
                    .handshake(near)
                    .await
                    .unwrap();
                let driven = spawn(connection);
                for stream in 0..3 {
                    let asked = ask(client.clone(), window.min(ANSWER.len())).await;
                    assert!(
                        asked.is_ok(),
                        "stream {stream}, with a window of {window}: {asked:?}"
                    );
                }
                drop(client);
                driven.await.unwrap().unwrap();
                // In debug builds h2 asserts that no stream is left.
                served.await.unwrap();
            };
            timeout(Duration::from_secs(30), asking).await.unwrap();
        }
    }

    /// Gives pieces of these lengths, all there at once, and trailers behind them or none.
    struct Pieces(std::vec::IntoIter<usize>, Option<http::HeaderMap>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let piece = self.0.next().map(|length| Frame::data(vec![b'x'; length].into()));
            Poll::Ready(piece.or_else(|| self.1.take().map(Frame::trailers)).map(Ok))
        }
    }

    /// The lengths of the frames that a body goes out in, and whether trailers come behind them.
    async fn sent(lengths: Vec<usize>, trailers: bool) -> (Vec<usize>, bool) {
        let pieces = Pieces(lengths.into_iter(), trailers.then(http::HeaderMap::new));
        let (near, far) = tokio::io::duplex(1 << 20);
        let served = spawn(async move {
            let mut connection = h2::server::handshake(far).await.unwrap();
            let (request, mut reply) = connection.accept().await.unwrap().unwrap();
            let answering = async move {
                let outgoing = reply.send_response(Response::new(()), false).unwrap();
                let mut sending = Sending::new(pieces, outgoing, 0, Reason::INTERNAL_ERROR);
                poll_fn(|cx| sending.poll_send(cx)).await.unwrap();
                drop(request);
            };
            let (_, last) = tokio::join!(answering, connection.accept());
            assert!(last.is_none());
        });
        let (mut client, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 20)
            .handshake::<_, Bytes>(near)
            .await
            .unwrap();
        let driven = spawn(connection);
        let (answer, _) = client.send_request(Request::new(()), true).unwrap();
        let mut incoming = answer.await.unwrap().into_body();
        let mut frames = Vec::new();
        while let Some(frame) = incoming.data().await {
            let frame = frame.unwrap();
            assert!(frame.iter().all(|byte| *byte == b'x'));
            frames.push(frame.len());
        }
        let trailers = incoming.trailers().await.unwrap().is_some();
        drop((incoming, client));
        driven.await.unwrap().unwrap();
        served.await.unwrap();
        (
            frames.into_iter().filter(|length| *length > 0).collect(),
            trailers,
        )
    }

    /// Gives what comes from elsewhere.
    struct Live(mpsc::Receiver<Bytes>);

    impl Body for Live {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0
                .poll_recv(cx)
                .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    #[tokio::test]
    async fn a_piece_wakes_its_task_once() {
        const PIECES: usize = 50;
        let (near, far) = tokio::io::duplex(1 << 20);
        let (pieces, live) = mpsc::channel(1);
        let served = spawn(async move {
            let mut connection = h2::server::handshake(far).await.unwrap();
            let (request, mut reply) = connection.accept().await.unwrap().unwrap();
            let outgoing = reply.send_response(Response::new(()), false).unwrap();
            let answering = spawn(async move {
                let mut sending = Sending::new(Live(live), outgoing, 0, Reason::INTERNAL_ERROR);
                let mut polls = 0;
                let sent = poll_fn(|cx| {
                    polls += 1;
                    sending.poll_send(cx)
                });
                sent.await.unwrap();
                polls
            });
            drop(request);
            assert!(connection.accept().await.is_none());
            answering.await.unwrap()
        });
        let (mut client, connection) = h2::client::handshake(near).await.unwrap();
        let driven = spawn(connection);
        let (answer, _) = client.send_request(Request::new(()), true).unwrap();
        let mut incoming = answer.await.unwrap().into_body();
        for _ in 0..PIECES {
            pieces.send(Bytes::from_static(ANSWER)).await.unwrap();
            let piece = incoming.data().await.unwrap().unwrap();
            incoming.flow_control().release_capacity(piece.len()).unwrap();
            assert_eq!(piece, ANSWER);
        }
        drop(pieces);
        while let Some(end) = incoming.data().await {
            assert!(end.unwrap().is_empty());
        }
        drop((incoming, client));
        driven.await.unwrap().unwrap();
        let polls = served.await.unwrap();
        assert!(polls <= PIECES + 3, "{polls} polls for {PIECES} pieces");
    }

    #[tokio::test]
    async fn small_pieces_that_are_there_at_once_go_out_together() {
        for (lengths, expected) in [
            (&[][..], &[][..]),
            (&[1], &[1]),
            (&[1, 1], &[1, 1]),
            (&[1, 2, 3, 4], &[1, 9]),
            (&[5, 1_000, 5, 1_000], &[5, 1_000, 5, 1_000]),
            (&[1, 2, 3, 256, 1, 1, 1], &[1, 5, 256, 1, 2]),
        ] {
            for trailers in [false, true] {
                let case = format!("{lengths:?}, trailers {trailers}");
                assert_eq!(
                    sent(lengths.to_vec(), trailers).await,
                    (expected.to_vec(), trailers),
                    "{case}"
                );
            }
        }
        let (frames, _) = sent(vec![9; 10_000], true).await;
        assert_eq!(frames.iter().sum::<usize>(), 90_000);
        assert!(frames.len() <= 90_000 / TOGETHER + 2, "{}", frames.len());
    }
}
