//! Whole pods with their sidecars, what is left alone, what is refused, and that injecting twice is injecting once.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn web() -> Value {
    yaml(
        "
metadata:
  labels: {app: web}
  annotations:
    mesh.dev/skip-inbound-ports: 22, 9000-9010
    mesh.dev/drain-limit: 5m
    mesh.dev/proxy-cpu-request: 250m
spec:
  serviceAccountName: web
  terminationGracePeriodSeconds: 600
  initContainers:
  - {name: download, image: 'fetch:1'}
  containers:
  - name: triton
    image: triton:1
    ports:
    - {name: http, containerPort: 8000}
    - {name: grpc, containerPort: 8001}
    startupProbe: {tcpSocket: {port: http}, failureThreshold: 60}
    readinessProbe:
      httpGet: {path: '/v2/health/ready?a=$b', port: http, scheme: HTTPS, httpHeaders: [{name: X-Probe, value: '1'}]}
      timeoutSeconds: 3
      periodSeconds: 5
    livenessProbe: {grpc: {port: 8001, service: inference}}
",
    )
}

fn injected(pod: &Value, settings: &Settings) -> (Value, Vec<String>) {
    match inject(pod, &Namespace::enabled(), settings) {
        Outcome::Injected { pod, warnings } => (pod, warnings),
        other => panic!("{other:?}"),
    }
}

/// Fixed, so that a new version changes no snapshot.
fn settings() -> Settings {
    Settings {
        revision: "1.2.3".to_owned(),
        image: "registry.example/mesh-proxy:1.2.3".to_owned(),
        ..Settings::default()
    }
}

#[test]
fn a_pod_with_a_native_sidecar() {
    let (pod, warnings) = injected(&web(), &settings());
    insta::assert_yaml_snapshot!(pod);
    assert_eq!(warnings, Vec::<String>::new());
    let sidecar = &pod["spec"]["initContainers"][1];
    let probes = sidecar["env"].as_array().unwrap().last().unwrap();
    // As the kubelet hands it to the process.
    let text = probes["value"].as_str().unwrap().replace("$$", "$");
    let probes = probe::parse(&text).unwrap();
    assert_eq!(probes["triton/startup"].port, 8000);
    assert_eq!(probes["triton/readiness"].timeout_seconds, 3);
    assert_eq!(uninject(&pod).unwrap(), web());
}

#[test]
fn a_pod_gets_the_pull_secrets_that_it_does_not_have() {
    let secret = |name: &str| PullSecret { name: name.into() };
    let settings = Settings {
        image_pull_secrets: vec![secret("ours"), secret("theirs")],
        ..settings()
    };
    let mut web = web();
    for (own, together, added) in [
        (
            json!(null),
            json!([{"name": "ours"}, {"name": "theirs"}]),
            json!("ours,theirs"),
        ),
        (
            json!([{"name": "theirs"}]),
            json!([{"name": "theirs"}, {"name": "ours"}]),
            json!("ours"),
        ),
        (
            json!([{"name": "theirs"}, {"name": "ours"}]),
            json!([{"name": "theirs"}, {"name": "ours"}]),
            json!(null),
        ),
    ] {
        match &own {
            Value::Null => {}
            own => web["spec"]["imagePullSecrets"] = own.clone(),
        }
        let (pod, warnings) = injected(&web, &settings);
        assert_eq!(pod["spec"]["imagePullSecrets"], together, "{own}");
        assert_eq!(pod["metadata"]["annotations"][PULL_SECRETS], added, "{own}");
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(uninject(&pod).unwrap(), web, "{own}");
    }
    let wrong = Settings::parse("imagePullSecrets: [{name: 'a b'}]").unwrap_err();
    assert!(
        wrong.to_string().starts_with("imagePullSecrets: \"a b\" is not"),
        "{wrong}"
    );
}

#[test]
fn a_pod_with_an_ordinary_sidecar() {
    let mut web = web();
    web["metadata"]["annotations"]["mesh.dev/native-sidecar"] = json!("false");
    let (pod, _) = injected(&web, &settings());
    insta::assert_yaml_snapshot!(pod["spec"]);
    assert_eq!(uninject(&pod).unwrap(), web);
}

