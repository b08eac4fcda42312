//! A whole control plane over real TLS: join, follow, change, answer, restart.

mod support;

use std::collections::BTreeMap;

use mesh_api::wire::admin::{
    ApplyRequest, DeleteRequest, GetStatusRequest, GetTrafficRequest, ListDocumentsRequest,
    ListProxiesRequest, SetSplitRequest, UndoSplitRequest,
};
use mesh_api::wire::identity::identity_client::IdentityClient;
use mesh_api::wire::telemetry::telemetry_client::TelemetryClient;
use mesh_api::wire::telemetry::{Series, Snapshot};
use support::{Follower, MESH, Mesh, ROUTE, certify, csr, weights};
use tonic::Code;

#[tokio::test]
async fn a_proxy_joins_follows_and_is_seen() {
    let mesh = Mesh::start(&[("mesh.yaml", MESH), ("route.yaml", ROUTE)]).await;
    let credentials = mesh.join("ml/client").await;
    assert_eq!(credentials.identity, "spiffe://mesh.local/ns/ml/sa/client");
    let mut proxy = mesh.follow(&credentials, "ml/client", 0).await.unwrap();
    let first = proxy.receive().await.unwrap();
    assert!(first.full);
    proxy.ack(first).await;
    assert_eq!(weights(proxy.serves.as_ref().unwrap()), Some(vec![95, 5]));

    mesh.write(
        "route.yaml",
        &ROUTE
            .replace("weight: 95", "weight: 90")
            .replace("weight: 5}", "weight: 10}"),
    );
    let delta = proxy.receive().await.unwrap();
    assert!(!delta.full && delta.routes.len() == 1 && delta.services.is_empty());
    let version = delta.version.0;
    proxy.ack(delta).await;
    assert_eq!(weights(proxy.serves.as_ref().unwrap()), Some(vec![90, 10]));

    let mut watched = mesh
        .admin()
        .await
        .watch_proxies(ListProxiesRequest {})
        .await
        .unwrap()
        .into_inner();
    loop {
        let list = watched.message().await.unwrap().unwrap();
        let [proxy] = list.proxies.as_slice() else {
            continue;
        };
        if proxy.version == version {
            assert!(proxy.connected && proxy.sent == version && list.version == version);
            assert!(proxy.certificate_expiry > proxy.connected_since);
            break;
        }
    }
}

#[tokio::test]
async fn a_split_is_set_in_the_file_and_taken_back() {
    let mesh = Mesh::start(&[("mesh.yaml", MESH), ("route.yaml", ROUTE)]).await;
    let credentials = mesh.join("ml/client").await;
    let mut proxy = mesh.follow(&credentials, "ml/client", 0).await.unwrap();
    let first = proxy.receive().await.unwrap();
    proxy.ack(first).await;

    let mut admin = mesh.admin().await;
    let request = SetSplitRequest {
        route: "fraud".into(),
        weights: BTreeMap::from([("stable".into(), 50), ("canary".into(), 50)]),
        ..SetSplitRequest::default()
    };
    let change = admin.set_split(request.clone()).await.unwrap().into_inner();
    assert_eq!(
        (change.route.as_str(), change.rule.as_str()),
        ("ml/fraud", "rule-0")
    );
    assert_eq!(change.before[0].weight, 95);
    let text = mesh.read("route.yaml");
    assert_eq!(
        text,
        ROUTE
            .replace("weight: 95", "weight: 50")
            .replace("weight: 5}", "weight: 50}")
    );
    let delta = proxy.receive().await.unwrap();
    assert_eq!(delta.version.0, change.version);
    proxy.ack(delta).await;
    assert_eq!(weights(proxy.serves.as_ref().unwrap()), Some(vec![50, 50]));

    // The same again changes nothing, and is no new version.
    let again = admin.set_split(request).await.unwrap().into_inner();
    assert_eq!(again.version, change.version);

    let undo = UndoSplitRequest {
        namespace: "ml".into(),
        route: "fraud".into(),
    };
    let back = admin.undo_split(undo.clone()).await.unwrap().into_inner();
    assert_eq!(back.after, change.before);
    assert_eq!(mesh.read("route.yaml"), ROUTE);
    let error = admin.undo_split(undo).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);

    for (weights, rule, code, words) in [
        (
            vec![("stable", 0), ("canary", 0)],
            "",
            Code::InvalidArgument,
            "all weights are 0",
        ),
        (
            vec![("stable", 1_000_001)],
            "",
            Code::InvalidArgument,
            "more than 1000000",
        ),
        (vec![("beta", 1)], "", Code::NotFound, "rule-0 (stable, canary)"),
        (
            vec![("beta", 1)],
            "rule-0",
            Code::NotFound,
            "its backends are stable, canary",
        ),
        (
            vec![("stable", 1)],
            "rule-7",
            Code::NotFound,
            "its rules are rule-0",
        ),
        (vec![], "", Code::InvalidArgument, "no weights are given"),
    ] {
        let request = SetSplitRequest {
            namespace: "ml".into(),
            route: "fraud".into(),
            rule: rule.into(),
            weights: weights
                .into_iter()
                .map(|(name, weight)| (name.to_string(), weight))
                .collect(),
        };
        let error = admin.set_split(request).await.unwrap_err();
        assert_eq!(error.code(), code, "{words}: {error}");
        assert!(error.message().contains(words), "{error}");
    }
    assert_eq!(mesh.read("route.yaml"), ROUTE, "nothing was written");
}

