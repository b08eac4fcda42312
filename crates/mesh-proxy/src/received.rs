//! A request as it came in, in the one form that the rest of the request path reads.

use http::Request;
use http::request::Parts;

use crate::body::FromClient;
use crate::connections::Busy;
use crate::headers;
use crate::upgrade::Upgrade;
use crate::worker::Worker;

/// A request as it came in.
pub struct Received {
    /// Its head. An extended CONNECT is the GET here that asks for the same in HTTP/1.1.
    pub head: Parts,
    /// Its body.
    pub body: FromClient,
    /// Whether it is a gRPC call.
    pub grpc: bool,
    /// What it asks to become, if it does.
    pub upgrade: Option<Upgrade>,
}

impl Received {
    /// Takes a request apart. `busy` is its connection.
    pub fn new(worker: &Worker, request: Request<FromClient>, busy: &Busy) -> Self {
        let (mut head, mut body) = request.into_parts();
        let upgrade = Upgrade::take(&mut head, &mut body, busy, || worker.random());
        Self {
            grpc: headers::is_grpc(&head.headers),
            head,
            body,
            upgrade,
        }
    }
}
