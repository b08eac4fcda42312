//! JSON bodies: the same answer at any cut, and the one that serde_json gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_api::inference::AppProtocol;
use mesh_api_fuzz::Ask;

fuzz_target!(|data: &[u8]| {
    let [size, body @ ..] = data else { return };
    let ask = Ask::new(AppProtocol::OpenAi, "/v1/chat/completions", None);
    let Ok((_, request)) = ask.read_both_ways(body, *size) else {
        return;
    };
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) {
        let expected = value
            .get("model")
            .and_then(serde_json::Value::as_str)
            .filter(|name| !name.is_empty());
        assert_eq!(request.model.as_ref().map(|model| model.as_str()), expected);
    }
});
