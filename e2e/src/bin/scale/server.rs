//! The API server, and all that is written to it and read from it.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{GroupVersionKind, NamespaceResourceScope};
use kube::{Client, Config, Resource};
use mesh_e2e::kubernetes::ApiServer;
use mesh_e2e::process::binary;
use mesh_e2e::wait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::objects::{self, NAMESPACE, STABLE, Size, service_name};
use crate::report::Written;

/// Where the control plane is, and who it is there.
pub(crate) const SYSTEM: &str = "mesh-system";
const ACCOUNT: &str = "mesh-control";
/// Of what an installation has, what runs or is called in pods: there are none here.
const LEFT_OUT: [&str; 6] = [
    "ConfigMap",
    "Deployment",
    "MutatingWebhookConfiguration",
    "PodDisruptionBudget",
    "Service",
    "ValidatingWebhookConfiguration",
];
/// How many requests are made at a time.
const AT_ONCE: usize = 32;
/// The audience and the life of tokens, as the injected volume has them.
const AUDIENCE: &str = "mesh.dev/control";
const TOKEN_SECONDS: i64 = 3_600;
/// Who writes weights.
const SPLITTER: &str = "meshctl-split";

/// An API server with the mesh's kinds and the permissions of its control plane.
pub(crate) struct Server {
    api: ApiServer,
    client: Client,
}

