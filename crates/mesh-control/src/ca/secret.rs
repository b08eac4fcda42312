//! The roots in Secret `mesh-root`: the replica that comes first makes it, all replicas read it, and what it says counts.
//!
//! | keys | what they hold |
//! | --- | --- |
//! | `root.pem`, `root.key` | the root that signs |
//! | `tls.crt`, `tls.key` | the same, as cert-manager writes it; beside `root.pem`, and different from it: the next root |
//! | `next.pem`, `next.key` | the next root: trusted already, not signing yet |
//! | `previous.pem` | roots that signed before, trusted as long as leaves of theirs are about |
//!
//! With `next.pem` or `previous.pem` a rotation is under way (`rotation`).

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::core::Status;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use mesh_api::identity::TrustDomain;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::Authority;
use super::root::Root;
use super::trust::{self, Trust, fingerprint};
use crate::api::call;
use crate::metrics::Metrics;

/// The Secret's name.
pub const NAME: &str = "mesh-root";
/// The label of what belongs to the mesh.
pub const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "mesh");

/// What the Secret says.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The root that signs.
    pub signer: Arc<Root>,
    /// The root that will sign next.
    pub next: Option<Arc<Root>>,
    /// Roots that signed before and are trusted still.
    pub previous: Vec<CertificateDer<'static>>,
    /// Whether the signer stands in keys of our own, where nobody but us replaces it.
    pub adopted: bool,
    /// The Secret's resource version.
    pub version: Option<String>,
}

impl Roots {
    /// Reads the Secret.
    ///
    /// # Errors
    /// When a root is missing or can't be used.
    pub fn read(secret: &Secret, trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<Self> {
        let empty = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&empty);
        let root = |certificate: &str, key: &str| -> Result<Option<Arc<Root>>> {
            match (data.get(certificate), data.get(key)) {
                (None, None) => Ok(None),
                (Some(pem), Some(secret)) => {
                    let root = Root::from_pem(&pem.0, &secret.0, trust_domain, now)
                        .with_context(|| format!("the root in {certificate} and {key}"))?;
                    Ok(Some(Arc::new(root)))
                }
                (Some(_), None) => bail!("{key} is missing beside {certificate}"),
                (None, Some(_)) => bail!("{certificate} is missing beside {key}"),
            }
        };
        let (own, supplied, next) = (
            root("root.pem", "root.key")?,
            root("tls.crt", "tls.key")?,
            root("next.pem", "next.key")?,
        );
        let adopted = own.is_some();
        let Some(signer) = own.or_else(|| supplied.clone()) else {
            bail!("it has neither root.pem and root.key nor tls.crt and tls.key");
        };
        let next = next
            .or(supplied)
            .filter(|next| next.certificate() != signer.certificate());
        let previous = match data.get("previous.pem") {
            Some(text) => trust::from_pem(&text.0).context("previous.pem")?,
            None => Vec::new(),
        };
        Ok(Self {
            signer,
            next,
            previous,
            adopted,
            version: secret.metadata.resource_version.clone(),
        })
    }

    /// What is trusted: the next root before it signs, the previous ones after they did.
    pub fn trust(&self) -> Trust {
        let next = self.next.iter().map(|next| next.certificate().clone());
        Trust::new(self.signer.clone(), next.chain(self.previous.iter().cloned()))
    }

    /// What the keys that are ours say, for the Secret.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let mut data = pair("root", &self.signer);
        if let Some(next) = &self.next {
            data.extend(pair("next", next));
        }
        if !self.previous.is_empty() {
            let text = trust::to_pem(&self.previous);
            data.insert("previous.pem".into(), ByteString(text.into_bytes()));
        }
        data
    }
}

fn pair(name: &str, root: &Root) -> BTreeMap<String, ByteString> {
    BTreeMap::from([
        (
            format!("{name}.pem"),
            ByteString(root.certificate_pem().into_bytes()),
        ),
        (format!("{name}.key"), ByteString(root.key_pem().into_bytes())),
    ])
}

