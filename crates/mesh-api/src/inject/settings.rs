//! What the injector is set to: the text `config.yaml` of the ConfigMap `mesh-inject`, and of `meshctl inject --settings`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::quantity::Quantity;
use crate::duration::Duration;
use crate::name::Name;
use crate::network::{Cidr, Ports};

/// What a sidecar is made of, where its pod does not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// What injected pods say in `mesh.dev/injected`: the version of the mesh, by which `meshctl` tells proxies that are to
    /// be restarted after an upgrade
    pub revision: String,
    /// The image of the sidecar and of the init container that leads connections to it
    pub image: String,
    /// When the image is pulled
    pub image_pull_policy: PullPolicy,
    /// Secrets of the pod's namespace with which the image is pulled, besides those that the pod names itself
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<PullSecret>,
    /// The user and group that the sidecar runs as, 1 to 2147483647. No container of the workload may run as this user:
    /// its connections would go past the mesh
    pub proxy_uid: u32,
    /// Where the control plane listens, as host:port
    pub control: String,
    /// The ConfigMap in the pod's namespace that has the mesh's roots, key `roots.pem`
    pub trust_config_map: Name,
    /// The audience of the token that the sidecar proves itself with
    pub token_audience: String,
    /// How much the sidecar says in its own log: `error`, `warn`, `info`, `debug`, or by module such as
    /// `info,mesh_proxy::control=debug`
    pub log: String,
    /// How the sidecar's own log is written
    pub log_format: LogFormat,
    /// The sidecar's worker threads, 1 to 1024; absent: one for each core that it may use
    pub workers: Option<u16>,
    /// What the sidecar asks for and may use
    pub resources: Resources,
    /// What the init container asks for and may use
    pub init_resources: Resources,
    /// Whether the sidecar is an init container with `restartPolicy: Always`, which Kubernetes has since 1.29; otherwise it
    /// is an ordinary container that holds up the others until it is ready
    pub native_sidecar: bool,
    /// Whether the kubelet's probes are led through the sidecar, so that they work where only callers with an identity are
    /// let in
    pub rewrite_probes: bool,
    /// Ports of the workload that others reach directly, such as 22 or "9000-9010"
    pub skip_inbound_ports: Vec<Ports>,
    /// Ports elsewhere that the workload reaches directly
    pub skip_outbound_ports: Vec<Ports>,
    /// Networks that the workload reaches directly, such as 169.254.169.254/32
    pub skip_cidrs: Vec<Cidr>,
    /// How long requests in flight have to end once the sidecar is told to; absent: until Kubernetes ends the pod
    pub drain_limit: Option<Duration>,
}

/// When the image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Each time a container starts.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never: the node has it.
    Never,
}

/// A Secret with which images are pulled
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullSecret {
    /// Its name
    #[schemars(length(min = 1))]
    pub name: String,
}

/// How the sidecar's own log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// JSON objects for machines.
    Json,
}

/// What a container asks for and may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// What the node must have left for it
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    pub requests: Amounts,
    /// What it may use at most
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    pub limits: Amounts,
}

/// Amounts of CPU and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Amounts {
    /// In cores, such as 100m or 2
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// In bytes, such as 64Mi
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

