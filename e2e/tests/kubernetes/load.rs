//! Load on one model, with streams that have an end: what a scenario puts on before pods, nodes or the mesh come and go.

use anyhow::{Result, ensure};
use mesh_e2e::kubernetes::Namespace;

use crate::mesh::{Counts, LOAD};

/// Applies these documents, which have a Deployment and a Service `fraud`, and puts load on that once it is rolled out. Each
/// stream takes five seconds, and one that ends before its last event is a failure.
pub(crate) async fn on_fraud(namespace: &Namespace, documents: &str) -> Result<Counts> {
    namespace.apply(documents).await?;
    namespace.rolled_out("fraud").await?;
    namespace
        .apply(&LOAD.replace("'--streams=2'", "'--streams=4', '--events=25'"))
        .await?;
    namespace.condition("pod/load", "Ready").await?;
    namespace
        .until("the first requests", async || {
            Ok(Counts::newest(namespace).ok().filter(|counts| counts.done() > 0))
        })
        .await
}

/// Waits until so many pods of `fraud` are there, none of them on its way out, and each has answered since.
pub(crate) async fn all_answer(namespace: &Namespace, pods: usize) -> Result<Counts> {
    namespace
        .until(&format!("{pods} pods, and none that ends"), async || {
            let found = namespace.kubectl().get(&["pods", "--selector=app=fraud"])?;
            let there = found["items"].as_array().map_or(0, Vec::len);
            Ok((there == pods).then_some(()))
        })
        .await?;
    let names = namespace.pods("app=fraud")?;
    ensure!(names.len() == pods, "{names:?}");
    let from = Counts::newest(namespace)?;
    namespace
        .until(&format!("an answer of each of {names:?}"), async || {
            let now = Counts::newest(namespace)?;
            now.without_failure()?;
            let all = names.iter().all(|pod| now.by_pod(pod) > from.by_pod(pod));
            Ok(all.then_some(now))
        })
        .await
}
