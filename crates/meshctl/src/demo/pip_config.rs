//! Makes uv look for packages where pip is configured to: indexes, proxies, certificates.
//!
//! uv reads none of pip's configuration, so what `pip config list` shows is put into uv's environment variables. A
//! variable of uv's own that is set already wins.

use std::collections::BTreeMap;
use std::path::Path;

/// Where Linux distributions keep the system's certificates, which pip trusts and uv by default does not.
const SYSTEM_CERTIFICATES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// pip's settings, later ones winning over earlier ones.
const SECTIONS: &[&str] = &["global", "install", ":env:"];

/// uv's environment for pip's configuration: `listing` is the output of `pip config list`, `is_set` tells whether the
/// environment has a variable already, `exists` whether there is a file or folder.
pub(super) fn uv_environment(
    listing: &str,
    is_set: impl Fn(&str) -> bool,
    exists: impl Fn(&Path) -> bool,
) -> BTreeMap<&'static str, String> {
    let settings = settings(listing);
    let get = |name: &str| settings.get(name).filter(|value| !value.is_empty()).cloned();
    let mut environment = BTreeMap::new();
    let mut set = |variable, value: Option<String>| {
        if let Some(value) = value.filter(|_| !is_set(variable)) {
            environment.insert(variable, value);
        }
    };
    let indexed = is_set("UV_INDEX_URL") || is_set("UV_EXTRA_INDEX_URL") || is_set("UV_DEFAULT_INDEX");
    if !indexed {
        set("UV_DEFAULT_INDEX", get("index-url").or_else(|| get("index")));
        // pip takes the best of all indexes, uv by default the first that knows the package.
        set(
            "UV_INDEX_STRATEGY",
            get("extra-index-url").map(|_| "unsafe-best-match".to_owned()),
        );
        set("UV_INDEX", get("extra-index-url"));
    }
    set(
        "UV_FIND_LINKS",
        get("find-links").and_then(|places| find_links(&places, &exists)),
    );
    set(
        "UV_NO_INDEX",
        get("no-index")
            .filter(|value| is_true(value))
            .map(|_| "1".to_owned()),
    );
    set("UV_INSECURE_HOST", get("trusted-host"));
    set(
        "UV_HTTP_TIMEOUT",
        get("timeout").or_else(|| get("default-timeout")),
    );
    set("UV_CONSTRAINT", get("constraint"));
    set("SSL_CLIENT_CERT", get("client-cert"));
    set("ALL_PROXY", get("proxy"));
    let system = || {
        SYSTEM_CERTIFICATES
            .iter()
            .find(|file| exists(Path::new(file)))
            .map(|&file| file.to_owned())
    };
    set("SSL_CERT_FILE", get("cert").or_else(system));
    environment
}

/// Each setting's value, unquoted, with several values apart by spaces.
fn settings(listing: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for section in SECTIONS {
        let of_section = listing
            .lines()
            .filter_map(|line| line.trim().strip_prefix(section)?.strip_prefix('.'));
        for (name, value) in of_section.filter_map(|line| line.split_once('=')) {
            let value = value.trim().trim_matches(['\'', '"']).replace("\\n", " ");
            settings.insert(
                name.to_owned(),
                value.split_whitespace().collect::<Vec<_>>().join(" "),
            );
        }
    }
    settings
}

/// pip passes over folders that do not exist; to uv they are an error.
fn find_links(places: &str, exists: impl Fn(&Path) -> bool) -> Option<String> {
    let is_there = |place: &&str| match place.strip_prefix("file://") {
        Some(path) => exists(Path::new(path)),
        None => place.contains("://") || exists(Path::new(place)),
    };
    let places: Vec<&str> = places.split(' ').filter(is_there).collect();
    (!places.is_empty()).then(|| places.join(","))
}

fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a listing, with these variables set and these files there (both apart by spaces).
    fn environment(listing: &str, set: &str, there: &str) -> Vec<String> {
        let exists = |path: &Path| there.split(' ').any(|file| Path::new(file) == path);
        let is_set = |name: &str| set.split(' ').any(|variable| variable == name);
        let environment = uv_environment(listing, is_set, exists);
        environment
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    #[test]
    fn pips_configuration_becomes_uvs() {
        let index = "global.index-url='https://a/simple'";
        let both = format!(":env:.index-url='https://env/simple'\n{index}");
        let extra = "install.extra-index-url='\\nhttps://a/simple\\nhttps://b/simple'";
        let links = "global.find-links='/gone /wheels https://a/wheels'";
        let others = "global.timeout='9'\nglobal.trusted-host='a b'\nglobal.proxy='http://p:1'";
        let cases: [(&str, &str, &str, &[&str]); 14] = [
            ("", "", "", &[]),
            ("nonsense\nglobal.\n=\nglobal.index-url=''\n", "", "", &[]),
            (index, "", "", &["UV_DEFAULT_INDEX=https://a/simple"]),
            (&both, "", "", &["UV_DEFAULT_INDEX=https://env/simple"]),
            (index, "UV_INDEX_URL", "", &[]),
            (
                extra,
                "",
                "",
                &[
                    "UV_INDEX=https://a/simple https://b/simple",
                    "UV_INDEX_STRATEGY=unsafe-best-match",
                ],
            ),
            ("global.find-links='/gone'", "", "", &[]),
            (links, "", "/wheels", &["UV_FIND_LINKS=/wheels,https://a/wheels"]),
            ("global.no-index='false'", "", "", &[]),
            ("global.no-index='yes'", "", "", &["UV_NO_INDEX=1"]),
            (
                "global.cert='/c.pem'",
                "",
                "/etc/ssl/cert.pem",
                &["SSL_CERT_FILE=/c.pem"],
            ),
            ("global.cert='/c.pem'", "SSL_CERT_FILE", "", &[]),
            ("", "", "/etc/ssl/cert.pem", &["SSL_CERT_FILE=/etc/ssl/cert.pem"]),
            (
                others,
                "",
                "",
                &[
                    "ALL_PROXY=http://p:1",
                    "UV_HTTP_TIMEOUT=9",
                    "UV_INSECURE_HOST=a b",
                ],
            ),
        ];
        for (listing, set, there, expected) in cases {
            assert_eq!(environment(listing, set, there), expected, "{listing:?}");
        }
    }
}