impl Amounts {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which setting is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct SettingsError {
    /// Such as `resources.requests.cpu`; empty: the text as a whole.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

impl SettingsError {
    fn new(field: &str, reason: &impl ToString) -> Self {
        let reason = reason.to_string();
        Self {
            field: if field == "." {
                String::new()
            } else {
                field.to_owned()
            },
            // Nobody's megabyte of YAML ends in a log.
            reason: reason
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(300)
                .collect(),
        }
    }
}

/// What is given in the place of what there was, maps entry by entry.
fn merge(into: &mut Value, given: Value) {
    match (into, given) {
        (Value::Object(into), Value::Object(given)) => {
            for (name, value) in given {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, given) => *into = given,
    }
}

impl Default for Settings {
    /// What `meshctl install` writes where nobody says otherwise.
    fn default() -> Self {
        let amounts = |cpu: Option<&str>, memory: Option<&str>| Amounts {
            cpu: cpu.and_then(|text| text.parse().ok()),
            memory: memory.and_then(|text| text.parse().ok()),
        };
        let version = env!("CARGO_PKG_VERSION");
        Self {
            revision: version.to_owned(),
            image: format!("mesh-proxy:{version}"),
            image_pull_policy: PullPolicy::IfNotPresent,
            image_pull_secrets: Vec::new(),
            proxy_uid: 2102,
            control: "mesh-control.mesh-system.svc:15010".to_owned(),
            trust_config_map: "mesh-trust-bundle"
                .parse()
                .unwrap_or_else(|_| Name::default_namespace()),
            token_audience: "mesh.dev/control".to_owned(),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            workers: Some(2),
            resources: Resources {
                requests: amounts(Some("100m"), Some("64Mi")),
                limits: amounts(None, Some("512Mi")),
            },
            // Alike, so that they stand in no pod's way to the class Guaranteed.
            init_resources: Resources {
                requests: amounts(Some("100m"), Some("64Mi")),
                limits: amounts(Some("100m"), Some("64Mi")),
            },
            native_sidecar: true,
            rewrite_probes: true,
            skip_inbound_ports: Vec::new(),
            skip_outbound_ports: Vec::new(),
            skip_cidrs: Vec::new(),
            drain_limit: None,
        }
    }
}

impl Settings {
    /// Reads settings. What is left out is as in [`Settings::default`].
    ///
    /// # Errors
    /// When the text is not YAML, names a setting that there is not, or has a value that can't be.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let options = serde_saphyr::options! { with_snippet: false };
        let given: Option<Value> = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| SettingsError::new("", &error))?;
        // Each setting by itself: whoever sets a limit of memory keeps the request.
        let mut whole =
            serde_json::to_value(Self::default()).map_err(|error| SettingsError::new("", &error))?;
        match given {
            None => {}
            Some(given @ Value::Object(_)) => merge(&mut whole, given),
            Some(_) => return Err(SettingsError::new("", &"is no map of settings")),
        }
        let settings: Self = serde_path_to_error::deserialize(whole)
            .map_err(|error| SettingsError::new(&error.path().to_string(), error.inner()))?;
        settings.validate()?;
        Ok(settings)
    }

    /// Whether all of it can be.
    ///
    /// # Errors
    /// The first setting that can't.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let check = |good: bool, field: &str, reason: String| match good {
            true => Ok(()),
            false => Err(SettingsError {
                field: field.to_owned(),
                reason,
            }),
        };
        check(
            is_revision(&self.revision),
            "revision",
            format!(
                "{:?} is not a version: use 1 to 63 of letters, digits, '.', '_', '+' and '-'",
                self.revision
            ),
        )?;
        check(
            !self.image.is_empty() && self.image.bytes().all(|byte| byte.is_ascii_graphic()),
            "image",
            format!(
                "{:?} is not the name of an image, such as mesh-proxy:0.1.0",
                self.image
            ),
        )?;
        let wrong = self
            .image_pull_secrets
            .iter()
            .find(|secret| !is_secret(&secret.name));
        if let Some(PullSecret { name }) = wrong {
            let reason =
                format!("{name:?} is not the name of a Secret: use 1 to 253 of a-z, 0-9, '-' and '.'");
            check(false, "imagePullSecrets", reason)?;
        }
        check(
            (1..=i32::MAX as u32).contains(&self.proxy_uid),
            "proxyUid",
            format!(
                "{} is not from 1 to 2147483647; root would take every right with it",
                self.proxy_uid
            ),
        )?;
        check(
            is_host_and_port(&self.control),
            "control",
            format!(
                "{:?} is not host:port, such as mesh-control.mesh-system.svc:15010",
                self.control
            ),
        )?;
        check(
            !self.token_audience.is_empty()
                && self.token_audience.bytes().all(|byte| byte.is_ascii_graphic()),
            "tokenAudience",
            format!(
                "{:?} is not an audience, such as mesh.dev/control",
                self.token_audience
            ),
        )?;
        log(&self.log).or_else(|reason| check(false, "log", reason))?;
        check(
            self.workers.is_none_or(|workers| (1..=1024).contains(&workers)),
            "workers",
            "is not from 1 to 1024".to_owned(),
        )?;
        for (name, resources) in [
            ("resources", &self.resources),
            ("initResources", &self.init_resources),
        ] {
            if let Some((amount, reason)) = resources.contradiction() {
                check(false, &format!("{name}.requests.{amount}"), reason)?;
            }
        }
        Ok(())
    }
}

impl Resources {
    /// The amount that is asked for and may not be used, and why.
    pub(super) fn contradiction(&self) -> Option<(&'static str, String)> {
        let pairs = [
            ("cpu", &self.requests.cpu, &self.limits.cpu),
            ("memory", &self.requests.memory, &self.limits.memory),
        ];
        pairs.into_iter().find_map(|(name, request, limit)| {
            let (request, limit) = (request.as_ref()?, limit.as_ref()?);
            (request.amount() > limit.amount())
                .then(|| (name, format!("{request} is more than the limit, {limit}")))
        })
    }
}

