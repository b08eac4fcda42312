//! The model requests and responses of the bench: Open Inference V2 over REST and gRPC, for a model `fraud`, chat
//! completions of the OpenAI API, and the chunks of streams.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use rustix::time::{ClockId, clock_gettime};

use crate::scenario::Protocol;

/// The path of a V2 REST inference.
pub(crate) const HTTP_PATH: &str = "/v2/models/fraud/infer";
/// The path of a V2 gRPC inference.
pub(crate) const GRPC_PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
/// The path of a V2 gRPC stream of inferences.
pub(crate) const GRPC_STREAM_PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// The path of a chat completion.
pub(crate) const CHAT_PATH: &str = "/v1/chat/completions";
/// The size of a body unless it says otherwise, in bytes; gRPC's five-byte frame header comes on top.
pub(crate) const SIZE: usize = 1024;
/// The size of the frame header that gRPC puts before a message, in bytes.
pub(crate) const GRPC_HEADER: usize = 5;

const MODEL: &str = "fraud";

/// How many bytes a chunk of a stream has, whatever frames it.
pub(crate) const CHUNK: usize = 256;
/// How many chunks a stream has.
pub(crate) const CHUNKS: usize = 100;
/// The time from one chunk of a stream to the next.
pub(crate) const CHUNK_PERIOD: Duration = Duration::from_millis(20);
/// The size of a chat completion's request, in bytes.
const CHAT_SIZE: usize = 1_000_000;
/// What a chunk's time is written behind, in each protocol.
const SSE_BEGIN: &[u8] = b"data: {\"object\":\"chat.completion.chunk\",\"sent\":\"";

/// The body of a REST request of so many bytes.
pub(crate) fn http_request(size: usize) -> Bytes {
    fill(size, |padding| {
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

/// A chat completion of 1 MB whose model's name comes first, or last.
pub(crate) fn chat_request(is_first: bool) -> Bytes {
    fill(CHAT_SIZE, |padding| {
        let messages: String = format!(r#"[{{"role":"user","content":"{padding}"}}]"#);
        if is_first {
            format!(r#"{{"model":"{MODEL}","messages":{messages}}}"#).into_bytes()
        } else {
            format!(r#"{{"messages":{messages},"model":"{MODEL}"}}"#).into_bytes()
        }
    })
}

/// A chat completion that is to be streamed.
pub(crate) fn stream_request() -> Bytes {
    Bytes::from_static(
        br#"{"model":"fraud","stream":true,"messages":[{"role":"user","content":"Why was my card declined?"}]}"#,
    )
}

/// Whether a chat completion is to be streamed.
pub(crate) fn wants_stream(body: &[u8]) -> bool {
    body == stream_request()
}

/// A chunk of a stream, sent now.
pub(crate) fn chunk(protocol: Protocol) -> Bytes {
    let mut chunk = BytesMut::with_capacity(CHUNK);
    match protocol {
        Protocol::Grpc => {
            chunk.put_u8(0);
            chunk.put_u32((CHUNK - GRPC_HEADER) as u32);
            // A message with one field of bytes: number 15, two bytes of length.
            chunk.put_slice(&[0x7a, 0xf8, 0x01]);
        }
        Protocol::Http1 | Protocol::Http2 => chunk.put_slice(SSE_BEGIN),
    }
    chunk.put_slice(format!("{:016x}", nanoseconds()).as_bytes());
    match protocol {
        Protocol::Grpc => chunk.resize(CHUNK, b'0'),
        Protocol::Http1 | Protocol::Http2 => {
            chunk.put_slice(b"\",\"content\":\"");
            chunk.resize(CHUNK - 5, b'0');
            chunk.put_slice(b"\"} \n\n");
        }
    }
    chunk.truncate(CHUNK);
    chunk.freeze()
}

/// How long ago a chunk was sent.
pub(crate) fn age_of_chunk(chunk: &[u8], protocol: Protocol) -> Result<Duration> {
    let at = match protocol {
        Protocol::Grpc => GRPC_HEADER + 3,
        Protocol::Http1 | Protocol::Http2 => SSE_BEGIN.len(),
    };
    let sent = chunk
        .get(at..at + 16)
        .and_then(|digits| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .context("a chunk does not say when it was sent")?;
    Ok(Duration::from_nanos(nanoseconds().saturating_sub(sent)))
}

/// The machine's monotonic clock, the same for all processes.
fn nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
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
        let Some(missing @ 1..) = size.checked_sub(body.len()) else {
            return body.into();
        };
        // A longer padding may need a longer length before it, in protobuf: the last bytes come one by one.
        let more = if missing > 16 { missing - 8 } else { 1 };
        padding.extend(std::iter::repeat_n('0', more));
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
    fn every_body_has_its_size() {
        for (name, body, expected) in [
            ("http request", http_request(SIZE), SIZE),
            ("large http request", http_request(8 << 20), 8 << 20),
            ("chat request, model first", chat_request(true), CHAT_SIZE),
            ("chat request, model last", chat_request(false), CHAT_SIZE),
            ("http response", http_response(), SIZE),
            ("grpc request", grpc_request(), SIZE + GRPC_HEADER),
            ("grpc response", grpc_response(), SIZE + GRPC_HEADER),
        ] {
            assert_eq!(body.len(), expected, "{name}");
        }
    }

    #[test]
    fn rest_bodies_are_json_of_the_v2_form() {
        let request: serde_json::Value = serde_json::from_slice(&http_request(SIZE)).expect("json");
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

    #[test]
    fn chunks_have_their_size_and_tell_their_age() {
        for protocol in [Protocol::Http1, Protocol::Grpc] {
            let chunk = chunk(protocol);
            assert_eq!(chunk.len(), CHUNK);
            let age = age_of_chunk(&chunk, protocol).expect("an age");
            assert!(age < Duration::from_secs(60), "{age:?}");
            assert!(age_of_chunk(&chunk[..20], protocol).is_err());
        }
    }
}
