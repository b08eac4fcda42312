//! What the proxies of other replicas serve, so that the holder of the Lease writes of all of them.
//!
//! What replicas tell stands in ConfigMap `mesh-replicas`; the one that holds the Lease tells nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::content::count;
use super::reach::{Count, Reach};
use super::{PAUSE, RETRY};
use crate::catalog::documents::Written;
use crate::lease::Held;
use crate::objects::Objects;
use crate::proxies::Proxies;
use crate::replicas::{AGAIN, Board};

/// The ConfigMap's name.
pub const BOARD: &str = "mesh-replicas";
/// How often the holder looks.
const PERIOD: Duration = Duration::from_secs(2);
/// How many refusals a replica tells of, and the longest, in characters.
const MAX_REFUSALS: usize = 20;
const MAX_REFUSAL: usize = 200;

/// What one replica tells of its proxies, by kind and name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Which generation of the object it knows, how many of its proxies use that, and how many of these serve it.
    objects: BTreeMap<String, (i64, usize, usize)>,
    /// Why one of the proxies refuses it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    refusals: BTreeMap<String, String>,
}

/// What the others tell.
pub type Others = Vec<Told>;

fn name(written: &Written) -> String {
    format!("{} {}", written.kind, written.key)
}

impl Told {
    /// What this replica has to tell.
    pub fn now(objects: &Objects, proxies: &Proxies) -> Self {
        let reach = Reach::of(&objects.publisher().current().view, &proxies.followers());
        let catalog = objects.lock();
        let mut told = Self::default();
        for verdict in catalog.verdicts() {
            let count = verdict.in_force.and_then(|document| count(&reach, document));
            let Some(count) = count.filter(|count| count.using > 0) else {
                continue;
            };
            told.add(verdict.written, count);
        }
        told
    }

    fn add(&mut self, written: &Written, count: &Count) {
        if let Some(refusal) = count
            .refusal
            .as_ref()
            .filter(|_| self.refusals.len() < MAX_REFUSALS)
        {
            let refusal = refusal.chars().take(MAX_REFUSAL).collect();
            self.refusals.insert(name(written), refusal);
        }
        let counts = (written.generation, count.using, count.serving);
        self.objects.insert(name(written), counts);
    }

    /// What it tells of an object. Of another generation nobody serves this one.
    fn of(&self, written: &Written) -> Option<Count> {
        let name = name(written);
        let (generation, using, serving) = *self.objects.get(&name)?;
        let same = generation == written.generation;
        Some(Count {
            using,
            serving: if same { serving.min(using) } else { 0 },
            refusal: self.refusals.get(&name).filter(|_| same).cloned(),
        })
    }
}

/// This replica's count of an object, if its proxies use it, and those of the others.
pub(super) fn all(own: Option<&Count>, others: &[Told], written: &Written) -> Option<Count> {
    let others = others.iter().filter_map(|told| told.of(written));
    own.cloned().into_iter().chain(others).reduce(|all, one| Count {
        using: all.using + one.using,
        serving: all.serving + one.serving,
        refusal: all.refusal.or(one.refusal),
    })
}

/// Tells what this replica's proxies serve, while another one writes of it.
pub async fn tell(board: &Board, pod: &str, mut held: Held, objects: &Objects, proxies: &Proxies) {
    let (mut changed, mut followed) = (objects.follow(), proxies.follow());
    let mut place = board.place(pod);
    loop {
        changed.mark_unchanged();
        followed.mark_unchanged();
        let again = if *held.borrow_and_update() || objects.publisher().version().0 == 0 {
            place.forget();
            Duration::MAX
        } else {
            match place.say(Told::now(objects, proxies)).await {
                Ok(()) => Duration::from_secs(AGAIN.unsigned_abs()),
                Err(error) => {
                    tracing::warn!("status: what this replica's proxies serve could not be told: {error}");
                    RETRY
                }
            }
        };
        tokio::select! {
            _ = changed.changed() => {}
            _ = followed.changed() => {}
            lost = held.changed() => if lost.is_err() { return },
            () = tokio::time::sleep(again) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Hears what the others tell, for as long as this is polled.
pub(super) async fn listen(board: &Board, me: &str, heard: &watch::Sender<Others>) {
    loop {
        match board.read::<Told>().await {
            Ok(mut told) => {
                told.remove(me);
                let others: Others = told.into_values().flatten().collect();
                heard.send_if_modified(|before| {
                    let other = *before != others;
                    *before = others;
                    other
                });
            }
            Err(error) => {
                tracing::warn!("status: what other replicas' proxies serve could not be read: {error}");
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}
