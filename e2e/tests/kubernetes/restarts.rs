//! Acceptance: a model's pods come and go under load, and no request fails; a stream goes on for as long as its pod may.

use std::fs::{self, File};
use std::process::{Child, Stdio};

use anyhow::{Result, ensure};
use mesh_e2e::kubernetes::Namespace;
use tempfile::NamedTempFile;

use crate::load;
use crate::mesh::{CLIENT, INJECT, Mesh, model};

/// How far apart the events of a stream are, in milliseconds.
const PACE: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_a_model_is_restarted_and_scaled() -> Result<()> {
    Mesh::installed()?;
    Namespace::scenario("restarted", &[INJECT], async |namespace| {
        let kubectl = namespace.kubectl();
        let begun = load::on_fraud(namespace, &model("fraud", 2)).await?;
        let before = namespace.pods("app=fraud")?;
        kubectl.run(&["rollout", "restart", "deployment/fraud"])?;
        namespace.rolled_out("fraud").await?;
        let mut counts = load::all_answer(namespace, 2).await?;
        let now = namespace.pods("app=fraud")?;
        ensure!(
            now.iter().all(|pod| !before.contains(pod)),
            "{before:?} were not restarted"
        );
        for replicas in [1_u32, 5, 1] {
            kubectl.run(&["scale", "deployment/fraud", &format!("--replicas={replicas}")])?;
            namespace.rolled_out("fraud").await?;
            counts = load::all_answer(namespace, replicas as usize).await?;
        }
        counts = counts.after(namespace, 200).await?;
        // More than were open at any time: some have seen pods go.
        ensure!(counts.streams() > begun.streams() + 4, "{counts:?}");
        counts.without_failure()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_while_its_pod_is_ended_and_for_as_long_as_that_may_take() -> Result<()> {
    Mesh::installed()?;
    Namespace::scenario("stream", &[INJECT], async |namespace| {
        namespace.apply(&(model("fraud", 1) + CLIENT)).await?;
        namespace.rolled_out("fraud").await?;
        namespace.condition("pod/client", "Ready").await?;

        // Within the time that its pod has, a stream comes to its end.
        let stream = Stream::begin(namespace, 40)?;
        let pod = ended_under(namespace, &stream, 60).await?;
        let there = namespace.get(&format!("pod/{pod}"))?;
        ensure!(
            there["metadata"]["deletionTimestamp"].is_string(),
            "{pod} is not being ended"
        );
        let (well, events) = stream.end(namespace).await?;
        ensure!(well && events == 40, "{events} of 40 events came, well: {well}");

        // One without an end has that time.
        namespace.rolled_out("fraud").await?;
        let stream = Stream::begin(namespace, 1_000_000)?;
        ended_under(namespace, &stream, 5).await?;
        let (well, _) = stream.end(namespace).await?;
        ensure!(!well, "a stream that broke off looks whole");
        Ok(())
    })
    .await
}

/// Ends the pod that a stream comes from, with so many seconds for it, and waits for ten more events.
async fn ended_under(namespace: &Namespace, stream: &Stream, seconds: u32) -> Result<String> {
    stream.events_after(namespace, 3).await?;
    let pod = namespace.pod("app=fraud")?;
    let grace = format!("--grace-period={seconds}");
    namespace
        .kubectl()
        .run(&["delete", "pod", &pod, &grace, "--wait=false"])?;
    let now = stream.events()?;
    stream.events_after(namespace, now + 10).await?;
    Ok(pod)
}

/// A stream of events that the pod `client` reads.
struct Stream {
    curl: Child,
    text: NamedTempFile,
}

impl Stream {
    fn begin(namespace: &Namespace, events: u32) -> Result<Self> {
        let text = NamedTempFile::new()?;
        let curl = format!(
            "curl --silent --show-error --fail --no-buffer --header 'x-stream: {events},{PACE}' --data '{{}}' \
             http://fraud/v2/models/fraud/infer"
        );
        let mut command = namespace.kubectl().command();
        command.args(["exec", "client", "--container=client", "--", "sh", "-c", &curl]);
        let curl = command
            .stdout(File::create(text.path())?)
            .stderr(Stdio::inherit())
            .spawn()?;
        Ok(Self { curl, text })
    }

    fn events(&self) -> Result<usize> {
        Ok(fs::read_to_string(self.text.path())?
            .matches("data: {\"event\"")
            .count())
    }

    async fn events_after(&self, namespace: &Namespace, more: usize) -> Result<()> {
        let what = format!("event {more} of a stream");
        namespace
            .until(&what, async || Ok((self.events()? >= more).then_some(())))
            .await
    }

    /// Waits until it is over; whether it came to its end, and how many events it had.
    async fn end(mut self, namespace: &Namespace) -> Result<(bool, usize)> {
        let ended = namespace
            .until("the stream to be over", async || Ok(self.curl.try_wait()?))
            .await?;
        let last = fs::read_to_string(self.text.path())?.ends_with("data: [DONE]\n\n");
        Ok((ended.success() && last, self.events()?))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}
