//! The Kubernetes cluster a mesh runs on: its API server, and what meshctl reads and writes there.

mod control;
pub(crate) mod documents;
mod endpoints;
mod fault;
pub(crate) mod in_force;
mod manifest;
mod resource;

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use mesh_api::name::Name;

pub(crate) use control::{admin, forward, is_ready, replicas};
pub(crate) use fault::{conflicts, is_forbidden, is_missing, refused};
pub(crate) use manifest::{Change, Manifest, changes, contains};
pub(crate) use resource::Resource;

use crate::cli::Globals;
use crate::error::{Failure, Outcome};

/// How long connecting to the API server may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A Kubernetes cluster, as the user of a kubeconfig sees it.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// Its API server.
    pub(crate) client: Client,
    /// Where the mesh's control plane is.
    pub(crate) namespace: Name,
    /// What the kubeconfig calls it.
    pub(crate) context: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("namespace", &self.namespace)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// The Kubernetes cluster that flags and kubeconfig mean; inside a pod, the one it runs on.
    pub(crate) async fn find(globals: &Globals) -> Outcome<Self> {
        let kubeconfig = match &globals.kubeconfig {
            Some(file) => Kubeconfig::read_from(file),
            None => Kubeconfig::read(),
        };
        let (mut config, context) = match kubeconfig {
            Ok(kubeconfig) => {
                let context = globals
                    .context
                    .clone()
                    .or_else(|| kubeconfig.current_context.clone());
                let options = KubeConfigOptions {
                    context: globals.context.clone(),
                    ..KubeConfigOptions::default()
                };
                let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
                let config = config.map_err(|error| no_kubeconfig(&error))?;
                (config, context.unwrap_or_else(|| "default".into()))
            }
            Err(error) if globals.kubeconfig.is_some() || globals.context.is_some() => {
                return Err(no_kubeconfig(&error));
            }
            Err(error) => match Config::incluster() {
                Ok(config) => (config, "in-cluster".into()),
                Err(_) => return Err(no_kubeconfig(&error)),
            },
        };
        config.connect_timeout = Some(CONNECT);
        let client =
            Client::try_from(config).map_err(|error| refused("cannot use the kubeconfig", &error))?;
        Ok(Self {
            client,
            namespace: globals.mesh_namespace.clone(),
            context,
        })
    }

    /// Objects of a type known here, in a namespace.
    pub(crate) fn within<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Objects of a type known here, in the mesh's namespace.
    pub(crate) fn own<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        self.within(self.namespace.as_str())
    }

    /// Objects of a type known here, in all namespaces, or without any.
    pub(crate) fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource,
        K::DynamicType: Default,
    {
        Api::all(self.client.clone())
    }
}

/// Whether there is a kubeconfig that could be meant.
pub(crate) fn has_kubeconfig() -> bool {
    Kubeconfig::read().is_ok_and(|it| !it.clusters.is_empty())
}

fn no_kubeconfig(error: &dyn std::error::Error) -> Failure {
    Failure::new(format!("cannot use the kubeconfig: {error}"))
        .hint("say which with --kubeconfig FILE and --context NAME, or set KUBECONFIG")
}
