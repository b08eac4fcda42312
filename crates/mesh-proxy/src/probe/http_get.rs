//! Probes over HTTP. Statuses, headers and redirects as the kubelet has them: k8s.io/kubernetes, `pkg/probe/http`.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_api::inject::probe::HttpGet;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};

use super::ask::{Failed, connect};
use crate::tls;

/// How often a workload may redirect a probe within itself.
const MAX_REDIRECTS: usize = 10;
/// Programs that know the kubelet by this leave its probes out of their logs.
const AGENT: &str = concat!("kube-probe/mesh-proxy-", env!("CARGO_PKG_VERSION"));

/// Asks; the body of the answer is not read.
pub(super) async fn perform(get: &HttpGet, at: SocketAddr) -> Result<(), Failed> {
    let mut step = Step::first(get, at);
    for _ in 0..=MAX_REDIRECTS {
        let (status, location) = step.request().await?;
        if !(200..400).contains(&status.as_u16()) {
            return Err(Failed {
                status: if status.as_u16() < 400 {
                    StatusCode::BAD_GATEWAY
                } else {
                    status
                },
                reason: format!("{}:{}{} answered {status}", at.ip(), step.port, step.path),
            });
        }
        // To another host it is not followed: the workload has answered.
        let Some(next) = location.and_then(|location| step.followed(&location)) else {
            return Ok(());
        };
        step = next;
    }
    Err(Failed {
        status: StatusCode::BAD_GATEWAY,
        reason: format!("more than {MAX_REDIRECTS} redirects"),
    })
}

/// One request.
struct Step {
    ip: IpAddr,
    port: u16,
    tls: bool,
    /// With the query.
    path: String,
    headers: HeaderMap,
}

impl Step {
    fn first(get: &HttpGet, at: SocketAddr) -> Self {
        let path = get.path.as_deref().unwrap_or_default();
        let mut headers = HeaderMap::new();
        for header in get.http_headers.iter().flatten() {
            // The API server has checked them.
            if let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(header.name.as_bytes()),
                HeaderValue::from_str(&header.value),
            ) {
                headers.append(name, value);
            }
        }
        if !headers.contains_key(USER_AGENT) {
            headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        }
        match headers.get(ACCEPT) {
            None => drop(headers.insert(ACCEPT, HeaderValue::from_static("*/*"))),
            Some(value) if value.is_empty() => drop(headers.remove(ACCEPT)),
            Some(_) => {}
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if headers.get(HOST).is_none_or(HeaderValue::is_empty) {
            headers.insert(HOST, host(at));
        }
        Self {
            ip: at.ip(),
            port: at.port(),
            tls: get
                .scheme
                .as_deref()
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            path: requestable(path),
            headers,
        }
    }

    /// The status of the answer, and where it leads if it does.
    async fn request(&self) -> Result<(StatusCode, Option<String>), Failed> {
        let at = SocketAddr::new(self.ip, self.port);
        let stream = connect(at).await?;
        if !self.tls {
            return self.exchange(stream).await;
        }
        let connector = tokio_rustls::TlsConnector::from(trusting()?);
        let tls = connector
            .connect(ServerName::IpAddress(self.ip.into()), stream)
            .await;
        self.exchange(tls.map_err(|error| Failed::unanswered(format!("TLS with {at}: {error}")))?)
            .await
    }