/// The Secret, and who follows it.
pub struct RootSecret {
    api: Api<Secret>,
    trust_domain: TrustDomain,
    roots: watch::Sender<Roots>,
}

impl std::fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootSecret").finish_non_exhaustive()
    }
}

impl RootSecret {
    /// The roots of the Secret in this namespace, which is made when there is none. Of several replicas that make it, the
    /// first one counts.
    ///
    /// # Errors
    /// When it can't be read or made, or when its roots can't be used.
    pub async fn open_or_create(client: Client, namespace: &str, trust_domain: TrustDomain) -> Result<Self> {
        let api: Api<Secret> = Api::namespaced(client, namespace);
        let now = OffsetDateTime::now_utc();
        let secret = match call(api.get_opt(NAME)).await? {
            Some(secret) => secret,
            None => create(&api, &trust_domain, now).await?,
        };
        let roots = Roots::read(&secret, &trust_domain, now)
            .with_context(|| format!("Secret {namespace}/{NAME} can't be used"))?;
        Ok(Self {
            api,
            trust_domain,
            roots: watch::Sender::new(roots),
        })
    }

    /// What the Secret said last that could be used.
    pub fn roots(&self) -> Roots {
        self.roots.borrow().clone()
    }

    /// Tells when that changes.
    pub fn changes(&self) -> watch::Receiver<Roots> {
        self.roots.subscribe()
    }

    /// Keeps an authority on what the Secret says. A Secret that is gone or can't be used changes nothing.
    pub async fn follow(&self, authority: &Authority, metrics: &Metrics) {
        let mut secrets = watcher::watch_object(self.api.clone(), NAME)
            .default_backoff()
            .boxed();
        while let Some(seen) = secrets.next().await {
            match seen {
                Ok(Some(secret)) => self.take(&secret, authority, metrics),
                Ok(None) => {
                    metrics.root_rejected(true);
                    tracing::error!(
                        "Secret {NAME} is gone: the root it held still signs, and a restart would make another one"
                    );
                }
                Err(error) => {
                    metrics.watch_failed("secrets");
                    tracing::warn!(%error, "Secret {NAME} can't be watched");
                }
            }
        }
    }

