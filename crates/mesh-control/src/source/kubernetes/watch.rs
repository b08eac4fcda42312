//! One watch: everything that there is, then what changes; again from the start when the API server has lost the thread.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::StreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use tokio::sync::mpsc;

use super::Seen;
use crate::catalog::Event;
use crate::catalog::object::{Change, Key};

/// How long a watch lasts before it is asked for anew, in seconds. A connection that died without a word is noticed then.
const LASTS: u32 = 60;
/// Pauses after failures, from the first to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long until a kind that is not there is asked for again.
const ABSENT: Duration = Duration::from_secs(15);

/// What a watch is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// The kind's plural, for messages.
    pub(super) kind: &'static str,
    /// Which fields objects must have; empty: any.
    fields: &'static str,
    /// What it means when there is no such kind.
    missing: Missing,
}

/// What it means when there is no such kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// That something is wrong.
    Wrong,
    /// That there are no objects of it.
    Empty,
}

/// As much of an object as is needed; or its key alone, when nothing is.
pub(super) enum Projected<T> {
    Kept(T),
    Left(Key),
    /// It has no name that could be one.
    Nameless,
}

impl<T> Projected<T> {
    /// What was read of an object; none: it has no name that could be one.
    pub(super) fn named(read: Option<T>) -> Self {
        read.map_or(Self::Nameless, Self::Kept)
    }
}

impl Watch {
    /// Of a kind that is always there.
    pub(super) const fn of(kind: &'static str) -> Self {
        Self {
            kind,
            fields: "",
            missing: Missing::Wrong,
        }
    }

    /// Of a kind that may not be installed, or not yet: then there are no objects of it.
    pub(super) const fn of_optional(kind: &'static str) -> Self {
        Self {
            missing: Missing::Empty,
            ..Self::of(kind)
        }
    }

    /// Of those of its objects alone whose fields are so.
    pub(super) const fn with(self, fields: &'static str) -> Self {
        Self { fields, ..self }
    }

    /// Tells of everything, for as long as somebody listens.
    pub(super) async fn run<K, T>(
        self,
        api: Api<K>,
        project: impl Fn(K) -> Projected<T>,
        event: impl Fn(Change<T>) -> Event,
        events: mpsc::Sender<Seen>,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let tell = |change: Change<T>| {
            let listed = matches!(change, Change::Reset(_));
            let seen = Seen {
                kind: self.kind,
                event: event(change),
                listed,
            };
            events.send(seen)
        };
        let mut config = watcher::Config::default().timeout(LASTS);
        if !self.fields.is_empty() {
            config = config.fields(self.fields);
        }
        let mut seen = std::pin::pin!(watcher(api, config));
        let (mut listed, mut failures) = (Vec::new(), Failures::default());
        while let Some(event) = seen.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    if self.is_absent(&error) && !failures.absent {
                        failures.absent = true;
                        tracing::warn!(
                            kind = self.kind,
                            "the kind is not installed: it is as if there were no objects of it"
                        );
                        if tell(Change::Reset(Vec::new())).await.is_err() {
                            return;
                        }
                    }
                    tokio::time::sleep(failures.pause(self.kind, &error)).await;
                    continue;
                }
            };
            let change = match event {
                watcher::Event::Init => {
                    listed = Vec::new();
                    continue;
                }
                watcher::Event::InitApply(object) => {
                    if let Projected::Kept(object) = project(object) {
                        listed.push(object);
                    }
                    continue;
                }
                watcher::Event::InitDone => {
                    tracing::debug!(kind = self.kind, objects = listed.len(), "listed");
                    Change::Reset(std::mem::take(&mut listed))
                }
                watcher::Event::Apply(object) => match project(object) {
                    Projected::Kept(object) => Change::Apply(object),
                    Projected::Left(key) => Change::Delete(key),
                    Projected::Nameless => continue,
                },
                watcher::Event::Delete(object) => match key(object.meta()) {
                    Some(key) => Change::Delete(key),
                    None => continue,
                },
            };
            failures = Failures::default();
            if tell(change).await.is_err() {
                return;
            }
        }
    }

    fn is_absent(self, error: &watcher::Error) -> bool {
        let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error
        else {
            return false;
        };
        self.missing == Missing::Empty && matches!(error, kube::Error::Api(status) if status.code == 404)
    }
}

/// Failures in a row.
#[derive(Default)]
struct Failures {
    pause: Duration,
    /// The kind is not there, which was told already.
    absent: bool,
}

impl Failures {
    /// How long to wait after this one.
    fn pause(&mut self, kind: &str, error: &watcher::Error) -> Duration {
        if self.absent {
            return ABSENT;
        }
        self.pause = (self.pause * 2).clamp(PAUSES.0, PAUSES.1);
        // What holds goes on; an expired watch is asked for anew as a matter of course.
        if matches!(error, watcher::Error::WatchError(_)) {
            tracing::debug!(kind, %error, "the watch begins anew");
        } else {
            tracing::warn!(kind, %error, "objects can't be watched: what is known of them holds");
        }
        self.pause
    }
}

/// The key of an object.
pub(super) fn key(metadata: &kube::api::ObjectMeta) -> Option<Key> {
    let name = metadata.name.as_deref()?;
    // Namespaces themselves are in none.
    let namespace = metadata.namespace.as_deref().unwrap_or(name);
    Some(Key {
        namespace: namespace.parse().ok()?,
        name: name.into(),
    })
}
