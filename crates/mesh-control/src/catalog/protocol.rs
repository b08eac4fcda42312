//! `appProtocol` of Services, in the words of Kubernetes and of the mesh.

use mesh_api::inference::AppProtocol;

/// What a port speaks by its `appProtocol`; an error: nobody knows the word.
///
/// `kubernetes.io/*` are the standard ones (KEP-3726), others are names of IANA's registry of services. Whatever is TLS is
/// opaque to the mesh, and servers that speak first are, so that nobody waits for their clients.
pub(super) fn read(word: Option<&str>) -> Result<AppProtocol, ()> {
    let Some(word) = word else {
        return Ok(AppProtocol::Detect);
    };
    if let Ok(known) = word.parse() {
        return Ok(known);
    }
    match word.to_ascii_lowercase().as_str() {
        "http" | "http/1.1" | "ws" | "kubernetes.io/ws" | "grpc-web" => Ok(AppProtocol::Http),
        "http2" | "h2c" | "kubernetes.io/h2c" => Ok(AppProtocol::Http2),
        "grpc" => Ok(AppProtocol::Grpc),
        "tcp" | "tls" | "https" | "wss" | "kubernetes.io/wss" | "amqp" | "ftp" | "imap" | "kafka"
        | "ldap" | "mongo" | "mongodb" | "mqtt" | "mysql" | "nats" | "postgres" | "postgresql" | "redis"
        | "smtp" | "ssh" => Ok(AppProtocol::Tcp),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_kubernetes_are_read() {
        for (word, wanted) in [
            (None, Ok(AppProtocol::Detect)),
            (Some("mesh.dev/open-inference"), Ok(AppProtocol::OpenInference)),
            (Some("http"), Ok(AppProtocol::Http)),
            (Some("HTTP"), Ok(AppProtocol::Http)),
            (Some("kubernetes.io/h2c"), Ok(AppProtocol::Http2)),
            (Some("kubernetes.io/ws"), Ok(AppProtocol::Http)),
            (Some("kubernetes.io/wss"), Ok(AppProtocol::Tcp)),
            (Some("https"), Ok(AppProtocol::Tcp)),
            (Some("grpc"), Ok(AppProtocol::Grpc)),
            (Some("mysql"), Ok(AppProtocol::Tcp)),
            (Some("detect"), Ok(AppProtocol::Detect)),
            (Some("mesh.dev/triton"), Err(())),
            (Some(""), Err(())),
        ] {
            assert_eq!(read(word), wanted, "{word:?}");
        }
    }
}
