//! The Admin services of the control plane's replicas, each through a port forwarded to its pod.

use std::io;

use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use mesh_api::wire::admin::admin_client::AdminClient;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Endpoint, Uri};

use super::{Cluster, refused};
use crate::client::{Admin, CONNECT, MESSAGE_BYTES};
use crate::error::{Failure, Outcome};

/// The port of the Admin service, on the pod's loopback.
const ADMIN: u16 = 15011;
/// What the control plane's pods are labelled with.
const LABELS: &str = "app.kubernetes.io/name=mesh-control,app.kubernetes.io/part-of=mesh";

/// The control plane's pods.
pub(crate) async fn replicas(cluster: &Cluster) -> Outcome<Vec<Pod>> {
    let pods = cluster
        .own::<Pod>()
        .list(&ListParams::default().labels(LABELS))
        .await;
    let pods = pods.map_err(|error| refused("cannot see the control plane's pods", &error))?;
    Ok(pods.items)
}

/// The Admin service of all replicas that are ready.
pub(crate) async fn admin(cluster: &Cluster) -> Outcome<Admin> {
    let pods = replicas(cluster).await?;
    let ready: Vec<&Pod> = pods.iter().filter(|pod| is_ready(pod)).collect();
    if ready.is_empty() {
        let failure = match pods.len() {
            0 => Failure::new(format!(
                "there is no control plane in namespace {} of {}",
                cluster.namespace, cluster.context
            ))
            .hint("`meshctl install` brings it there"),
            count => Failure::new(format!("none of {count} replicas of the control plane is ready"))
                .hint("`meshctl check` finds what is wrong"),
        };
        return Err(failure);
    }
    let (mut clients, mut last) = (Vec::new(), None);
    for pod in ready {
        let name = pod.metadata.name.clone().unwrap_or_default();
        match connect(cluster.own(), name.clone()).await {
            Ok(client) => clients.push(client),
            // Replicas come and go; the others answer.
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if clients.is_empty() => Err(error),
        _ => Ok(Admin::of(clients).on(cluster.clone())),
    }
}

/// Whether a pod says that it is ready, and is not on its way out.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
}

async fn connect(pods: Api<Pod>, name: String) -> Outcome<AdminClient<tonic::transport::Channel>> {
    let what = format!("cannot forward a port to pod {name}");
    let connector = tower::service_fn(move |_: Uri| {
        let (pods, name) = (pods.clone(), name.clone());
        async move { Ok::<_, io::Error>(TokioIo::new(forward(&pods, &name, ADMIN).await?)) }
    });
    let channel = Endpoint::from_static("http://control.local")
        .connect_timeout(CONNECT)
        .connect_with_connector(connector)
        .await
        .map_err(|error| {
            let cause = crate::client::innermost(&error);
            Failure::new(format!("{what}: {cause}"))
                .hint("it takes the permission to create pods/portforward in the mesh's namespace")
        })?;
    Ok(AdminClient::new(channel).max_decoding_message_size(MESSAGE_BYTES))
}

/// A stream to a port on the loopback of a pod.
pub(crate) async fn forward(
    pods: &Api<Pod>,
    name: &str,
    port: u16,
) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>> {
    let mut forwarder = pods.portforward(name, &[port]).await.map_err(io::Error::other)?;
    let stream = forwarder.take_stream(port);
    stream.ok_or_else(|| io::Error::other("no stream for the port"))
}