/// A filter of the log, as far as it can be told without the proxy: words of letters, digits and `_:=,.[]{}"/-`.
pub(super) fn log(text: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_:=,.[]{}\"/-".contains(&byte);
    match !text.is_empty() && text.len() <= 256 && text.bytes().all(allowed) {
        true => Ok(()),
        false => Err(format!(
            "{:?} is not a level (error, warn, info, debug) or a list such as info,mesh_proxy::control=debug",
            text.chars().take(80).collect::<String>()
        )),
    }
}

fn is_revision(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
}

fn is_secret(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    (1..=253).contains(&name.len()) && name.bytes().all(allowed)
}

fn is_host_and_port(text: &str) -> bool {
    let Ok(authority) = text.parse::<http::uri::Authority>() else {
        return false;
    };
    authority.port_u16().is_some_and(|port| port > 0) && !authority.host().is_empty() && !text.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_sound_and_read_back() {
        let settings = Settings::default();
        settings.validate().unwrap();
        assert!(settings.resources.requests.cpu.is_some() && settings.init_resources.limits.memory.is_some());
        assert_eq!(settings.trust_config_map.as_str(), "mesh-trust-bundle");
        let text = serde_saphyr::to_string(&settings).unwrap();
        assert_eq!(Settings::parse(&text).unwrap(), settings);
        for nothing in ["", "# nothing\n", "---\n", "{}"] {
            assert_eq!(Settings::parse(nothing).unwrap(), settings, "{nothing:?}");
        }
    }

    #[test]
    fn a_part_is_enough() {
        let settings = Settings::parse(
            "image: registry.example/mesh-proxy:1\nskipInboundPorts: [22, 9000-9010]\nskipCidrs: [10.0.0.0/8]\n\
             drainLimit: 5m\nresources: {limits: {cpu: 2}}\n",
        )
        .unwrap();
        assert_eq!(settings.skip_inbound_ports.len(), 2);
        assert_eq!(settings.drain_limit.unwrap().to_string(), "5m");
        assert_eq!(settings.resources.limits.cpu.as_ref().unwrap().to_string(), "2");
        assert_eq!(settings.proxy_uid, 2102);
        assert_eq!(
            settings.resources.requests,
            Settings::default().resources.requests
        );
        let settings = Settings::parse("resources: {limits: {memory: null}}\nworkers: null\n").unwrap();
        assert_eq!((settings.resources.limits.memory, settings.workers), (None, None));
    }

    #[test]
    fn what_can_t_be_is_refused_by_name() {
        for (text, expected) in [
            ("imag: x", "unknown field `imag`"),
            ("image: ''", "image: \"\" is not the name of an image"),
            ("image: 'a b'", "image: "),
            ("imagePullPolicy: Sometimes", "imagePullPolicy: "),
            ("proxyUid: 0", "proxyUid: 0 is not from 1"),
            ("proxyUid: 4294967295", "proxyUid: "),
            ("proxyUid: root", "proxyUid: "),
            (
                "control: mesh-control",
                "control: \"mesh-control\" is not host:port",
            ),
            ("control: http://a:1", "control: "),
            ("control: a:0", "control: "),
            ("trustConfigMap: Mesh", "trustConfigMap: "),
            ("tokenAudience: ''", "tokenAudience: "),
            ("log: 'info; rm'", "log: "),
            ("logFormat: xml", "logFormat: "),
            ("workers: 0", "workers: "),
            (
                "resources: {requests: {cpu: lots}}",
                "resources.requests.cpu: \"lots\" is not an amount",
            ),
            (
                "resources: {requests: {memory: 1Gi}}",
                "resources.requests.memory: 1Gi is more than the limit, 512Mi",
            ),
            ("resources: {requests: {gpu: 1}}", "gpu"),
            ("skipInboundPorts: [0]", "skipInboundPorts[0]: "),
            ("skipOutboundPorts: [10-9]", "skipOutboundPorts[0]: "),
            ("skipCidrs: [10.1.2.3/8]", "write 10.0.0.0/8"),
            ("drainLimit: 5", "drainLimit: "),
            ("revision: ''", "revision: "),
            ("- a", "is no map of settings"),
            ("a: b: c", ""),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.len() < 500, "{error}");
        }
    }
}