impl Server {
    /// Starts it, and installs the mesh but for what runs in pods.
    pub(crate) async fn start() -> Result<Self> {
        let api = ApiServer::start().await?;
        let kubeconfig = Kubeconfig::read_from(api.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let server = Self { api, client };
        server.install()?;
        Ok(server)
    }

    fn install(&self) -> Result<()> {
        let printed = Command::new(binary("meshctl")?)
            .args(["install", "--output", "yaml"])
            .output()
            .context("run meshctl")?;
        let error = String::from_utf8_lossy(&printed.stderr);
        ensure!(printed.status.success(), "meshctl install: {error}");
        let mut kept = Vec::new();
        for document in String::from_utf8(printed.stdout)?.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document)?;
            let kind = object["kind"].as_str().unwrap_or_default();
            if !kind.is_empty() && !LEFT_OUT.contains(&kind) {
                kept.push(document.to_owned());
            }
        }
        let kubectl = self.api.kubectl();
        let documents = kept.join("\n---\n");
        kubectl.run_with(&["apply", "--server-side", "--filename", "-"], &documents)?;
        let crd = "crd/modelroutes.mesh.dev";
        kubectl.run(&["wait", "--for=condition=established", "--timeout=60s", crd])?;
        Ok(())
    }

    /// A folder that is there as long as the server.
    pub(crate) fn folder(&self) -> &Path {
        self.api.folder()
    }

    /// The kubeconfig of the control plane: the token of its ServiceAccount.
    pub(crate) fn control_kubeconfig(&self) -> Result<PathBuf> {
        let kubectl = self.api.kubectl().within(SYSTEM);
        let token = kubectl.run(&["create", "token", ACCOUNT, "--duration=4h"])?;
        let mut kubeconfig: Value = serde_json::from_str(&fs::read_to_string(self.api.kubeconfig())?)?;
        kubeconfig["users"] = json!([{"name": ACCOUNT, "user": {"token": token.trim()}}]);
        kubeconfig["contexts"][0]["context"]["user"] = json!(ACCOUNT);
        let path = self.folder().join("control.kubeconfig");
        fs::write(&path, kubeconfig.to_string())?;
        Ok(path)
    }

    /// Writes everything that there is.
    pub(crate) async fn write(&self, size: Size) -> Result<Written> {
        let started = Instant::now();
        create::<Namespace>(&self.all(), objects::namespace()).await?;
        let (nodes, accounts) = (self.all::<Node>(), self.ours::<ServiceAccount>());
        each(0..size.nodes(), async |node| {
            create(&nodes, objects::node(node)).await
        })
        .await?;
        each(0..size.services, async |at| {
            create(&accounts, objects::account(at)).await
        })
        .await?;
        let (services, slices) = (self.ours::<Service>(), self.ours::<EndpointSlice>());
        each(0..size.services, async |at| {
            create(&services, objects::service(at)).await
        })
        .await?;
        let pods = self.ours::<Pod>();
        each(size.places(), async |place| {
            create(&pods, objects::pod(place, size)?).await?;
            let (name, running) = (objects::pod_name(place), objects::running(place));
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&running))
                .await?;
            Ok(())
        })
        .await?;
        each(0..size.services, async |at| {
            create(&slices, objects::slice(at, size)).await
        })
        .await?;
        create(&self.routes(), objects::route(0)).await?;
        Ok(Written {
            objects: 2 + size.nodes() + size.services * (3 + size.endpoints),
            time: started.elapsed(),
        })
    }

    /// The token of each pod with a proxy, as the kubelet asks for it.
    pub(crate) async fn tokens(&self, size: Size) -> Result<Vec<String>> {
        let accounts = &self.ours::<ServiceAccount>();
        let token = |proxy: usize| async move {
            let place = size.place(proxy);
            let request = TokenRequest {
                spec: TokenRequestSpec {
                    audiences: vec![AUDIENCE.into()],
                    bound_object_ref: Some(BoundObjectReference {
                        api_version: Some("v1".into()),
                        kind: Some("Pod".into()),
                        name: Some(objects::pod_name(place)),
                        uid: None,
                    }),
                    expiration_seconds: Some(TOKEN_SECONDS),
                },
                ..TokenRequest::default()
            };
            let account = service_name(place.service);
            let answer = accounts
                .create_token_request(&account, &PostParams::default(), &request)
                .await?;
            anyhow::Ok(answer.status.context("a token")?.token)
        };
        let tokens = stream::iter(0..size.proxies).map(token).buffered(AT_ONCE);
        tokens.try_collect().await
    }

    /// A file with the roots that pods get as a volume, as soon as the control plane has written them.
    pub(crate) async fn trust_bundle(&self) -> Result<PathBuf> {
        let bundles = self.ours::<ConfigMap>();
        let roots = wait::until("the trust bundle", async || {
            let bundle = bundles.get_opt("mesh-trust-bundle").await?;
            Ok(bundle.and_then(|it| it.data?.remove("roots.pem")))
        })
        .await?;
        let path = self.folder().join("roots.pem");
        fs::write(&path, roots)?;
        Ok(path)
    }

    /// Gives the canary this weight, as `meshctl split` does.
    pub(crate) async fn set_weight(&self, canary: u32) -> Result<()> {
        let params = PatchParams::apply(SPLITTER).force();
        let patch = Patch::Apply(objects::weights(canary));
        self.routes()
            .patch(&service_name(STABLE), &params, &patch)
            .await?;
        Ok(())
    }

    /// Says whether the first endpoint of a Service is ready, as the controller of EndpointSlices does.
    pub(crate) async fn set_ready(&self, service: usize, size: Size, ready: bool) -> Result<()> {
        let endpoints = json!({"endpoints": objects::endpoints(service, size, ready)});
        self.ours::<EndpointSlice>()
            .patch(
                &objects::slice_name(service),
                &PatchParams::default(),
                &Patch::Merge(&endpoints),
            )
            .await?;
        Ok(())
    }

    /// Waits until the status of the route says that all proxies serve the last weight.
    pub(crate) async fn settled(&self, changes: usize, size: Size) -> Result<()> {
        let wanted = (
            objects::told(u32::try_from(changes)?),
            format!("{0}/{0}", size.proxies),
        );
        let routes = self.routes();
        let mut seen = Value::Null;
        let settled = wait::until("the status of the route", async || {
            seen = routes.get(&service_name(STABLE)).await?.data["status"].take();
            let told = |field: &str| seen[field].as_str().unwrap_or_default().to_owned();
            Ok((wanted == (told("weights"), told("proxies"))).then_some(()))
        })
        .await;
        settled.with_context(|| format!("{wanted:?} is wanted, and there is {seen}"))
    }

    fn routes(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("mesh.dev", "v1alpha1", "ModelRoute");
        let resource = ApiResource::from_gvk_with_plural(&kind, "modelroutes");
        Api::namespaced_with(self.client.clone(), NAMESPACE, &resource)
    }

    fn ours<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    fn all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    api.create(&PostParams::default(), &K::deserialize(object)?)
        .await?;
    Ok(())
}

/// Does something for each of these, several at a time.
async fn each<T>(all: impl Iterator<Item = T>, act: impl AsyncFn(T) -> Result<()>) -> Result<()> {
    let act = &act;
    let all = stream::iter(all.map(anyhow::Ok));
    all.try_for_each_concurrent(AT_ONCE, |one| async move { act(one).await })
        .await
}
