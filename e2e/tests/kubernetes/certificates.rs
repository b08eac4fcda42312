//! Acceptance: a pod gets a certificate of its own identity and of no other; whoever tries is refused, counted and audited.

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::kubernetes::Namespace;
use rcgen::KeyPair;

use crate::authority::Authority;
use crate::mesh::{Mesh, SYSTEM};
use crate::tokens::{self, AUDIENCE, token};

/// Two pods of two accounts. The thief reads its tokens where the kubelet puts them.
const PODS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: thief}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: victim}
---
apiVersion: v1
kind: Pod
metadata: {name: thief}
spec:
  serviceAccountName: thief
  terminationGracePeriodSeconds: 0
  containers:
  - name: client
    image: mesh.local/client:e2e
    imagePullPolicy: IfNotPresent
    args: [sleep 3600]
    volumeMounts: [{name: tokens, mountPath: /tokens}]
  volumes:
  - name: tokens
    projected:
      sources:
      - {serviceAccountToken: {audience: mesh.dev/control, path: mesh}}
";

/// The pod that the other one would like to be.
const VICTIM: &str = "
apiVersion: v1
kind: Pod
metadata: {name: victim}
spec:
  serviceAccountName: victim
  terminationGracePeriodSeconds: 0
  containers:
  - {name: client, image: 'mesh.local/client:e2e', imagePullPolicy: IfNotPresent, args: [sleep 3600]}
";

/// A try, and the reasons of which one must be given.
struct Try {
    what: &'static str,
    workload: String,
    identity: String,
    token: String,
    reasons: &'static [&'static str],
}

/// Tries, and sees to it that it was refused for a reason, counted by it, and written down.
async fn refused(namespace: &Namespace, control: &Authority, attempt: &Try) -> Result<()> {
    let Try {
        what,
        workload,
        identity,
        token,
        reasons,
    } = attempt;
    let mut before = Vec::new();
    for reason in *reasons {
        before.push(control.refusals(reason).await?);
    }
    let lines = control.audited(workload)?.len();
    let answer = control.certify(workload, identity, token).await?;
    let refusal = answer.err().with_context(|| format!("{what}: certified"))?;
    let mut counted = Vec::new();
    for (reason, before) in reasons.iter().zip(before) {
        if control.refusals(reason).await? > before {
            counted.push(*reason);
        }
    }
    let [reason] = counted.as_slice() else {
        anyhow::bail!("{what}: refused ({refusal}), and counted as {counted:?} of {reasons:?}");
    };
    let audited = namespace
        .until(&format!("the log to say that {what} was refused"), async || {
            let audited = control.audited(workload)?;
            Ok((audited.len() > lines).then_some(audited))
        })
        .await?;
    ensure!(audited.len() == lines + 1, "{what}: {audited:?}");
    let last = audited.last().map(String::as_str).unwrap_or_default();
    ensure!(
        last.contains(&format!("\"reason\":\"{reason}\"")),
        "{what}: {last}"
    );
    ensure!(
        token.is_empty() || !last.contains(token.as_str()),
        "a token is in the log"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_a_certificate_but_its_own() -> Result<()> {
    let mesh = Mesh::installed()?;
    let control = Authority::reached(&mesh.cluster().kubectl().within(SYSTEM))?;
    Namespace::scenario("thief", &[], async |namespace| {
        namespace.apply(PODS).await?;
        namespace.apply(VICTIM).await?;
        for pod in ["thief", "victim"] {
            namespace.condition(&format!("pod/{pod}"), "Ready").await?;
        }
        let name = namespace.name();
        let workload = |pod: &str| format!("{name}/{pod}");
        let identity = |account: &str| format!("spiffe://cluster.local/ns/{name}/sa/{account}");
        let own = namespace.exec("thief", "client", &["cat", "/tokens/mesh"])?;
        let victim = token(namespace, "victim", AUDIENCE, Some("victim"))?;
        for (pod, token) in [("thief", &own), ("victim", &victim)] {
            let certified = control.certify(&workload(pod), &identity(pod), token).await?;
            ensure!(certified? == identity(pod), "{pod} is certified as another");
        }

        let of_victim = |what: &'static str, token: &str, reasons: &'static [&'static str]| Try {
            what,
            workload: workload("victim"),
            identity: identity("victim"),
            token: token.to_owned(),
            reasons,
        };
        let mut attempts = vec![
            of_victim("no token", "", &["no-token"]),
            of_victim("no JWT", "abc", &["malformed"]),
            of_victim("another pod's token", &own, &["other-pod"]),
            of_victim(
                "another audience",
                &token(namespace, "victim", "https://example.com", Some("victim"))?,
                &["audience"],
            ),
            of_victim(
                "a token that is bound to no pod",
                &token(namespace, "victim", AUDIENCE, None)?,
                &["unbound"],
            ),
            of_victim(
                "a token with another signature",
                &tokens::moved(&victim, 0, &KeyPair::generate()?)?,
                &["invalid"],
            ),
            Try {
                workload: "kube-system/victim".into(),
                ..of_victim("another namespace", &victim, &["other-namespace"])
            },
            Try {
                identity: identity("victim"),
                workload: workload("thief"),
                ..of_victim("another identity for its own pod", &own, &["request"])
            },
        ];
        match tokens::signer(mesh.cluster())? {
            Some(key) => {
                let again = tokens::moved(&victim, 0, &key)?;
                let certified = control
                    .certify(&workload("victim"), &identity("victim"), &again)
                    .await?;
                ensure!(
                    certified? == identity("victim"),
                    "the cluster's own key signs nothing"
                );
                attempts.push(of_victim(
                    "a token that has expired",
                    &tokens::moved(&victim, -3600, &key)?,
                    &["expired"],
                ));
            }
            None => {
                eprintln!("SKIPPED: tokens that have expired are made on this machine's own cluster alone");
            }
        }
        for attempt in &attempts {
            refused(namespace, &control, attempt).await?;
        }

        // The API server remembers for a while what it accepted.
        let gone = of_victim("a pod that is gone", &victim, &["pod-gone", "invalid"]);
        namespace.kubectl().run(&["delete", "pod", "victim", "--now"])?;
        refused(namespace, &control, &gone).await?;
        namespace.apply(VICTIM).await?;
        namespace.condition("pod/victim", "Ready").await?;
        refused(
            namespace,
            &control,
            &Try {
                what: "another pod of that name",
                ..gone
            },
        )
        .await
    })
    .await
}
