//! A probe of the workload's, performed as the kubelet would: once at a time, whoever asks meanwhile gets the same answer.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{Shared, WeakShared};
use http::StatusCode;
use mesh_api::inject::probe::{Handler, Probe};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{grpc, http_get};

/// Why a probe failed: what the kubelet is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// The workload's own status where it gave one; 400 or more.
    pub(super) status: StatusCode,
    /// In words.
    pub(super) reason: String,
}

impl Failed {
    /// The workload gave no status.
    pub(super) fn unanswered(reason: impl Into<String>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: reason.into(),
        }
    }
}

type Outcome = Result<(), Failed>;
type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A probe that can be asked.
pub(super) struct Ask {
    probe: Probe,
    pod_ip: IpAddr,
    /// The one that is under way.
    running: Mutex<Option<WeakShared<Running>>>,
}

impl Ask {
    pub(super) fn new(probe: Probe, pod_ip: IpAddr) -> Self {
        Self {
            probe,
            pod_ip,
            running: Mutex::new(None),
        }
    }

    /// Performs the probe, or waits for the one that is under way.
    pub(super) async fn outcome(&self) -> Outcome {
        self.join().await
    }

    fn join(&self) -> Shared<Running> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = running.as_ref().and_then(WeakShared::upgrade);
        if let Some(under_way) = under_way.filter(|it| it.peek().is_none()) {
            return under_way;
        }
        let next: Running = Box::pin(perform(self.probe.clone(), self.pod_ip));
        let next = next.shared();
        *running = next.downgrade();
        next
    }
}

async fn perform(probe: Probe, pod_ip: IpAddr) -> Outcome {
    let at = SocketAddr::new(pod_ip, probe.port);
    let within = Duration::from_secs(probe.timeout_seconds.into());
    let performed = async {
        match &probe.handler {
            Handler::HttpGet(get) => http_get::perform(get, at).await,
            Handler::TcpSocket(_) => connect(at).await.map(drop),
            Handler::Grpc(grpc) => grpc::perform(grpc, at).await,
        }
    };
    match timeout(within, performed).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failed {
            status: StatusCode::GATEWAY_TIMEOUT,
            reason: format!("{at} does not answer within {} s", probe.timeout_seconds),
        }),
    }
}

/// Connects to the workload.
pub(super) async fn connect(at: SocketAddr) -> Result<TcpStream, Failed> {
    TcpStream::connect(at)
        .await
        .map_err(|error| Failed::unanswered(format!("connect to {at}: {error}")))
}
