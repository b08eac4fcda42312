//! As much of the Gateway API's routes as the mesh reads.
//!
//! The types are lenient: words are texts, and fields nobody knows are passed over, so that an object of a newer Gateway
//! API refuses itself alone and not the list it stands in. What is not understood is refused where it is converted.

use std::borrow::Cow;
use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::{Deserialize, Serialize};

/// The API group of the Gateway API.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// An HTTPRoute.
pub type HttpRoute = Route<HttpRouteSpec>;
/// A GRPCRoute.
pub type GrpcRoute = Route<GrpcRouteSpec>;

/// A route of some kind.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Route<S> {
    /// Its name, namespace, generation and age.
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: S,
    /// What controllers say of it.
    #[serde(default)]
    pub status: RouteStatus,
}

/// What a route of one kind says.
pub trait RouteSpec {
    /// The kind, such as `HTTPRoute`.
    const KIND: &'static str;
    /// What the API server calls many of them.
    const PLURAL: &'static str;
}

impl RouteSpec for HttpRouteSpec {
    const KIND: &'static str = "HTTPRoute";
    const PLURAL: &'static str = "httproutes";
}

impl RouteSpec for GrpcRouteSpec {
    const KIND: &'static str = "GRPCRoute";
    const PLURAL: &'static str = "grpcroutes";
}

impl<S: RouteSpec> kube::Resource for Route<S> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        S::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        S::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What an HTTPRoute says. Its `hostnames` mean nothing in a mesh (GEP-1294, "hostnames field").
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteSpec {
    /// What it is for.
    pub parent_refs: Vec<ParentRef>,
    /// Which requests go where.
    pub rules: Vec<HttpRule>,
}

/// What a GRPCRoute says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcRouteSpec {
    /// What it is for.
    pub parent_refs: Vec<ParentRef>,
    /// Which calls go where.
    pub rules: Vec<GrpcRule>,
}

/// What a route is for: here, a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentRef {
    /// Its API group; the core group is the empty text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its namespace; none: the route's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The name of its port; none: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// The number of its port; none: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// A rule of an HTTPRoute.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRule {
    /// Its name.
    pub name: Option<String>,
    /// Any of these takes the request; none: every request.
    pub matches: Vec<HttpMatch>,
    /// What is done with it.
    pub filters: Vec<Filter>,
    /// Where it goes.
    pub backend_refs: Vec<BackendRef>,
    /// How long things may take.
    pub timeouts: Option<HttpTimeouts>,
    /// When it is tried again (experimental).
    pub retry: Option<serde_json::Value>,
    /// What keeps a client on one endpoint (experimental).
    pub session_persistence: Option<serde_json::Value>,
}

/// What a request must be.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// Its path.
    pub path: Option<PathMatch>,
    /// Its headers.
    pub headers: Vec<ValueMatch>,
    /// The parameters of its query.
    pub query_params: Vec<ValueMatch>,
    /// Its method.
    pub method: Option<String>,
}

/// A path that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PathMatch {
    /// `Exact`, `PathPrefix` or `RegularExpression`; none: `PathPrefix`.
    #[serde(rename = "type")]
    pub how: Option<String>,
    /// The path; none: `/`.
    pub value: Option<String>,
}

/// A header, or parameter of a query, that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ValueMatch {
    /// `Exact` or `RegularExpression`; none: `Exact`.
    #[serde(rename = "type")]
    pub how: Option<String>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// How long things may take.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpTimeouts {
    /// A request as a whole.
    pub request: Option<String>,
    /// One try of it.
    pub backend_request: Option<String>,
}

/// A rule of a GRPCRoute.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcRule {
    /// Its name.
    pub name: Option<String>,
    /// Any of these takes the call; none: every call.
    pub matches: Vec<GrpcMatch>,
    /// What is done with it.
    pub filters: Vec<Filter>,
    /// Where it goes.
    pub backend_refs: Vec<BackendRef>,
    /// What keeps a client on one endpoint (experimental).
    pub session_persistence: Option<serde_json::Value>,
}

