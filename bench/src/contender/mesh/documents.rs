//! The documents of the mesh that is measured: two workloads, three services, and a model route that matches on model
//! and operation and splits 95/5, so that everything a canary needs is at work. Both backends of the split are the one
//! model server of the bench.

use std::net::SocketAddr;

/// The workload whose sidecar is the outbound proxy.
pub(super) const CLIENT: &str = "ml/client";
/// The workload whose sidecar is the inbound proxy.
pub(super) const SERVER: &str = "ml/server";

/// What requests name as their authority.
pub(super) const AUTHORITY: &str = "fraud.ml";
/// The trust domain, which the control plane has to be started with.
pub(super) const TRUST_DOMAIN: &str = "bench.test";

/// One YAML text with all documents. The load enters at `entry`, the sidecars meet at `between`.
pub(super) fn all(entry: SocketAddr, between: SocketAddr, backend: SocketAddr) -> String {
    let services: String = ["fraud", "fraud-v1", "fraud-v2"].map(service).concat();
    format!(
        "\
apiVersion: mesh.dev/v1alpha1
kind: MeshConfig
metadata: {{name: mesh}}
spec:
  trustDomain: {TRUST_DOMAIN}
---
apiVersion: mesh.dev/v1alpha1
kind: Workload
metadata: {{name: client, namespace: ml}}
spec:
  serviceAccount: client
  outbound:
    localPorts:
    - {{listen: {entry}, service: fraud}}
---
apiVersion: mesh.dev/v1alpha1
kind: Workload
metadata:
  name: server
  namespace: ml
  labels: {{app: fraud}}
spec:
  serviceAccount: server
  ports:
  - {{name: infer, port: {backend}, listen: {between}, appProtocol: mesh.dev/open-inference}}
---
{services}\
apiVersion: mesh.dev/v1alpha1
kind: ModelRoute
metadata: {{name: fraud, namespace: ml}}
spec:
  service: fraud
  rules:
  - name: infer
    matches: [{{model: fraud, operation: [infer]}}]
    split:
      backends:
      - {{name: stable, service: fraud-v1, weight: 95}}
      - {{name: canary, service: fraud-v2, weight: 5}}
",
        entry = entry.port(),
        between = between.port(),
        backend = backend.port(),
    )
}

fn service(name: &str) -> String {
    format!(
        "\
apiVersion: mesh.dev/v1alpha1
kind: Service
metadata: {{name: {name}, namespace: ml}}
spec:
  selector: {{app: fraud}}
  ports:
  - {{name: infer, port: 8000, appProtocol: mesh.dev/open-inference}}
---
"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mesh_api::{document::parse_all, validate};

    use super::*;

    #[test]
    fn the_mesh_takes_its_documents() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let text = all(at(15001), at(15006), at(8000));
        let documents: Vec<_> = parse_all(Path::new("bench.yaml"), &text)
            .into_iter()
            .map(|document| document.unwrap_or_else(|error| panic!("{error}")).0)
            .collect();
        assert_eq!(documents.len(), 7);
        for document in &documents {
            assert_eq!(validate::alone(document), []);
        }
        let together = validate::together(&documents);
        assert!(together.refused.is_empty(), "{:?}", together.refused);
        assert!(together.missing.is_empty(), "{:?}", together.missing);
    }
}
