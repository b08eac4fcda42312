//! What every document says about itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::{Name, ObjectName};

/// Name, namespace, labels and annotations of a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// The object's name, unique for its kind and namespace
    pub name: Name,
    /// Where the object lives; default: `default`
    #[serde(default = "Name::default_namespace")]
    pub namespace: Name,
    /// Labels, by which Services select Workloads
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Notes for people and tools; the mesh reads none of them
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Metadata {
    /// Metadata of a name alone.
    pub fn new(name: ObjectName) -> Self {
        Self {
            name: name.name,
            namespace: name.namespace,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// Namespace and name.
    pub fn object_name(&self) -> ObjectName {
        ObjectName::new(self.namespace.clone(), self.name.clone())
    }
}