#[test]
fn settings_of_the_mesh_reach_the_containers() {
    let settings = Settings::parse(
        "{image: a, imagePullPolicy: Never, proxyUid: 77, control: 'c:1', log: debug, logFormat: json, workers: null,
          skipInboundPorts: [1], skipOutboundPorts: [2], skipCidrs: [10.0.0.0/8], rewriteProbes: false, drainLimit: 1s,
          trustConfigMap: roots, tokenAudience: me, resources: {requests: {cpu: null, memory: null}, limits: {memory: null}}}",
    )
    .unwrap();
    let pod = yaml("{spec: {containers: [{name: a, livenessProbe: {tcpSocket: {port: 1}}}]}}");
    let (pod, _) = injected(&pod, &settings);
    insta::assert_yaml_snapshot!(pod);
}

#[test]
fn the_namespace_speaks_where_the_pod_says_nothing() {
    let mut namespace = Namespace::enabled();
    for (name, value) in [
        ("proxy-log", "debug"),
        ("skip-cidrs", "10.0.0.0/8"),
        ("drain-limit", "1s"),
    ] {
        namespace
            .annotations
            .insert(format!("mesh.dev/{name}"), value.to_owned());
    }
    let Outcome::Injected { pod, .. } = inject(&web(), &namespace, &settings()) else {
        panic!()
    };
    let init = pod["spec"]["initContainers"][0]["args"].to_string();
    assert!(init.contains("--skip-cidr=10.0.0.0/8"), "{init}");
    let sidecar = &pod["spec"]["initContainers"][1];
    assert_eq!(
        sidecar["args"],
        json!(["--drain-limit=5m"]),
        "the pod's own goes first"
    );
    assert!(
        sidecar["env"]
            .as_array()
            .unwrap()
            .contains(&json!({"name": "MESH_LOG", "value": "debug"}))
    );
}

/// A pod, what its Namespace says, and what is to come of it: none is to be injected.
fn outcomes() -> Vec<(&'static str, &'static str, Option<Reason>)> {
    let enabled = "labels: {mesh.dev/inject: enabled}";
    let plain = "spec: {containers: [{name: a}]}";
    vec![
        (plain, enabled, None),
        (plain, "annotations: {mesh.dev/inject: enabled}", None),
        (plain, "{}", Some(Reason::NotEnabled)),
        (
            plain,
            "labels: {mesh.dev/inject: disabled}",
            Some(Reason::NotEnabled),
        ),
        (
            "{metadata: {labels: {mesh.dev/inject: enabled}}, spec: {containers: [{name: a}]}}",
            "{}",
            None,
        ),
        (
            "{metadata: {annotations: {mesh.dev/inject: enabled}}, spec: {containers: [{name: a}]}}",
            "labels: {mesh.dev/inject: disabled}",
            None,
        ),
        (
            "{metadata: {annotations: {mesh.dev/inject: disabled}}, spec: {containers: [{name: a}]}}",
            enabled,
            Some(Reason::OptedOut),
        ),
        (
            "{metadata: {labels: {mesh.dev/inject: disabled}}, spec: {containers: [{name: a}]}}",
            enabled,
            Some(Reason::OptedOut),
        ),
        (
            "spec: {hostNetwork: true, containers: [{name: a}]}",
            enabled,
            Some(Reason::HostNetwork),
        ),
        (
            "spec: {hostNetwork: false, containers: [{name: a}]}",
            enabled,
            None,
        ),
        (
            "spec: {os: {name: windows}, containers: [{name: a}]}",
            enabled,
            Some(Reason::Windows),
        ),
        (
            "spec: {nodeSelector: {kubernetes.io/os: windows}, containers: [{name: a}]}",
            enabled,
            Some(Reason::Windows),
        ),
        (
            "{metadata: {annotations: {kubernetes.io/config.mirror: x}}, spec: {containers: [{name: a}]}}",
            enabled,
            Some(Reason::Static),
        ),
        (
            "{metadata: {annotations: {mesh.dev/injected: '1'}}, spec: {containers: [{name: mesh-proxy}, {name: a}]}}",
            enabled,
            Some(Reason::AlreadyInjected),
        ),
        // The mark without the sidecar, as when somebody takes containers out by hand.
        (
            "{metadata: {annotations: {mesh.dev/injected: '1'}}, spec: {containers: [{name: a}]}}",
            enabled,
            None,
        ),
    ]
}

fn namespace(text: &str) -> Namespace {
    let value = yaml(text);
    let map = |name: &str| {
        let entries = value[name].as_object().into_iter().flatten();
        entries
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect()
    };
    Namespace {
        labels: map("labels"),
        annotations: map("annotations"),
    }
}

#[test]
fn who_gets_a_sidecar_and_who_does_not() {
    for (pod, said, expected) in outcomes() {
        match inject(&yaml(pod), &namespace(said), &settings()) {
            Outcome::Injected { .. } => assert_eq!(None, expected, "{pod}"),
            Outcome::Unchanged(reason) => assert_eq!(Some(reason), expected, "{pod}"),
            Outcome::Refused(refusal) => panic!("{pod}: {refusal}"),
        }
    }
}