#[tokio::test]
async fn only_who_proves_it_is_certified() {
    let mesh = Mesh::start(&[("mesh.yaml", MESH)]).await;
    let (client, triton) = (
        "spiffe://mesh.local/ns/ml/sa/client",
        "spiffe://mesh.local/ns/ml/sa/triton",
    );
    let mut stranger = IdentityClient::new(mesh.channel(None).await.unwrap());
    let token = mesh.token("ml/client").await;
    for (what, workload, uris, dns, given, code) in [
        (
            "no proof",
            "ml/client",
            vec![client],
            vec![],
            "",
            Code::Unauthenticated,
        ),
        (
            "an unknown token",
            "ml/client",
            vec![client],
            vec![],
            "mesh-join-x",
            Code::Unauthenticated,
        ),
        (
            "another's token",
            "ml/triton",
            vec![triton],
            vec![],
            token.as_str(),
            Code::Unauthenticated,
        ),
        (
            "another's name",
            "ml/client",
            vec![triton],
            vec![],
            token.as_str(),
            Code::PermissionDenied,
        ),
        (
            "two names",
            "ml/client",
            vec![client, triton],
            vec![],
            token.as_str(),
            Code::PermissionDenied,
        ),
        (
            "a DNS name",
            "ml/client",
            vec![client],
            vec!["mesh-control"],
            token.as_str(),
            Code::PermissionDenied,
        ),
        (
            "no name",
            "ml/client",
            vec![],
            vec![],
            token.as_str(),
            Code::PermissionDenied,
        ),
        (
            "another trust domain",
            "ml/client",
            vec!["spiffe://evil.example/ns/ml/sa/client"],
            vec![],
            token.as_str(),
            Code::PermissionDenied,
        ),
    ] {
        let (csr, key) = csr(&uris, &dns);
        let error = certify(&mut stranger, workload, csr, key, given)
            .await
            .err()
            .unwrap();
        assert_eq!(error.code(), code, "{what}: {error}");
    }
    // None of that used the token up; one good request does.
    let (request, key) = csr(&[client], &[]);
    let credentials = certify(&mut stranger, "ml/client", request, key, &token)
        .await
        .unwrap();
    let (request, key) = csr(&[client], &[]);
    let error = certify(&mut stranger, "ml/client", request, key, &token)
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), Code::Unauthenticated, "used");

    // The certificate renews itself, and nobody else's.
    let mut known = IdentityClient::new(mesh.channel(Some(&credentials)).await.unwrap());
    let (request, key) = csr(&[client], &[]);
    certify(&mut known, "ml/client", request, key, "").await.unwrap();
    let (request, key) = csr(&[triton], &[]);
    let error = certify(&mut known, "ml/triton", request, key, "")
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), Code::PermissionDenied);

    // Nor does it follow another workload; without a certificate nobody follows.
    for (credentials, workload) in [(Some(&credentials), "ml/triton"), (None, "ml/client")] {
        let channel = mesh.channel(credentials).await.unwrap();
        let error = Follower::start(channel, workload, "1", 0).await.err().unwrap();
        assert_eq!(error.code(), Code::PermissionDenied, "{error}");
    }
}

