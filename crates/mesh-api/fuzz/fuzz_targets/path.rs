//! Heads of every protocol: no panic, and names that stand where the answer says they stand.
#![no_main]

use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use mesh_api::inference::{AppProtocol, Head, Place, Recognition, recognise};

fuzz_target!(|data: &[u8]| {
    let [choice, rest @ ..] = data else { return };
    let protocol = AppProtocol::ALL[usize::from(choice & 15) % AppProtocol::ALL.len()];
    let method =
        [Method::POST, Method::GET, Method::DELETE, Method::OPTIONS][usize::from(choice >> 4 & 3)].clone();
    let mut parts = rest.splitn(2, |&byte| byte == 0);
    let Some(Ok(target)) = parts.next().map(std::str::from_utf8) else {
        return;
    };
    let mut headers = HeaderMap::new();
    if let Some(Ok(value)) = parts.next().map(HeaderValue::from_bytes) {
        headers.insert(
            if choice & 64 == 0 {
                "seldon-model"
            } else {
                "content-type"
            },
            value,
        );
    }
    let head = Head {
        method: &method,
        target,
        headers: &headers,
    };
    match recognise(protocol, &head) {
        Ok(Recognition::Known(request)) => {
            if let Place::Path(place) = &request.place {
                assert!(
                    target
                        .get(place.name.clone())
                        .is_some_and(|name| !name.is_empty())
                );
                assert!(place.name.end <= place.version.start);
                let version = target.get(place.version.clone()).unwrap();
                assert_eq!(version.is_empty(), request.version.is_none());
                assert!(request.model.is_some());
            }
        }
        Ok(Recognition::Plain | Recognition::Body(_)) => {}
        Err(refusal) => assert!(refusal.detail.len() < 512, "{refusal}"),
    }
});
