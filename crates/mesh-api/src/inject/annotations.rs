//! The labels and annotations that injection reads and writes, and what a pod's own annotations make of the settings.

use serde_json::Value;

use super::settings::{self, Settings};
use super::{Namespace, Refusal};

/// Label or annotation of a Pod or its Namespace: whether a sidecar is wanted.
pub const INJECT: &str = "mesh.dev/inject";
/// Annotation of an injected pod: the revision that it was injected by.
pub const INJECTED: &str = "mesh.dev/injected";
/// Annotation of an injected pod: the names of the pull secrets that it got by it, with commas between.
pub const PULL_SECRETS: &str = "mesh.dev/pull-secrets";
/// Label of an injected pod, with the value `true`: others call it in mutual TLS.
pub const PROXY: &str = "mesh.dev/proxy";
/// What our labels and annotations begin with.
const OURS: &str = "mesh.dev/";

/// A label or an annotation that injection knows.
#[derive(Clone, Copy, Debug)]
pub struct Annotation {
    /// Without `mesh.dev/`.
    pub name: &'static str,
    /// What can be written, in words.
    pub values: &'static str,
    /// What it does.
    pub says: &'static str,
    /// Puts it into effect.
    set: fn(&mut Settings, &str) -> Result<(), String>,
}

impl Annotation {
    const fn new(
        name: &'static str,
        values: &'static str,
        says: &'static str,
        set: fn(&mut Settings, &str) -> Result<(), String>,
    ) -> Self {
        Self {
            name,
            values,
            says,
            set,
        }
    }
}

/// What a pod may say about its sidecar, as annotations of its own or of its Namespace.
pub const ANNOTATIONS: [Annotation; 13] = [
    Annotation::new(
        "skip-inbound-ports",
        "ports, such as `22,9000-9010`",
        "connections from others to these ports go past the sidecar, besides those that the mesh's settings name",
        |settings, text| list(&mut settings.skip_inbound_ports, text),
    ),
    Annotation::new(
        "skip-outbound-ports",
        "ports",
        "connections to these ports elsewhere go past the sidecar, besides those that the mesh's settings name",
        |settings, text| list(&mut settings.skip_outbound_ports, text),
    ),
    Annotation::new(
        "skip-cidrs",
        "networks, such as `169.254.169.254,fd00::/8`",
        "connections to these networks go past the sidecar, besides those that the mesh's settings name",
        |settings, text| list(&mut settings.skip_cidrs, text),
    ),
    Annotation::new(
        "proxy-cpu-request",
        "an amount, such as `100m`",
        "the CPU that the node must have left for the sidecar",
        |settings, text| amount(&mut settings.resources.requests.cpu, text),
    ),
    Annotation::new(
        "proxy-cpu-limit",
        "an amount",
        "the CPU that the sidecar may use at most",
        |settings, text| amount(&mut settings.resources.limits.cpu, text),
    ),
    Annotation::new(
        "proxy-memory-request",
        "an amount, such as `64Mi`",
        "the memory that the node must have left for the sidecar",
        |settings, text| amount(&mut settings.resources.requests.memory, text),
    ),
    Annotation::new(
        "proxy-memory-limit",
        "an amount",
        "the memory that the sidecar may use at most; it turns clients away before",
        |settings, text| amount(&mut settings.resources.limits.memory, text),
    ),
    Annotation::new(
        "proxy-workers",
        "1 to 1024",
        "the sidecar's worker threads",
        |settings, text| match text.parse() {
            Ok(workers @ 1..=1024) => {
                settings.workers = Some(workers);
                Ok(())
            }
            _ => Err("is not from 1 to 1024".to_owned()),
        },
    ),
    Annotation::new(
        "proxy-log",
        "`error`, `warn`, `info`, `debug`, or by module such as `info,mesh_proxy::control=debug`",
        "how much the sidecar says in its own log",
        |settings, text| {
            settings::log(text)?;
            text.clone_into(&mut settings.log);
            Ok(())
        },
    ),
    Annotation::new(
        "drain-limit",
        "a duration, such as `5m`",
        "how long requests in flight have to end once the sidecar is told to",
        |settings, text| {
            settings.drain_limit = Some(
                text.parse()
                    .map_err(|error: crate::duration::DurationError| error.to_string())?,
            );
            Ok(())
        },
    ),
    Annotation::new(
        "native-sidecar",
        "`true` or `false`",
        "whether the sidecar is an init container with `restartPolicy: Always`; `false` for Kubernetes before 1.29",
        |settings, text| flag(&mut settings.native_sidecar, text),
    ),
    Annotation::new(
        "rewrite-probes",
        "`true` or `false`",
        "whether the kubelet's probes are led through the sidecar",
        |settings, text| flag(&mut settings.rewrite_probes, text),
    ),
    Annotation::new(
        "mtls",
        "`strict` or `permissive`",
        "whether callers without an identity are refused; the control plane reads it, injection checks it",
        |_, text| match text {
            "strict" | "permissive" => Ok(()),
            _ => Err("is neither \"strict\" nor \"permissive\"".to_owned()),
        },
    ),
];

