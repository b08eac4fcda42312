//! Requests of every protocol, good and bad, drawn at random.

use anyhow::Result;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request};
use mesh_e2e::client::{Body, framed};
use mesh_e2e::draw::Draw;

/// The services, and what each speaks.
pub(crate) const SERVICES: [(&str, &str); 8] = [
    ("tf", "mesh.dev/tensorflow"),
    ("v2", "mesh.dev/open-inference"),
    ("v1", "mesh.dev/kserve"),
    ("chat", "mesh.dev/openai"),
    ("mlflow", "mesh.dev/mlflow"),
    ("plain", "http"),
    ("plain2", "http2"),
    ("grpc", "grpc"),
];

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Generated {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether it is a gRPC call.
    pub(crate) grpc: bool,
    /// Whether it is sent over HTTP/2.
    pub(crate) http2: bool,
}

const MODELS: [&str; 14] = [
    "fraud",
    "fraud-2",
    "llama",
    "llama-3.1:8b",
    "iris",
    "Fraud",
    "a.b_c",
    "%66raud",
    "fr%20aud",
    "a%2Fb",
    "x;y",
    "..",
    "",
    "%00",
];
const VERSIONS: [&str; 6] = ["1", "2", "v3", "007", "latest", "%31"];

impl Generated {
    /// A request that a service of this protocol may get, or should not.
    pub(crate) fn draw(draw: &mut Draw, protocol: &str) -> Self {
        let mut headers = HeaderMap::new();
        if draw.once_in(3) {
            set(&mut headers, "x-tier", draw.of(&["gold", "silver", ""]));
        }
        set(&mut headers, "x-user-id", &format!("user-{}", draw.below(1_000)));
        if draw.once_in(40) {
            set(
                &mut headers,
                "seldon-model",
                draw.of(&["fraud", "iris.pipeline", "llama"]),
            );
        }
        // A service is asked in its own protocol mostly, and in others' too.
        let asked = if draw.once_in(8) {
            SERVICES[draw.below(SERVICES.len())].1
        } else {
            protocol
        };
        if draw.once_in(4) && speaks_grpc(asked) || asked == "grpc" {
            return Self::grpc(draw, headers);
        }
        let (method, target, body) = match asked {
            "mesh.dev/tensorflow" => tensorflow(draw),
            "mesh.dev/open-inference" => open_inference(draw),
            "mesh.dev/kserve" => kserve(draw),
            "mesh.dev/openai" => openai(draw, &mut headers),
            "mesh.dev/mlflow" => mlflow(draw),
            _ => plain(draw),
        };
        Self {
            method,
            target,
            headers,
            body,
            grpc: false,
            http2: draw.once_in(3),
        }
    }

    fn grpc(draw: &mut Draw, mut headers: HeaderMap) -> Self {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let (target, tensorflow) = match draw.below(8) {
            0..=2 => ("/inference.GRPCInferenceService/ModelInfer", false),
            3 => ("/inference.GRPCInferenceService/ModelStreamInfer", false),
            4 | 5 => ("/tensorflow.serving.PredictionService/Predict", true),
            6 => ("/inference.GRPCInferenceService/RepositoryModelLoad", false),
            _ => ("/some.Service/Call", false),
        };
        let model = draw
            .of(&["fraud", "llama", "iris", "fraud-2"])
            .as_bytes()
            .to_vec();
        let version = draw.of(&["", "1", "2", "v3"]).as_bytes().to_vec();
        let mut message = if tensorflow {
            // PredictRequest { model_spec { name, version_label } }
            field(1, &[field(1, &model), field(4, &version)].concat())
        } else {
            [field(1, &model), field(2, &version)].concat()
        };
        match draw.below(12) {
            // The last of two counts.
            0 => message.extend(field(1, b"fraud")),
            1 => message.extend([0xff; 3]),
            2 => message = field(1, &[0xff, 0xfe]),
            3 => message.clear(),
            _ => {}
        }
        let mut body = framed(&message).to_vec();
        match draw.below(20) {
            0 => body[0] = 1,
            1 => body.truncate(3),
            2 => body[1] = 0xff,
            _ => {}
        }
        Self {
            method: Method::POST,
            target: target.into(),
            headers,
            body: body.into(),
            grpc: true,
            http2: true,
        }
    }

    /// The request, with its body.
    pub(crate) fn request(&self, body: Body) -> Result<Request<Body>> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.target.as_str())
            .body(body)?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

