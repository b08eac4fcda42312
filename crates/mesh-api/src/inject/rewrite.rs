//! Leads the kubelet's probes through the sidecar: the kubelet has no identity, so that strict workloads would refuse it.

use serde_json::{Value, json};

use super::checks::items;
use super::probe::{self, Handler, Kind, Port, Probe, Probes};
use super::{PROBE_PORT, Refusal};

/// Points all probes of the pod to the sidecar, and returns what they were. Those that the sidecar can't perform stay, and
/// there is a warning.
pub(super) fn probes(pod: &mut Value, warnings: &mut Vec<String>) -> Result<Probes, Refusal> {
    let mut probes = Probes::new();
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let field = format!("spec.{list}[{index}]");
            hooks(container, &field, warnings);
            let Some(name) = container["name"].as_str().map(str::to_owned) else {
                continue;
            };
            for kind in Kind::ALL {
                let field = format!("{field}.{}", kind.field());
                match read(container, kind) {
                    Ok(None) => {}
                    Ok(Some(probe)) => {
                        let key = probe::key(&name, kind);
                        point(&mut container[kind.field()], &key);
                        probes.insert(key, probe);
                    }
                    Err(reason) => warnings.push(format!("{field}: {reason}: it stays as it is")),
                }
            }
        }
    }
    Ok(probes)
}

/// The probe that the sidecar is to perform; none: there is nothing for it to do.
fn read(container: &Value, kind: Kind) -> Result<Option<Probe>, String> {
    let written = &container[kind.field()];
    let handler = ["httpGet", "tcpSocket", "grpc"]
        .into_iter()
        .find_map(|name| Some((name, written.get(name).filter(|it| it.is_object())?)));
    // What is executed is executed in the container.
    let Some((name, handler)) = handler else {
        return Ok(None);
    };
    let handler: Handler =
        serde_json::from_value(json!({name: handler})).map_err(|error| format!("{name}: {error}"))?;
    let (port, host) = match &handler {
        Handler::HttpGet(get) => (get.port.clone(), get.host.as_deref()),
        Handler::TcpSocket(socket) => (socket.port.clone(), socket.host.as_deref()),
        Handler::Grpc(grpc) => (Port::Number(grpc.port), None),
    };
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        return Err(format!("{name}.host: {host:?} need not be this pod"));
    }
    let port = match port {
        Port::Number(port) => port,
        Port::Name(port) => number(container, &port)
            .ok_or_else(|| format!("{name}.port: the container has no port named {port:?}"))?,
    };
    let timeout = written["timeoutSeconds"].as_u64().unwrap_or(1).max(1);
    Ok(Some(Probe {
        port,
        timeout_seconds: u32::try_from(timeout).unwrap_or(u32::MAX),
        handler,
    }))
}

/// The number of a container's port; a name that looks like a number is one, as the kubelet reads it.
fn number(container: &Value, name: &str) -> Option<u16> {
    let named = items(&container["ports"]).find(|port| port["name"] == name);
    match named {
        Some(port) => port["containerPort"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok()),
        None => name.parse().ok(),
    }
}

/// Points a probe to the sidecar; how often it is asked and how long it may take stays.
fn point(probe: &mut Value, key: &str) {
    let Some(fields) = probe.as_object_mut() else {
        return;
    };
    fields.remove("tcpSocket");
    fields.remove("grpc");
    fields.insert(
        "httpGet".to_owned(),
        json!({"path": probe::path(key), "port": PROBE_PORT}),
    );
}

/// Hooks change something, so that the sidecar can't offer them to everybody as it does probes.
fn hooks(container: &Value, field: &str, warnings: &mut Vec<String>) {
    for hook in ["postStart", "preStop"] {
        for handler in ["httpGet", "tcpSocket"] {
            if container["lifecycle"][hook]
                .get(handler)
                .is_some_and(Value::is_object)
            {
                warnings.push(format!(
                    "{field}.lifecycle.{hook}.{handler}: the kubelet calls it without an identity, which strict workloads \
                     refuse: use exec, or skip the port inbound"
                ));
            }
        }
    }
}
