//! gRPC bodies of TensorFlow Serving: the same answer at any cut, and the one that prost gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_api::inference::AppProtocol;
use mesh_api_fuzz::Ask;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct ModelSpec {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, optional, tag = "1")]
    model_spec: Option<ModelSpec>,
}

fuzz_target!(|data: &[u8]| {
    let [size, flags, body @ ..] = data else { return };
    let multi = flags & 1 == 1;
    let target = if multi {
        "/tensorflow.serving.PredictionService/MultiInference"
    } else {
        "/tensorflow.serving.PredictionService/Predict"
    };
    let ask = Ask::new(AppProtocol::TensorFlow, target, None);
    // With a valid prefix (mostly), or without.
    let framed = flags & 2 == 0;
    let body = if framed {
        [&[0][..], &(body.len() as u32).to_be_bytes(), body].concat()
    } else {
        body.to_vec()
    };
    let Ok((_, request)) = ask.read_both_ways(&body, *size) else {
        return;
    };
    if framed
        && !multi
        && let Ok(message) = Request::decode(&body[5..])
    {
        let expected = message
            .model_spec
            .map(|spec| spec.name)
            .filter(|name| !name.is_empty());
        assert_eq!(request.model.map(|model| model.to_string()), expected);
    }
});
