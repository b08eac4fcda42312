//! Documents in and out: what is kept of them byte for byte, what is refused, and the way back.

use std::path::Path;

use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};
use crate::output::Printer;

/// What the command line makes of the files: the text that would be printed.
fn run(line: &str, files: &[(&str, &str)]) -> Outcome<String> {
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
    let context = Context {
        globals: cli.globals,
        printer: Printer,
    };
    let files: Vec<FileText> = files
        .iter()
        .map(|(file, text)| FileText {
            file: file.into(),
            text: (*text).to_owned(),
        })
        .collect();
    let texts = match cli.command {
        Command::Inject(args) => args.texts(&context, &files),
        Command::Uninject(_) => uninjected(&context, &files),
        other => panic!("{other:?}"),
    };
    texts.map(|texts| texts.concat())
}

fn inject(text: &str) -> String {
    run(
        "meshctl inject - --image registry.example/mesh-proxy:1.2.3",
        &[("-", text)],
    )
    .unwrap()
}

fn uninject(text: &str) -> String {
    run("meshctl uninject -", &[("-", text)]).unwrap()
}

const DEPLOYMENT: &str = "\
# The fraud model.
apiVersion: v1
kind: Service        # unchanged
metadata: {name: fraud}
---
# Two replicas are enough.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: fraud
spec:
  replicas: 2
  template:
    metadata:        # of the pods
      # Selected by the service.
      labels:
        app: fraud   # this one
    spec:
      # Triton takes its time.
      terminationGracePeriodSeconds: 600
      containers:
      # The model server.
      - name: triton
        image: triton:1   # pinned
        ports:
        - containerPort: 8000
          name: http
        readinessProbe:
          # Ready when all models are.
          httpGet:
            path: /v2/health/ready  # V2
            port: http
          periodSeconds: 5
        livenessProbe: {tcpSocket: {port: http}, periodSeconds: 10}
      # Where models come from.
      volumes:
      - name: models
        emptyDir: {}
# The end.
";

#[test]
fn a_deployment_keeps_its_lines() {
    let after = inject(DEPLOYMENT);
    insta::assert_snapshot!(after.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    // Nothing but the probes is another line.
    let gone: Vec<&str> = DEPLOYMENT
        .lines()
        .filter(|line| !after.lines().any(|it| it == *line))
        .collect();
    assert_eq!(
        gone,
        [
            "            path: /v2/health/ready  # V2",
            "            port: http",
            "        livenessProbe: {tcpSocket: {port: http}, periodSeconds: 10}",
        ]
    );
    assert_eq!(inject(&after), after, "twice is once");
    // What stands in brackets is written anew.
    let (was, is) = (
        "{tcpSocket: {port: http}, periodSeconds: 10}",
        "{periodSeconds: 10, tcpSocket: {port: http}}",
    );
    assert_eq!(uninject(&after), DEPLOYMENT.replace(was, is));
}

#[test]
fn documents_in_every_style_are_changed_in_place_and_back() {
    for (name, text) in [
        (
            "lists further in than their keys, no labels, the last line without an end",
            "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: a\nspec:\n  template:\n    spec:\n      restartPolicy: Never\n      \
             containers:\n        - name: a   # one\n          image: b",
        ),
        (
            "init containers and volumes of its own",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    x: y # z\nspec:\n  initContainers:\n  # first\n  - name: i\n    \
             image: i\n  containers:\n  - image: b\n    name: a\n    command: [sh, -c, \"sleep 1\"]\n    env:\n    - name: TEXT\n      value: |\n        \
             - name: no item\n\n        last\n  volumes:\n  # mine\n  - name: v\n    emptyDir: {}\n",
        ),
        (
            "the ordinary sidecar after init containers",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    mesh.dev/native-sidecar: \"false\"\nspec:\n  initContainers:\n  - name: i\n    \
             image: i\n\n  # next\n  containers:\n  - name: a\n",
        ),
        (
            "lines that end as on Windows",
            "apiVersion: v1\r\nkind: Pod\r\nmetadata:\r\n  name: a\r\nspec:\r\n  containers:\r\n  - name: a # b\r\n",
        ),
        (
            "a list",
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: s}\n- apiVersion: v1\n  kind: Pod # p\n  \
             metadata:\n    name: a\n  spec:\n    containers:\n    - name: a\n",
        ),
        (
            "a marker with a comment behind it",
            "--- # one\napiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - name: a\n--- # two\napiVersion: v1\nkind: ConfigMap\n",
        ),
    ] {
        let after = inject(text);
        assert_ne!(after, text, "{name}");
        for line in text.lines() {
            assert!(
                after.lines().any(|it| it == line),
                "{name}: {line:?} is gone:\n{after}"
            );
        }
        let back = uninject(&after);
        assert_eq!(back.trim_end(), text.trim_end(), "{name}: {after}");
    }
}

#[test]
fn brackets_and_json_stay_what_they_are() {
    let json = "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"a\"}, \"spec\": {\"containers\": [{\"name\": \"a\"}]}}\n";
    let after = inject(json);
    let read: Value = serde_json::from_str(&after).unwrap();
    assert_eq!(read["spec"]["initContainers"][1]["name"], "mesh-proxy");
    let back: Value = serde_json::from_str(&uninject(&after)).unwrap();
    assert_eq!(back, serde_json::from_str::<Value>(json).unwrap());
    let flow = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {x: y}} # m\nspec: {containers: [{name: a}]} # s\n";
    let after = inject(flow);
    assert!(after.contains("} # m\n") && after.contains("} # s\n"), "{after}");
    assert!(uninject(&after).contains(" # s\n"));
}

