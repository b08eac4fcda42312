//! The splits that were set, so that they can be taken back, over restarts too.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::file;
use crate::store::splice::Weights;

/// The most changes that are remembered.
const MAX_STEPS: usize = 256;

/// One split that was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The ModelRoute, as namespace/name.
    pub route: String,
    /// The rule.
    pub rule: String,
    /// The weights before.
    pub before: Weights,
}

/// The splits that were set, oldest first.
#[derive(Debug)]
pub struct History {
    file: PathBuf,
    steps: VecDeque<Step>,
}

impl History {
    /// What the file remembers. One that can't be understood is begun anew: it is a convenience, and must not keep a
    /// control plane from starting.
    ///
    /// # Errors
    /// When the file is there and can't be read.
    pub fn open(file: PathBuf) -> io::Result<Self> {
        let steps = match file::read_private(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, file = %file.display(), "the history of splits can't be read and begins anew");
                VecDeque::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => VecDeque::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { file, steps })
    }

    /// Remembers a step.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn push(&mut self, step: Step) -> io::Result<()> {
        self.steps.push_back(step);
        while self.steps.len() > MAX_STEPS {
            self.steps.pop_front();
        }
        self.keep()
    }

    /// The last step of a route.
    pub fn last(&self, route: &str) -> Option<&Step> {
        self.steps.iter().rev().find(|step| step.route == route)
    }

    /// Forgets the last step of a route.
    ///
    /// # Errors
    /// When that can't be written.
    pub fn pop(&mut self, route: &str) -> io::Result<()> {
        if let Some(at) = self.steps.iter().rposition(|step| step.route == route) {
            self.steps.remove(at);
        }
        self.keep()
    }

    fn keep(&self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.steps).map_err(io::Error::from)?;
        file::replace(&self.file, &text, file::PRIVATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(route: &str, weight: u32) -> Step {
        Step {
            route: route.into(),
            rule: "rule-0".into(),
            before: Weights::from([("stable".into(), weight)]),
        }
    }

    #[test]
    fn steps_are_taken_back_by_route_over_restarts_and_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("history");
        let mut history = History::open(file.clone()).unwrap();
        history.push(step("ml/a", 1)).unwrap();
        history.push(step("ml/b", 2)).unwrap();
        history.push(step("ml/a", 3)).unwrap();
        let mut history = History::open(file.clone()).unwrap();
        assert_eq!(history.last("ml/a"), Some(&step("ml/a", 3)));
        history.pop("ml/a").unwrap();
        assert_eq!(history.last("ml/a"), Some(&step("ml/a", 1)));
        history.pop("ml/a").unwrap();
        assert_eq!(history.last("ml/a"), None);
        assert_eq!(history.last("ml/b"), Some(&step("ml/b", 2)));
        for weight in 0..400 {
            history.push(step("ml/c", weight)).unwrap();
        }
        assert_eq!(history.steps.len(), MAX_STEPS);
        std::fs::write(&file, "rubbish").unwrap();
        assert_eq!(History::open(file).unwrap().last("ml/c"), None);
    }
}
