//! What it costs to recognise a request: nanoseconds per head or body, and throughput where bodies are large.
//!
//! `cargo bench -p mesh-api --bench inference [FILTER]`. Each figure is the fastest of several rounds: the one least
//! disturbed by whatever else the machine does.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method};
use mesh_api::inference::{AppProtocol, Head, Recognition, recognise};

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(20);

fn main() {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    let bench = |name: &str, bytes: usize, run: &mut dyn FnMut()| {
        if name.contains(&filter) {
            report(name, bytes, fastest(run));
        }
    };
    heads(&bench);
    small_bodies(&bench);
    large_bodies(&bench);
}

/// Runs one benchmark: its name, how many bytes it reads (0: does not matter), and what it does.
type Bench<'a> = dyn Fn(&str, usize, &mut dyn FnMut()) + 'a;

fn heads(bench: &Bench<'_>) {
    let headers = HeaderMap::new();
    for (name, protocol, method, target) in [
        (
            "head/tensorflow",
            AppProtocol::TensorFlow,
            Method::POST,
            "/v1/models/half_plus_two/versions/3:predict",
        ),
        (
            "head/open-inference",
            AppProtocol::OpenInference,
            Method::POST,
            "/v2/models/fraud/versions/2/infer",
        ),
        (
            "head/kserve",
            AppProtocol::KServe,
            Method::POST,
            "/v1/models/iris:predict",
        ),
        (
            "head/openai",
            AppProtocol::OpenAi,
            Method::POST,
            "/v1/chat/completions",
        ),
        ("head/mlflow", AppProtocol::Mlflow, Method::POST, "/invocations"),
        (
            "head/grpc",
            AppProtocol::OpenInference,
            Method::POST,
            "/inference.GRPCInferenceService/ModelInfer",
        ),
        ("head/http", AppProtocol::Http, Method::GET, "/v1/models/iris"),
    ] {
        let head = Head {
            method: &method,
            target,
            headers: &headers,
        };
        bench(name, 0, &mut || {
            drop(black_box(recognise(protocol, black_box(&head))));
        });
    }
}

fn small_bodies(bench: &Bench<'_>) {
    let chat = br#"{"model":"llama-3","messages":[{"role":"user","content":"Hello!"}],"stream":true,"max_tokens":64}"#;
    let late = br#"{"messages":[{"role":"user","content":"Hello!"}],"stream":true,"max_tokens":64,"model":"llama-3"}"#;
    body(
        bench,
        "body/openai chat",
        AppProtocol::OpenAi,
        "/v1/chat/completions",
        &HeaderMap::new(),
        chat,
    );
    body(
        bench,
        "body/openai chat, model last",
        AppProtocol::OpenAi,
        "/v1/chat/completions",
        &HeaderMap::new(),
        late,
    );
    let mut form = HeaderMap::new();
    form.insert(
        "content-type",
        HeaderValue::from_static("multipart/form-data; boundary=d74496d66958873e"),
    );
    let parts = b"--d74496d66958873e\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--d74496d66958873e--\r\n";
    body(
        bench,
        "body/openai multipart",
        AppProtocol::OpenAi,
        "/v1/audio/transcriptions",
        &form,
        parts,
    );
    let infer = frame(b"\x0a\x05fraud\x12\x012\x1a\x02id\x3a\x10................");
    let path = "/inference.GRPCInferenceService/ModelInfer";
    body(
        bench,
        "body/grpc open-inference",
        AppProtocol::OpenInference,
        path,
        &HeaderMap::new(),
        &infer,
    );
    let predict = frame(b"\x0a\x0e\x0a\x05fraud\x12\x02\x08\x03\x1a\x01s\x12\x10................");
    let path = "/tensorflow.serving.PredictionService/Predict";
    body(
        bench,
        "body/grpc tensorflow",
        AppProtocol::TensorFlow,
        path,
        &HeaderMap::new(),
        &predict,
    );
}

fn large_bodies(bench: &Bench<'_>) {
    const SIZE: usize = 1 << 20;
    let path = "/v1/chat/completions";
    let none = HeaderMap::new();
    let strings = format!(
        r#"{{"messages":[{{"content":"{}"}}],"model":"m"}}"#,
        "A".repeat(SIZE)
    );
    body(
        bench,
        "1 MiB json/one string",
        AppProtocol::OpenAi,
        path,
        &none,
        strings.as_bytes(),
    );
    let prose =
        r#"{"role":"user","content":"He said: \"well, it is 5 o'clock.\"\nAnd left."},"#.repeat(SIZE / 75);
    let prose = format!(r#"{{"messages":[{prose}{{}}],"model":"m"}}"#);
    body(
        bench,
        "1 MiB json/short messages",
        AppProtocol::OpenAi,
        path,
        &none,
        prose.as_bytes(),
    );
    let numbers = format!(
        r#"{{"input":[{}0],"model":"m"}}"#,
        "[0.12345,-1.5e-3,42],".repeat(SIZE / 21)
    );
    body(
        bench,
        "1 MiB json/numbers",
        AppProtocol::OpenAi,
        path,
        &none,
        numbers.as_bytes(),
    );
    let keys = format!(r#"{{{}"model":"m"}}"#, r#""key":12,"#.repeat(SIZE / 9));
    body(
        bench,
        "1 MiB json/top-level keys",
        AppProtocol::OpenAi,
        path,
        &none,
        keys.as_bytes(),
    );
    let mut tensor = b"\x0a\x05fraud\x3a\x80\x80\x40".to_vec();
    tensor.resize(tensor.len() + SIZE, 7);
    let path = "/inference.GRPCInferenceService/ModelInfer";
    body(
        bench,
        "1 MiB grpc/one tensor",
        AppProtocol::OpenInference,
        path,
        &none,
        &frame(&tensor),
    );
}

/// Recognises head and body of a request, the body in chunks of 64 KiB as they come off a socket.
fn body(
    bench: &Bench<'_>,
    name: &str,
    protocol: AppProtocol,
    target: &str,
    headers: &HeaderMap,
    body: &[u8],
) {
    let head = Head {
        method: &Method::POST,
        target,
        headers,
    };
    bench(name, body.len(), &mut || {
        let Ok(Recognition::Body(mut scanner)) = recognise(protocol, black_box(&head)) else {
            unreachable!("{target} has its name in the body")
        };
        for chunk in black_box(body).chunks(64 << 10) {
            if let Err(refusal) = scanner.push(chunk) {
                unreachable!("{refusal}");
            }
        }
        black_box(scanner.finish()).ok();
    });
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// Nanoseconds per run, in the fastest round.
fn fastest(run: &mut dyn FnMut()) -> f64 {
    let mut runs = 1_u32;
    let mut best = f64::INFINITY;
    let mut rounds = 0;
    while rounds < ROUNDS {
        let start = Instant::now();
        for _ in 0..runs {
            run();
        }
        let took = start.elapsed();
        if took < ROUND {
            runs = runs.saturating_mul(2);
            continue;
        }
        best = best.min(took.as_secs_f64() * 1e9 / f64::from(runs));
        rounds += 1;
    }
    best
}

fn report(name: &str, bytes: usize, nanoseconds: f64) {
    if bytes < 1 << 16 {
        println!("{name:32} {nanoseconds:10.0} ns");
    } else {
        println!(
            "{name:32} {:10.1} µs {:8.2} GB/s",
            nanoseconds / 1e3,
            bytes as f64 / nanoseconds
        );
    }
}
