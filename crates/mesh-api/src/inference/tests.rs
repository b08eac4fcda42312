//! Heads, protocol by protocol: what each path means, and which ones are refused.

use http::{HeaderMap, HeaderValue, header};

use super::*;

fn ask(
    protocol: AppProtocol,
    method: &str,
    target: &str,
    headers: &[(&'static str, &str)],
) -> Result<Recognition, Refusal> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    recognise(
        protocol,
        &Head {
            method: &method.parse().unwrap(),
            target,
            headers: &map,
        },
    )
}

/// What a head says, in one line: `operation model@version`, `body operation`, `plain` or the reason of a refusal.
fn say(protocol: AppProtocol, method: &str, target: &str, headers: &[(&'static str, &str)]) -> String {
    match ask(protocol, method, target, headers) {
        Ok(Recognition::Plain) => "plain".to_owned(),
        Ok(Recognition::Known(request)) => describe(&request),
        Ok(Recognition::Body(scanner)) => format!("body {}", scanner.operation()),
        Err(refusal) => refusal.reason.to_string(),
    }
}

pub(super) fn describe(request: &ModelRequest) -> String {
    let mut line = request.operation.to_string();
    if let Some(model) = &request.model {
        line = format!("{line} {model}");
    }
    match &request.version {
        Some(ModelVersion::Exact(_)) => format!("{line}@{}", request.version.as_ref().unwrap()),
        Some(ModelVersion::Label(_)) => format!("{line}@label:{}", request.version.as_ref().unwrap()),
        None => line,
    }
}

fn table(protocol: AppProtocol, cases: &[(&str, &str)]) {
    for (request, expected) in cases {
        let (method, target) = request.split_once(' ').unwrap();
        assert_eq!(
            say(protocol, method, target, &[]),
            *expected,
            "{protocol} {request}"
        );
    }
}

#[test]
fn tensorflow_paths() {
    table(
        AppProtocol::TensorFlow,
        &[
            ("POST /v1/models/half:predict", "predict half"),
            ("POST /v1/models/half:classify", "classify half"),
            ("POST /v1/models/half:regress", "regress half"),
            ("POST /v1/models/half/versions/123:predict", "predict half@123"),
            (
                "POST /v1/models/half/labels/stable:predict",
                "predict half@label:stable",
            ),
            ("GET /v1/models", "metadata"),
            ("GET /v1/models/half", "metadata half"),
            ("GET /v1/models/half/metadata", "metadata half"),
            ("GET /v1/models/half/versions/7", "metadata half@7"),
            ("GET /v1/models/half/versions/7/metadata", "metadata half@7"),
            (
                "GET /v1/models/half/labels/canary/metadata",
                "metadata half@label:canary",
            ),
            ("GET /v1/models/metadata", "metadata metadata"),
            ("GET /monitoring/prometheus/metrics", "plain"),
            ("GET /", "plain"),
            ("POST /v1/models/half:explain", "ambiguous-path"),
            ("POST /v1/models/a:b:predict", "ambiguous-path"),
            ("POST /v1/models/half/other/7:predict", "ambiguous-path"),
            ("POST /v1/models/half/versions/x:predict", "ambiguous-version"),
            (
                "POST /v1/models/half/versions/99999999999999999999:predict",
                "ambiguous-version",
            ),
        ],
    );
}

#[test]
fn trap_1_tensorflow_matches_letters_in_either_case_and_decodes_names_after_the_match() {
    table(
        AppProtocol::TensorFlow,
        &[
            ("POST /V1/Models/Half:PREDICT", "predict Half"),
            ("POST /v1/models/Half/VERSIONS/007:predict", "predict Half@7"),
            ("POST /v1/models/a%2Fb:predict", "predict a/b"),
            ("POST /v1/models/%73ecret:predict", "predict secret"),
            ("POST /v1/models/a%3Ab:predict", "predict a:b"),
            ("POST /v1/models/m/labels/%61:predict", "predict m@label:a"),
            ("POST http://host:8501/v1/models/m:predict", "predict m"),
            // Escapes elsewhere: the server does not decode them, others do.
            ("POST /v1/m%6fdels/m:predict", "ambiguous-path"),
            ("POST /v1%2Fmodels/m:predict", "ambiguous-path"),
            ("POST /v1/models/m%3Apredict", "ambiguous-path"),
            ("POST /v1/models/m:predict%00", "ambiguous-path"),
            ("POST /v1/models/%2e%2e:predict", "ambiguous-path"),
            ("POST /v1/models/../models/m:predict", "ambiguous-path"),
            ("POST /v1//models/m:predict", "ambiguous-path"),
            ("POST /v1/models/m;x=y:predict", "ambiguous-path"),
            ("POST /v1\\models\\m:predict", "ambiguous-path"),
            // The server takes the query for a part of the name.
            ("GET /v1/models/m?x=y", "ambiguous-path"),
            ("POST /v1/models/m:predict?x=y", "ambiguous-path"),
            ("POST /v1/models/m%ff:predict", "bad-name"),
        ],
    );
}

#[test]
fn open_inference_paths() {
    table(
        AppProtocol::OpenInference,
        &[
            ("POST /v2/models/fraud/infer", "infer fraud"),
            ("POST /v2/models/fraud/versions/3/infer", "infer fraud@3"),
            ("POST /v2/models/fraud/versions/v1.2/infer", "infer fraud@v1.2"),
            ("POST /v2/models/fraud/generate", "generate fraud"),
            ("POST /v2/models/fraud/generate_stream", "generate fraud"),
            (
                "POST /v2/models/fraud/versions/3/infer_stream?x=y",
                "infer fraud@3",
            ),
            ("GET /v2/models/fraud", "metadata fraud"),
            ("GET /v2/models/fraud/versions/3", "metadata fraud@3"),
            ("GET /v2/models/fraud/ready", "health fraud"),
            ("GET /v2/models/fraud/versions/3/ready", "health fraud@3"),
            ("GET /v2/models/fraud/config", "metadata fraud"),
            ("GET /v2/models/fraud/stats", "metadata fraud"),
            ("GET /v2/models/stats", "metadata"),
            ("POST /v2/models/fraud/trace/setting", "admin fraud"),
            ("POST /v2/models/fraud/unknown", "other fraud"),
            ("GET /v2", "metadata"),
            ("GET /v2/", "metadata"),
            ("GET /v2/models", "metadata"),
            ("GET /v2/health/live", "health"),
            ("GET /v2/health/ready", "health"),
            ("POST /v2/repository/index", "admin"),
            ("POST /v2/repository/models/fraud/load", "admin fraud"),
            ("POST /v2/repository/main/models/fraud/unload", "admin fraud"),
            ("POST /v2/systemsharedmemory/region/x/register", "admin"),
            ("GET /v2/cudasharedmemory/status", "admin"),
            ("POST /v2/logging", "admin"),
            ("POST /v2/trace/setting", "admin"),
            ("POST /invocations", "score"),
            ("GET /metrics", "plain"),
            ("POST /v2/unknown", "other"),
        ],
    );
}

#[test]
fn trap_1_open_inference_refuses_what_servers_read_differently() {
    table(
        AppProtocol::OpenInference,
        &[
            ("POST /V2/Models/fraud/INFER", "infer fraud"),
            ("POST /v2/models/my%20model/infer/", "infer my model"),
            ("POST /v2/models/a%3Ab/infer", "infer a:b"),
            ("POST /v2/models/fr%61ud/infer", "ambiguous-path"),
            ("POST /v2/models/a%2Fb/infer", "ambiguous-path"),
            ("POST /v2/models/a%252Fb/infer", "ambiguous-path"),
            ("POST /v2/models/fraud/%69nfer", "ambiguous-path"),
            ("POST /v2/models//infer", "ambiguous-path"),
            ("POST /v2/models/x/../fraud/infer", "ambiguous-path"),
            ("POST /v2/models/fraud;v=1/infer", "ambiguous-path"),
            ("POST /v2/models/fraud/versions/01/infer", "ambiguous-version"),
            ("POST /v2/models/fraud/versions/+1/infer", "ambiguous-version"),
            ("POST /v2/models/fraud/versions/%201/infer", "ambiguous-version"),
            ("POST /v2/models/fraud/versions/0/infer", "infer fraud@0"),
        ],
    );
}

#[test]
fn kserve_paths() {
    table(
        AppProtocol::KServe,
        &[
            ("POST /v1/models/iris:predict", "predict iris"),
            ("POST /v1/models/iris:explain", "explain iris"),
            ("POST /v1/models/a:b:predict", "predict a:b"),
            ("GET /v1/models/iris", "health iris"),
            ("GET /v1/models", "metadata"),
            ("POST /v1/models/iris/versions/2:predict", "predict iris@2"),
            (
                "POST /v1/models/iris/labels/canary:predict",
                "predict iris@label:canary",
            ),
            ("GET /v1/models/iris/metadata", "metadata iris"),
            ("POST /v2/models/iris/infer", "infer iris"),
            ("POST /openai/v1/chat/completions", "body generate"),
            ("POST /v1/models/iris%3Apredict", "ambiguous-path"),
            ("POST /v1/models/a/b:predict", "ambiguous-path"),
            ("POST /v1/models/%69ris:predict", "ambiguous-path"),
            ("GET /metrics", "plain"),
        ],
    );
}

#[test]
fn openai_paths() {
    table(
        AppProtocol::OpenAi,
        &[
            ("POST /v1/chat/completions", "body generate"),
            ("POST /v1/completions", "body generate"),
            ("POST /v1/embeddings", "body embed"),
            ("POST /v1/responses", "body generate"),
            ("POST /v1/rerank", "body rerank"),
            ("POST /v2/rerank", "body rerank"),
            ("POST /v1/images/generations", "body image"),
            ("POST /v1/images/edits", "body image"),
            ("POST /v1/audio/speech", "body audio"),
            ("POST /v1/audio/transcriptions", "body audio"),
            ("POST /v1/messages", "body generate"),
            ("POST /v1/messages/count_tokens?beta=true", "body metadata"),
            ("POST /chat/completions", "body generate"),
            ("POST /openai/v1/chat/completions", "body generate"),
            ("POST /v1beta/openai/chat/completions", "body generate"),
            ("POST /serving-endpoints/chat/completions", "body generate"),
            (
                "POST /openai/deployments/gpt4/chat/completions?api-version=1",
                "generate gpt4",
            ),
            ("POST /V1/Chat/Completions/", "body generate"),
            ("GET /v1/models", "metadata"),
            ("GET /v1/models/llama", "metadata llama"),
            ("GET /v1/models/meta-llama/Llama-3", "metadata meta-llama/Llama-3"),
            (
                "GET /v1/models/meta-llama%2FLlama-3",
                "metadata meta-llama/Llama-3",
            ),
            ("DELETE /v1/models/ft:gpt:x", "admin ft:gpt:x"),
            ("POST /v1/load_lora_adapter", "body admin"),
            ("POST /sleep", "admin"),
            ("GET /v1/realtime?model=gpt-realtime", "generate gpt-realtime"),
            ("GET /v1/realtime?model=a&m%6fdel=b", "duplicate-model"),
            ("GET /v1/chat/completions", "metadata"),
            ("GET /health", "health"),
            ("GET /version", "metadata"),
            ("GET /metrics", "plain"),
            ("POST /app/messages", "plain"),
            ("POST /v1/ch%61t/completions", "ambiguous-path"),
            ("POST /v1//chat/completions", "ambiguous-path"),
            ("POST /v1/chat%2Fcompletions", "ambiguous-path"),
            ("POST /x/../v1/chat/completions", "ambiguous-path"),
            ("GET /v1/models/%61", "ambiguous-path"),
            ("GET /v1/models/a/", "ambiguous-path"),
            ("GET /v1/models/", "metadata"),
        ],
    );
}

#[test]
fn mlflow_paths() {
    table(
        AppProtocol::Mlflow,
        &[
            ("POST /invocations", "score"),
            ("POST /serving-endpoints/churn/invocations", "score churn"),
            (
                "POST /serving-endpoints/churn/served-models/churn-2/invocations",
                "score churn",
            ),
            ("GET /ping", "health"),
            ("GET /health", "health"),
            ("GET /version", "metadata"),
            ("GET /metrics", "plain"),
            ("POST /serving-endpoints/%63hurn/invocations", "ambiguous-path"),
        ],
    );
}

#[test]
fn trap_5_the_declared_protocol_decides() {
    let meanings = AppProtocol::ALL.map(|protocol| say(protocol, "GET", "/v1/models/x", &[]));
    assert_eq!(
        meanings,
        [
            "metadata x",
            "plain",
            "health x",
            "metadata x",
            "plain",
            "plain",
            "plain",
            "plain",
            "plain",
            "plain"
        ]
    );
}

#[test]
fn grpc_services() {
    let grpc: &[(&'static str, &str)] = &[("content-type", "application/grpc+proto")];
    let cases = [
        ("/tensorflow.serving.PredictionService/Predict", "body predict"),
        ("/tensorflow.serving.PredictionService/Classify", "body classify"),
        ("/tensorflow.serving.PredictionService/Regress", "body regress"),
        (
            "/tensorflow.serving.PredictionService/MultiInference",
            "body infer",
        ),
        (
            "/tensorflow.serving.PredictionService/GetModelMetadata",
            "body metadata",
        ),
        ("/tensorflow.serving.ModelService/GetModelStatus", "body metadata"),
        (
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
            "body admin",
        ),
        ("/tensorflow.serving.SessionService/SessionRun", "body predict"),
        ("/tensorflow.serving.Other/Thing", "body other"),
        ("/inference.GRPCInferenceService/ModelInfer", "body infer"),
        ("/inference.GRPCInferenceService/ModelStreamInfer", "body infer"),
        ("/inference.GRPCInferenceService/ModelReady", "body health"),
        ("/inference.GRPCInferenceService/ServerLive", "body health"),
        ("/inference.GRPCInferenceService/ModelMetadata", "body metadata"),
        ("/inference.GRPCInferenceService/RepositoryIndex", "body admin"),
        (
            "/inference.GRPCInferenceService/RepositoryModelLoad",
            "body admin",
        ),
        (
            "/inference.GRPCInferenceService/SystemSharedMemoryRegister",
            "body admin",
        ),
        ("/inference.GRPCInferenceService/TraceSetting", "body admin"),
        ("/inference.GRPCInferenceService/LogSettings", "body admin"),
        ("/grpc.health.v1.Health/Check", "plain"),
    ];
    for (path, expected) in cases {
        for protocol in [
            AppProtocol::TensorFlow,
            AppProtocol::OpenInference,
            AppProtocol::KServe,
            AppProtocol::Grpc,
            AppProtocol::Http2,
            AppProtocol::Http,
        ] {
            assert_eq!(say(protocol, "POST", path, grpc), expected, "{protocol} {path}");
        }
    }
    let infer = "/inference.GRPCInferenceService/ModelInfer";
    // gRPC servers are lenient about the content type; a plain HTTP port is not taken for one.
    assert_eq!(say(AppProtocol::Grpc, "POST", infer, &[]), "body infer");
    assert_eq!(say(AppProtocol::Http, "POST", infer, &[]), "plain");
    assert_eq!(say(AppProtocol::Tcp, "POST", infer, grpc), "plain");
    assert_eq!(say(AppProtocol::Detect, "POST", infer, grpc), "body infer");
    assert_eq!(say(AppProtocol::Detect, "POST", infer, &[]), "plain");
    assert_eq!(
        say(AppProtocol::Grpc, "POST", &format!("http://h:1{infer}"), &[]),
        "body infer"
    );
}

#[test]
fn ports_without_a_model_protocol_take_every_path() {
    for protocol in [
        AppProtocol::Http,
        AppProtocol::Http2,
        AppProtocol::Grpc,
        AppProtocol::Tcp,
        AppProtocol::Detect,
    ] {
        table(
            protocol,
            &[
                ("POST /v2/models/x/infer", "plain"),
                ("POST /v1/chat/completions", "plain"),
                ("GET /a//b/../c;d%2F", "plain"),
                ("OPTIONS *", "plain"),
            ],
        );
    }
}

#[test]
fn seldon_header_and_path_must_agree() {
    let seldon = |value: &str| {
        say(
            AppProtocol::OpenInference,
            "POST",
            "/v2/models/iris/infer",
            &[("seldon-model", value)],
        )
    };
    assert_eq!(seldon("iris"), "infer iris");
    assert_eq!(seldon("iris.pipeline"), "infer iris");
    assert_eq!(seldon("iris.experiment"), "infer iris");
    // Seldon would run the one, a server that does not know the header the other.
    assert_eq!(seldon("wine"), "ambiguous-model");
    assert_eq!(seldon(""), "bad-name");
    let twice = [("seldon-model", "iris"), ("seldon-model", "iris")];
    assert_eq!(
        say(
            AppProtocol::OpenInference,
            "POST",
            "/v2/models/iris/infer",
            &twice
        ),
        "ambiguous-model"
    );
    let health = say(
        AppProtocol::OpenInference,
        "GET",
        "/v2/health/ready",
        &[("seldon-model", "iris")],
    );
    assert_eq!(health, "health");
}

#[test]
fn openai_media_types() {
    let ask = |path: &str, media: &str| say(AppProtocol::OpenAi, "POST", path, &[("content-type", media)]);
    assert_eq!(ask("/v1/chat/completions", "application/json"), "body generate");
    assert_eq!(ask("/v1/chat/completions", "text/plain"), "body generate");
    assert_eq!(
        ask("/v1/chat/completions", "multipart/form-data; boundary=x"),
        "unsupported-media"
    );
    assert_eq!(
        ask("/v1/audio/transcriptions", "multipart/form-data; boundary=x"),
        "body audio"
    );
    assert_eq!(
        ask("/v1/audio/transcriptions", "Multipart/Form-Data;boundary=\"x y\""),
        "body audio"
    );
    assert_eq!(
        ask("/v1/audio/transcriptions", "multipart/form-data"),
        "unsupported-media"
    );
    assert_eq!(
        ask("/v1/audio/transcriptions", "multipart/form-data; boundary="),
        "unsupported-media"
    );
    let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
    assert_eq!(ask("/v1/audio/transcriptions", &long), "unsupported-media");
    let twice = [
        (header::CONTENT_TYPE.as_str(), "application/json"),
        ("content-type", "multipart/form-data; boundary=x"),
    ];
    assert_eq!(
        say(AppProtocol::OpenAi, "POST", "/v1/images/edits", &twice),
        "unsupported-media"
    );
}
