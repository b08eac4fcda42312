//! A request on a stream of HTTP/2: answered, and the answer sent, by one task. A client that resets the stream ends the
//! task, and with it whatever was begun for the request.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::sync::oneshot;

use super::{answered, head, in_place};
use crate::body::{FromClient, ResponseBody, Sending, announced};
use crate::connections::Busy;
use crate::cut::Cut;
use crate::listen::Client;
use crate::stall::Stall;
use crate::tunnel::Opening;

/// Serves the request of a stream, as a task of its own.
pub(super) fn serve(client: &Rc<Client>, request: Request<RecvStream>, mut reply: SendResponse<Bytes>) {
    let busy = client.seat.open();
    let (head, incoming) = request.into_parts();
    let (body, opens) = if head.method == Method::CONNECT {
        if announced(&head.headers).is_some_and(|length| length > 0) {
            // What comes on its stream is a tunnel's, and no body.
            return reply.send_reset(Reason::INTERNAL_ERROR);
        }
        let (opens, opening) = Opening::new(incoming);
        (FromClient::Tunnel(Some(opening)), Some(opens))
    } else {
        (FromClient::http2(incoming, &head.headers), None)
    };
    let request = Request::from_parts(head, body);
    let asked = Asked {
        answer: in_place(|| answered(Rc::clone(client), request, busy)),
        opens,
    };
    tokio::task::spawn_local(Stream {
        client: Rc::clone(client),
        reply,
        stage: Stage::Asked(asked),
    });
}

/// A stream, until its answer is sent.
struct Stream {
    client: Rc<Client>,
    reply: SendResponse<Bytes>,
    stage: Stage,
}

enum Stage {
    Asked(Asked),
    Answered(Answered),
}

/// A request without an answer.
struct Asked {
    answer: Pin<Box<dyn Future<Output = (Response<ResponseBody>, Busy)>>>,
    /// To whom the stream is handed over if the answer opens a tunnel.
    opens: Option<oneshot::Sender<SendStream<Bytes>>>,
}

/// An answer whose body is on its way.
struct Answered {
    sending: Sending<ResponseBody>,
    stall: Stall,
    _busy: Busy,
}

impl Stream {
    /// Sends the head of the answer; none: that is all of it.
    fn begin(
        &mut self,
        answer: Response<ResponseBody>,
        busy: Busy,
        opens: Option<oneshot::Sender<SendStream<Bytes>>>,
    ) -> Result<Option<Answered>, h2::Error> {
        let (mut head, body) = answer.into_parts();
        if let Some(opens) = opens.filter(|_| head.status.is_success()) {
            head.headers.remove(CONTENT_LENGTH);
            head::complete(&mut head.headers, None);
            let outgoing = self.reply.send_response(Response::from_parts(head, ()), false)?;
            // If nobody waits for it any more, the stream is reset.
            let _ = opens.send(outgoing);
            return Ok(None);
        }
        let over = body.is_end_stream();
        let length = if over { None } else { body.size_hint().exact() };
        head::complete(&mut head.headers, length);
        let outgoing = self.reply.send_response(Response::from_parts(head, ()), over)?;
        Ok((!over).then(|| Answered {
            sending: Sending::new(body, outgoing, 0, Reason::INTERNAL_ERROR),
            stall: Stall::new(self.client.worker.shared.limits.stall_timeout.get()),
            _busy: busy,
        }))
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            match &mut this.stage {
                Stage::Asked(asked) => {
                    let Poll::Ready((answer, busy)) = asked.answer.as_mut().poll(cx) else {
                        return this.reply.poll_reset(cx).map(drop);
                    };
                    let opens = asked.opens.take();
                    match this.begin(answer, busy, opens) {
                        Ok(Some(answered)) => this.stage = Stage::Answered(answered),
                        Ok(None) => return Poll::Ready(()),
                        Err(error) => {
                            tracing::debug!(%error, "an answer was not sent");
                            this.reply.send_reset(Reason::INTERNAL_ERROR);
                            return Poll::Ready(());
                        }
                    }
                }
                Stage::Answered(answered) => {
                    if let Poll::Ready(sent) = answered.sending.poll_send(cx) {
                        if let Err(error) = sent {
                            tracing::debug!(%error, "an answer was not sent whole");
                        }
                        return Poll::Ready(());
                    }
                    ready!(answered.stall.poll_over(answered.sending.waits_since(), cx));
                    // Letting go of the stream resets it (CANCEL).
                    this.client.worker.cut(this.client.direction, Cut::SlowReader);
                    return Poll::Ready(());
                }
            }
        }
    }
}
