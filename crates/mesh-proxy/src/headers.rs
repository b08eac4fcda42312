//! What is said between two hops, and what may be said only by the mesh.

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

use crate::carry::MESH_CARRIED;
use crate::error::{Failure, MESH_ERROR, Reason};
use crate::limits::Limits;

/// The identity of the caller, told to the workload by its own sidecar. What a caller writes there itself is removed.
pub const MESH_PEER: HeaderName = HeaderName::from_static("mesh-peer");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Removes what belongs to one hop (RFC 9110, §7.6.1), so that nothing a client says about its connection, or about
/// the framing of its body, reaches the next one.
pub fn strip_hop(headers: &mut HeaderMap) {
    // Most heads have none of it, and a look at each name is cheaper than looking each name up.
    if !headers.keys().any(is_of_one_hop) {
        return;
    }
    let had_te = headers.contains_key(TRANSFER_ENCODING);
    if let Some(named) = headers.remove(CONNECTION) {
        for name in named.to_str().unwrap_or_default().split(',') {
            if let Ok(name) = HeaderName::try_from(name.trim())
                && name != TE
            {
                headers.remove(name);
            }
        }
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, EXPECT] {
        headers.remove(name);
    }
    if had_te {
        // The body was chunked, whatever a length said beside it (RFC 9112, §6.3).
        headers.remove(CONTENT_LENGTH);
    }
    // Of what a client takes for transfer codings, only trailers pass the mesh.
    if let Some(te) = headers.remove(TE)
        && names(&te, "trailers")
    {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

fn is_of_one_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" | "expect" | "te"
    )
}

/// Removes what only the mesh may say.
pub fn strip_mesh(headers: &mut HeaderMap) {
    if headers.keys().any(|name| name.as_str().starts_with("mesh-")) {
        for name in [MESH_ERROR, MESH_PEER, MESH_CARRIED] {
            headers.remove(name);
        }
    }
}

/// Whether a list of tokens (RFC 9110, §5.6.1) has this one, whatever parameters it has.
fn names(list: &HeaderValue, token: &str) -> bool {
    list.to_str().is_ok_and(|list| {
        list.split(',').any(|item| {
            item.split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .eq_ignore_ascii_case(token)
        })
    })
}

/// What an HTTP/1.1 request asks its connection to become (RFC 9110, §7.8). Nobody is asked for HTTP/2 this way: a
/// server that knows it only so (`h2c`, gone with RFC 9113, §3.1) goes on in HTTP/1.1.
pub fn upgrade(parts: &Parts) -> Option<HeaderValue> {
    let to = parts.headers.get(UPGRADE)?;
    let asked = parts
        .headers
        .get_all(CONNECTION)
        .iter()
        .any(|list| names(list, "upgrade"));
    (parts.version == Version::HTTP_11 && asked && !names(to, "h2c")).then(|| to.clone())
}

/// Removes what belongs to one hop from a response; HTTP/2 has none of it. To what protocol a server wants to switch, or
/// has, stays: the client is to know (RFC 9110, §15.2.2 and §15.5.22).
pub fn strip_hop_response(head: &mut http::response::Parts) {
    if head.version == Version::HTTP_2 {
        return;
    }
    let says = matches!(
        head.status,
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED
    );
    let protocol = if says { head.headers.remove(UPGRADE) } else { None };
    strip_hop(&mut head.headers);
    if let Some(protocol) = protocol {
        set_upgrade(&mut head.headers, protocol);
    }
    // What the server speaks is its own; the client is answered in what the mesh speaks.
    head.version = Version::HTTP_11;
}