#[test]
fn what_can_t_be_is_refused_with_field_and_reason() {
    for (pod, expected) in [
        ("spec: {containers: []}", "spec.containers: there is none"),
        ("spec: {}", "spec.containers: "),
        (
            "{metadata: {labels: {mesh.dev/inject: 'true'}}, spec: {containers: [{name: a}]}}",
            "metadata.labels[mesh.dev/inject]: \"true\" is neither",
        ),
        (
            "{metadata: {annotations: {mesh.dev/inject: true}}, spec: {containers: [{name: a}]}}",
            "metadata.annotations[mesh.dev/inject]: true is not text",
        ),
        (
            "{metadata: {labels: {mesh.dev/inject: enabled}, annotations: {mesh.dev/inject: disabled}}, spec: {containers: [{name: a}]}}",
            "says the opposite",
        ),
        (
            "spec: {containers: [{name: mesh-proxy}]}",
            "spec.containers[0].name: \"mesh-proxy\" is the name",
        ),
        (
            "spec: {initContainers: [{name: mesh-init}], containers: [{name: a}]}",
            "spec.initContainers[0].name: ",
        ),
        (
            "spec: {securityContext: {runAsUser: 2102}, containers: [{name: a}]}",
            "spec.securityContext.runAsUser: 2102 is the sidecar's user",
        ),
        (
            "spec: {containers: [{name: a}, {name: b, securityContext: {runAsUser: 2102}}]}",
            "spec.containers[1].securityContext.runAsUser: ",
        ),
        (
            "spec: {initContainers: [{name: b, securityContext: {runAsUser: 2102}}], containers: [{name: a}]}",
            "spec.initContainers[0].securityContext.runAsUser: ",
        ),
        (
            "spec: {containers: [{name: a, ports: [{containerPort: 80}, {containerPort: 15001}]}]}",
            "spec.containers[0].ports[1].containerPort: 15001 is a port of the sidecar's",
        ),
        (
            "spec: {containers: [{name: a, ports: [{containerPort: 15020, protocol: TCP}]}]}",
            "15020",
        ),
        (
            "spec: {volumes: [{name: mesh-state}], containers: [{name: a}]}",
            "spec.volumes[0].name: ",
        ),
        (
            "{metadata: {name: a.b}, spec: {containers: [{name: a}]}}",
            "metadata.name: \"a.b\" is no name in the mesh",
        ),
        (
            "{metadata: {generateName: a.b-}, spec: {containers: [{name: a}]}}",
            "metadata.generateName: ",
        ),
        (
            "spec: {serviceAccountName: a.b, containers: [{name: a}]}",
            "spec.serviceAccountName: ",
        ),
        (
            "{spec: {containers: [{name: a}], initContainers: {name: a}}}",
            "spec.initContainers: is no list",
        ),
    ] {
        match inject(&yaml(pod), &Namespace::enabled(), &settings()) {
            Outcome::Refused(refusal) => assert!(refusal.to_string().contains(expected), "{pod}: {refusal}"),
            other => panic!("{pod}: {other:?}"),
        }
    }
    let udp = yaml("spec: {containers: [{name: a, ports: [{containerPort: 15001, protocol: UDP}]}]}");
    injected(&udp, &settings());
}

#[test]
fn annotations_with_values_that_can_t_be_are_refused() {
    for (name, value, expected) in [
        ("skip-inbound-ports", "http", "\"http\" is not a port"),
        ("skip-outbound-ports", "0", "\"0\" is not a port"),
        ("skip-cidrs", "10.1.2.3/8", "write 10.0.0.0/8"),
        ("proxy-cpu-request", "lots", "\"lots\" is not an amount"),
        (
            "proxy-memory-request",
            "1Gi",
            "1Gi is more than the limit, 512Mi: set mesh.dev/proxy-memory-limit too",
        ),
        ("proxy-memory-limit", "-1", "\"-1\" is not an amount"),
        ("proxy-workers", "0", "\"0\" is not from 1 to 1024"),
        ("proxy-log", "info; rm -rf", "is not a level"),
        ("drain-limit", "5", "\"5\" is not a duration"),
        ("native-sidecar", "no", "\"no\" is neither"),
        ("rewrite-probes", "", "\"\" is neither"),
        ("mtls", "off", "\"off\" is neither \"strict\" nor \"permissive\""),
    ] {
        let mut pod = web();
        pod["metadata"]["annotations"][format!("mesh.dev/{name}")] = json!(value);
        match inject(&pod, &Namespace::enabled(), &settings()) {
            Outcome::Refused(refusal) => {
                let said = refusal.to_string();
                assert!(said.starts_with("metadata.annotations[mesh.dev/"), "{said}");
                assert!(said.contains(expected), "{name}: {said}");
            }
            other => panic!("{name}: {other:?}"),
        }
        let mut namespace = Namespace::enabled();
        namespace
            .annotations
            .insert(format!("mesh.dev/{name}"), value.to_owned());
        let plain = yaml("spec: {containers: [{name: a}]}");
        assert!(
            matches!(inject(&plain, &namespace, &settings()), Outcome::Refused(_)),
            "{name}"
        );
    }
}

