//! Simulated proxies: all that a proxy does with its control plane, and nothing else.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mesh_api::identity::Identity;
use mesh_api::snapshot::Snapshot;
use mesh_api::wire;
use mesh_api::wire::config::config_client::ConfigClient;
use mesh_api::wire::config::subscribe_request::Message;
use mesh_api::wire::config::{Ack, Hello, SubscribeRequest, Uses};
use mesh_api::wire::identity::identity_client::IdentityClient;
use mesh_api::wire::identity::{CertifyRequest, WhoamiRequest};
use mesh_proxy::control::backoff::Backoff;
use mesh_proxy::control::dial::Dialer;
use mesh_proxy::credentials::join::request_for;
use mesh_proxy::tls::Credentials;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::control::Control;
use crate::objects::{NAMESPACE, Size, pod_name, service_name};
use crate::report::Connected;

/// How many proxies are on their way to their first configuration at a time.
const AT_ONCE: usize = 64;
/// How often a certificate is asked for, while the control plane says that it is busy.
const ATTEMPTS: usize = 20;
/// How long the first configuration of one more proxy, or a change in one, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// All proxies. They end with this value.
pub(crate) struct Fleet {
    pub(crate) size: Size,
    started: Instant,
    served: mpsc::UnboundedReceiver<Served>,
    proxies: JoinSet<Result<Infallible>>,
}

/// A proxy has acknowledged a configuration.
struct Served {
    proxy: usize,
    at: Instant,
    /// Of the message that brought it.
    bytes: usize,
    snapshot: Snapshot,
}

/// What came of a change.
pub(crate) struct Arrived {
    /// When the last of the proxies that were to be told had acknowledged it.
    pub(crate) at: Instant,
    /// Of all messages to these proxies.
    pub(crate) bytes: usize,
}

/// One proxy.
struct Proxy {
    number: usize,
    size: Size,
    token: String,
    dialer: Arc<Dialer>,
    served: mpsc::UnboundedSender<Served>,
}

impl Fleet {
    /// Starts the proxies of the first pods, each with its token.
    pub(crate) fn start(size: Size, control: SocketAddr, roots: PathBuf, tokens: Vec<String>) -> Self {
        let (told, served) = mpsc::unbounded_channel();
        let dialer = Arc::new(Dialer::new(control.to_string(), roots));
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut proxies = JoinSet::new();
        for (number, token) in tokens.into_iter().enumerate() {
            let (dialer, turns) = (Arc::clone(&dialer), Arc::clone(&turns));
            let served = told.clone();
            let proxy = Proxy {
                number,
                size,
                token,
                dialer,
                served,
            };
            proxies.spawn(async move {
                let turn = turns.acquire_owned().await?;
                let name = proxy.name();
                proxy.run(turn).await.with_context(|| format!("proxy {name}"))
            });
        }
        Self {
            size,
            started: Instant::now(),
            served,
            proxies,
        }
    }

    /// Waits until all have their first configuration.
    pub(crate) async fn connected(&mut self, control: &Control) -> Result<Connected> {
        let before = control.cpu()?;
        let all = (0..self.size.proxies).collect();
        let size = self.size;
        let complete = move |proxy: usize, snapshot: &Snapshot| {
            size.uses(proxy).into_iter().all(|service| {
                let name = format!("{NAMESPACE}/{}", service_name(service)).parse();
                name.is_ok_and(|name| snapshot.services.contains_key(&name))
            })
        };
        let arrived = self.until(&all, complete).await;
        let arrived = arrived.with_context(|| control.last_words())?;
        Ok(Connected {
            time: arrived.at.duration_since(self.started),
            cpu: control.cpu()? - before,
            resident: control.resident()?,
            bytes_each: arrived.bytes as f64 / self.size.proxies as f64,
        })
    }

