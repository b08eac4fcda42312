//! Sends a request to an endpoint of a set, to another one where none has seen it, and brings the response back.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use mesh_api::route::Timeouts;
use tokio::time::Instant;

use crate::balance;
use crate::body::{InFlight, Progress, RequestBody, ResponseBody, ServerBody, Source, Upstream, grpc_status};
use crate::carry::{self, Answers};
use crate::error::{Failure, MESH_ERROR, Reason};
use crate::headers;
use crate::observe::{Record, SeriesKeyRef};
use crate::pipe::Patience;
use crate::pool::{Link, Unanswered};
use crate::read_ahead::slow;
use crate::table::{Endpoint, EndpointId, EndpointSet};
use crate::upgrade::{self, Talk, Upgrade};
use crate::worker::{self, Worker};

/// How long nothing may move where no rule says: long enough for any generation, short enough that a peer that
/// vanished without a word does not hold a stream for ever.
pub(crate) const DEFAULT_IDLE: Duration = Duration::from_secs(3600);
/// How many connections that turn out to be closed are passed over before one is made anew.
const STALE_CONNECTIONS: usize = 3;

/// How a request is to be sent.
pub struct Plan<'a> {
    /// To one of these.
    pub set: &'a Arc<EndpointSet>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How often it is tried again when no server has seen it.
    pub retries: u8,
    /// The object that caused an answer of the mesh's own.
    pub object: &'a Arc<str>,
    /// Where it is counted, but for the model if only its body names it.
    pub labels: SeriesKeyRef<'a>,
}

/// A request on its way.
pub struct Outgoing {
    /// Its head, as it is to be sent.
    pub head: Parts,
    /// Its body.
    pub source: Rc<RefCell<Source>>,
    /// Whether it is a gRPC call.
    pub grpc: bool,
    /// When the client gives up, if it said so.
    pub deadline: Option<Instant>,
    /// What it asks to become, if it does.
    pub upgrade: Option<Upgrade>,
    /// The length of its body in bytes, if it may be [carried](carry) to another sidecar.
    pub carry: Option<u64>,
}

impl Outgoing {
    /// What it goes over to this endpoint.
    fn link(&self, worker: &Worker, endpoint: &Endpoint) -> Link {
        let suits = |length| {
            endpoint
                .answers()
                .suit(length, worker.share(endpoint.load.crowd()))
        };
        if self.head.version == Version::HTTP_2 {
            Link::Http2
        } else if endpoint.identity.is_some()
            && self.carry.is_some_and(suits)
            && headers::authority(&self.head).is_some()
        {
            Link::Carried
        } else {
            Link::Http1
        }
    }
}

/// By when what must have happened.
#[derive(Clone, Copy)]
struct Limits {
    first_byte: Option<Instant>,
    total: Option<(Instant, Reason)>,
    idle: Duration,
}

impl Limits {
    fn new(timeouts: &Timeouts, deadline: Option<Instant>, now: Instant) -> Self {
        let total = timeouts.total.map(|total| (now + total, Reason::TotalTimeout));
        let deadline = deadline.map(|deadline| (deadline, Reason::DeadlineExceeded));
        Self {
            first_byte: timeouts.first_byte.map(|within| now + within),
            total: total.into_iter().chain(deadline).min_by_key(|(at, _)| *at),
            idle: timeouts.idle.unwrap_or(DEFAULT_IDLE),
        }
    }

    /// Those of one try, which begins now.
    fn of_try(self, within: Option<Duration>) -> Self {
        let Some(within) = within else { return self };
        let this = (Instant::now() + within, Reason::TryTimeout);
        Self {
            total: self.total.into_iter().chain([this]).min_by_key(|(at, _)| *at),
            ..self
        }
    }
}