fn speaks_grpc(protocol: &str) -> bool {
    matches!(
        protocol,
        "mesh.dev/tensorflow" | "mesh.dev/open-inference" | "mesh.dev/kserve" | "http2"
    )
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// A length-delimited field of a protobuf message; the bytes are few.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

type Line = (Method, String, Bytes);

fn post(target: String, body: impl Into<Bytes>) -> Line {
    (Method::POST, target, body.into())
}

fn get(target: String) -> Line {
    (Method::GET, target, Bytes::new())
}

fn tensorflow(draw: &mut Draw) -> Line {
    let model = draw.of(&MODELS);
    let v1 = draw.of(&["/v1", "/v1", "/v1", "/V1", "//v1", "/./v1"]);
    let at = match draw.below(4) {
        0 => format!("/versions/{}", draw.of(&VERSIONS)),
        1 => format!("/labels/{}", draw.of(&VERSIONS)),
        _ => String::new(),
    };
    let verb = draw.of(&["predict", "classify", "regress", "Predict", "dance"]);
    match draw.below(6) {
        0 => get(format!("{v1}/models/{model}{at}")),
        1 => get(format!("{v1}/models/{model}{at}/metadata")),
        _ => post(format!("{v1}/models/{model}{at}:{verb}"), r#"{"instances": [1]}"#),
    }
}

fn open_inference(draw: &mut Draw) -> Line {
    let model = draw.of(&MODELS);
    let at = if draw.once_in(3) {
        format!("/versions/{}", draw.of(&VERSIONS))
    } else {
        String::new()
    };
    match draw.below(9) {
        0 => get("/v2/health/ready".into()),
        1 => (
            Method::HEAD,
            draw.of(&["/v2/health/live", "/v2/models/x;y"]).into(),
            Bytes::new(),
        ),
        2 => post(format!("/v2/repository/models/{model}/load"), "{}"),
        3 => get(format!("/v2/models/{model}{at}")),
        4 => get(format!(
            "/v2/models/{model}{at}/{}",
            draw.of(&["ready", "stats", "config"])
        )),
        5 => post(
            format!(
                "/v2/models/{model}{at}/{}",
                draw.of(&["generate", "generate_stream"])
            ),
            "{}",
        ),
        6 => post(
            format!(
                "/v2/{}/{model}/infer",
                draw.of(&["models/..", "models//", "models/%2e%2e"])
            ),
            "{}",
        ),
        _ => post(
            format!("/v2/models/{model}{at}/infer?x={model}"),
            r#"{"inputs": []}"#,
        ),
    }
}

fn kserve(draw: &mut Draw) -> Line {
    let model = draw.of(&MODELS);
    match draw.below(5) {
        0 => get(format!("/v1/models/{model}")),
        1 => get("/v1/models".into()),
        2 => open_inference(draw),
        _ => post(
            format!("/v1/models/{model}:{}", draw.of(&["predict", "explain"])),
            "{}",
        ),
    }
}

fn openai(draw: &mut Draw, headers: &mut HeaderMap) -> Line {
    if draw.once_in(8) {
        return get(format!("/v1/models/{}", draw.of(&MODELS)));
    }
    let path = draw.of(&[
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/rerank",
        "/v1/audio/transcriptions",
        "/custom/chat",
        "/v1/chat/../models",
    ]);
    if draw.once_in(10) {
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("multipart/form-data; boundary=xx"),
        );
        let part = |name: &str, value: &str| {
            format!("--xx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let mut body = part("language", "en") + &part("model", draw.of(&["fraud", "llama"]));
        if draw.once_in(4) {
            body += &part("model", "iris");
        }
        return post(path.into(), body + draw.of(&["--xx--\r\n", "--xx--\r\n", ""]));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if draw.once_in(30) {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    post(path.into(), chat(draw))
}

/// A body that names its model, somewhere, somehow, or not.
fn chat(draw: &mut Draw) -> String {
    let model = draw.of(&["fraud", "llama-3", "iris", "fraud-2", "", "l\\u006cama", "a\\nb"]);
    let named = format!("\"model\": \"{model}\"");
    // Short ones, and such that pass the read-ahead.
    let length = match draw.below(20) {
        0 => 20_000 + draw.below(20_000),
        1 => 16_300 + draw.below(100),
        _ => draw.below(300),
    };
    let rest = format!("\"messages\": [{{\"content\": \"{}\"}}]", "x".repeat(length));
    match draw.below(14) {
        0..=4 => format!("{{{named}, {rest}}}"),
        5..=8 => format!("{{{rest}, {named}}}"),
        9 => format!("{{{rest}}}"),
        10 => format!("{{{named}, {rest}, {named}}}"),
        11 => format!(
            "{{\"model\": {}, {rest}}}",
            draw.of(&["7", "null", "[\"fraud\"]", "{\"model\": \"fraud\"}"])
        ),
        12 => format!("{{\"metadata\": {{\"model\": \"iris\"}}, {named}}}"),
        _ => draw
            .of(&[
                "",
                "{",
                "[]",
                "{\"model\"",
                "nonsense",
                "{\"model\": \"fraud\"",
                "\u{feff}{}",
            ])
            .into(),
    }
}

fn mlflow(draw: &mut Draw) -> Line {
    match draw.below(4) {
        0 => get(draw.of(&["/ping", "/health", "/version"]).into()),
        1 => post(
            format!("/serving-endpoints/{}/invocations", draw.of(&MODELS)),
            "{}",
        ),
        _ => post("/invocations".into(), "{}"),
    }
}

fn plain(draw: &mut Draw) -> Line {
    let path = draw.of(&[
        "/",
        "/custom/x",
        "/a//b",
        "/a/../b",
        "/%66raud",
        "/v2/models/fraud/infer",
        "/x?y=z",
    ]);
    match draw.below(3) {
        0 => post(path.into(), "{}"),
        1 => (Method::DELETE, path.into(), Bytes::new()),
        _ => get(path.into()),
    }
}