    fn take(&self, secret: &Secret, authority: &Authority, metrics: &Metrics) {
        let roots = match Roots::read(secret, &self.trust_domain, OffsetDateTime::now_utc()) {
            Ok(roots) => roots,
            Err(error) => {
                metrics.root_rejected(true);
                tracing::error!("Secret {NAME} can't be used, and nothing changes: {error:#}");
                return;
            }
        };
        metrics.root_rejected(false);
        let (before, trust) = (authority.trust(), roots.trust());
        if before.bundle() != trust.bundle() {
            let names = |trust: &Trust| {
                trust
                    .bundle()
                    .iter()
                    .map(fingerprint)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            tracing::info!(
                before = names(&before),
                now = names(&trust),
                "roots: the first one signs"
            );
            authority.replace(trust);
        }
        self.roots.send_replace(roots);
    }

    /// Writes the roots in place of those that were read, if nobody else has meanwhile; what is not ours stays.
    ///
    /// # Errors
    /// When the Secret has changed since, or can't be written.
    pub async fn write(&self, roots: &Roots) -> Result<()> {
        let mut secret = call(self.api.get(NAME)).await?;
        if secret.metadata.resource_version != roots.version {
            bail!("Secret {NAME} has changed meanwhile");
        }
        let data = secret.data.get_or_insert_default();
        for key in ["next.pem", "next.key", "previous.pem"] {
            data.remove(key);
        }
        data.extend(roots.data());
        call(self.api.replace(NAME, &PostParams::default(), &secret)).await?;
        Ok(())
    }
}

async fn create(api: &Api<Secret>, trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<Secret> {
    let root = Root::generate(trust_domain, now)?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            labels: Some(BTreeMap::from([(PART_OF.0.into(), PART_OF.1.into())])),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        data: Some(pair("root", &root)),
        ..Secret::default()
    };
    match call(api.create(&PostParams::default(), &secret)).await {
        Ok(created) => {
            tracing::info!(
                root = fingerprint(root.certificate()),
                "made Secret {NAME} with a new root"
            );
            Ok(created)
        }
        // Another replica was first: its root is the mesh's.
        Err(error) if error.status().is_some_and(Status::is_already_exists) => Ok(call(api.get(NAME)).await?),
        Err(error) => Err(error).context(format!("make Secret {NAME}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn domain() -> TrustDomain {
        "cluster.local".parse().unwrap()
    }

    fn root() -> Root {
        Root::generate(&domain(), now()).unwrap()
    }

    fn secret(parts: &[(&str, String)]) -> Secret {
        Secret {
            data: Some(
                parts
                    .iter()
                    .map(|(key, text)| ((*key).to_owned(), ByteString(text.clone().into_bytes())))
                    .collect(),
            ),
            ..Secret::default()
        }
    }

    fn read(parts: &[(&str, String)]) -> Result<Roots> {
        Roots::read(&secret(parts), &domain(), now())
    }

    #[test]
    fn a_root_of_ours_and_one_of_cert_manager_are_read() {
        let (a, b) = (root(), root());
        let ours = [("root.pem", a.certificate_pem()), ("root.key", a.key_pem())];
        let theirs = [
            ("tls.crt", b.certificate_pem()),
            ("tls.key", b.key_pem()),
            ("ca.crt", b.certificate_pem()),
        ];
        let roots = read(&ours).unwrap();
        assert!(roots.adopted && roots.next.is_none());
        assert_eq!(roots.trust().bundle(), [a.certificate().clone()]);

        let roots = read(&theirs).unwrap();
        assert!(!roots.adopted && roots.next.is_none());
        assert_eq!(roots.signer.certificate(), b.certificate());

        let both = [&ours[..], &theirs[..]].concat();
        let roots = read(&both).unwrap();
        assert_eq!(roots.next.as_ref().unwrap().certificate(), b.certificate());
        assert_eq!(
            roots.trust().bundle(),
            [a.certificate().clone(), b.certificate().clone()]
        );

        let again = Secret {
            data: Some(roots.data()),
            ..Secret::default()
        };
        let again = Roots::read(&again, &domain(), now()).unwrap();
        assert_eq!(again.trust().bundle(), roots.trust().bundle());
        assert!(!format!("{again:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_can_not_be_used_is_said() {
        let (a, b) = (root(), root());
        let other = Root::generate(&"other.example".parse().unwrap(), now()).unwrap();
        let ended = Root::generate(&domain(), now() - time::Duration::days(4_000)).unwrap();
        for (parts, words) in [
            (vec![], "neither root.pem and root.key nor tls.crt and tls.key"),
            (vec![("root.pem", a.certificate_pem())], "root.key is missing"),
            (vec![("tls.key", a.key_pem())], "tls.crt is missing"),
            (
                vec![("root.pem", a.certificate_pem()), ("root.key", b.key_pem())],
                "does not belong to its key",
            ),
            (
                vec![("root.pem", "rubbish".into()), ("root.key", b.key_pem())],
                "read the certificate",
            ),
            (
                vec![("root.pem", a.certificate_pem()), ("root.key", "rubbish".into())],
                "private key can't be read",
            ),
            (
                vec![
                    ("root.pem", other.certificate_pem()),
                    ("root.key", other.key_pem()),
                ],
                "not of trust domain cluster.local",
            ),
            (
                vec![
                    ("root.pem", ended.certificate_pem()),
                    ("root.key", ended.key_pem()),
                ],
                "ended on",
            ),
        ] {
            let error = format!("{:#}", read(&parts).unwrap_err());
            assert!(error.contains(words), "{error} should say {words}");
            assert!(!error.contains("PRIVATE"), "{error}");
        }
    }
}
