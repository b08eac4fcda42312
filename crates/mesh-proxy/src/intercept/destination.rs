//! Where an intercepted connection was going before it was led here.
//!
//! The kernel's connection tracking remembers it (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`). A connection that was made to
//! the sidecar's own port has no other destination: going there would lead back here for ever, so that it has none at all.

use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// Where the client wanted to go; none: here.
pub fn original(stream: &TcpStream) -> Option<SocketAddr> {
    let local = stream.local_addr().ok()?;
    let socket = SockRef::from(stream);
    let told = if local.is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    resolve(told.ok()?.as_socket()?, local)
}

/// What the kernel told about a connection that was taken at `local`; none: it is no place to go to from there.
pub fn resolve(told: SocketAddr, local: SocketAddr) -> Option<SocketAddr> {
    let (told, local) = (plain(told), plain(local));
    let is_here = told.port() == local.port() && (told.ip() == local.ip() || told.ip().is_loopback());
    let is_nowhere = told.port() == 0 || told.ip().is_unspecified() || told.ip().is_multicast();
    (!is_here && !is_nowhere).then_some(told)
}

/// The address alone: an IPv4 address in IPv6's clothes as IPv4, and no flow label. A link-local address keeps its scope.
fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(mut v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => {
                v6.set_flowinfo(0);
                SocketAddr::V6(v6)
            }
        },
        v4 @ SocketAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_never_goes_back_to_where_it_was_taken() {
        for (told, local, expected) in [
            ("10.96.0.7:80", "127.0.0.1:15001", Some("10.96.0.7:80")),
            ("[fd00::7]:80", "[::1]:15001", Some("[fd00::7]:80")),
            ("[::ffff:10.96.0.7]:80", "[::1]:15001", Some("10.96.0.7:80")),
            ("10.0.0.2:8000", "10.0.0.2:15006", Some("10.0.0.2:8000")),
            ("10.0.0.9:15001", "127.0.0.1:15001", Some("10.0.0.9:15001")),
            ("127.0.0.1:15001", "127.0.0.1:15001", None),
            ("[::1]:15001", "[::1]:15001", None),
            ("[::ffff:127.0.0.1]:15001", "127.0.0.1:15001", None),
            ("127.0.0.2:15001", "127.0.0.1:15001", None),
            ("10.0.0.2:15006", "10.0.0.2:15006", None),
            ("10.0.0.2:0", "10.0.0.2:15006", None),
            ("0.0.0.0:80", "127.0.0.1:15001", None),
            ("[::]:80", "[::1]:15001", None),
            ("224.0.0.1:80", "127.0.0.1:15001", None),
        ] {
            let resolved = resolve(told.parse().unwrap(), local.parse().unwrap());
            assert_eq!(
                resolved,
                expected.map(|text| text.parse().unwrap()),
                "{told} at {local}"
            );
        }
    }

    #[tokio::test]
    async fn a_connection_made_to_this_port_has_no_other_destination() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = tokio::net::TcpListener::bind(loopback).await else {
                continue;
            };
            let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (taken, _) = listener.accept().await.unwrap();
            assert_eq!(original(&taken), None, "{loopback}");
        }
    }
}
