//! Configuration for proxies: one stream each, on which Deltas go out and answers come back.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::identity::Identity;
use mesh_api::name::ObjectName;
use mesh_api::snapshot::Version;
use mesh_api::wire::config::config_server::Config;
use mesh_api::wire::config::subscribe_request::Message;
use mesh_api::wire::config::{Delta, Nack, SubscribeRequest, Uses};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{authorise, known_peer, object_name, word};
use crate::ca::{Authority, Trust, TrustId};
use crate::clock::unix_now;
use crate::peer::Peer;
use crate::plane::Plane;
use crate::proxies::{Connected, Hello, ProxyKey};
use crate::publish::{self, Answer, Published, Session};

/// How long a proxy may take to say Hello.
const HELLO: Duration = Duration::from_secs(10);
/// The most services and host names that one proxy uses on demand; and the longest of those names, in characters.
const MAX_USED: usize = 1_000;
const MAX_HOSTS: usize = 64;
const MAX_HOST: usize = 253;
/// The most addresses that one proxy asks for.
const MAX_ADDRESSES: usize = 1_024;
/// The longest reason for a refusal that is kept, in characters.
const MAX_REASON: usize = 2_000;

/// The Config service.
#[derive(Debug)]
pub struct ConfigService {
    /// What is published.
    pub plane: Arc<Plane>,
    /// What proxies should trust.
    pub authority: Arc<Authority>,
    /// Ends the streams when the control plane stops.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl Config for ConfigService {
    type SubscribeStream = ReceiverStream<Result<Delta, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        if !self.plane.is_ready() {
            return Err(Status::unavailable("the control plane has not read the mesh yet"));
        }
        let peer = known_peer(request.extensions(), unix_now())?;
        let mut answers = request.into_inner();
        let hello = tokio::time::timeout(HELLO, answers.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the stream begins with Hello, and none came"))??;
        let Some(Message::Hello(hello)) = hello.and_then(|request| request.message) else {
            return Err(Status::invalid_argument("the stream begins with Hello"));
        };
        let workload = object_name("hello.workload", &hello.workload)?;
        may_follow(&self.plane.publisher().current(), &peer, &workload)?;
        let key = ProxyKey {
            workload: workload.clone(),
            id: word("hello.proxy_id", &hello.proxy_id)?,
        };
        let uses = hello.uses.map(uses).transpose()?.unwrap_or_default();
        let takes_part = !hello.trust.is_empty();
        let hello = Hello {
            software: word("hello.software", &hello.software)?,
            version: Version(hello.version),
            certificate_expiry: peer.expiry,
            trust: TrustId::read(&hello.trust),
        };
        let trusts = takes_part.then(|| hello.trust.clone());
        tracing::info!(%workload, proxy = key.id, version = %hello.version, "a proxy follows");
        let (connected, serves) = self
            .plane
            .proxies()
            .connect(key, hello, unix_now())
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        // One Delta with news and one about the certificate.
        let (deltas, stream) = mpsc::channel(2);
        let mut session = Session::new(workload.clone(), serves);
        session.uses(uses);
        let follower = Follower {
            plane: self.plane.clone(),
            peer,
            session,
            workload,
            connected,
            deltas,
            trust: self.authority.follow(),
            believes: trusts,
        };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let deltas = follower.deltas.clone();
            let workload = follower.workload.clone();
            match follower.run(answers, stop).await {
                Ok(()) => tracing::info!(%workload, "a proxy went away"),
                Err(status) => {
                    tracing::info!(%workload, reason = status.message(), "a proxy's stream ended");
                    // When its place is taken, the stream ends without a word.
                    let _ = deltas.try_send(Err(status));
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A peer follows the workload whose identity it has; one that is not there yet, in the namespace it is of.
fn may_follow(published: &Published, peer: &Peer, workload: &ObjectName) -> Result<(), Status> {
    match published.view.identity(workload) {
        Some(identity) => authorise(peer, identity, workload),
        None if peer.identity.namespace == workload.namespace => Ok(()),
        None => Err(Status::permission_denied(format!(
            "there is no Workload {workload}, and the certificate is of {}",
            peer.identity
        ))),
    }
}

/// One proxy's stream.
struct Follower {
    plane: Arc<Plane>,
    peer: Peer,
    workload: ObjectName,
    session: Session,
    connected: Connected,
    deltas: mpsc::Sender<Result<Delta, Status>>,
    /// What the proxy should trust.
    trust: watch::Receiver<Arc<Trust>>,
    /// What came with its certificate, or what it was told to get since; none: it is of a version that knows nothing of it.
    believes: Option<TrustId>,
}

impl Follower {
    async fn run(
        mut self,
        mut answers: Streaming<SubscribeRequest>,
        stop: CancellationToken,
    ) -> Result<(), Status> {
        let mut published = self.plane.publisher().follow();
        loop {
            let newest = published.borrow_and_update().clone();
            self.send(&newest)?;
            self.send_trust();
            tokio::select! {
                () = stop.cancelled() => return Err(Status::unavailable("the control plane stops")),
                () = self.deltas.closed() => return Ok(()),
                Ok(()) = self.trust.changed() => {}
                changed = published.changed() => {
                    changed.map_err(|_| Status::unavailable("the control plane stops"))?;
                }
                answer = answers.message() => match answer? {
                    None => return Ok(()),
                    Some(request) => self.answer(request)?,
                },
            }
            if self.connected.replaced() {
                return Err(Status::aborted("this proxy has connected again"));
            }
        }
    }

    fn send(&mut self, newest: &Published) -> Result<(), Status> {
        match newest.view.identity(&self.workload) {
            Some(identity) => self.still_is(identity)?,
            None => {
                self.connected
                    .refused(&format!("there is no Workload {}", self.workload));
                return Ok(());
            }
        }
        let before = self.session.current();
        let delta = self.session.next(newest);
        if self.session.current() > before {
            self.connected.current(self.session.current());
        }
        let Some(delta) = delta else {
            return Ok(());
        };
        if let Some(wanted) = self.session.sent() {
            let version = delta.version.max(self.session.current());
            self.connected.sent(wanted.clone(), version);
        }
        let message = Delta {
            uses: self.session.answered(),
            ..Delta::from(&delta)
        };
        // One Delta is on its way at a time, so that there is room, unless the proxy answers what it has not read.
        self.deltas
            .try_send(Ok(message))
            .map_err(|_| Status::invalid_argument("a version was acknowledged before it was read"))
    }

    /// Tells the proxy that it needs another certificate, once for each that it needs.
    fn send_trust(&mut self) {
        let wanted = self.trust.borrow_and_update().id().clone();
        if self.believes.as_ref().is_none_or(|believes| wanted == *believes) {
            return;
        }
        let message = Delta {
            trust: wanted.to_string(),
            ..Delta::default()
        };
        // Where there is no room, the proxy has something else to answer first.
        if self.deltas.try_send(Ok(message)).is_ok() {
            self.believes = Some(wanted);
        }
    }

    fn still_is(&self, identity: &Identity) -> Result<(), Status> {
        authorise(&self.peer, identity, &self.workload).inspect_err(|status| {
            self.connected.refused(status.message());
        })
    }

    fn answer(&mut self, request: SubscribeRequest) -> Result<(), Status> {
        match request.message {
            Some(Message::Ack(ack)) => {
                if self.session.ack(Version(ack.version)) == Answer::Expected
                    && let Some(serves) = self.session.serves()
                {
                    self.connected
                        .acked(serves.clone(), self.session.current(), unix_now());
                }
                Ok(())
            }
            Some(Message::Nack(nack)) => {
                if self.session.nack(Version(nack.version)) == Answer::Expected {
                    let reason = reason(&nack);
                    tracing::warn!(workload = %self.workload, version = nack.version, "refused by its proxy: {reason}");
                    self.connected.refused(&reason);
                }
                Ok(())
            }
            Some(Message::Uses(said)) => {
                self.session.uses(uses(said)?);
                Ok(())
            }
            Some(Message::Trust(trust)) => {
                // What it is told goes on until it has it.
                self.connected.trusts(TrustId::read(&trust));
                Ok(())
            }
            Some(Message::Hello(_)) => Err(Status::invalid_argument("Hello is said once")),
            // A message of a later version of the protocol.
            None => Ok(()),
        }
    }
}

fn uses(said: Uses) -> Result<publish::Uses, Status> {
    let Uses {
        sequence,
        services,
        hosts,
        addresses,
    } = said;
    if services.len() > MAX_USED || hosts.len() > MAX_HOSTS || hosts.iter().any(|host| host.len() > MAX_HOST)
    {
        return Err(Status::invalid_argument(format!(
            "uses: more than {MAX_USED} services, {MAX_HOSTS} hosts, or {MAX_HOST} characters of a host"
        )));
    }
    if addresses.len() > MAX_ADDRESSES {
        let reason = format!("uses: more than {MAX_ADDRESSES} addresses");
        return Err(Status::invalid_argument(reason));
    }
    let services = services.iter().map(|name| object_name("uses.services", name));
    let addresses = addresses.iter().map(|address| {
        let parsed = address.parse();
        parsed.map_err(|_| {
            Status::invalid_argument(format!("uses.addresses: {address:?} is not an address and port"))
        })
    });
    Ok(publish::Uses {
        sequence,
        services: services.collect::<Result<_, _>>()?,
        hosts,
        addresses: addresses.collect::<Result<_, _>>()?,
    })
}

fn reason(nack: &Nack) -> String {
    if nack.refusals.is_empty() {
        return "the proxy gives no reason".into();
    }
    let refusals: Vec<_> = nack
        .refusals
        .iter()
        .take(10)
        .map(|refusal| format!("{}: {}: {}", refusal.object, refusal.field, refusal.reason))
        .collect();
    refusals.join("; ").chars().take(MAX_REASON).collect()
}