#[test]
fn what_is_to_be_looked_at_is_told() {
    for (pod, expected) in [
        (
            "{metadata: {annotations: {mesh.dev/skip-inbound-port: '22'}}, spec: {containers: [{name: a}]}}",
            "metadata.annotations[mesh.dev/skip-inbound-port]: nobody reads it",
        ),
        (
            "spec: {containers: [{name: a, readinessProbe: {httpGet: {port: http}}}]}",
            "spec.containers[0].readinessProbe: httpGet.port: the container has no port named \"http\"",
        ),
        (
            "spec: {containers: [{name: a, livenessProbe: {tcpSocket: {port: 1, host: 10.0.0.1}}}]}",
            "spec.containers[0].livenessProbe: tcpSocket.host: \"10.0.0.1\" need not be this pod",
        ),
        (
            "spec: {containers: [{name: a, lifecycle: {preStop: {httpGet: {port: 1}}}}]}",
            "spec.containers[0].lifecycle.preStop.httpGet: the kubelet calls it without an identity",
        ),
        (
            "{metadata: {annotations: {mesh.dev/native-sidecar: 'false'}}, spec: {restartPolicy: Never, containers: [{name: a}]}}",
            "a Job ends only when",
        ),
    ] {
        let before = yaml(pod);
        let (after, warnings) = injected(&before, &settings());
        let [warning] = warnings.as_slice() else {
            panic!("{pod}: {warnings:?}")
        };
        assert!(warning.contains(expected), "{pod}: {warning}");
        assert_eq!(uninject(&after).unwrap(), before);
    }
}

#[test]
fn every_kind_that_has_pods_is_known() {
    for (kind, place) in [
        ("v1 Pod", ""),
        ("v1 PodTemplate", "/template"),
        ("v1 ReplicationController", "/spec/template"),
        ("apps/v1 Deployment", "/spec/template"),
        ("apps/v1 StatefulSet", "/spec/template"),
        ("apps/v1 DaemonSet", "/spec/template"),
        ("apps/v1 ReplicaSet", "/spec/template"),
        ("batch/v1 Job", "/spec/template"),
        ("batch/v1 CronJob", "/spec/jobTemplate/spec/template"),
    ] {
        let (api, kind) = kind.split_once(' ').unwrap();
        let mut object = json!({"metadata": {"name": "web", "namespace": "ml"}});
        let pod = yaml("spec: {containers: [{name: a, livenessProbe: {tcpSocket: {port: 1}}}]}");
        let parts = place.split('/').skip(1);
        let mut at = &mut object;
        for part in parts {
            at = &mut at[part];
        }
        at["spec"] = pod["spec"].clone();
        object["apiVersion"] = json!(api);
        object["kind"] = json!(kind);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Service"}, object]});
        let mut after = list.clone();
        let outcomes = inject_all(&mut after, |_| Some(Namespace::enabled()), &settings());
        let [(of, Outcome::Injected { .. })] = outcomes.as_slice() else {
            panic!("{kind}: {outcomes:?}")
        };
        assert_eq!(
            (of.kind.as_str(), of.name.as_str(), of.namespace.as_deref()),
            (kind, "web", Some("ml"))
        );
        let pod = after.pointer(&format!("/items/1{place}")).unwrap();
        assert_eq!(pod["metadata"]["labels"]["mesh.dev/proxy"], "true", "{kind}");
        assert_eq!(pod["spec"]["initContainers"][1]["name"], "mesh-proxy");
        assert!(uninject_all(&mut after, |_| true)[0].1);
        assert_eq!(after, list);
    }
    let mut other =
        json!({"apiVersion": "example.com/v1", "kind": "Deployment", "spec": {"template": {"spec": {}}}});
    assert_eq!(
        inject_all(&mut other, |_| Some(Namespace::enabled()), &settings()),
        []
    );
    let mut dotted = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a.b"},
        "spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}});
    let outcomes = inject_all(&mut dotted, |_| Some(Namespace::enabled()), &settings());
    let [(_, Outcome::Refused(refusal))] = outcomes.as_slice() else {
        panic!("{outcomes:?}")
    };
    assert_eq!(refusal.field, "metadata.name");
}

