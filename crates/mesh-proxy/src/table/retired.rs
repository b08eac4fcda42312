//! Tables that were replaced, until no request uses them any more.
//!
//! Whoever lets go of a Table last has to take it apart, which for a large one takes longer than a request may wait.
//! So each is kept here, on the control side's thread, until it is the last to hold it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Table;

/// How often is looked whether requests have let go.
const LOOK: Duration = Duration::from_secs(1);

/// Where Tables go when they are replaced. The task behind it ends with it.
#[derive(Debug)]
pub struct Retired(mpsc::UnboundedSender<Arc<Table>>);

impl Retired {
    /// Starts the task that takes them apart, on the runtime that calls this.
    pub fn start() -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        tokio::spawn(clear(inbox));
        Self(sender)
    }

    /// Keeps a Table until no request uses it.
    pub fn take(&self, table: Option<Arc<Table>>) {
        if let Some(table) = table {
            // The task ends only with this.
            let _ = self.0.send(table);
        }
    }
}

async fn clear(mut inbox: mpsc::UnboundedReceiver<Arc<Table>>) {
    let mut kept: Vec<Arc<Table>> = Vec::new();
    loop {
        tokio::select! {
            table = inbox.recv() => match table {
                Some(table) => kept.push(table),
                None => return,
            },
            () = tokio::time::sleep(LOOK), if !kept.is_empty() => {}
        }
        // Nobody can take hold of one of these anew: a count of one stays one.
        kept.retain(|table| Arc::strong_count(table) > 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::table;
    use crate::testing::snapshot;

    #[tokio::test(start_paused = true)]
    async fn a_table_goes_when_the_last_request_has_let_go() {
        let retired = Retired::start();
        let table = Arc::new(table::build(Arc::new(snapshot(1)), None));
        let (request, watched) = (Arc::clone(&table), Arc::downgrade(&table));
        retired.take(Some(table));
        tokio::time::sleep(LOOK * 3).await;
        assert_eq!(watched.strong_count(), 2, "a request uses it");
        drop(request);
        assert_eq!(
            watched.strong_count(),
            1,
            "the request did not have to take it apart"
        );
        tokio::time::sleep(LOOK * 2).await;
        assert_eq!(watched.strong_count(), 0);
    }
}
