//! What proxies report of the requests they saw.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use mesh_api::wire::admin::Traffic;
use mesh_api::wire::telemetry::telemetry_server::Telemetry;
use mesh_api::wire::telemetry::{Done, Snapshot};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{authorise, known_peer, object_name, word};
use crate::clock::unix_now;
use crate::plane::Plane;
use crate::proxies::ProxyKey;
use crate::traffic::{MAX_WINDOW, TrafficLog};

/// The log of what was reported, with the clock that it goes by.
#[derive(Debug)]
pub struct SharedTraffic {
    log: Mutex<TrafficLog>,
    epoch: Instant,
}

impl Default for SharedTraffic {
    fn default() -> Self {
        Self {
            log: Mutex::default(),
            epoch: Instant::now(),
        }
    }
}

impl SharedTraffic {
    /// How requests went in the last seconds.
    pub fn over(&self, window: u32) -> Traffic {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let (seconds, paths) = log.over(window.into(), self.now());
        Traffic { seconds, paths }
    }

    /// In seconds. It begins above the longest window, so that no window reaches below its beginning.
    fn now(&self) -> u64 {
        MAX_WINDOW + 1 + self.epoch.elapsed().as_secs()
    }

    fn report(&self, key: &ProxyKey, report: &Snapshot) -> usize {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.report(key, report, self.now())
    }
}

/// The Telemetry service.
#[derive(Debug)]
pub struct TelemetryService {
    /// Who the workloads are.
    pub plane: Arc<Plane>,
    /// Where reports go.
    pub traffic: Arc<SharedTraffic>,
    /// Ends the streams when the control plane stops.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl Telemetry for TelemetryService {
    async fn report(&self, request: Request<Streaming<Snapshot>>) -> Result<Response<Done>, Status> {
        let peer = known_peer(request.extensions(), unix_now())?;
        let mut reports = request.into_inner();
        let mut told = false;
        loop {
            let report = tokio::select! {
                () = self.stop.cancelled() => return Err(Status::unavailable("the control plane stops")),
                report = reports.message() => report?,
            };
            let Some(report) = report else {
                return Ok(Response::new(Done {}));
            };
            let workload = object_name("workload", &report.workload)?;
            let published = self.plane.publisher().current();
            // A workload that is gone may still be reported on by who was it.
            match published.view.identity(&workload) {
                Some(identity) => authorise(&peer, identity, &workload)?,
                None if peer.identity.namespace == workload.namespace => {}
                None => {
                    return Err(Status::permission_denied(format!(
                        "there is no Workload {workload}"
                    )));
                }
            }
            let key = ProxyKey {
                workload,
                id: word("proxy_id", &report.proxy_id)?,
            };
            self.plane.proxies().certificate(&key, report.certificate_expiry);
            let left_out = self.traffic.report(&key, &report);
            if left_out > 0 && !told {
                told = true;
                tracing::warn!(workload = %key.workload, left_out, "a proxy reports more series than are kept");
            }
        }
    }
}
