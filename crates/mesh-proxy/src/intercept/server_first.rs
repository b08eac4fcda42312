//! Destinations whose servers speak first, so that nobody waits there for the client's first bytes twice.
//!
//! A destination is remembered when its server was seen to speak before its client did, and by nothing else: a client that
//! is only slow makes nobody's later connections opaque.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// How many destinations a worker remembers.
const MOST: usize = 1_024;
/// How long a destination is remembered: another server may stand there one day.
const KEPT: Duration = Duration::from_secs(600);

/// Ports at which servers have always spoken first: FTP, SSH, Telnet, SMTP, POP3, NNTP, IMAP, message submission, MySQL and
/// its X protocol (IANA's Service Name and Transport Protocol Port Number Registry).
const WELL_KNOWN: [u16; 10] = [21, 22, 23, 25, 110, 119, 143, 587, 3306, 33060];

/// What one worker has learned.
#[derive(Debug, Default)]
pub struct ServerFirst {
    seen: RefCell<HashMap<SocketAddr, Instant>>,
}

impl ServerFirst {
    /// Whether the server at this destination speaks first.
    pub fn is_known(&self, destination: SocketAddr) -> bool {
        WELL_KNOWN.contains(&destination.port())
            || self
                .seen
                .borrow()
                .get(&destination)
                .is_some_and(|seen| seen.elapsed() < KEPT)
    }

    /// Remembers that the server at this destination spoke first.
    pub fn learn(&self, destination: SocketAddr) {
        let mut seen = self.seen.borrow_mut();
        if seen.len() >= MOST && !seen.contains_key(&destination) {
            let oldest = seen.iter().min_by_key(|(_, since)| **since).map(|(at, _)| *at);
            seen.retain(|at, since| since.elapsed() < KEPT && Some(*at) != oldest);
        }
        seen.insert(destination, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: u16, port: u16) -> SocketAddr {
        let [high, low] = host.to_be_bytes();
        ([10, 0, high, low], port).into()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_is_known_for_a_while() {
        let known = ServerFirst::default();
        assert!(known.is_known(at(1, 3306)) && !known.is_known(at(1, 3307)));
        known.learn(at(1, 3307));
        assert!(known.is_known(at(1, 3307)) && !known.is_known(at(2, 3307)));
        tokio::time::advance(KEPT).await;
        assert!(!known.is_known(at(1, 3307)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_is_forgotten_for_the_newest() {
        let known = ServerFirst::default();
        for host in 0..2_000 {
            known.learn(at(host, 9000));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(known.seen.borrow().len(), MOST);
        assert!(known.is_known(at(1_999, 9000)) && !known.is_known(at(0, 9000)));
    }
}
