//! What is on the wire between pods: every packet that passes a node, as its kernel sees it.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::state::State;
use crate::netns;

/// Every protocol (`ETH_P_ALL`), in network byte order.
const ALL: i32 = 0x0003_u16.to_be() as i32;
/// Room for packets that the kernel keeps until they are read, in bytes.
const QUEUE: usize = 16 << 20;
/// The most that is kept, in bytes.
const MOST: usize = 64 << 20;
const LONGEST: usize = 1 << 16;

/// Packets that pass the nodes of the tests' own cluster, from its start on.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Segment>>>>,
}

/// What a TCP segment over IPv4 carried.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Who sent it.
    pub from: (Ipv4Addr, u16),
    /// Whom it was for.
    pub to: (Ipv4Addr, u16),
    /// Its bytes; at least one.
    pub payload: Vec<u8>,
}

impl Capture {
    /// Begins.
    ///
    /// # Errors
    /// When the tests' own cluster does not run.
    pub fn start() -> Result<Self> {
        let state = State::new();
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for node in state.nodes() {
            let process = state.running(node).context("the node has ended")?;
            let namespace = format!("/proc/{process}/ns/net");
            let socket = netns::on(namespace.as_ref(), listen)??;
            let stop = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || read(&socket, &stop)));
        }
        ensure!(!threads.is_empty(), "no node of the tests' own runs here");
        Ok(Self { stop, threads })
    }

    /// Ends, and returns the TCP segments with data that were seen; one that passes two links is seen twice.
    ///
    /// # Errors
    /// When there were more than it can keep, or the kernel lost some.
    pub fn end(self) -> Result<Vec<Segment>> {
        self.stop.store(true, Ordering::Release);
        let mut segments = Vec::new();
        for thread in self.threads {
            let seen = thread.join().ok().context("the capture failed")?;
            segments.extend(seen?);
        }
        Ok(segments)
    }
}

fn listen() -> Result<Socket> {
    // Without the links' headers, which differ.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ALL)))?;
    socket.set_recv_buffer_size(QUEUE)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

/// Reads until it is told to stop and there is nothing left.
fn read(socket: &Socket, stop: &AtomicBool) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    let mut kept = 0;
    let mut buffer = vec![MaybeUninit::uninit(); LONGEST];
    loop {
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stop.load(Ordering::Acquire) {
                    return Ok(segments);
                }
                continue;
            }
            Err(error) => return Err(error).context("read packets"),
        };
        // SAFETY: the kernel has written so many bytes.
        let packet: Vec<u8> = buffer[..length]
            .iter()
            .map(|byte| unsafe { byte.assume_init() })
            .collect();
        if let Some(segment) = parse(&packet) {
            kept += segment.payload.len();
            ensure!(kept <= MOST, "more than {MOST} bytes passed: capture less");
            segments.push(segment);
        }
    }
}

/// The segment in an IPv4 packet, if it is one with data (RFC 791, §3.1; RFC 9293, §3.1).
fn parse(packet: &[u8]) -> Option<Segment> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let is_tcp = packet.first()? >> 4 == 4 && *packet.get(9)? == 6;
    if !is_tcp {
        return None;
    }
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let length = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let tcp = packet.get(header..length.min(packet.len()))?;
    let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
    let payload = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
    if payload.is_empty() {
        return None;
    }
    Some(Segment {
        from: (address(12)?, port(0)?),
        to: (address(16)?, port(2)?),
        payload: payload.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_without_the_padding_behind_it() {
        let mut packet = vec![0x45, 0, 0, 43, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([
            0x1f, 0x90, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0, 0, 0, 0, 0, 0,
        ]);
        packet.extend(b"abc\0\0\0");
        let segment = parse(&packet).unwrap();
        assert_eq!(segment.from, (Ipv4Addr::new(10, 0, 0, 1), 8080));
        assert_eq!(segment.to, (Ipv4Addr::new(10, 0, 0, 2), 80));
        assert_eq!(segment.payload, b"abc");
        packet[3] = 40;
        assert!(parse(&packet).is_none(), "an acknowledgement carries nothing");
        for cut in 0..40 {
            assert!(parse(&packet[..cut]).is_none());
        }
    }
}
