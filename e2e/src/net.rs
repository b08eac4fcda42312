//! Free ports, and what is on the wire of the loopback device.

use std::collections::HashSet;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::{self, Machine};

/// The first port that is handed out, and the one below which it stays where the system does not say.
const LOWEST: u16 = 10_240;
const EPHEMERAL: u16 = 32_768;

/// A port on loopback that nobody listens on, never handed out twice by this process, and below the range that
/// outgoing connections take theirs from.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let end = ephemeral_start();
    let span = u32::from(end.saturating_sub(LOWEST)).max(1);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Several runs on one machine begin at different places.
    let begin = std::process::id().wrapping_mul(2_654_435_761) % span;
    (0..span)
        .filter_map(|step| u16::try_from(u32::from(LOWEST) + (begin + step) % span).ok())
        .find(|port| !given.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .inspect(|port| {
            given.insert(*port);
        })
        .context("no port is free")
}

/// An address on loopback.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn ephemeral_start() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|start| *start > LOWEST + 1_000)
        .unwrap_or(EPHEMERAL)
}

/// Everything that TCP carries to or from some ports of this machine, from now until it is finished.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<(u16, Vec<u8>)>>,
}

/// `ETH_P_ALL` of linux/if_ether.h, as packet(7) wants it.
const EVERY_PROTOCOL: i32 = 0x0003_u16.to_be() as i32;
/// How long the capture waits for a packet before it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Loopback carries packets of up to 64 KiB, and more in one piece by segmentation offload.
const PACKET: usize = 1 << 18;

impl Capture {
    /// Starts to listen. It needs the right to open packet sockets (`CAP_NET_RAW`).
    ///
    /// # Errors
    /// When this process may not.
    pub fn start(ports: &[u16]) -> Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_PROTOCOL)))
            .context("open a packet socket")?;
        Self::of(socket, ports)
    }

    /// Starts to listen on another machine.
    ///
    /// # Errors
    /// When this process may not.
    pub fn start_on(machine: &Machine, ports: &[u16]) -> Result<Self> {
        let socket = netns::on(&machine.path(), || {
            Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_PROTOCOL)))
        })?;
        Self::of(socket.context("open a packet socket")?, ports)
    }

    fn of(socket: Socket, ports: &[u16]) -> Result<Self> {
        socket.set_read_timeout(Some(LOOK))?;
        // More than fits is lost: room for all that a scenario sends.
        socket.set_recv_buffer_size(32 << 20)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, ports) = (Arc::clone(&stop), ports.to_vec());
        let thread = std::thread::Builder::new()
            .name("capture".into())
            .spawn(move || listen(&socket, &ports, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// What was carried, each piece with the port among those asked for.
    ///
    /// # Errors
    /// When the thread that listened has failed.
    pub fn finish(self) -> Result<Vec<(u16, Vec<u8>)>> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().ok().context("the capture failed")
    }
}

fn listen(mut socket: &Socket, ports: &[u16], stop: &AtomicBool) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    let mut packet = vec![0; PACKET];
    loop {
        match socket.read(&mut packet) {
            Ok(length) => {
                if let Some((from, to, payload)) = tcp_payload(&packet[..length])
                    && let Some(port) = ports.iter().find(|port| **port == from || **port == to)
                    && !payload.is_empty()
                {
                    found.push((*port, payload.to_vec()));
                }
            }
            // Only when nothing more waits to be read is it over.
            Err(_) if stop.load(Ordering::Acquire) => return found,
            Err(_) => {}
        }
    }
}

/// Ports and payload of an Ethernet frame with TCP in IPv4 or, without extension headers, IPv6 (RFC 791, 8200, 9293).
fn tcp_payload(frame: &[u8]) -> Option<(u16, u16, &[u8])> {
    let packet = frame.get(14..)?;
    let (header, protocol) = match frame.get(12..14)? {
        [0x08, 0x00] => (usize::from(packet.first()? & 0x0f) * 4, packet.get(9)?),
        [0x86, 0xdd] => (40, packet.get(6)?),
        _ => return None,
    };
    if *protocol != 6 {
        return None;
    }
    let segment = packet.get(header..)?;
    let port = |at: usize| Some(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?]));
    let offset = usize::from(segment.get(12)? >> 4) * 4;
    Some((port(0)?, port(2)?, segment.get(offset..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_handed_out_once() {
        let ports: HashSet<_> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn rubbish_has_no_payload() {
        for length in 0..80 {
            assert!(tcp_payload(&vec![0xff; length]).is_none());
        }
    }
}