/// Says which protocol a connection is to switch to.
pub fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Whether the request is a gRPC call.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Refuses what is no request for a server (a CONNECT in a tunnel, or to a workload), and a head that servers read
/// differently: with a target that is only an authority, with several hosts, or in HTTP/1.1 with none (RFC 9112, §3.2).
/// Refuses one with too many fields too: in HTTP/1.1 it has been already.
///
/// # Errors
/// When it is one.
pub fn check(parts: &Parts, limits: &Limits) -> Result<(), Failure> {
    let refused = |detail: &str| Err(Failure::new(Reason::BadRequest, detail));
    if parts.method == Method::CONNECT {
        return refused("there are no tunnels here");
    }
    if parts.uri.scheme().is_none() && parts.uri.authority().is_some() {
        return refused("the request's target begins neither with / nor with a scheme");
    }
    if parts.headers.len() > usize::from(limits.max_headers) {
        let detail = format!(
            "the head has more than {} fields (--max-headers)",
            limits.max_headers
        );
        return Err(Failure::new(Reason::HeadTooLarge, detail));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    if hosts.next().is_none() && parts.version == Version::HTTP_11 && parts.uri.authority().is_none() {
        return refused("the request has no Host header");
    }
    if hosts.next().is_some() {
        return refused("the request has several Host headers");
    }
    Ok(())
}

/// The host and port that a request is for: of its target, or of its Host header.
pub fn authority(parts: &Parts) -> Option<Authority> {
    match parts.uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => Authority::try_from(parts.headers.get(HOST)?.as_bytes()).ok(),
    }
}

/// The target in the form that the next hop expects: with the authority for HTTP/2; without it, and with a Host header,
/// for HTTP/1.
pub fn set_target(parts: &mut Parts, target: Option<PathAndQuery>) {
    let is_http2 = parts.version == Version::HTTP_2;
    if !is_http2 && target.is_none() && parts.uri.authority().is_none() && parts.headers.contains_key(HOST) {
        // It is in that form.
        return;
    }
    let authority = authority(parts);
    let path = target
        .or_else(|| parts.uri.path_and_query().cloned())
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(path);
    if is_http2 {
        uri.scheme = Some(parts.uri.scheme().cloned().unwrap_or(Scheme::HTTP));
        uri.authority = authority;
        match uri.authority {
            // It says what the authority says, or something else, which no server should see.
            Some(_) => drop(parts.headers.remove(HOST)),
            None => uri.scheme = None,
        }
    } else if parts.uri.authority().is_some() || !parts.headers.contains_key(HOST) {
        // HTTP/1.0 may have none, and the next hop is told so (RFC 9112, §3.2).
        let value = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        parts
            .headers
            .insert(HOST, value.unwrap_or_else(|| HeaderValue::from_static("")));
    }
    if let Ok(uri) = Uri::from_parts(uri) {
        parts.uri = uri;
    }
}

