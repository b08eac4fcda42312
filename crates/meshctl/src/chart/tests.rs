//! The chart by itself, and beside the real Helm.

use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_api::inject::Settings;

use super::values::schema;
use super::*;

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/mesh")
}

fn with(changes: &[&str]) -> Value {
    let mut values = defaults().unwrap();
    for change in changes {
        merge(&mut values, assignment(change).unwrap());
    }
    values
}

fn rendered(changes: &[&str]) -> Vec<Value> {
    objects_with(&with(changes), "mesh-system").unwrap()
}

fn find<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap()
}

/// Values that between them take every way through the templates.
const MATRIX: &[&[&str]] = &[
    &[],
    &["ha=true"],
    &["ha=true", "control.replicas=3"],
    &[
        "images.registry=registry.example.com/mesh",
        "images.pullPolicy=Always",
    ],
    &["images.control.tag=1.2", "images.proxy.digest=sha256:abc"],
    &[
        "images.control.digest=sha256:abc",
        "images.pullSecrets=[{\"name\":\"a\"},{\"name\":\"b\"}]",
    ],
    &[
        "control.nodeSelector.kubernetes\\.io/os=linux",
        "control.tolerations=[{\"key\":\"x\",\"operator\":\"Exists\",\"tolerationSeconds\":5}]",
        "control.podLabels.team=ml",
        "control.podAnnotations.note=a: \"b\" #c",
    ],
    &[
        "control.resources={\"limits\":{\"cpu\":\"1\"}}",
        "control.priorityClassName=",
    ],
    &[
        "control.trustDomain=example.org",
        "control.leafLifetime=1h",
        "control.logFormat=text",
    ],
    &[
        "proxy.skipInboundPorts=[22,\"9000-9010\"]",
        "proxy.skipOutboundPorts=[3306]",
        "proxy.skipCidrs=[\"169.254.169.254/32\"]",
        "proxy.drainLimit=30s",
        "proxy.workers=0",
    ],
    &[
        "inject.failurePolicy=Ignore",
        "validate.failurePolicy=Fail",
        "inject.timeoutSeconds=30",
    ],
];

#[test]
fn the_schema_is_made_from_the_type() {
    let file = chart().join("values.schema.json");
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).unwrap_or_default() == text,
        "charts/mesh/values.schema.json is not what the type says: run `UPDATE=1 cargo test -p meshctl chart`"
    );
}

#[test]
fn every_value_has_its_default_written_down() {
    let defaults = defaults().unwrap();
    let read = serde_json::to_value(values::check(&defaults).unwrap()).unwrap();
    assert_eq!(defaults, read);
}

#[test]
fn wrong_values_are_named() {
    for (change, error) in [
        ("typo=1", "unknown field `typo`"),
        ("ha=yes", "ha: invalid type: string \"yes\", expected a boolean"),
        (
            "images.control.tag=1",
            "images.control.tag: invalid type: integer `1`, expected a string",
        ),
        (
            "images.pullPolicy=Sometimes",
            "images.pullPolicy: unknown variant `Sometimes`",
        ),
        (
            "control.resources.request.cpu=1",
            "control.resources.request: unknown field `request`",
        ),
        (
            "control.replicas=-1",
            "control.replicas: invalid value: integer `-1`",
        ),
        ("images.registry=null", "images: missing field `registry`"),
    ] {
        let told = objects_with(&with(&[change]), "mesh-system")
            .unwrap_err()
            .to_string();
        assert!(told.contains(error), "{change}: {told}");
    }
}

