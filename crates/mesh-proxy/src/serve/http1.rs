//! Serving the requests of a client's connection in HTTP/1.1, one by one, without a task or a buffer of their own: what is on
//! the wire is read and written by functions that know no socket (`http1/`), when the client or the answer has something.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::BytesMut;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::{answered, in_place, until_finished, until_told};
use crate::body::{FromClient, ResponseBody};
use crate::connections::Told;
use crate::guard::Guarded;
use crate::http1::{Asked, HeadLimits, Manner, Refused, RequestReader};
use crate::listen::Client;
use crate::rest::rest;

mod connection;
mod ended;
mod sending;

use connection::Connection;
use ended::Ended;
use sending::Sending;

/// Serves the requests of a connection and lets it rest between them.
pub(super) async fn one_by_one<I>(client: Rc<Client>, mut io: Guarded<I>)
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut ahead = BytesMut::new();
    // What requests need lies in a box of its own, which is gone while the connection rests.
    while let Some(idle) = Box::pin(requests(&client, io, ahead)).await {
        io = idle;
        match rest(&client, &mut io).await {
            Some(bytes) => ahead = bytes,
            None => break,
        }
    }
    // What it was upgraded to goes on with its own limits.
    client.seat.retire();
}

/// Serves the requests of a connection until it is over or has been idle for a while; then it is returned.
async fn requests<I>(client: &Rc<Client>, io: Guarded<I>, ahead: BytesMut) -> Option<Guarded<I>>
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let seat = &client.seat;
    let connection = Connection::new(io, ahead, Arc::clone(seat));
    seat.may_rest(true);
    let rests = serve_until_told(client, &connection).await;
    seat.may_rest(false);
    if rests {
        return connection.into_io();
    }
    connection.hand_over();
    None
}

/// Serves the requests of a connection. True: it is to rest; false: it is over.
async fn serve_until_told<I>(client: &Rc<Client>, connection: &Rc<Connection<I>>) -> bool
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let seat = &client.seat;
    let mut serving = pin!(serve(client, connection));
    loop {
        match until_told(client, serving.as_mut()).await {
            None | Some(Told::Close) => return false,
            Some(Told::Rest) if seat.is_quiet() && connection.is_exhausted() => return true,
            Some(Told::Rest) => seat.may_rest(true),
            Some(Told::Finish) => {
                connection.finish();
                until_finished(client, serving.as_mut()).await;
                return false;
            }
        }
    }
}

/// Serves one request after the other, until there is none.
async fn serve<I>(client: &Rc<Client>, connection: &Rc<Connection<I>>) -> Result<(), Ended>
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = HeadLimits::from(&client.worker.shared.limits);
    loop {
        let mut reader = RequestReader::new(limits);
        match poll_fn(|cx| connection.poll_head(&mut reader, cx)).await {
            Ok(Some(asked)) => match exchange(client, connection, asked).await? {
                Next::Request => {}
                Next::Protocol => return Ok(()),
                Next::Nothing => break,
            },
            Ok(None) => break,
            Err(Ended::Refused(refused)) => {
                refuse(connection, refused).await?;
                return Err(Ended::Refused(refused));
            }
            Err(ended) => return Err(ended),
        }
    }
    poll_fn(|cx| connection.poll_shut_down(cx))
        .await
        .map_err(Ended::Broken)
}

/// What comes behind an answer.
enum Next {
    Request,
    /// Whatever its connection was handed over for.
    Protocol,
    Nothing,
}

/// Answers a request.
async fn exchange<I>(client: &Rc<Client>, connection: &Rc<Connection<I>>, asked: Asked) -> Result<Next, Ended>
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let busy = client.seat.open();
    let mut manner = asked.manner;
    let (opens, opening) = asked.switches.then(oneshot::channel).unzip();
    let body = connection.begin(asked.framing, asked.expects);
    let request = Request::from_parts(asked.head, FromClient::http1(body, opening));
    let mut answering = in_place(|| answered(Rc::clone(client), request, busy));
    let (answer, busy) = poll_fn(|cx| match answering.as_mut().poll(cx) {
        Poll::Ready(answered) => Poll::Ready(Ok(answered)),
        Poll::Pending => Poll::Ready(Err(ready!(connection.poll_left(cx)))),
    })
    .await?;
    drop(answering);

    connection.begin_answer();
    let last = client.worker.shared.drain.is_started() || connection.is_finishing();
    manner.keeps &= !last && connection.may_go_on();
    let switches = manner.switches(answer.status());
    send(connection, answer, &mut manner).await?;
    drop(busy);
    if switches {
        connection.switch(opens);
        return Ok(Next::Protocol);
    }
    if manner.keeps {
        // Somebody may read the rest of the request still.
        poll_fn(|cx| connection.poll_body_over(cx)).await;
        if connection.may_go_on() {
            return Ok(Next::Request);
        }
    }
    Ok(Next::Nothing)
}

/// Sends an answer, unless the client leaves before.
async fn send<I>(
    connection: &Connection<I>,
    answer: Response<ResponseBody>,
    manner: &mut Manner,
) -> Result<(), Ended>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut sending = Sending::new(answer, manner);
    poll_fn(|cx| match sending.poll(connection, cx) {
        Poll::Ready(sent) => Poll::Ready(sent),
        Poll::Pending => Poll::Ready(Err(ready!(connection.poll_left(cx)))),
    })
    .await
}

/// Says why what a client sent is no request.
async fn refuse<I>(connection: &Connection<I>, refused: Refused) -> Result<(), Ended>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = refused.status();
    send(connection, answer, &mut Manner::default()).await?;
    poll_fn(|cx| connection.poll_shut_down(cx))
        .await
        .map_err(Ended::Broken)
}