/// Sends the request and returns the response's head; its body streams. `record` goes with the response; on failure
/// the caller still has it.
///
/// # Errors
/// When there is no response to bring back. Whatever a server may have seen was sent once.
pub async fn forward(
    worker: &Rc<Worker>,
    plan: &Plan<'_>,
    mut outgoing: Outgoing,
    record: &mut Option<Record>,
) -> Result<Response<ResponseBody>, Failure> {
    let limits = Limits::new(&plan.timeouts, outgoing.deadline, Instant::now());
    let mut tried: Vec<EndpointId> = Vec::new();
    let mut last: Option<Failure> = None;
    loop {
        let picked = balance::pick(
            &plan.set.endpoints,
            plan.set.balancer(),
            &tried,
            worker::now(),
            worker.turn(),
            || worker.random(),
        );
        let Some(endpoint) = picked else {
            return Err(last.unwrap_or_else(|| no_endpoints(plan)));
        };
        if let Some(record) = record {
            record.endpoint(endpoint.address);
        }
        let again = tried.len() < usize::from(plan.retries);
        let limits = limits.of_try(plan.timeouts.per_try);
        let failure = match attempt(worker, plan, &mut outgoing, endpoint, limits, again, record).await {
            Ok(response) => return Ok(response),
            Err(failure) => failure.of(plan.object),
        };
        if failure.reason.blames_endpoint() {
            endpoint.load.failed(worker::now());
        }
        if !again || !failure.reason.unseen() || !outgoing.source.borrow().replayable() {
            return Err(failure);
        }
        tried.push(endpoint.id);
        if let Some(record) = record {
            record.retried();
        }
        last = Some(failure);
    }
}

fn no_endpoints(plan: &Plan<'_>) -> Failure {
    let detail = format!("service {} has no endpoints", plan.set.service);
    Failure::new(Reason::NoEndpoints, detail).of(plan.object)
}

/// One attempt at one endpoint. `again`: the head must be left for another one.
async fn attempt(
    worker: &Rc<Worker>,
    plan: &Plan<'_>,
    outgoing: &mut Outgoing,
    endpoint: &Arc<Endpoint>,
    limits: Limits,
    again: bool,
    record: &mut Option<Record>,
) -> Result<Response<ResponseBody>, Failure> {
    let in_flight = InFlight::begin(endpoint);
    let started = Instant::now();
    let link = outgoing.link(worker, endpoint);
    let mut stale = 0;
    let (lease, response) = loop {
        let leasing = worker.pools.lease(worker, plan.set, endpoint, link);
        let mut lease = in_time(leasing, limits, &outgoing.source).await??;
        let body = RequestBody::attempt(&outgoing.source);
        let request = request(&mut outgoing.head, body, link, again, outgoing.deadline);
        let unanswered = match in_time(lease.send(request), limits, &outgoing.source).await? {
            Ok(response) => break (lease, response),
            Err(unanswered) => unanswered,
        };
        let failure = sent(&unanswered, &outgoing.source.borrow(), endpoint);
        match unanswered.unsent {
            // The connection closed while it lay in the pool: nothing of the request left this process.
            Some(headers) if stale < STALE_CONNECTIONS => {
                if link != Link::Carried {
                    outgoing.head.headers = headers;
                }
                stale += 1;
            }
            _ => return Err(failure),
        }
    };
    endpoint.load.answered(worker::now(), started.elapsed());
    // Who answers so is sent nothing more of the request.
    let response = answered(response, endpoint).inspect_err(|_| outgoing.source.borrow().abandon())?;
    let (mut head, body) = response.into_parts();
    headers::strip_hop_response(&mut head);
    if link == Link::Carried {
        carry::unwrap_answer(&mut head);
    }
    if outgoing.carry.is_some() {
        endpoint.answered(Answers::of(&head.headers));
    }
    outgoing.source.borrow_mut().forget();
    let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
    match &outgoing.upgrade {
        None if switched => return Err(upgrade::unasked()),
        Some(upgrade) => upgrade.check(&head)?,
        None => {}
    }
    let Some(mut record) = record.take() else {
        return Err(Failure::new(Reason::Reset, "the request was answered already"));
    };
    if let Some(model) = outgoing
        .source
        .borrow()
        .found()
        .filter(|_| plan.labels.model.is_empty())
    {
        record.route(plan.labels.asks(Some(model)));
    }
    record.status(head.status);
    if outgoing.grpc
        && let Some(status) = grpc_status(&head.headers)
    {
        record.grpc_status(status);
    }
    if let Some(reason) = head
        .headers
        .get(MESH_ERROR)
        .and_then(|word| Reason::of_word(word.as_bytes()))
    {
        record.fail(reason.as_str(), None);
    }
    if let Some(upgrade) = outgoing.upgrade.take_if(|_| switched) {
        record.first_byte();
        let talk = Talk {
            record,
            in_flight,
            drain: worker.shared.drain.clone(),
            patience: Patience {
                idle: limits.idle,
                deadline: limits.total,
            },
        };
        return Ok(upgrade.switch(head, body, talk));
    }
    let upstream = Upstream {
        progress: Progress::begin(),
        body,
        record,
        source: Rc::clone(&outgoing.source),
        lease: Some(lease),
        in_flight,
        grpc: outgoing.grpc && link == Link::Http2,
        idle: limits.idle,
        deadline: limits.total,
    };
    Ok(Response::from_parts(
        head,
        ResponseBody::Upstream(upstream.begun()),
    ))
}