#[test]
fn the_control_plane_runs_with_the_least_it_needs() {
    let objects = rendered(&[]);
    let pod = &find(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
    let wide = objects
        .iter()
        .filter(|object| object["kind"].as_str().unwrap().ends_with("Role"));
    for rule in wide.flat_map(|object| object["rules"].as_array().unwrap()) {
        assert!(!rule.to_string().contains('*'), "{rule}");
    }
}

#[test]
fn ha_adds_replicas_and_a_budget() {
    let (one, two) = (rendered(&[]), rendered(&["ha=true"]));
    assert_eq!(find(&one, "Deployment")["spec"]["replicas"], 1);
    assert_eq!(find(&two, "Deployment")["spec"]["replicas"], 2);
    assert_eq!(two.len(), one.len() + 1);
    assert_eq!(find(&two, "PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
}

#[test]
fn the_systems_namespaces_are_never_matched() {
    let objects = objects_with(&with(&[]), "elsewhere").unwrap();
    for webhook in find(&objects, "MutatingWebhookConfiguration")["webhooks"]
        .as_array()
        .unwrap()
    {
        let left_out = &webhook["namespaceSelector"]["matchExpressions"][1];
        assert_eq!(left_out["operator"], "NotIn");
        for namespace in ["elsewhere", "kube-system", "kube-public", "kube-node-lease"] {
            assert!(left_out["values"].as_array().unwrap().contains(&json!(namespace)));
        }
    }
}

#[test]
fn the_injector_reads_its_settings() {
    for changes in MATRIX {
        let objects = rendered(changes);
        let text = find(&objects, "ConfigMap")["data"]["config.yaml"]
            .as_str()
            .unwrap();
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.revision, env!("CARGO_PKG_VERSION"));
        assert_eq!(settings.control, "mesh-control.mesh-system.svc:15010");
        // Without a change, what is written down is what the injector would do anyway.
        if changes.is_empty() {
            assert_eq!(settings, Settings::default());
        }
    }
    let objects = rendered(&[
        "proxy.workers=0",
        "proxy.drainLimit=30s",
        "images.registry=example.com/mesh",
    ]);
    let settings = Settings::parse(
        find(&objects, "ConfigMap")["data"]["config.yaml"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(settings.workers, None);
    assert!(settings.drain_limit.is_some());
    assert_eq!(
        settings.image,
        format!("example.com/mesh/mesh-proxy:{}", env!("CARGO_PKG_VERSION"))
    );
}

/// The real Helm: `$HELM`, or the one on the path.
fn helm() -> Option<PathBuf> {
    let named = std::env::var_os("HELM").map(PathBuf::from);
    let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let caches = caches.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let cached = caches.map(|caches| caches.join("mesh/cluster"));
    let on_path = std::env::var_os("PATH");
    let folders = on_path.iter().flat_map(std::env::split_paths);
    named
        .into_iter()
        .chain(folders.map(|folder| folder.join("helm")))
        .chain(cached.into_iter().flat_map(|cache| binaries(&cache)))
        .find(|file| file.is_file())
}

fn binaries(cache: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(cache).into_iter().flatten().flatten();
    folders.map(|folder| folder.path().join("helm")).collect()
}

#[test]
fn helm_template_makes_the_same_objects() {
    let Some(helm) = helm() else {
        eprintln!("SKIPPED: THE CHART IS NOT COMPARED WITH HELM: there is no helm (set HELM)");
        return;
    };
    for changes in MATRIX {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("values.json");
        let mut values = json!({});
        for change in *changes {
            merge(&mut values, assignment(change).unwrap());
        }
        std::fs::write(&file, values.to_string()).unwrap();
        let output = Command::new(&helm)
            .args(["template", "mesh"])
            .arg(chart())
            .args([
                "--namespace",
                "mesh-system",
                "--include-crds",
                "--kube-version",
                "1.33.0",
                "--values",
            ])
            .arg(&file)
            .env("HOME", dir.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{changes:?}: {told}");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut theirs = objects(&[("helm", text)]).unwrap();
        let mut ours = crds().unwrap();
        ours.extend(rendered(changes));
        let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
        theirs.sort_by_key(name);
        ours.sort_by_key(name);
        let names = |objects: &[Value]| objects.iter().map(name).collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs), "{changes:?}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{changes:?}");
        }
    }
}

#[test]
fn helm_refuses_the_same_values() {
    let Some(helm) = helm() else {
        eprintln!("SKIPPED: THE SCHEMA IS NOT TRIED WITH HELM: there is no helm (set HELM)");
        return;
    };
    for change in [
        "ha=yes",
        "images.pullPolicy=Sometimes",
        "control.resources.request.cpu=1",
        "typo=1",
    ] {
        let home = tempfile::tempdir().unwrap();
        let output = Command::new(&helm)
            .args(["template", "mesh"])
            .arg(chart())
            .args(["--kube-version", "1.33.0", "--set", change])
            .env("HOME", home.path())
            .output()
            .unwrap();
        assert!(!output.status.success(), "{change}");
        assert!(objects_with(&with(&[change]), "mesh-system").is_err(), "{change}");
    }
}
