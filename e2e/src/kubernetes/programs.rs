//! Where the programs of a cluster are: those that `e2e/cluster/provision` built, and the system's.

use std::fmt;
use std::path::{Path, PathBuf};

/// A Go module of `e2e/cluster/tools`: what it builds, and what it requires.
struct Module {
    name: &'static str,
    builds: &'static str,
    requires: &'static str,
}

const KUBERNETES: Module = Module {
    name: "kubernetes",
    builds: "k8s.io/kubernetes",
    requires: include_str!("../../cluster/tools/kubernetes/go.mod"),
};
const COREDNS: Module = Module {
    name: "coredns",
    builds: "github.com/coredns/coredns",
    requires: include_str!("../../cluster/tools/coredns/go.mod"),
};
const HELM: Module = Module {
    name: "helm",
    builds: "helm.sh/helm/v3",
    requires: include_str!("../../cluster/tools/helm/go.mod"),
};
const GATEWAY_API: Module = Module {
    name: "gateway-api",
    builds: "sigs.k8s.io/gateway-api",
    requires: include_str!("../../cluster/tools/gateway-api/go.mod"),
};
/// Folders of programs that are seldom in a user's PATH.
const FOLDERS: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/lib/cni"];

/// A program that clusters or their tests are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program(&'static str);

/// What is not on this machine, and how it comes there.
#[derive(Debug)]
pub struct Missing {
    program: &'static str,
    looked: PathBuf,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, looked } = self;
        write!(
            f,
            "{program} is not in {}: run e2e/cluster/provision",
            looked.display()
        )
    }
}

impl std::error::Error for Missing {}

impl Program {
    /// Helm.
    pub const HELM: Self = Self("helm");
    /// Kubernetes' own command line.
    pub const KUBECTL: Self = Self("kubectl");

    pub(super) const API_SERVER: Self = Self("kube-apiserver");
    pub(super) const BUSYBOX: Self = Self("busybox");
    pub(super) const CNI_PTP: Self = Self("ptp");
    pub(super) const CONTAINERD: Self = Self("containerd");
    pub(super) const CONTROLLER_MANAGER: Self = Self("kube-controller-manager");
    pub(super) const COREDNS: Self = Self("coredns");
    pub(super) const CTR: Self = Self("ctr");
    pub(super) const CURL: Self = Self("curl");
    pub(super) const ETCD: Self = Self("etcd");
    pub(super) const IP: Self = Self("ip");
    pub(super) const KUBELET: Self = Self("kubelet");
    pub(super) const KUBE_PROXY: Self = Self("kube-proxy");
    pub(super) const MOUNT: Self = Self("mount");
    pub(super) const NFT: Self = Self("nft");
    pub(super) const RUNC: Self = Self("runc");
    pub(super) const SCHEDULER: Self = Self("kube-scheduler");
    pub(super) const UNSHARE: Self = Self("unshare");

    /// What a cluster with nodes takes.
    pub(super) const CLUSTER: [Self; 17] = [
        Self::API_SERVER,
        Self::BUSYBOX,
        Self::CNI_PTP,
        Self::CONTAINERD,
        Self::CONTROLLER_MANAGER,
        Self::COREDNS,
        Self::CTR,
        Self::CURL,
        Self::ETCD,
        Self::IP,
        Self::KUBECTL,
        Self::KUBELET,
        Self::KUBE_PROXY,
        Self::MOUNT,
        Self::RUNC,
        Self::SCHEDULER,
        Self::UNSHARE,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Its file.
    ///
    /// # Errors
    /// When it is not on this machine.
    pub fn path(self) -> Result<PathBuf, Missing> {
        let missing = |looked: &Path| Missing {
            program: self.0,
            looked: looked.to_owned(),
        };
        let Some(module) = self.module() else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let mut folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
            return folders
                .find_map(|folder| Some(folder.join(self.0)).filter(|file| file.is_file()))
                .ok_or_else(|| missing(Path::new("PATH")));
        };
        let folder = module.folder();
        let file = folder.join(self.0);
        if file.is_file() {
            Ok(file)
        } else {
            Err(missing(&folder))
        }
    }

    fn module(self) -> Option<Module> {
        match self.0 {
            "coredns" => Some(COREDNS),
            "helm" => Some(HELM),
            name if name.starts_with("kube") => Some(KUBERNETES),
            _ => None,
        }
    }
}

/// The file of one of the Gateway API's kinds, such as `httproutes`, in its standard channel.
///
/// # Errors
/// When it is not on this machine.
pub(super) fn gateway_kind(plural: &'static str) -> Result<PathBuf, Missing> {
    let looked = GATEWAY_API.folder();
    let file = looked.join(format!("gateway.networking.k8s.io_{plural}.yaml"));
    let missing = Missing {
        program: plural,
        looked,
    };
    if file.is_file() { Ok(file) } else { Err(missing) }
}

impl Module {
    /// Where provisioning puts what it builds.
    fn folder(&self) -> PathBuf {
        cache().join(format!("{}-{}", self.name, self.version()))
    }

    /// The version of what it builds, as `e2e/cluster/provision` reads it.
    fn version(&self) -> &'static str {
        let mut lines = self.requires.lines();
        let version = lines.find_map(|line| {
            let line = line.strip_prefix("require ").unwrap_or(line).trim_start();
            line.strip_prefix(self.builds)?
                .strip_prefix(' ')?
                .split(' ')
                .next()
        });
        version.unwrap_or("unknown")
    }
}

/// The folder of everything that clusters keep between two runs.
pub(super) fn cache() -> PathBuf {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("mesh/cluster")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_s_folder_is_named_after_the_version_of_what_it_builds() {
        let modules = [
            (KUBERNETES, "v1."),
            (COREDNS, "v1."),
            (HELM, "v3."),
            (GATEWAY_API, "v1."),
        ];
        for (module, start) in modules {
            assert!(module.version().starts_with(start), "{}", module.version());
        }
    }
}
