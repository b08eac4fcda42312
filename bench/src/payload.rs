//! The model requests and responses of the bench: Open Inference V2 over REST and gRPC, for a model `fraud`, each of
//! exactly 1 KiB.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// The path of a V2 REST inference.
pub(crate) const HTTP_PATH: &str = "/v2/models/fraud/infer";
/// The path of a V2 gRPC inference.
pub(crate) const GRPC_PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
/// The size of every body, in bytes; gRPC's five-byte frame header comes on top.
pub(crate) const SIZE: usize = 1024;
/// The size of the frame header that gRPC puts before a message, in bytes.
pub(crate) const GRPC_HEADER: usize = 5;

const MODEL: &str = "fraud";

/// The body of a REST request.
pub(crate) fn http_request() -> Bytes {
    fill(SIZE, |padding| {
        format!(
            r#"{{"id":"{padding}","inputs":[{{"name":"features","shape":[1,64],"datatype":"FP32","data":[{}]}}]}}"#,
            numbers()
        )
        .into_bytes()
    })
}

/// The body of a REST response.
pub(crate) fn http_response() -> Bytes {
    fill(SIZE, |padding| {
        format!(
            r#"{{"model_name":"{MODEL}","model_version":"1","id":"{padding}","outputs":[{{"name":"score","shape":[1,64],"datatype":"FP32","data":[{}]}}]}}"#,
            numbers()
        )
        .into_bytes()
    })
}

/// The body of a gRPC request, in its frame.
pub(crate) fn grpc_request() -> Bytes {
    frame(&fill(SIZE, |padding| {
        ModelInferRequest {
            model_name: MODEL.to_owned(),
            model_version: String::new(),
            id: padding.to_owned(),
            inputs: vec![Tensor::new("features")],
            raw_input_contents: vec![vec![0x3f; TENSOR_BYTES]],
        }
        .encode_to_vec()
    }))
}

/// The body of a gRPC response, in its frame.
pub(crate) fn grpc_response() -> Bytes {
    frame(&fill(SIZE, |padding| {
        ModelInferResponse {
            model_name: MODEL.to_owned(),
            model_version: "1".to_owned(),
            id: padding.to_owned(),
            outputs: vec![Tensor::new("score")],
            raw_output_contents: vec![vec![0x3f; TENSOR_BYTES]],
        }
        .encode_to_vec()
    }))
}

const TENSOR_ITEMS: i64 = 160;
const TENSOR_BYTES: usize = TENSOR_ITEMS as usize * 4;

/// `ModelInferRequest` of the Open Inference Protocol, as far as the bench fills it in.
#[derive(Clone, PartialEq, Message)]
struct ModelInferRequest {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Tensor>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    raw_input_contents: Vec<Vec<u8>>,
}

/// `ModelInferResponse` of the Open Inference Protocol, as far as the bench fills it in.
#[derive(Clone, PartialEq, Message)]
struct ModelInferResponse {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Tensor>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    raw_output_contents: Vec<Vec<u8>>,
}

/// The description of a tensor whose content travels raw.
#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

impl Tensor {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, TENSOR_ITEMS],
        }
    }
}

/// Sixty-four numbers as a feature vector has them.
fn numbers() -> String {
    (0..64)
        .map(|i| format!("{}.{:04}", i % 7, (i * 7919) % 10_000))
        .collect::<Vec<_>>()
        .join(",")
}

/// What `build` makes of just so much padding that it has `size` bytes.
fn fill(size: usize, build: impl Fn(&str) -> Vec<u8>) -> Bytes {
    let mut padding = String::new();
    loop {
        let body = build(&padding);
        if body.len() >= size {
            return body.into();
        }
        padding.push('0');
    }
}

/// A gRPC message in its frame: not compressed, four bytes of length, the message.
fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(GRPC_HEADER + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_is_one_kibibyte() {
        for (name, body, expected) in [
            ("http request", http_request(), SIZE),
            ("http response", http_response(), SIZE),
            ("grpc request", grpc_request(), SIZE + GRPC_HEADER),
            ("grpc response", grpc_response(), SIZE + GRPC_HEADER),
        ] {
            assert_eq!(body.len(), expected, "{name}");
        }
    }

    #[test]
    fn rest_bodies_are_json_of_the_v2_form() {
        let request: serde_json::Value = serde_json::from_slice(&http_request()).expect("json");
        assert_eq!(request["inputs"][0]["data"].as_array().map(Vec::len), Some(64));
        let response: serde_json::Value = serde_json::from_slice(&http_response()).expect("json");
        assert_eq!(response["model_name"], "fraud");
    }

    #[test]
    fn grpc_bodies_name_the_model() {
        let request = ModelInferRequest::decode(&grpc_request()[GRPC_HEADER..]).expect("proto");
        assert_eq!(
            (request.model_name.as_str(), request.raw_input_contents[0].len()),
            ("fraud", TENSOR_BYTES)
        );
        let response = ModelInferResponse::decode(&grpc_response()[GRPC_HEADER..]).expect("proto");
        assert_eq!(
            (response.model_name.as_str(), response.model_version.as_str()),
            ("fraud", "1")
        );
    }
}