/// What a call must be.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct GrpcMatch {
    /// What it calls.
    pub method: Option<GrpcMethod>,
    /// Its headers.
    pub headers: Vec<ValueMatch>,
}

/// A gRPC service, method, or both.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct GrpcMethod {
    /// `Exact` or `RegularExpression`; none: `Exact`.
    #[serde(rename = "type")]
    pub how: Option<String>,
    /// The service, with its package.
    pub service: Option<String>,
    /// The method.
    pub method: Option<String>,
}

/// Where requests go, by weight.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct BackendRef {
    /// Its API group; none: the core group.
    pub group: Option<String>,
    /// Its kind; none: `Service`.
    pub kind: Option<String>,
    /// Its namespace; none: the route's.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The number of its port.
    pub port: Option<u16>,
    /// Its part of the requests; none: 1.
    pub weight: Option<u32>,
    /// What is done with the requests that go there.
    pub filters: Vec<Filter>,
}

/// What is done with a request or its response.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Filter {
    /// Which of the following it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// `RequestHeaderModifier`
    pub request_header_modifier: Option<HeaderModifier>,
    /// `ResponseHeaderModifier`
    pub response_header_modifier: Option<HeaderModifier>,
    /// `RequestRedirect`
    pub request_redirect: Option<RequestRedirect>,
    /// `URLRewrite`
    pub url_rewrite: Option<UrlRewrite>,
}

/// Headers that are set, added and removed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HeaderModifier {
    /// Those that have one value from then on.
    pub set: Vec<Header>,
    /// Those that have one more value.
    pub add: Vec<Header>,
    /// Those that are gone.
    pub remove: Vec<String>,
}

/// A header and its value.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Where a client is sent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestRedirect {
    /// `http` or `https`; none: unchanged.
    pub scheme: Option<String>,
    /// The host; none: unchanged.
    pub hostname: Option<String>,
    /// The path; none: unchanged.
    pub path: Option<PathModifier>,
    /// The port; none: as the scheme says, or unchanged.
    pub port: Option<u16>,
    /// The status; none: 302.
    pub status_code: Option<u16>,
}

/// What the request is made to ask for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct UrlRewrite {
    /// The host; none: unchanged.
    pub hostname: Option<String>,
    /// The path; none: unchanged.
    pub path: Option<PathModifier>,
}

/// How a path is changed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathModifier {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`.
    #[serde(rename = "type")]
    pub how: String,
    /// The path that it becomes.
    pub replace_full_path: Option<String>,
    /// What the part of it that the match asked for becomes.
    pub replace_prefix_match: Option<String>,
}

/// That a namespace lets objects of others refer to its own.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ReferenceGrant {
    /// Its name and namespace.
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: ReferenceGrantSpec,
}

impl kube::Resource for ReferenceGrant {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "ReferenceGrant".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    // Served by every release of the Gateway API; `v1` is newer than some that are in use.
    fn version((): &()) -> Cow<'_, str> {
        "v1beta1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "referencegrants".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Who may refer to what.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ReferenceGrantSpec {
    /// Objects of any of these.
    pub from: Vec<GrantFrom>,
    /// To any of these.
    pub to: Vec<GrantTo>,
}

/// Objects of one kind in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct GrantFrom {
    /// Their API group.
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// Their namespace.
    pub namespace: String,
}

/// Objects of one kind in the grant's namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct GrantTo {
    /// Their API group.
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// The one of them; none: all.
    pub name: Option<String>,
}

/// What controllers say of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteStatus {
    /// Of each parent, by controller.
    pub parents: Vec<ParentStatus>,
}

/// What a controller says of a route and one of its parents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// The parent.
    pub parent_ref: ParentRef,
    /// The controller.
    pub controller_name: String,
    /// What it says.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}