#[test]
fn a_refusal_in_a_list_names_the_field_of_the_list() {
    let mut list = yaml(
        "{kind: List, items: [{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {template: {spec: {containers: []}}}}]}",
    );
    let outcomes = inject_all(&mut list, |_| Some(Namespace::enabled()), &settings());
    let [(_, Outcome::Refused(refusal))] = outcomes.as_slice() else {
        panic!("{outcomes:?}")
    };
    assert_eq!(refusal.field, "items[0].spec.template.spec.containers");
}

/// Pods with everything that injection touches.
fn pods() -> impl Strategy<Value = Value> {
    let probe = prop_oneof![
        Just(json!({"exec": {"command": ["true"]}})),
        Just(json!({"httpGet": {"port": "http", "path": "/$(x)$$"}, "periodSeconds": 3})),
        Just(
            json!({"httpGet": {"port": 8000, "scheme": "HTTPS", "httpHeaders": [{"name": "a", "value": "b"}]}})
        ),
        Just(json!({"httpGet": {"port": 8000, "host": ""}})),
        Just(json!({"httpGet": {"port": 8000, "host": "elsewhere"}})),
        Just(json!({"tcpSocket": {"port": "http"}, "timeoutSeconds": 9})),
        Just(json!({"tcpSocket": {"port": "nowhere"}})),
        Just(json!({"grpc": {"port": 8001, "service": ""}})),
        Just(json!({"grpc": {"port": 8001}})),
    ];
    let container = (
        prop::option::of(probe.clone()),
        prop::option::of(probe),
        any::<bool>(),
    )
        .prop_map(|(readiness, liveness, always)| {
            let mut container = json!({"image": "a", "ports": [{"name": "http", "containerPort": 8000}]});
            if let Some(probe) = readiness {
                container["readinessProbe"] = probe;
            }
            if let Some(probe) = liveness {
                container["livenessProbe"] = probe;
            }
            if always {
                container["restartPolicy"] = json!("Always");
            }
            container
        });
    let containers = |range| prop::collection::vec(container.clone(), range);
    (containers(0..3), containers(1..3), any::<[bool; 6]>()).prop_map(|(mut inits, mut containers, flags)| {
        for (index, container) in inits.iter_mut().chain(&mut containers).enumerate() {
            container["name"] = json!(format!("c{index}"));
        }
        let mut pod = json!({"spec": {"containers": containers}});
        if !inits.is_empty() {
            pod["spec"]["initContainers"] = json!(inits);
        }
        if flags[0] {
            pod["spec"]["volumes"] = json!([{"name": "data"}]);
        }
        if flags[1] {
            pod["metadata"]["labels"] = json!({"app": "web"});
        }
        if flags[2] {
            pod["metadata"]["annotations"] = json!({"a": "b"});
        }
        if flags[3] {
            pod["metadata"]["annotations"]["mesh.dev/native-sidecar"] = json!("false");
        }
        if flags[4] {
            pod["metadata"]["annotations"]["mesh.dev/rewrite-probes"] = json!("false");
        }
        if flags[5] {
            pod["metadata"]["name"] = json!("web");
        }
        pod
    })
}

proptest! {
    #[test]
    fn twice_is_once_and_back_is_where_it_began(before in pods()) {
        let (after, _) = injected(&before, &settings());
        let twice = inject(&after, &Namespace::enabled(), &settings());
        prop_assert_eq!(twice, Outcome::Unchanged(Reason::AlreadyInjected));
        prop_assert_eq!(uninject(&after).unwrap(), before.clone());
        prop_assert_eq!(uninject(&before), None);
        let patch: json_patch::Patch = serde_json::from_value(patch(&before, &after)).unwrap();
        let mut patched = before.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        prop_assert_eq!(&patched, &after);
        // The workload's own containers stay where they were among themselves.
        let names = |pod: &Value, list: &str| -> Vec<String> {
            let names = pod["spec"][list].as_array().into_iter().flatten();
            names.map(|it| it["name"].as_str().unwrap().to_owned()).filter(|name| !name.starts_with("mesh-")).collect()
        };
        for list in ["initContainers", "containers"] {
            prop_assert_eq!(names(&before, list), names(&after, list));
        }
    }
}