#[tokio::test]
async fn certificates_of_another_mesh_are_refused() {
    let (mesh, other) = (
        Mesh::start(&[("mesh.yaml", MESH)]).await,
        Mesh::start(&[("mesh.yaml", MESH)]).await,
    );
    let foreign = other.join("ml/client").await;
    let refused = match mesh.channel(Some(&foreign)).await {
        Err(_) => true,
        // With TLS 1.3 the client learns of it with its first request.
        Ok(channel) => Follower::start(channel, "ml/client", "1", 0).await.is_err(),
    };
    assert!(refused);
}

#[tokio::test]
async fn a_restart_continues() {
    let mut mesh = Mesh::start(&[("mesh.yaml", MESH), ("route.yaml", ROUTE)]).await;
    let root = std::fs::read(mesh.state().join("ca/root.pem")).unwrap();
    let credentials = mesh.join("ml/client").await;
    let mut proxy = mesh.follow(&credentials, "ml/client", 0).await.unwrap();
    let first = proxy.receive().await.unwrap();
    let version = first.version;
    proxy.ack(first).await;

    mesh.restart().await;
    assert_eq!(std::fs::read(mesh.state().join("ca/root.pem")).unwrap(), root);
    // The certificate is good still, and versions go on rising.
    let mut again = mesh.follow(&credentials, "ml/client", version.0).await.unwrap();
    let next = again.receive().await.unwrap();
    assert!(next.full && next.version > version);
    assert_eq!(
        std::fs::read_to_string(mesh.state().join("control.addr"))
            .unwrap()
            .trim(),
        mesh.address().to_string()
    );
    mesh.running.take().unwrap().stop().await;
    assert!(!mesh.state().join("control.addr").exists());
}

#[tokio::test]
async fn who_comes_back_gets_what_changed_and_a_refusal_is_told() {
    let mesh = Mesh::start(&[("mesh.yaml", MESH), ("route.yaml", ROUTE)]).await;
    let credentials = mesh.join("ml/client").await;
    let mut proxy = mesh.follow(&credentials, "ml/client", 0).await.unwrap();
    let first = proxy.receive().await.unwrap();
    proxy.ack(first).await;
    let mut admin = mesh.admin().await;
    // The answer must have arrived before the proxy goes.
    let acked = |list: &mesh_api::wire::admin::ProxyList| list.proxies[0].version == list.version;
    while !acked(
        &admin
            .list_proxies(ListProxiesRequest {})
            .await
            .unwrap()
            .into_inner(),
    ) {
        tokio::task::yield_now().await;
    }
    let serves = proxy.serves.clone();
    drop(proxy);

    let split = |stable| SetSplitRequest {
        route: "fraud".into(),
        weights: BTreeMap::from([("stable".into(), stable)]),
        ..SetSplitRequest::default()
    };
    admin.set_split(split(70)).await.unwrap();
    let version = serves.as_ref().unwrap().version.0;
    let mut proxy = mesh.follow(&credentials, "ml/client", version).await.unwrap();
    proxy.serves = serves;
    let delta = proxy.receive().await.unwrap();
    assert!(!delta.full && delta.routes.len() == 1, "{delta:?}");
    proxy.nack(&delta, "I don't like it").await;
    let list = loop {
        let list = admin
            .list_proxies(ListProxiesRequest {})
            .await
            .unwrap()
            .into_inner();
        if !list.proxies[0].refusal.is_empty() {
            break list;
        }
    };
    assert!(list.proxies[0].refusal.contains("rules[0]: I don't like it"));
    assert_eq!(list.proxies[0].version, version);

    // The next Delta leads from what it serves to the newest.
    admin.set_split(split(60)).await.unwrap();
    proxy
        .until(|snapshot| weights(snapshot) == Some(vec![60, 5]))
        .await;
}

