//! An answer that sends the client elsewhere, without asking any server.

use http::StatusCode;
use http::uri::Authority;
use serde::{Serialize, Serializer};

use super::PathRewrite;

/// The statuses a redirect may have.
pub const REDIRECT_STATUSES: [StatusCode; 5] = [
    StatusCode::MOVED_PERMANENTLY,
    StatusCode::FOUND,
    StatusCode::SEE_OTHER,
    StatusCode::TEMPORARY_REDIRECT,
    StatusCode::PERMANENT_REDIRECT,
];

/// Where a client is sent. What it does not say stays as it was in the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// Over HTTP or HTTPS.
    pub scheme: Option<Scheme>,
    /// To this host.
    pub host: Option<Box<str>>,
    /// To this port.
    pub port: Option<u16>,
    /// To this path.
    pub path: Option<PathRewrite>,
    /// One of [`REDIRECT_STATUSES`].
    #[serde(serialize_with = "status_as_number")]
    pub status: StatusCode,
}

/// What a URL begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// As URLs write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What a request was sent to.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What its URL began with.
    pub scheme: Scheme,
    /// Its host, and port if it said one.
    pub authority: Option<&'a Authority>,
    /// The port it came in by: the service's.
    pub port: u16,
    /// Its path, without the query.
    pub path: &'a str,
    /// Its query.
    pub query: Option<&'a str>,
}

impl Redirect {
    /// The URL that a client is sent to, for the header `location`.
    ///
    /// A port that is not said is the well-known one of the scheme, if that is said, or else the one the request came in
    /// by; the well-known port of the scheme is never written (Gateway API, HTTPRequestRedirectFilter).
    pub fn location(&self, asked: &Asked<'_>) -> String {
        let scheme = self.scheme.unwrap_or(asked.scheme);
        let host = self
            .host
            .as_deref()
            .or(asked.authority.map(Authority::host))
            .unwrap_or_default();
        let port = match (self.port, self.scheme) {
            (Some(port), _) => port,
            (None, Some(scheme)) => scheme.port(),
            (None, None) => asked.port,
        };
        let path = match &self.path {
            Some(rewrite) => rewrite.apply(asked.path),
            None => asked.path.into(),
        };
        let mut url = format!("{}://{host}", scheme.as_str());
        if port != scheme.port() {
            url.push_str(&format!(":{port}"));
        }
        url.push_str(&path);
        if let Some(query) = asked.query {
            url.push('?');
            url.push_str(query);
        }
        url
    }
}

fn status_as_number<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(scheme: Option<Scheme>, host: Option<&str>, port: Option<u16>) -> Redirect {
        Redirect {
            scheme,
            host: host.map(Into::into),
            port,
            path: None,
            status: StatusCode::FOUND,
        }
    }

    #[test]
    fn ports_follow_the_scheme() {
        use Scheme::{Http, Https};
        for (scheme, host, port, came_in_by, expected) in [
            (None, None, None, 80, "http://fraud.ml/a?b=c"),
            (None, None, None, 8080, "http://fraud.ml:8080/a?b=c"),
            (
                None,
                Some("example.org"),
                None,
                8080,
                "http://example.org:8080/a?b=c",
            ),
            (None, None, Some(8083), 80, "http://fraud.ml:8083/a?b=c"),
            (None, None, Some(80), 8080, "http://fraud.ml/a?b=c"),
            (None, None, Some(443), 80, "http://fraud.ml:443/a?b=c"),
            (Some(Https), None, None, 8080, "https://fraud.ml/a?b=c"),
            (Some(Https), None, Some(443), 80, "https://fraud.ml/a?b=c"),
            (Some(Https), None, Some(8443), 80, "https://fraud.ml:8443/a?b=c"),
            (Some(Http), None, None, 8080, "http://fraud.ml/a?b=c"),
            (
                Some(Http),
                Some("example.org"),
                Some(80),
                80,
                "http://example.org/a?b=c",
            ),
        ] {
            let authority = "fraud.ml:8080".parse().unwrap();
            let asked = Asked {
                scheme: Http,
                authority: Some(&authority),
                port: came_in_by,
                path: "/a",
                query: Some("b=c"),
            };
            let location = redirect(scheme, host, port).location(&asked);
            assert_eq!(location, expected, "{scheme:?} {host:?} {port:?} {came_in_by}");
        }
    }

    #[test]
    fn paths_are_rewritten_and_queries_stay() {
        let authority = "[fd00::7]".parse().unwrap();
        let asked = Asked {
            scheme: Scheme::Http,
            authority: Some(&authority),
            port: 80,
            path: "/old/models",
            query: None,
        };
        for (path, expected) in [
            (PathRewrite::prefix("/old", "/new"), "http://[fd00::7]/new/models"),
            (PathRewrite::full("/there"), "http://[fd00::7]/there"),
        ] {
            let to = Redirect {
                path: Some(path),
                ..redirect(None, None, None)
            };
            assert_eq!(to.location(&asked), expected);
        }
    }
}
