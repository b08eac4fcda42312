//! First bytes of a connection: an answer, once there is one, holds however the bytes are cut and whatever follows, and
//! there always is one within the bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_proxy::intercept::detect::{MAX_PREFIX, Spoken, detect, head_end, http1_host};

fuzz_target!(|data: &[u8]| {
    let [size, bytes @ ..] = data else { return };
    let whole = detect(bytes);
    let step = usize::from(*size) % 64 + 1;
    let pieces = (0..bytes.len()).step_by(step).chain([bytes.len()]);
    let first = pieces.filter_map(|length| detect(&bytes[..length])).next();
    assert_eq!(first, whole);
    if whole.is_none() {
        let mut more = bytes.to_vec();
        more.resize(MAX_PREFIX.max(bytes.len()), *size);
        assert!(detect(&more).is_some());
    }
    if let Some(Spoken::Tls(hello)) = &whole {
        assert!(hello.protocols.len() <= 16);
        assert!(hello.server_name.as_ref().is_none_or(|name| !name.is_empty() && name.len() <= 253));
    }
    if let Some(host) = http1_host(bytes) {
        assert!(!host.is_empty() && head_end(bytes).is_some());
    }
});
