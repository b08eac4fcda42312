//! What a pod gets: the init container, the sidecar, their volumes, and the marks that say so.

use serde_json::{Map, Value, json};

use super::checks::items;
use super::probe::Probes;
use super::settings::{LogFormat, Settings};
use super::{
    ADMIN_PORT, INIT_CONTAINER, INJECTED, PROBE_PORT, PROXY, PROXY_CONTAINER, PULL_SECRETS, Refusal,
};
use crate::network::Ports;

const TOKEN: &str = "mesh-token";
const TRUST: &str = "mesh-trust";
const STATE: &str = "mesh-state";
/// The volumes that a sidecar has.
pub(super) const VOLUMES: [&str; 3] = [TOKEN, TRUST, STATE];

/// How long a token is good, in seconds: the kubelet replaces it when 80 % have passed.
const TOKEN_SECONDS: u32 = 3_600;
/// How long a sidecar may take until it is ready, in seconds; then Kubernetes starts it again.
const START_SECONDS: u32 = 600;

/// Adds all of it to a pod that has nothing of it.
///
/// # Errors
/// When a part of the pod is not of the form that Kubernetes gives it.
pub(super) fn add(
    pod: &mut Value,
    settings: &Settings,
    probes: &Probes,
    warnings: &mut Vec<String>,
) -> Result<(), Refusal> {
    let (init, sidecar) = (init(settings), sidecar(settings, probes));
    if settings.native_sidecar {
        // Before the workload's own init containers: they use the network too.
        let containers = list(pod, "initContainers")?;
        containers.splice(0..0, [init, sidecar]);
    } else {
        // After the workload's own init containers: until the sidecar runs, what is led to it goes nowhere.
        list(pod, "initContainers")?.push(init);
        list(pod, "containers")?.insert(0, sidecar);
        if is_of_job(pod) {
            warnings.push(
                "spec: without a native sidecar a Job ends only when its container has told the sidecar to, by \
                 POST http://127.0.0.1:15000/drain"
                    .to_owned(),
            );
        }
    }
    list(pod, "volumes")?.splice(0..0, volumes(settings));
    let secrets = pull_secrets(pod, settings)?;
    if !secrets.is_empty() {
        mark(pod, "annotations", PULL_SECRETS, &secrets.join(","))?;
    }
    mark(pod, "annotations", INJECTED, &settings.revision)?;
    mark(pod, "labels", PROXY, "true")
}

/// Whether a Job made the pod. The template of one says so by the only restart policies that Jobs can have.
fn is_of_job(pod: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let owned = owners.into_iter().flatten().any(|owner| owner["kind"] == "Job");
    owned || pod["spec"]["restartPolicy"] == "Never" || pod["spec"]["restartPolicy"] == "OnFailure"
}

/// Adds what the sidecar's image is pulled with, and tells what was not there.
fn pull_secrets<'a>(pod: &mut Value, settings: &'a Settings) -> Result<Vec<&'a str>, Refusal> {
    let mut added = Vec::new();
    for secret in &settings.image_pull_secrets {
        let there = items(&pod["spec"]["imagePullSecrets"]).any(|it| it["name"] == secret.name.as_str());
        if !there {
            list(pod, "imagePullSecrets")?.push(json!(secret));
            added.push(secret.name.as_str());
        }
    }
    Ok(added)
}

