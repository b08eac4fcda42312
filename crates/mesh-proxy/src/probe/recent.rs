//! Connections of which only the youngest are kept.

use std::collections::VecDeque;

use tokio::task::AbortHandle;

/// Tasks, one for each connection, the oldest first.
pub(super) struct Recent {
    tasks: VecDeque<AbortHandle>,
    most: usize,
}

impl Recent {
    /// Keeps so many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            tasks: VecDeque::with_capacity(most),
            most,
        }
    }

    /// Takes one more, in the place of the oldest if there is no room.
    pub(super) fn push(&mut self, task: AbortHandle) {
        if self.tasks.len() >= self.most {
            self.tasks.retain(|task| !task.is_finished());
        }
        if self.tasks.len() >= self.most
            && let Some(oldest) = self.tasks.pop_front()
        {
            oldest.abort();
        }
        self.tasks.push_back(task);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    #[tokio::test]
    async fn the_oldest_that_still_runs_makes_room() {
        let mut recent = Recent::new(2);
        recent.push(tokio::spawn(async {}).abort_handle());
        tokio::task::yield_now().await;
        let (two, three, four) = (forever(), forever(), forever());
        let handles = [&two, &three, &four];
        for task in handles {
            recent.push(task.abort_handle());
        }
        tokio::task::yield_now().await;
        assert_eq!(handles.map(JoinHandle::is_finished), [true, false, false]);
    }

    fn forever() -> JoinHandle<()> {
        tokio::spawn(std::future::pending())
    }
}