#[test]
fn what_can_t_be_changed_in_place_is_written_anew_in_its_order() {
    let text = "kind: Pod\napiVersion: v1\nmetadata: &m\n  name: a\nspec:\n  nodeSelector: &n\n    b: c\n  containers: &c\n  - name: a\n    \
                readinessProbe: &p\n      tcpSocket:\n        port: 1\n    livenessProbe: *p\n";
    let after = inject(text);
    let value: Value = serde_saphyr::from_str(&after).unwrap();
    assert_eq!(
        value["spec"]["containers"][0]["livenessProbe"]["httpGet"]["path"],
        "/probe/a/liveness"
    );
    assert!(
        after.starts_with("kind: Pod\napiVersion: v1\nmetadata:\n  name: a\n"),
        "{after}"
    );
}

#[test]
fn files_are_joined_as_documents() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - name: a";
    let text = run(
        "meshctl inject a b",
        &[("a", pod), ("b", pod), ("c", &format!("---\n{pod}\n"))],
    )
    .unwrap();
    let values: Vec<_> = sources(Path::new("x"), &text)
        .iter()
        .map(|source| object(source).unwrap())
        .collect();
    assert_eq!(values.len(), 3);
    assert!(
        values
            .iter()
            .all(|value| value["spec"]["initContainers"][1]["name"] == "mesh-proxy")
    );
}

#[test]
fn one_refusal_refuses_all_and_what_is_no_object_is_told() {
    let good = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a}]}\n";
    let bad = good.replace("name: a}]", "name: a, ports: [{containerPort: 15001}]}]");
    let refused = run("meshctl inject -", &[("-", &format!("{good}---\n{bad}"))]);
    assert!(matches!(refused, Err(Failure::Silent)));
    for (text, expected) in [
        ("a: b: c", "x.yaml:1: "),
        ("a: {{ .Values.b }}", "x.yaml:1: "),
        ("text", "x.yaml:1: this is no Kubernetes object"),
        ("kind: Pod", "x.yaml:1: this is no Kubernetes object"),
        ("# nothing", "there is no document"),
    ] {
        let error = run("meshctl inject -", &[("x.yaml", text)])
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn namespaces_say_what_is_wanted() {
    let pod = |namespace: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: {namespace}\nspec:\n  containers:\n  - name: a\n"
        )
    };
    let namespace = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ml\n{more}---\n{}",
            pod("ml")
        )
    };
    let injects = |line: &str, text: &str| run(line, &[("-", text)]).unwrap().contains("mesh-proxy");
    assert!(injects("meshctl inject -", &namespace("")));
    assert!(!injects(
        "meshctl inject -",
        &namespace("  labels:\n    mesh.dev/inject: disabled\n")
    ));
    assert!(!injects(
        "meshctl inject -",
        &namespace("  annotations:\n    mesh.dev/inject: disabled\n")
    ));
    let with = run(
        "meshctl inject -",
        &[("-", &namespace("  annotations:\n    mesh.dev/proxy-log: debug\n"))],
    )
    .unwrap();
    assert!(with.contains("value: debug"), "{with}");
    assert!(injects("meshctl inject - -n ml", &pod("ml")));
    assert!(!injects("meshctl inject - -n ml", &pod("shop")));
}

#[test]
fn flags_go_before_the_settings_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.yaml");
    std::fs::write(&file, "image: a\nlog: debug\nskipInboundPorts: [1]\n").unwrap();
    let settings = |flags: &str| {
        let line = format!("meshctl inject - --settings {} {flags}", file.display());
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Inject(args) => args.settings().map_err(|error| error.to_string()),
            other => panic!("{other:?}"),
        }
    };
    let read = settings("--image b --skip-inbound-ports 2 --native-sidecar false").unwrap();
    assert_eq!(
        (read.image.as_str(), read.log.as_str(), read.native_sidecar),
        ("b", "debug", false)
    );
    assert_eq!(read.skip_inbound_ports.len(), 2);
    assert!(
        settings("--control nowhere")
            .unwrap_err()
            .contains("control: \"nowhere\" is not host:port")
    );
    std::fs::write(&file, "imagee: a\n").unwrap();
    let error = settings("").unwrap_err();
    assert!(error.contains("settings.yaml: imagee: unknown field"), "{error}");
}