#[tokio::test]
async fn who_is_not_concerned_is_sent_nothing_and_is_up_to_date() {
    let mut mesh = MESH.replace("{proxyPort: 14000}", "{proxyPort: 14000, services: []}");
    mesh.push_str("---\n");
    mesh.push_str(ROUTE);
    let mesh = Mesh::start(&[("mesh.yaml", &mesh)]).await;
    let credentials = mesh.join("ml/client").await;
    let mut proxy = mesh.follow(&credentials, "ml/client", 0).await.unwrap();
    let first = proxy.receive().await.unwrap();
    assert!(first.services.is_empty());
    proxy.ack(first).await;
    let request = SetSplitRequest {
        route: "fraud".into(),
        weights: BTreeMap::from([("stable".into(), 1)]),
        ..SetSplitRequest::default()
    };
    let change = mesh.admin().await.set_split(request).await.unwrap().into_inner();
    let mut watched = mesh
        .admin()
        .await
        .watch_proxies(ListProxiesRequest {})
        .await
        .unwrap()
        .into_inner();
    loop {
        let list = watched.message().await.unwrap().unwrap();
        let listed = &list.proxies[0];
        if (list.version, listed.version, listed.sent) == (change.version, change.version, change.version) {
            break;
        }
    }
    // The next thing that it is told is what concerns it.
    let more = MESH.replace("{proxyPort: 14000}", "{proxyPort: 14000, services: [fraud]}");
    mesh.write("mesh.yaml", &format!("{more}---\n{ROUTE}"));
    let delta = proxy.receive().await.unwrap();
    assert!(
        !delta.full && delta.version.0 > change.version && delta.services.len() == 1,
        "{delta:?}"
    );
}

#[tokio::test]
async fn documents_are_applied_and_deleted_in_files() {
    let mesh = Mesh::start(&[("mesh.yaml", MESH)]).await;
    let mut admin = mesh.admin().await;
    let apply = |yaml: &str, dry_run| ApplyRequest {
        yaml: yaml.into(),
        name: "given.yaml".into(),
        dry_run,
    };
    let dry = admin.apply(apply(ROUTE, true)).await.unwrap().into_inner();
    assert_eq!(dry.applied[0].action, "created");
    assert!(!mesh.documents().join("modelroute-ml-fraud.yaml").exists());

    let bad = ROUTE.replace("weight: 95", "wieght: 95");
    let refused = admin
        .apply(apply(&format!("{ROUTE}---\n{bad}"), false))
        .await
        .unwrap()
        .into_inner();
    assert!(refused.applied.is_empty() && refused.problems[0].file == "given.yaml");
    assert!(refused.problems[0].line > 11, "{:?}", refused.problems);
    let second = ROUTE.replace("{name: fraud,", "{name: other,");
    let refused = admin
        .apply(apply(&format!("{ROUTE}---\n{second}"), false))
        .await
        .unwrap()
        .into_inner();
    assert!(
        refused.problems[0].reason.contains("already: put both into one"),
        "{refused:?}"
    );
    assert!(!mesh.documents().join("modelroute-ml-fraud.yaml").exists());

    let done = admin.apply(apply(ROUTE, false)).await.unwrap().into_inner();
    assert_eq!(mesh.read("modelroute-ml-fraud.yaml"), ROUTE);
    let again = admin.apply(apply(ROUTE, false)).await.unwrap().into_inner();
    assert_eq!(
        (again.applied[0].action.as_str(), again.version),
        ("unchanged", done.version)
    );
    let changed = ROUTE.replace("weight: 5}", "weight: 7}");
    let changed = admin.apply(apply(&changed, false)).await.unwrap().into_inner();
    assert_eq!(changed.applied[0].action, "configured");
    assert!(changed.version > done.version);

    let wanted = ListDocumentsRequest {
        kind: "modelroutes".into(),
        ..ListDocumentsRequest::default()
    };
    let listed = admin.list_documents(wanted).await.unwrap().into_inner().documents;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].yaml.contains("weight: 7}"));

    let request = DeleteRequest {
        kind: "ModelRoute".into(),
        namespace: "ml".into(),
        name: "fraud".into(),
    };
    let gone = admin.delete(request.clone()).await.unwrap().into_inner();
    assert!(gone.version > changed.version);
    assert!(!mesh.documents().join("modelroute-ml-fraud.yaml").exists());
    assert_eq!(admin.delete(request).await.unwrap_err().code(), Code::NotFound);

    // One of several documents of a file, the others kept byte for byte.
    let request = DeleteRequest {
        kind: "workload".into(),
        namespace: "ml".into(),
        name: "triton".into(),
    };
    admin.delete(request).await.unwrap();
    let parts: Vec<_> = MESH.split("---\n").collect();
    assert_eq!(mesh.read("mesh.yaml"), format!("{}---\n{}", parts[0], parts[2]));
}