/// Adds to the length that the head announces.
pub fn grow(headers: &mut HeaderMap, growth: i64) {
    if growth == 0 {
        return;
    }
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(length) = length.and_then(|length| length.checked_add_signed(growth)) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The time a gRPC client gives its call (gRPC over HTTP/2, "Timeout": at most 8 digits and a unit).
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// Tells the next hop how much of a gRPC call's time is left.
pub fn set_grpc_timeout(headers: &mut HeaderMap, left: Duration) {
    let micros = left.as_micros();
    let text = if micros < 100_000_000 {
        format!("{}u", micros.max(1))
    } else {
        format!("{}m", left.as_millis().min(99_999_999))
    };
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::try_from(*name).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn what_belongs_to_one_hop_stays_there() {
        let mut map = headers(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("x-kept", "1"),
        ]);
        strip_hop(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["te", "x-kept"]);
        let mut map = headers(&[("te", "gzip"), ("content-length", "5")]);
        strip_hop(&mut map);
        assert!(!map.contains_key("te") && map.contains_key("content-length"));
        let mut map = headers(&[("te", "gzip;q=0.5, Trailers;q=1")]);
        strip_hop(&mut map);
        assert_eq!(map["te"], "trailers");
    }

    #[test]
    fn what_only_the_mesh_may_say_is_removed() {
        let mut map = headers(&[
            ("mesh-peer", "a"),
            ("mesh-peer", "b"),
            ("mesh-error", "reset"),
            ("mesh-carried", "1.1"),
            ("mesh-own", "1"),
            ("x-mesh-peer", "1"),
        ]);
        strip_mesh(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["mesh-own", "x-mesh-peer"]);
    }

    #[test]
    fn an_upgrade_is_asked_for_by_two_headers() {
        for (version, connection, upgrade_to, expected) in [
            (Version::HTTP_11, "Upgrade", "websocket", Some("websocket")),
            (
                Version::HTTP_11,
                "keep-alive, upgrade",
                "WebSocket, tcp",
                Some("WebSocket, tcp"),
            ),
            (Version::HTTP_11, "keep-alive", "websocket", None),
            (Version::HTTP_10, "upgrade", "websocket", None),
            (Version::HTTP_2, "upgrade", "websocket", None),
            (Version::HTTP_11, "upgrade, http2-settings", "h2c", None),
        ] {
            let mut parts = http::Request::new(()).into_parts().0;
            parts.version = version;
            parts.headers = headers(&[("connection", connection), ("upgrade", upgrade_to)]);
            let found = upgrade(&parts);
            assert_eq!(
                found.as_ref().map(HeaderValue::as_bytes),
                expected.map(str::as_bytes),
                "{connection} {upgrade_to}"
            );
        }
    }

    #[test]
    fn the_client_hears_of_a_switch_of_protocols() {
        for (status, kept) in [(101, true), (426, true), (200, false)] {
            let mut head = http::Response::builder()
                .status(status)
                .body(())
                .unwrap()
                .into_parts()
                .0;
            head.version = Version::HTTP_10;
            head.headers = headers(&[("connection", "upgrade, close"), ("upgrade", "websocket")]);
            strip_hop_response(&mut head);
            assert_eq!(head.headers.contains_key("upgrade"), kept, "{status}");
            assert_eq!(
                head.headers.get("connection").map(HeaderValue::as_bytes),
                kept.then_some(&b"upgrade"[..])
            );
            assert_eq!(head.version, Version::HTTP_11);
        }
    }

    #[test]
    fn heads_with_two_meanings_are_refused() {
        let parts = |method: Method, target: &str, hosts: &[&str]| {
            let mut request = http::Request::builder().method(method).uri(target);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            request.body(()).unwrap().into_parts().0
        };
        for (method, target, hosts, good) in [
            (Method::GET, "/a", &["web"][..], true),
            (Method::GET, "http://web/a", &["other"], true),
            (Method::OPTIONS, "*", &["web"], true),
            (Method::CONNECT, "web:80", &["web:80"], false),
            (Method::GET, "web", &["web"], false),
            (Method::GET, "web:80", &["web"], false),
            (Method::GET, "/a", &["web", "other"], false),
            (Method::GET, "/a", &["web", "web"], false),
            (Method::GET, "/a", &[], false),
            (Method::GET, "http://web/a", &[], true),
        ] {
            let found = check(&parts(method.clone(), target, hosts), &Limits::default());
            assert_eq!(found.is_ok(), good, "{method} {target} {hosts:?}");
        }
    }

    #[test]
    fn timeouts_of_grpc_are_read_and_written() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("20S", Some(Duration::from_secs(20))),
            ("100m", Some(Duration::from_millis(100))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("100000000m", None),
            ("1", None),
            ("m", None),
            ("-1m", None),
            ("1.5S", None),
            ("1s", None),
            ("", None),
            ("é", None),
        ] {
            let map =
                HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_bytes(text.as_bytes()).unwrap())]);
            assert_eq!(grpc_timeout(&map), expected, "{text}");
        }
        for left in [
            Duration::from_micros(1),
            Duration::from_millis(1500),
            Duration::from_secs(86_400),
        ] {
            let mut map = HeaderMap::new();
            set_grpc_timeout(&mut map, left);
            assert_eq!(grpc_timeout(&map), Some(left));
        }
    }

    #[test]
    fn a_length_grows_with_the_body() {
        let mut map = headers(&[("content-length", "10")]);
        grow(&mut map, -3);
        assert_eq!(map["content-length"], "7");
        grow(&mut map, -8);
        assert_eq!(map["content-length"], "7", "a length below zero is never written");
    }
}