fn list<T: std::str::FromStr<Err = String> + PartialEq>(into: &mut Vec<T>, text: &str) -> Result<(), String> {
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let item = word.parse()?;
        if !into.contains(&item) {
            into.push(item);
        }
    }
    Ok(())
}

fn amount(into: &mut Option<super::quantity::Quantity>, text: &str) -> Result<(), String> {
    *into = Some(text.parse()?);
    Ok(())
}

fn flag(into: &mut bool, text: &str) -> Result<(), String> {
    *into = match text {
        "true" => true,
        "false" => false,
        _ => return Err("is neither \"true\" nor \"false\"".to_owned()),
    };
    Ok(())
}

/// The settings for one pod, and what is to be looked at.
///
/// # Errors
/// When an annotation has a value that can't be.
pub(super) fn settings_of(
    pod: &Value,
    namespace: &Namespace,
    settings: &Settings,
) -> Result<(Settings, Vec<String>), Refusal> {
    let mut own = settings.clone();
    for annotation in &ANNOTATIONS {
        let name = format!("{OURS}{}", annotation.name);
        let (text, field) = match text_of(pod, "annotations", &name)? {
            Some(text) => (Some(text), field("annotations", &name)),
            None => {
                let there = namespace.annotations.get(&name).map(String::as_str);
                (there, format!("the Namespace's {}", field("annotations", &name)))
            }
        };
        if let Some(text) = text {
            (annotation.set)(&mut own, text).map_err(|reason| Refusal {
                // A reason that quotes says which part of it is wrong.
                reason: match reason.starts_with('"') {
                    true => reason,
                    false => format!("{:?} {reason}", text.chars().take(80).collect::<String>()),
                },
                field,
            })?;
        }
    }
    if let Some((amount, reason)) = own.resources.contradiction() {
        let name = format!("{OURS}proxy-{amount}-request");
        return Err(Refusal {
            field: field("annotations", &name),
            reason: format!("{reason}: set {OURS}proxy-{amount}-limit too"),
        });
    }
    Ok((own, unknown(pod)))
}

/// Says which annotations begin like ours and are none: mostly they are misspelt.
fn unknown(pod: &Value) -> Vec<String> {
    let known = |name: &str| {
        [INJECT, INJECTED, PROXY, PULL_SECRETS].contains(&name)
            || ANNOTATIONS
                .iter()
                .any(|it| name.strip_prefix(OURS) == Some(it.name))
    };
    let annotations = pod["metadata"]["annotations"].as_object();
    let names = annotations.into_iter().flat_map(serde_json::Map::keys);
    names
        .filter(|name| name.starts_with(OURS) && !known(name))
        .map(|name| format!("{}: nobody reads it: is it misspelt?", field("annotations", name)))
        .collect()
}

/// A label or an annotation of a pod; none: it has no such one.
///
/// # Errors
/// When it is no text.
pub(super) fn text_of<'a>(pod: &'a Value, kind: &str, name: &str) -> Result<Option<&'a str>, Refusal> {
    match &pod["metadata"][kind][name] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        other => Err(Refusal {
            field: field(kind, name),
            reason: format!("{other} is not text: write it in quotes"),
        }),
    }
}

/// How a label or an annotation is named in a message.
pub(super) fn field(kind: &str, name: &str) -> String {
    format!("metadata.{kind}[{name}]")
}