/// The request for one attempt; the head is taken or, when it may be needed again, copied.
fn request(
    head: &mut Parts,
    body: RequestBody,
    link: Link,
    keep: bool,
    deadline: Option<Instant>,
) -> Request<RequestBody> {
    let mut request = Request::new(body);
    // What HTTP/1.0 lacks is of the client's hop (RFC 9110, §2.5).
    *request.version_mut() = match head.version {
        Version::HTTP_2 => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = if keep || link == Link::Carried {
        head.headers.clone()
    } else {
        std::mem::take(&mut head.headers)
    };
    if let Some(deadline) = deadline {
        headers::set_grpc_timeout(
            request.headers_mut(),
            deadline.saturating_duration_since(Instant::now()),
        );
    }
    if link == Link::Carried {
        let (mut head, body) = request.into_parts();
        carry::wrap(&mut head);
        return Request::from_parts(head, body);
    }
    request
}

/// Waits, but no longer than the limits allow.
async fn in_time<T>(
    waiting: impl Future<Output = T>,
    limits: Limits,
    source: &RefCell<Source>,
) -> Result<T, Failure> {
    let mut waiting = pin!(waiting);
    let mut looked = source.borrow().last_moved();
    loop {
        let idle = source.borrow().last_moved() + limits.idle;
        let silent = source.borrow().silent_at(looked);
        let at = [limits.first_byte, limits.total.map(|(at, _)| at), silent]
            .into_iter()
            .flatten()
            .fold(idle, Instant::min);
        if let Ok(done) = tokio::time::timeout_at(at, waiting.as_mut()).await {
            return Ok(done);
        }
        let now = Instant::now();
        looked = now;
        if let Some((at, reason)) = limits.total
            && now >= at
        {
            return Err(Failure::new(reason, "the request was not answered in time"));
        }
        if limits.first_byte.is_some_and(|at| now >= at) {
            return Err(Failure::new(
                Reason::FirstByteTimeout,
                "the response did not begin in time",
            ));
        }
        if let Some(silence) = source.borrow().too_silent(now) {
            return Err(slow(silence));
        }
        if now >= source.borrow().last_moved() + limits.idle {
            return Err(Failure::new(Reason::IdleTimeout, "no byte moved for too long"));
        }
    }
}

/// What a request that failed while it was sent has come to.
fn sent(unanswered: &Unanswered, source: &Source, endpoint: &Endpoint) -> Failure {
    if let Some(failure) = source.failure() {
        return failure.clone();
    }
    let (address, error) = (endpoint.address, &unanswered.error);
    if unanswered.unsent.is_some() || error.refused_stream() {
        return Failure::new(
            Reason::StreamRefused,
            format!("{address} took no request: {error}"),
        );
    }
    if let Some(why) = error.unreadable() {
        return Failure::new(
            Reason::BadResponse,
            format!("{address} answered with what is not HTTP: {why}"),
        );
    }
    Failure::new(
        Reason::Reset,
        format!("{address} went away before it answered: {error}"),
    )
}

/// What the endpoint's sidecar says about its workload; from others, nothing is believed.
fn answered(
    mut response: Response<ServerBody>,
    endpoint: &Endpoint,
) -> Result<Response<ServerBody>, Failure> {
    let Some(word) = response.headers().get(MESH_ERROR) else {
        return Ok(response);
    };
    if endpoint.identity.is_none() {
        response.headers_mut().remove(MESH_ERROR);
        return Ok(response);
    }
    match Reason::of_word(word.as_bytes()) {
        Some(Reason::LocalUnreachable) => {
            let detail = format!("the workload behind {} can't be reached", endpoint.address);
            Err(Failure::new(Reason::LocalUnreachable, detail))
        }
        Some(reason) if reason.blames_endpoint() => {
            endpoint.load.failed(worker::now());
            Ok(response)
        }
        _ => Ok(response),
    }
}
