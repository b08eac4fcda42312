//! The configuration files of a node's programs.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::images::PAUSE;
use super::network::{DNS_SERVICE, Node, PODS};
use super::programs::Program;
use super::state::{State, cgroup};

/// Writes all of them.
pub(super) fn write(state: &State, node: Node) -> Result<()> {
    let folder = state.node(node);
    fs::create_dir_all(folder.join("cni"))?;
    let document = |name: &str, document: &Value| -> Result<()> {
        Ok(fs::write(
            folder.join(name),
            serde_json::to_string_pretty(document)?,
        )?)
    };
    document("kubelet.json", &kubelet(state, node))?;
    document("kube-proxy.json", &kube_proxy(state, node))?;
    document("cni/mesh.conflist", &cni(node))?;
    fs::write(state.audit_policy(node), audit_policy().to_string())?;
    fs::write(folder.join("containerd.toml"), containerd(state, node)?)?;
    // Pods that use the node's resolver get one that refuses.
    fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
    Ok(())
}

/// What pods ask of the API server is written down, but nothing of what they say or are told: there are tokens in it.
fn audit_policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        ],
    })
}

fn kubelet(state: &State, node: Node) -> Value {
    let pki = |name: &str| state.pki().join(name);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address(),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki(&format!("{}.crt", node.name())),
        "tlsPrivateKeyFile": pki(&format!("{}.key", node.name())),
        "containerRuntimeEndpoint": format!("unix://{}", state.containerd(node).display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", cgroup(node)),
        "failCgroupV1": false,
        "failSwapOn": false,
        // A container's root may not have the right to lower it.
        "oomScoreAdj": 0,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": state.node(node).join("resolv.conf"),
        "podLogsDir": "/var/log/pods",
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        // A test machine's disk is no reason to evict, and nothing can be pulled again.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "2s",
        "syncFrequency": "5s",
        "serializeImagePulls": false,
        "kubeAPIQPS": 500,
        "kubeAPIBurst": 1000,
    })
}

fn kube_proxy(state: &State, node: Node) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": state.pki().join("kube-proxy.kubeconfig")},
        "clusterCIDR": PODS,
        "hostnameOverride": node.name(),
        "bindAddress": node.address(),
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // The table of connections is the whole machine's.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "nftables": {"syncPeriod": "30s", "minSyncPeriod": "100ms"},
        "oomScoreAdj": 0,
    })
}

/// Pods are routed, each over a link of its own: what they send each other passes the node's kernel as packets, where
/// kube-proxy sees it without bridge netfilter.
fn cni(node: Node) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "mesh",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": node.pods()}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": "/run/cni-ipam",
            },
        }],
    })
}

fn containerd(state: &State, node: Node) -> Result<String> {
    let runc = Program::RUNC.path()?;
    let plugins = Program::CNI_PTP.path()?;
    let plugins = plugins.parent().unwrap_or(Path::new("/usr/lib/cni"));
    Ok(format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
disable_apparmor = true
enable_unprivileged_ports = true
enable_unprivileged_icmp = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{cni}"
"#,
        root = state.node(node).join("containerd").display(),
        socket = state.containerd(node).display(),
        runc = runc.display(),
        plugins = plugins.display(),
        cni = state.node(node).join("cni").display(),
    ))
}
