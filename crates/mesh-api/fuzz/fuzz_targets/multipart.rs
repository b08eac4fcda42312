//! Multipart bodies: the same answer at any cut, and a value that stands in the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_api::inference::{AppProtocol, Place};
use mesh_api_fuzz::Ask;

fuzz_target!(|data: &[u8]| {
    let [size, body @ ..] = data else { return };
    let media = Some(("content-type", "multipart/form-data; boundary=b"));
    let ask = Ask::new(AppProtocol::OpenAi, "/v1/audio/transcriptions", media);
    let Ok((_, request)) = ask.read_both_ways(body, *size) else {
        return;
    };
    if let (Some(model), Place::Multipart(at)) = (request.model, request.place) {
        assert_eq!(
            &body[at.start as usize..at.end as usize],
            model.as_str().as_bytes()
        );
    }
});