    /// Waits until each of these proxies has acknowledged a configuration of which this holds.
    ///
    /// # Errors
    /// When it takes too long, a proxy fails, or another one is told something.
    pub(crate) async fn until(
        &mut self,
        users: &BTreeSet<usize>,
        holds: impl Fn(usize, &Snapshot) -> bool,
    ) -> Result<Arrived> {
        let (mut waiting, mut bytes) = (users.clone(), 0);
        let mut last = None;
        while !waiting.is_empty() {
            let served = tokio::select! {
                served = self.served.recv() => served.context("all proxies have ended")?,
                Some(ended) = self.proxies.join_next() => match ended? {
                    Ok(never) => match never {},
                    Err(error) => return Err(error),
                },
                () = tokio::time::sleep(PATIENCE) => {
                    bail!("{} of {} proxies do not have it", waiting.len(), users.len())
                }
            };
            let proxy = served.proxy;
            ensure!(
                users.contains(&proxy),
                "proxy {proxy} is told of what it does not use"
            );
            bytes += served.bytes;
            if holds(proxy, &served.snapshot) && waiting.remove(&proxy) {
                last = last.max(Some(served.at));
            }
        }
        Ok(Arrived {
            at: last.context("nobody is to be told")?,
            bytes,
        })
    }
}

impl Proxy {
    fn name(&self) -> String {
        format!("{NAMESPACE}/{}", pod_name(self.size.place(self.number)))
    }

    /// Gets a certificate, and follows. The turn ends with the first configuration.
    async fn run(self, turn: OwnedSemaphorePermit) -> Result<Infallible> {
        let credentials = self.certificate().await.context("its certificate")?;
        let channel = self.dialer.connect(Some(&credentials)).await?;
        let (answers, outgoing) = mpsc::channel(4);
        answers
            .send(say(Message::Hello(self.hello(&credentials))))
            .await?;
        let mut client = ConfigClient::new(channel);
        let mut deltas = client
            .subscribe(ReceiverStream::new(outgoing))
            .await?
            .into_inner();
        let mut turn = Some(turn);
        let mut serves: Option<Snapshot> = None;
        loop {
            let delta = deltas.message().await?.context("the stream has ended")?;
            // That another certificate is wanted.
            if !delta.trust.is_empty() {
                continue;
            }
            let (bytes, version) = (delta.encoded_len(), delta.version);
            let snapshot = Snapshot::after(serves.as_ref(), wire::delta(delta)?)?;
            answers.send(say(Message::Ack(Ack { version }))).await?;
            turn.take();
            // Nobody listens when everything ends.
            let _ = self.served.send(Served {
                proxy: self.number,
                at: Instant::now(),
                bytes,
                snapshot: snapshot.clone(),
            });
            serves = Some(snapshot);
        }
    }

    fn hello(&self, credentials: &Credentials) -> Hello {
        let used = self.size.uses(self.number).into_iter().map(service_name);
        Hello {
            workload: self.name(),
            proxy_id: self.number.to_string(),
            software: "scale".to_owned(),
            version: 0,
            uses: Some(Uses {
                sequence: 1,
                services: used.map(|service| format!("{NAMESPACE}/{service}")).collect(),
                ..Uses::default()
            }),
            trust: credentials.trust.clone(),
        }
    }

    /// A certificate, once the control plane has time for it.
    async fn certificate(&self) -> Result<Credentials> {
        let mut backoff = Backoff::control();
        for _ in 1..ATTEMPTS {
            match self.certified().await {
                Err(error) if is_busy(&error) => tokio::time::sleep(backoff.pause()).await,
                done => return done,
            }
        }
        self.certified().await
    }

    async fn certified(&self) -> Result<Credentials> {
        let mut client = IdentityClient::new(self.dialer.connect(None).await?);
        let asked = WhoamiRequest {
            workload: self.name(),
            service_account_token: self.token.clone(),
            ..WhoamiRequest::default()
        };
        let identity: Identity = client.whoami(asked).await?.into_inner().identity.parse()?;
        let (key, csr) = request_for(&identity)?;
        let asked = CertifyRequest {
            workload: self.name(),
            csr,
            service_account_token: self.token.clone(),
            ..CertifyRequest::default()
        };
        let answer = client.certify(asked).await?.into_inner();
        let trust_domain = identity.trust_domain.clone();
        let chain = answer.chain.into_iter().map(Into::into).collect();
        let roots = answer.bundle.into_iter().map(Into::into).collect();
        let mut credentials = Credentials::new(identity, chain, key.into(), roots, &trust_domain)?;
        credentials.trust = answer.trust;
        Ok(credentials)
    }
}

/// Whether it is worth asking again.
fn is_busy(error: &anyhow::Error) -> bool {
    let status = error.downcast_ref::<tonic::Status>();
    status.is_some_and(|status| matches!(status.code(), Code::ResourceExhausted | Code::Unavailable))
}

fn say(message: Message) -> SubscribeRequest {
    SubscribeRequest {
        message: Some(message),
    }
}
