//! The documents of the mesh that is measured: two workloads, a hundred services, a model route that matches on model and
//! operation and splits 95/5, so that everything a canary needs is at work, and one that reads the model out of chat
//! completions. What is called are three ports of the one model server of the bench: an inference server, a chat server,
//! and one of which the mesh only knows that it speaks HTTP.

use std::net::SocketAddr;

/// The workload whose sidecar is the outbound proxy.
pub(super) const CLIENT: &str = "ml/client";
/// The workload whose sidecar is the inbound proxy.
pub(super) const SERVER: &str = "ml/server";

/// What requests name as their authority.
pub(super) const AUTHORITY: &str = "fraud.ml";
/// The trust domain, which the control plane has to be started with.
pub(super) const TRUST_DOMAIN: &str = "bench.test";

/// How many services the sidecars know.
const SERVICES: usize = 100;

/// The ports of the two sidecars, for each service: where its load enters, and where the sidecars meet.
pub(super) struct Ports {
    pub(super) infer: (SocketAddr, SocketAddr),
    pub(super) chat: (SocketAddr, SocketAddr),
    pub(super) opaque: (SocketAddr, SocketAddr),
}

/// One YAML text with all documents; `backend` listens for each of the three services.
pub(super) fn all(ports: &Ports, backend: [SocketAddr; 3]) -> String {
    let protocols = [
        ("infer", "mesh.dev/open-inference", ports.infer),
        ("chat", "mesh.dev/openai", ports.chat),
        ("opaque", "http", ports.opaque),
    ];
    let mut text = format!(
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
"
    );
    for ((_, _, (entry, _)), service) in protocols.iter().zip(["fraud", "chat", "opaque"]) {
        text += &format!("    - {{listen: {}, service: {service}}}\n", entry.port());
    }
    text += "\
---
apiVersion: mesh.dev/v1alpha1
kind: Workload
metadata:
  name: server
  namespace: ml
  labels: {app: fraud}
spec:
  serviceAccount: server
  ports:
";
    for ((name, protocol, (_, between)), backend) in protocols.iter().zip(backend) {
        text += &format!(
            "  - {{name: {name}, port: {}, listen: {}, appProtocol: {protocol}}}\n",
            backend.port(),
            between.port()
        );
    }
    text += "---\n";
    for name in ["fraud", "fraud-v1", "fraud-v2"] {
        text += &service(name, "infer", "mesh.dev/open-inference");
    }
    for name in ["chat", "chat-v1"] {
        text += &service(name, "chat", "mesh.dev/openai");
    }
    text += &service("opaque", "opaque", "http");
    for number in 6..SERVICES {
        text += &service(&format!("model-{number}"), "infer", "mesh.dev/open-inference");
    }
    text + ROUTES
}

/// By model and operation with a split for inferences, by model alone for chats.
const ROUTES: &str = "\
apiVersion: mesh.dev/v1alpha1
kind: ModelRoute
metadata: {name: fraud, namespace: ml}
spec:
  service: fraud
  rules:
  - name: infer
    matches: [{model: fraud, operation: [infer]}]
    split:
      backends:
      - {name: stable, service: fraud-v1, weight: 95}
      - {name: canary, service: fraud-v2, weight: 5}
---
apiVersion: mesh.dev/v1alpha1
kind: ModelRoute
metadata: {name: chat, namespace: ml}
spec:
  service: chat
  rules:
  - name: by-model
    matches: [{model: fraud}]
    split:
      backends:
      - {name: stable, service: chat-v1, weight: 100}
";

fn service(name: &str, port: &str, protocol: &str) -> String {
    format!(
        "\
apiVersion: mesh.dev/v1alpha1
kind: Service
metadata: {{name: {name}, namespace: ml}}
spec:
  selector: {{app: fraud}}
  ports:
  - {{name: {port}, port: 8000, appProtocol: {protocol}}}
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
        let ports = Ports {
            infer: (at(15001), at(15011)),
            chat: (at(15002), at(15012)),
            opaque: (at(15003), at(15013)),
        };
        let text = all(&ports, [at(8000), at(8001), at(8002)]);
        let documents: Vec<_> = parse_all(Path::new("bench.yaml"), &text)
            .into_iter()
            .map(|document| document.unwrap_or_else(|error| panic!("{error}")).0)
            .collect();
        assert_eq!(documents.len(), 3 + SERVICES + 2);
        for document in &documents {
            assert_eq!(validate::alone(document), []);
        }
        let together = validate::together(&documents);
        assert!(together.refused.is_empty(), "{:?}", together.refused);
        assert!(together.missing.is_empty(), "{:?}", together.missing);
    }
}