#[tokio::test]
async fn a_bad_document_is_told_and_the_last_good_state_stays() {
    let mesh = Mesh::start(&[("mesh.yaml", MESH), ("route.yaml", ROUTE)]).await;
    let mut admin = mesh.admin().await;
    let version = admin
        .get_status(GetStatusRequest {})
        .await
        .unwrap()
        .into_inner()
        .version;
    mesh.write("route.yaml", &ROUTE.replace("weight: 95", "wieght: 95"));
    let status = loop {
        let status = admin.get_status(GetStatusRequest {}).await.unwrap().into_inner();
        if !status.problems.is_empty() {
            break status;
        }
    };
    assert_eq!(status.version, version);
    assert_eq!(status.problems[0].object, "ModelRoute ml/fraud");
    assert!(
        status.problems[0]
            .field
            .starts_with("spec.rules[0].split.backends[0]")
    );
    assert_eq!(status.trust_domain, "mesh.local");
    let listed = admin
        .list_documents(ListDocumentsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.documents.len(), 4);
    mesh.write("route.yaml", &ROUTE.replace("weight: 95", "weight: 94"));
    while admin
        .get_status(GetStatusRequest {})
        .await
        .unwrap()
        .into_inner()
        .version
        == version
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_burst_of_changes_ends_on_the_last_version() {
    let mesh = Mesh::start(&[("mesh.yaml", MESH), ("route.yaml", ROUTE)]).await;
    let credentials = mesh.join("ml/client").await;
    let mut proxy = mesh.follow(&credentials, "ml/client", 0).await.unwrap();
    let mut admin = mesh.admin().await;
    let burst = tokio::spawn(async move {
        let mut version = 0;
        for stable in 1..=200 {
            let request = SetSplitRequest {
                route: "fraud".into(),
                weights: BTreeMap::from([("stable".into(), stable)]),
                ..SetSplitRequest::default()
            };
            version = admin.set_split(request).await.unwrap().into_inner().version;
        }
        version
    });
    let last = proxy
        .until(|snapshot| weights(snapshot) == Some(vec![200, 5]))
        .await;
    assert_eq!(last.version.0, burst.await.unwrap());
    assert_eq!(
        mesh.read("route.yaml"),
        ROUTE.replace("weight: 95", "weight: 200")
    );
}

#[tokio::test]
async fn reports_are_taken_from_who_they_are_about() {
    let mesh = Mesh::start(&[("mesh.yaml", MESH)]).await;
    let credentials = mesh.join("ml/client").await;
    let report = |workload: &str, requests| Snapshot {
        workload: workload.into(),
        proxy_id: "proxy-1".into(),
        series: vec![Series {
            service: "ml/fraud".into(),
            requests,
            ..Series::default()
        }],
        certificate_expiry: 0,
    };
    let channel = mesh.channel(Some(&credentials)).await.unwrap();
    let mut telemetry = TelemetryClient::new(channel);
    let reports = [report("ml/client", 5), report("ml/client", 47)];
    telemetry.report(tokio_stream::iter(reports)).await.unwrap();
    let request = GetTrafficRequest { window_seconds: 60 };
    let traffic = mesh
        .admin()
        .await
        .get_traffic(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (traffic.paths[0].workload.as_str(), traffic.paths[0].requests),
        ("ml/client", 42)
    );

    let error = telemetry
        .report(tokio_stream::iter([report("ml/triton", 1)]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    let mut stranger = TelemetryClient::new(mesh.channel(None).await.unwrap());
    let error = stranger
        .report(tokio_stream::iter([report("ml/client", 1)]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_workload_that_comes_later_is_served_when_it_comes() {
    let mesh = Mesh::start(&[("mesh.yaml", MESH)]).await;
    let credentials = mesh.join("ml/client").await;
    // Of the same account, in the same namespace, and not there yet.
    let mut proxy = mesh.follow(&credentials, "ml/late", 0).await.unwrap();
    let late = "apiVersion: mesh.dev/v1alpha1\nkind: Workload\nmetadata: {name: late, namespace: ml}\nspec: {serviceAccount: client}\n";
    mesh.write("late.yaml", late);
    assert!(proxy.receive().await.unwrap().full);
    // As somebody else it is another matter.
    mesh.write(
        "late.yaml",
        &late.replace("serviceAccount: client", "serviceAccount: other"),
    );
    let error = proxy.receive().await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
}