/// Leads the pod's connections to the sidecar. It needs the right to, and with that it must be root: a capability of
/// another user's process takes effect only where the image's file has it.
fn init(settings: &Settings) -> Value {
    let mut args = vec!["init".to_owned(), format!("--proxy-uid={}", settings.proxy_uid)];
    let own = [Ports::one(PROBE_PORT)];
    let inbound: Vec<_> = own.iter().chain(&settings.skip_inbound_ports).collect();
    args.extend(flag("--skip-inbound-port", &inbound));
    args.extend(flag("--skip-outbound-port", &settings.skip_outbound_ports));
    args.extend(flag("--skip-cidr", &settings.skip_cidrs));
    json!({
        "name": INIT_CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": args,
        "resources": settings.init_resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

fn sidecar(settings: &Settings, probes: &Probes) -> Value {
    let ready = json!({"path": "/ready", "port": PROBE_PORT});
    let mut container = json!({
        "name": PROXY_CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "env": environment(settings, probes),
        "readinessProbe": {"httpGet": ready, "periodSeconds": 2, "timeoutSeconds": 2},
        "resources": settings.resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": settings.proxy_uid,
            "runAsNonRoot": true,
            "runAsUser": settings.proxy_uid,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": TOKEN, "mountPath": "/var/run/secrets/mesh.dev", "readOnly": true},
            {"name": TRUST, "mountPath": "/var/run/mesh/trust", "readOnly": true},
            {"name": STATE, "mountPath": "/var/run/mesh/state"},
        ],
    });
    let mut args = Vec::new();
    args.extend(settings.drain_limit.map(|limit| format!("--drain-limit={limit}")));
    args.extend((settings.log_format == LogFormat::Json).then(|| "--log-format=json".to_owned()));
    if !args.is_empty() {
        container["args"] = json!(args);
    }
    if settings.native_sidecar {
        container["restartPolicy"] = json!("Always");
        container["startupProbe"] = json!({"httpGet": ready, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": START_SECONDS});
    } else {
        // The kubelet starts the next container when this hook has ended, and ends this one when the other has: after the
        // workload's containers, or when the pod's time is over.
        container["lifecycle"] = json!({
            "postStart": {"exec": {"command": ["mesh-proxy", "ready", format!("--wait={START_SECONDS}s")]}},
            "preStop": {"exec": {"command": ["mesh-proxy", "outlast"]}},
        });
    }
    container
}

fn environment(settings: &Settings, probes: &Probes) -> Vec<Value> {
    let text = |name: &str, value: String| json!({"name": name, "value": value});
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut variables = vec![
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_NAME", "metadata.name"),
        field("MESH_POD_IP", "status.podIP"),
        text("MESH_WORKLOAD", "$(POD_NAMESPACE)/$(POD_NAME)".to_owned()),
        text("MESH_CONTROL", settings.control.clone()),
        text("MESH_TRUST_BUNDLE", "/var/run/mesh/trust/roots.pem".to_owned()),
        text(
            "MESH_SERVICE_ACCOUNT_TOKEN_FILE",
            "/var/run/secrets/mesh.dev/token".to_owned(),
        ),
        // Its own folder in the volume, which Kubernetes leaves open to everybody.
        text("MESH_STATE", "/var/run/mesh/state/proxy".to_owned()),
        text("MESH_ADMIN", format!("127.0.0.1:{ADMIN_PORT}")),
        text("MESH_PROBE_LISTEN", format!("[::]:{PROBE_PORT}")),
        text("MESH_PROXY_UID", settings.proxy_uid.to_string()),
        text("MESH_LOG", settings.log.clone()),
    ];
    variables.extend(
        settings
            .workers
            .map(|workers| text("MESH_WORKERS", workers.to_string())),
    );
    if !probes.is_empty() {
        // Keys are sorted: the same pod, the same text.
        variables.push(text("MESH_PROBES", escaped(&json!(probes).to_string())));
    }
    variables
}

/// Kubernetes replaces `$(NAME)` in values, and reads `$$` as a dollar.
fn escaped(text: &str) -> String {
    text.replace('$', "$$")
}

fn volumes(settings: &Settings) -> [Value; 3] {
    let token = json!({"serviceAccountToken": {
        "audience": settings.token_audience,
        "expirationSeconds": TOKEN_SECONDS,
        "path": "token",
    }});
    [
        json!({"name": TOKEN, "projected": {"sources": [token]}}),
        json!({"name": TRUST, "configMap": {"name": settings.trust_config_map}}),
        // In memory: the key in it is on no disk.
        json!({"name": STATE, "emptyDir": {"medium": "Memory"}}),
    ]
}

fn flag(name: &str, values: &[impl ToString]) -> Option<String> {
    let words: Vec<_> = values.iter().map(ToString::to_string).collect();
    (!words.is_empty()).then(|| format!("{name}={}", words.join(",")))
}

/// A list of the pod's spec, made if it is not there.
fn list<'a>(pod: &'a mut Value, name: &str) -> Result<&'a mut Vec<Value>, Refusal> {
    let spec = map(&mut pod["spec"]).ok_or_else(|| Refusal::new("spec", "is no map"))?;
    let list = spec.entry(name).or_insert(Value::Null);
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut()
        .ok_or_else(|| Refusal::new(format!("spec.{name}"), "is no list"))
}

/// A label or an annotation.
fn mark(pod: &mut Value, kind: &str, name: &str, value: &str) -> Result<(), Refusal> {
    let pod = map(pod).ok_or_else(|| Refusal::new("", "is no pod"))?;
    let metadata = map(pod.entry("metadata").or_insert(Value::Null));
    let metadata = metadata.ok_or_else(|| Refusal::new("metadata", "is no map"))?;
    let marks = map(metadata.entry(kind).or_insert(Value::Null));
    let marks = marks.ok_or_else(|| Refusal::new(format!("metadata.{kind}"), "is no map"))?;
    marks.insert(name.to_owned(), value.into());
    Ok(())
}

/// A map, made if there is nothing.
fn map(value: &mut Value) -> Option<&mut Map<String, Value>> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}
