//! gRPC bodies of Open Inference V2, streams and compressed messages included: the same answers at any cut, and the one
//! that prost gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_api::inference::AppProtocol;
use mesh_api_fuzz::Ask;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct ModelInfer {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
}

fuzz_target!(|data: &[u8]| {
    let [size, flags, body @ ..] = data else { return };
    let encoding = match flags >> 2 & 3 {
        0 => None,
        1 => Some(("grpc-encoding", "gzip")),
        2 => Some(("grpc-encoding", "deflate")),
        _ => Some(("grpc-encoding", "snappy")),
    };
    match flags & 3 {
        0 => {
            let ask = Ask::new(
                AppProtocol::Grpc,
                "/inference.GRPCInferenceService/ModelInfer",
                encoding,
            );
            let framed = [&[0][..], &(body.len() as u32).to_be_bytes(), body].concat();
            let Ok((_, request)) = ask.read_both_ways(&framed, *size) else {
                return;
            };
            if let Ok(message) = ModelInfer::decode(body) {
                assert_eq!(
                    request.model.map_or(String::new(), |model| model.to_string()),
                    message.model_name
                );
                let version = request
                    .version
                    .map_or(String::new(), |version| version.to_string());
                assert_eq!(version, message.model_version);
            }
        }
        1 => {
            let target = "/inference.GRPCInferenceService/RepositoryModelLoad";
            let framed = [&[0][..], &(body.len() as u32).to_be_bytes(), body].concat();
            drop(Ask::new(AppProtocol::Grpc, target, None).read_both_ways(&framed, *size));
        }
        _ => {
            let target = "/inference.GRPCInferenceService/ModelStreamInfer";
            let ask = Ask::new(AppProtocol::OpenInference, target, encoding);
            let whole = ask.read(body, usize::MAX);
            let pieces = ask.read(body, usize::from(*size % 16) + 1);
            // What a broken stream inflated to before it broke depends on where it was cut.
            assert_eq!(whole.as_ref().ok(), pieces.as_ref().ok());
        }
    }
});
