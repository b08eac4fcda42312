//! The configuration stream: Deltas come in, become a Snapshot, take effect as a whole or not at all, and are answered.
//!
//! Nothing here stands in the way of requests: while the control plane is away, the last configuration goes on, and
//! the stream is opened again with growing pauses. A Delta leads from what was acknowledged last to the newest, so that
//! a refused one needs no repair; one that does not fit what is known is repaired by asking for everything.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::snapshot::Snapshot;
use mesh_api::wire;
use mesh_api::wire::config::config_client::ConfigClient;
use mesh_api::wire::config::{self, SubscribeRequest, subscribe_request::Message};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

pub mod backoff;
pub mod dial;

use backoff::Backoff;
use dial::{DialError, Dialer};

use crate::apply::{Applier, Refusal};
use crate::observe::{Observe, Settings};
use crate::shared::Shared;
use crate::tls::CredentialsCell;

/// The largest Delta that is taken, in bytes.
const MAX_DELTA: usize = 256 << 20;
/// How long after a refusal the newest configuration is asked for again: what stood in its way may have gone.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// The stream's end in the proxy.
pub struct Subscription {
    /// The way to the control plane.
    pub dialer: Arc<Dialer>,
    /// What the proxy proves itself with.
    pub credentials: Arc<CredentialsCell>,
    /// Says when the credentials change.
    pub renewed: watch::Receiver<u64>,
    /// Told what certificates should come with.
    pub wanted: watch::Sender<String>,
    /// What workers read, and ask for.
    pub shared: Arc<Shared>,
    /// What is counted.
    pub observe: Arc<Observe>,
    /// Puts configurations into effect.
    pub applier: Applier,
    /// Told of each that is.
    pub latest: watch::Sender<Option<Arc<Snapshot>>>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the control plane ended the stream: {} ({:?})", .0.message(), .0.code())]
    Status(Box<tonic::Status>),
    #[error("the control plane ended the stream")]
    Closed,
    #[error("a configuration does not follow from the one before: {0}")]
    OutOfStep(mesh_api::snapshot::DeltaError),
    #[error("asking again for the configuration that was refused")]
    AskAgain,
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl Subscription {
    /// Follows the control plane for as long as the proxy lives.
    pub async fn run(&mut self) {
        let mut backoff = Backoff::control();
        let mut everything = false;
        loop {
            // Without credentials there is nobody to subscribe as.
            if self.renewed.wait_for(|generation| *generation > 0).await.is_err() {
                return;
            }
            let ended = self.session(everything, &mut backoff).await;
            self.observe.handles.control_connected.set(0.0);
            self.shared.discovery.connected(false);
            everything = matches!(ended, Ended::OutOfStep(_));
            let pause = backoff.pause();
            tracing::info!(?pause, "configuration: {ended}");
            tokio::time::sleep(pause).await;
        }
    }

    /// One stream, from Hello to its end.
    async fn session(&mut self, everything: bool, backoff: &mut Backoff) -> Ended {
        match self.follow(everything, backoff).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn follow(
        &mut self,
        everything: bool,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, Ended> {
        let credentials = self.credentials.load_full();
        let channel = self.dialer.connect(credentials.as_deref()).await?;
        let mut client = ConfigClient::new(channel).max_decoding_message_size(MAX_DELTA);
        let (answers, outgoing) = mpsc::channel(4);
        let hello = Message::Hello(self.hello(everything));
        say(&answers, hello).await?;
        let mut deltas = client
            .subscribe(ReceiverStream::new(outgoing))
            .await?
            .into_inner();
        self.observe.handles.control_connected.set(1.0);
        self.shared.discovery.connected(true);
        let shared = Arc::clone(&self.shared);
        let discovery = &shared.discovery;
        let mut sweep = tokio::time::interval(discovery.sweep_interval());
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut refused, mut answered) = (None, !discovery.is_enabled());
        let mut renewed = self.renewed.clone();
        renewed.mark_unchanged();
        loop {
            let message = tokio::select! {
                message = deltas.message() => message?,
                () = after(refused) => return Err(Ended::AskAgain),
                // What changes meanwhile is said at once when the answer is there.
                () = discovery.changed(), if answered => {
                    if let Some(uses) = discovery.uses() {
                        answered = false;
                        say(&answers, Message::Uses(uses)).await?;
                    }
                    continue;
                }
                Ok(()) = renewed.changed() => {
                    say(&answers, Message::Trust(self.trust())).await?;
                    continue;
                }
                _ = sweep.tick(), if discovery.is_enabled() => {
                    self.sweep();
                    continue;
                }
            };
            let message = message.ok_or(Ended::Closed)?;
            backoff.reset();
            if !message.trust.is_empty() {
                self.wanted.send_replace(message.trust);
                continue;
            }
            let uses = message.uses;
            let (answer, out_of_step) = self.take(message);
            if matches!(answer, Message::Ack(_)) {
                if let Some(table) = self.shared.table.load().as_deref() {
                    discovery.answered(uses, table);
                }
                answered |= discovery.is_answered(uses);
                self.observe.handles.on_demand.set(discovery.used() as f64);
            }
            refused = matches!(answer, Message::Nack(_)).then(|| Instant::now() + ASK_AGAIN);
            say(&answers, answer).await?;
            if let Some(error) = out_of_step {
                return Err(Ended::OutOfStep(error));
            }
        }
    }

    fn hello(&self, everything: bool) -> config::Hello {
        let serving = self
            .latest
            .borrow()
            .as_ref()
            .map_or(0, |snapshot| snapshot.version.0);
        config::Hello {
            workload: self.observe.workload.to_string(),
            proxy_id: self.observe.proxy_id.clone(),
            software: concat!("mesh-proxy ", env!("CARGO_PKG_VERSION")).to_owned(),
            version: if everything { 0 } else { serving },
            uses: self.shared.discovery.uses(),
            trust: self.trust(),
        }
    }

    /// What came with the certificate at hand.
    fn trust(&self) -> String {
        let credentials = self.credentials.load();
        credentials
            .as_ref()
            .map_or_else(String::new, |credentials| credentials.trust.clone())
    }

    /// Takes or refuses a Delta, and answers.
    fn take(&mut self, message: config::Delta) -> (Message, Option<mesh_api::snapshot::DeltaError>) {
        let version = message.version;
        let (refusals, out_of_step) = match self.advance(message) {
            Ok(()) => {
                tracing::info!(version, "configuration: in effect");
                return (Message::Ack(config::Ack { version }), None);
            }
            Err(NotTaken::Refused(refusals)) => (refusals, None),
            Err(NotTaken::OutOfStep(error)) => (vec![refusal("Delta", "", &error)], Some(error)),
        };
        self.observe.handles.config_refused.increment(1);
        for Refusal {
            object,
            field,
            reason,
        } in &refusals
        {
            tracing::error!(version, "configuration: refused: {object}: {field}: {reason}");
        }
        let refusals = refusals.into_iter().map(Into::into).collect();
        (Message::Nack(config::Nack { version, refusals }), out_of_step)
    }

    fn advance(&mut self, message: config::Delta) -> Result<(), NotTaken> {
        let delta = wire::delta(message).map_err(|error| {
            NotTaken::Refused(vec![Refusal {
                object: error.object,
                field: error.field,
                reason: error.reason,
            }])
        })?;
        let before = self.latest.borrow().clone();
        if delta.is_empty()
            && before
                .as_ref()
                .is_some_and(|before| before.version == delta.version)
        {
            // It only says what there is not.
            return Ok(());
        }
        let snapshot = Snapshot::after(before.as_deref(), delta).map_err(NotTaken::OutOfStep)?;
        self.put(snapshot).map_err(NotTaken::Refused)
    }

    /// Serves with a configuration that was saved.
    ///
    /// # Errors
    /// When it is another workload's, or can't take effect now.
    pub fn take_saved(&mut self, snapshot: Snapshot) -> Result<(), Vec<Refusal>> {
        self.put(snapshot)
    }

    /// Lets go of services that are not called any more.
    fn sweep(&self) {
        if let Some(table) = self.shared.table.load().as_deref() {
            self.shared.discovery.sweep(table);
        }
        self.observe
            .handles
            .on_demand
            .set(self.shared.discovery.used() as f64);
    }

    fn put(&mut self, snapshot: Snapshot) -> Result<(), Vec<Refusal>> {
        let (own, told) = (&self.observe.workload, &snapshot.workload.name);
        if told != own {
            let reason = format!("this proxy stands before {own}");
            return Err(vec![refusal(&format!("Workload {told}"), "name", &reason)]);
        }
        let snapshot = Arc::new(snapshot);
        self.applier.apply(Arc::clone(&snapshot))?;
        self.shared.discovery.configure(&snapshot);
        self.observe.configure(Settings::from(&snapshot.mesh));
        self.observe.handles.config_version.set(snapshot.version.0 as f64);
        self.latest.send_replace(Some(snapshot));
        Ok(())
    }
}

/// Until then; none: for ever.
async fn after(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

enum NotTaken {
    Refused(Vec<Refusal>),
    OutOfStep(mesh_api::snapshot::DeltaError),
}

fn refusal(object: &str, field: &str, reason: &impl ToString) -> Refusal {
    Refusal {
        object: object.to_owned(),
        field: field.to_owned(),
        reason: reason.to_string(),
    }
}

impl From<Refusal> for config::Refusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            object: refusal.object,
            field: refusal.field,
            reason: refusal.reason,
        }
    }
}

async fn say(answers: &mpsc::Sender<SubscribeRequest>, message: Message) -> Result<(), Ended> {
    let request = SubscribeRequest {
        message: Some(message),
    };
    answers.send(request).await.map_err(|_| Ended::Closed)
}