    async fn exchange<I>(&self, io: I) -> Result<(StatusCode, Option<String>), Failed>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |error: hyper::Error| {
            Failed::unanswered(format!("{}:{}{}: {error}", self.ip, self.port, self.path))
        };
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(64 << 10)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(io))
            .await
            .map_err(failed)?;
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self
            .path
            .parse::<Uri>()
            .map_err(|error| Failed::unanswered(error.to_string()))?;
        request.headers_mut().clone_from(&self.headers);
        let (mut sending, connection) = (pin!(sender.send_request(request)), pin!(connection));
        let answer = tokio::select! {
            biased;
            answer = &mut sending => answer,
            // A server that closes behind its answer may be seen to have closed before.
            ended = connection => match ended {
                Ok(()) => sending.await,
                Err(error) => Err(error),
            },
        };
        let answer = answer.map_err(failed)?;
        let leads = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = answer.headers().get(LOCATION).filter(|_| leads);
        let location = location
            .and_then(|location| location.to_str().ok())
            .map(str::to_owned);
        Ok((answer.status(), location))
    }

    /// Where a redirect leads; none: to another host.
    fn followed(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next().unwrap_or_default();
        let mut next = Self {
            headers: self.headers.clone(),
            path: String::new(),
            ..*self
        };
        let uri: Option<Uri> = location.parse().ok().filter(|uri: &Uri| uri.scheme().is_some());
        match uri {
            Some(uri) => {
                let authority = uri.authority()?;
                let named = authority.host().trim_start_matches('[').trim_end_matches(']');
                if named.parse() != Ok(self.ip) {
                    return None;
                }
                next.tls = uri.scheme() == Some(&Scheme::HTTPS);
                next.port = authority.port_u16().unwrap_or(if next.tls { 443 } else { 80 });
                next.headers.insert(HOST, as_host(authority)?);
                next.path = requestable(uri.path_and_query().map_or("/", |path| path.as_str()));
            }
            // An address without a scheme that names a host.
            None if location.starts_with("//") => return None,
            None if location.starts_with('/') => next.path = requestable(location),
            None => {
                let path = self.path.split('?').next().unwrap_or_default();
                let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
                let folder = if location.starts_with('?') { path } else { folder };
                next.path = requestable(&format!("{folder}{location}"));
            }
        }
        Some(next)
    }
}

fn host(at: SocketAddr) -> HeaderValue {
    HeaderValue::from_str(&at.to_string()).unwrap_or_else(|_| HeaderValue::from_static("localhost"))
}

fn as_host(authority: &Authority) -> Option<HeaderValue> {
    HeaderValue::from_str(authority.as_str()).ok()
}

/// A path as a request may carry it: with a slash before it, without a fragment, other bytes than visible ASCII escaped.
fn requestable(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut out = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        out.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"<>\\^`{|}".contains(&byte) => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// TLS with whoever is there, as the kubelet does: the pod's own address is all that a probe relies on.
fn trusting() -> Result<Arc<ClientConfig>, Failed> {
    static CONFIG: std::sync::OnceLock<Arc<ClientConfig>> = std::sync::OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let provider = tls::provider();
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failed::unanswered(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

/// Takes every certificate whose key the server holds.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(path: &str) -> Step {
        let get = HttpGet {
            path: Some(path.to_owned()),
            ..HttpGet::default()
        };
        Step::first(&get, "10.0.0.1:8000".parse().unwrap())
    }

    #[test]
    fn paths_are_made_requestable() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("healthz", "/healthz"),
            ("/v2/health/ready?strict=1", "/v2/health/ready?strict=1"),
            ("/a b#c", "/a%20b"),
            ("/%41/é", "/%41/%C3%A9"),
            ("/x\r\nhost: evil", "/x%0D%0Ahost:%20evil"),
        ] {
            assert_eq!(requestable(path), expected);
            let _: Uri = expected.parse().unwrap();
        }
    }

    #[test]
    fn redirects_are_followed_within_the_pod() {
        let from = step("/a/b?c=1");
        for (location, expected) in [
            ("/x?y#z", Some((false, 8000, "/x?y"))),
            ("x", Some((false, 8000, "/a/x"))),
            ("?d=2", Some((false, 8000, "/a/b?d=2"))),
            ("http://10.0.0.1/x", Some((false, 80, "/x"))),
            ("https://10.0.0.1:8443", Some((true, 8443, "/"))),
            ("http://10.0.0.2:8000/x", None),
            ("http://web.ml.svc/x", None),
            ("//10.0.0.2/x", None),
        ] {
            let next = from.followed(location);
            let got = next
                .as_ref()
                .map(|next| (next.tls, next.port, next.path.as_str()));
            assert_eq!(got, expected, "{location}");
        }
    }
}
