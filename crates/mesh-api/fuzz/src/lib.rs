//! What the fuzz targets have in common: reading a body whole and in pieces, and comparing.
//!
//! Run one with `cargo +nightly fuzz run --fuzz-dir crates/mesh-api/fuzz json -- -max_total_time=60`.

use http::{HeaderMap, HeaderValue, Method};
use mesh_api::inference::{AppProtocol, Head, ModelRequest, Recognition, RefusalReason, recognise};

/// A request whose body is fuzzed.
pub struct Ask {
    /// What its port speaks.
    pub protocol: AppProtocol,
    /// Its path.
    pub target: &'static str,
    /// Its headers.
    pub headers: HeaderMap,
}

impl Ask {
    /// A request with at most one header.
    pub fn new(
        protocol: AppProtocol,
        target: &'static str,
        header: Option<(&'static str, &'static str)>,
    ) -> Self {
        let headers = header.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        Self {
            protocol,
            target,
            headers: headers.into_iter().collect(),
        }
    }

    /// Reads a body in chunks of `size` bytes: every message, and the answer at the end.
    pub fn read(&self, body: &[u8], size: usize) -> Result<(Vec<ModelRequest>, ModelRequest), RefusalReason> {
        let head = Head {
            method: &Method::POST,
            target: self.target,
            headers: &self.headers,
        };
        let Ok(Recognition::Body(mut scanner)) = recognise(self.protocol, &head) else {
            panic!("{} has its name in the body", self.target);
        };
        let mut told = Vec::new();
        for chunk in body.chunks(size.max(1)) {
            scanner
                .push_messages(chunk, |request| told.push(request.clone()))
                .map_err(|refusal| {
                    assert!(refusal.detail.len() < 256);
                    refusal.reason
                })?;
        }
        let last = scanner.finish().map_err(|refusal| refusal.reason)?;
        Ok((told, last))
    }

    /// Reads a body whole and in chunks of a size that `data` chooses, and checks that the answers are the same.
    pub fn read_both_ways(
        &self,
        body: &[u8],
        size: u8,
    ) -> Result<(Vec<ModelRequest>, ModelRequest), RefusalReason> {
        let whole = self.read(body, usize::MAX);
        assert_eq!(whole, self.read(body, usize::from(size % 16) + 1));
        whole
    }
}
