//! Rewriting: what comes out asks for the new model and version and is otherwise the same, or there is an error.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::inference::{AppProtocol, Head, ModelName, ModelVersion, Recognition, recognise, tests::describe};

fn to(name: Option<&str>, version: Option<&str>) -> ModelRewrite {
    let version = version.map(|text| match text.strip_prefix("label:") {
        Some(label) => ModelVersion::label(label).unwrap(),
        None => ModelVersion::exact(text).unwrap(),
    });
    ModelRewrite {
        name: name.map(|name| ModelName::new(name).unwrap()),
        version,
    }
}

fn known(protocol: AppProtocol, method: &Method, target: &str, headers: &HeaderMap) -> ModelRequest {
    match recognise(
        protocol,
        &Head {
            method,
            target,
            headers,
        },
    ) {
        Ok(Recognition::Known(request)) => request,
        other => panic!("{target}: {other:?}"),
    }
}

/// Sends a body through scanner and splicer; gives what comes out.
fn send(
    protocol: AppProtocol,
    target: &str,
    headers: &HeaderMap,
    body: &[u8],
    to: &ModelRewrite,
) -> Result<Vec<u8>, CannotRewrite> {
    let Ok(Recognition::Body(mut scanner)) = recognise(
        protocol,
        &Head {
            method: &Method::POST,
            target,
            headers,
        },
    ) else {
        panic!("{target}");
    };
    let mut splices = Ok(Vec::new());
    scanner
        .push_messages(body, |request| {
            if let Ok(all) = &mut splices {
                match rewrite(request, target, to) {
                    Ok(rewritten) => all.extend(rewritten.splices),
                    Err(error) => splices = Err(error),
                }
            }
        })
        .unwrap();
    scanner.finish().unwrap();
    only_held_bytes_are_spliced(protocol, target, headers, body, to);
    let mut splicer = Splicer::new();
    let splices = splices?;
    let growth: i64 = splices.iter().map(Splice::growth).sum();
    splicer.add(splices);
    let mut out = Vec::new();
    splicer.push(Bytes::copy_from_slice(body), |piece| out.extend(piece));
    splicer.finish(|piece| out.extend(piece));
    assert_eq!(out.len() as i64, body.len() as i64 + growth);
    Ok(out)
}

/// Feeds a body byte by byte: what is spliced stands in what was to be held back until then.
fn only_held_bytes_are_spliced(
    protocol: AppProtocol,
    target: &str,
    headers: &HeaderMap,
    body: &[u8],
    to: &ModelRewrite,
) {
    let head = Head {
        method: &Method::POST,
        target,
        headers,
    };
    let Ok(Recognition::Body(mut scanner)) = recognise(protocol, &head) else {
        panic!("{target}")
    };
    for byte in body.chunks(1) {
        let held = scanner.hold_from();
        let offset = scanner.offset();
        let tell = |request: &ModelRequest| {
            for splice in rewrite(request, target, to)
                .map(|rewritten| rewritten.splices)
                .unwrap_or_default()
            {
                assert!(
                    splice.range.start >= held.unwrap_or(offset),
                    "{splice:?} {held:?} {offset}"
                );
            }
        };
        scanner.push_messages(byte, tell).unwrap();
    }
}

fn read(protocol: AppProtocol, target: &str, headers: &HeaderMap, body: &[u8]) -> Vec<String> {
    let head = Head {
        method: &Method::POST,
        target,
        headers,
    };
    let Ok(Recognition::Body(mut scanner)) = recognise(protocol, &head) else {
        panic!("{target}")
    };
    let mut told = Vec::new();
    scanner
        .push_messages(body, |request| told.push(describe(request)))
        .unwrap();
    scanner.finish().unwrap();
    told
}

#[test]
fn paths() {
    use AppProtocol::{KServe, Mlflow, OpenAi, OpenInference, TensorFlow};
    for (protocol, method, target, name, version, expected) in [
        (
            TensorFlow,
            "POST",
            "/v1/models/a:predict",
            Some("b"),
            None,
            Ok("/v1/models/b:predict"),
        ),
        (
            TensorFlow,
            "POST",
            "/v1/models/a:predict",
            None,
            Some("2"),
            Ok("/v1/models/a/versions/2:predict"),
        ),
        (
            TensorFlow,
            "POST",
            "/v1/models/a/labels/x:predict",
            Some("b"),
            Some("2"),
            Ok("/v1/models/b/versions/2:predict"),
        ),
        (
            TensorFlow,
            "POST",
            "/V1/Models/a/Versions/1:Predict",
            None,
            Some("label:c d"),
            Ok("/V1/Models/a/labels/c%20d:Predict"),
        ),
        (
            TensorFlow,
            "GET",
            "/v1/models/a/metadata",
            Some("x/y:z%"),
            Some("3"),
            Ok("/v1/models/x%2Fy%3Az%25/versions/3/metadata"),
        ),
        (
            TensorFlow,
            "POST",
            "/v1/models/a:predict",
            None,
            Some("v2"),
            Err(CannotRewrite::NotANumber),
        ),
        (
            TensorFlow,
            "POST",
            "/v1/models/a:predict",
            Some(".."),
            None,
            Err(CannotRewrite::NotThere),
        ),
        (
            TensorFlow,
            "POST",
            "/v1/models/a:predict",
            Some("a\\b"),
            None,
            Err(CannotRewrite::NotThere),
        ),
        (
            OpenInference,
            "POST",
            "/v2/models/a/infer",
            Some("b"),
            Some("v2"),
            Ok("/v2/models/b/versions/v2/infer"),
        ),
        (
            OpenInference,
            "POST",
            "http://h/v2/models/a/versions/1/infer?x",
            None,
            Some("2"),
            Ok("http://h/v2/models/a/versions/2/infer?x"),
        ),
        (
            OpenInference,
            "GET",
            "/v2/models/a",
            None,
            Some("2"),
            Ok("/v2/models/a/versions/2"),
        ),
        (
            OpenInference,
            "POST",
            "/v2/models/a/infer",
            Some("my model:1ü"),
            None,
            Ok("/v2/models/my%20model:1%C3%BC/infer"),
        ),
        (
            OpenInference,
            "POST",
            "/v2/models/a/infer",
            Some("a/b"),
            None,
            Err(CannotRewrite::NotThere),
        ),
        (
            OpenInference,
            "POST",
            "/v2/models/a/infer",
            Some("50%"),
            None,
            Err(CannotRewrite::NotThere),
        ),
        (
            OpenInference,
            "POST",
            "/v2/models/a/infer",
            None,
            Some("label:x"),
            Err(CannotRewrite::NoLabels),
        ),
        (
            OpenInference,
            "POST",
            "/v2/models/a/infer",
            None,
            Some("v/2"),
            Err(CannotRewrite::NotThere),
        ),
        // Servers read such a number differently.
        (
            OpenInference,
            "POST",
            "/v2/models/a/infer",
            None,
            Some("007"),
            Err(CannotRewrite::NotThere),
        ),
        (
            OpenInference,
            "POST",
            "/v2/repository/models/a/load",
            Some("b"),
            None,
            Ok("/v2/repository/models/b/load"),
        ),
        (
            OpenInference,
            "POST",
            "/v2/repository/models/a/load",
            None,
            Some("1"),
            Err(CannotRewrite::NoVersions),
        ),
        (
            OpenInference,
            "GET",
            "/v2/health/live",
            Some("b"),
            None,
            Err(CannotRewrite::Nowhere),
        ),
        (
            KServe,
            "POST",
            "/v1/models/a:b:predict",
            Some("c:d"),
            None,
            Ok("/v1/models/c:d:predict"),
        ),
        (
            OpenAi,
            "GET",
            "/v1/models/a",
            Some("meta/llama"),
            None,
            Ok("/v1/models/meta/llama"),
        ),
        (
            OpenAi,
            "GET",
            "/v1/models/a",
            Some("meta//llama"),
            None,
            Err(CannotRewrite::NotThere),
        ),
        (
            OpenAi,
            "GET",
            "/v1/models/a",
            None,
            Some("2"),
            Err(CannotRewrite::NoVersions),
        ),
        (
            OpenAi,
            "GET",
            "/v1/realtime?model=a",
            Some("b"),
            None,
            Err(CannotRewrite::Nowhere),
        ),
        (
            Mlflow,
            "POST",
            "/serving-endpoints/a/invocations",
            Some("b"),
            None,
            Ok("/serving-endpoints/b/invocations"),
        ),
        (
            Mlflow,
            "POST",
            "/invocations",
            Some("b"),
            None,
            Err(CannotRewrite::Nowhere),
        ),
    ] {
        let method: Method = method.parse().unwrap();
        let request = known(protocol, &method, target, &HeaderMap::new());
        let wanted = to(name, version);
        let rewritten = rewrite(&request, target, &wanted).map(|rewritten| rewritten.target.unwrap());
        assert_eq!(rewritten.as_deref().map_err(|error| *error), expected, "{target}");
        if let Ok(new) = rewritten {
            let again = known(protocol, &method, &new, &HeaderMap::new());
            assert_eq!(again.model, wanted.name.or(request.model), "{new}");
            assert_eq!(again.version, wanted.version.or(request.version), "{new}");
            assert_eq!(again.operation, request.operation, "{new}");
        }
    }
}

#[test]
fn what_is_said_already_is_not_touched() {
    let request = known(
        AppProtocol::OpenInference,
        &Method::POST,
        "/v2/models/a/versions/1/infer",
        &HeaderMap::new(),
    );
    assert_eq!(
        rewrite(&request, "", &to(Some("a"), Some("1"))).unwrap(),
        Rewritten::default()
    );
    let health = known(
        AppProtocol::OpenInference,
        &Method::GET,
        "/v2/health/live",
        &HeaderMap::new(),
    );
    assert_eq!(
        rewrite(&health, "", &to(None, None)).unwrap(),
        Rewritten::default()
    );
}

#[test]
fn the_seldon_header_follows() {
    let headers: HeaderMap = [(
        "seldon-model".parse().unwrap(),
        HeaderValue::from_static("a.pipeline"),
    )]
    .into_iter()
    .collect();
    let target = "/v2/models/a/infer";
    let request = known(AppProtocol::OpenInference, &Method::POST, target, &headers);
    let rewritten = rewrite(&request, target, &to(Some("b"), None)).unwrap();
    assert_eq!(rewritten.seldon_model.unwrap(), "b.pipeline");
    assert_eq!(rewritten.target.unwrap(), "/v2/models/b/infer");
}

#[test]
fn json_bodies() {
    let send = |body: &str, name, version| {
        let out = send(
            AppProtocol::OpenAi,
            "/v1/chat/completions",
            &HeaderMap::new(),
            body.as_bytes(),
            &to(name, version),
        )?;
        Ok::<_, CannotRewrite>(String::from_utf8(out).unwrap())
    };
    let body = r#"{"n":1.0e0, "mo\u0064el" : "a\/b" ,"messages":[{"model":"no"}]}"#;
    assert_eq!(
        send(body, Some("c\"\\d"), None).unwrap(),
        r#"{"n":1.0e0, "mo\u0064el" : "c\"\\d" ,"messages":[{"model":"no"}]}"#
    );
    assert_eq!(send(body, None, Some("2")), Err(CannotRewrite::NoVersions));
    assert_eq!(send(body, Some("c"), Some("2")), Err(CannotRewrite::NoVersions));
}

#[test]
fn multipart_bodies() {
    let mut headers = HeaderMap::new();
    headers.insert(
        "content-type",
        HeaderValue::from_static("multipart/form-data; boundary=b"),
    );
    let target = "/v1/audio/transcriptions";
    let body = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b--\r\n";
    let out = send(AppProtocol::OpenAi, target, &headers, body, &to(Some("w2"), None)).unwrap();
    assert_eq!(
        out,
        b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nw2\r\n--b--\r\n"
    );
    assert_eq!(
        send(
            AppProtocol::OpenAi,
            target,
            &headers,
            body,
            &to(Some("--b"), None)
        ),
        Err(CannotRewrite::NotThere)
    );
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
const MULTI: &str = "/tensorflow.serving.PredictionService/MultiInference";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
const LOAD: &str = "/inference.GRPCInferenceService/RepositoryModelLoad";

#[test]
fn grpc_messages() {
    let long = "n".repeat(200);
    for (target, message, name, version, expected) in [
        (
            PREDICT,
            &b"\x0a\x03\x0a\x01m\x12\x01i"[..],
            Some("new"),
            None,
            Ok(b"\x0a\x05\x0a\x03new\x12\x01i".to_vec()),
        ),
        // A version is inserted behind the name, and replaces a label.
        (
            PREDICT,
            b"\x0a\x06\x0a\x01m\x1a\x01s",
            None,
            Some("3"),
            Ok(b"\x0a\x0a\x0a\x01m\x12\x02\x08\x03\x1a\x01s".to_vec()),
        ),
        (
            PREDICT,
            b"\x0a\x06\x0a\x01m\x22\x01l",
            None,
            Some("3"),
            Ok(b"\x0a\x07\x0a\x01m\x12\x02\x08\x03".to_vec()),
        ),
        (
            PREDICT,
            b"\x0a\x07\x12\x02\x08\x05\x0a\x01m",
            None,
            Some("label:x"),
            Ok(b"\x0a\x06\x22\x01x\x0a\x01m".to_vec()),
        ),
        // No spec, and none with a name.
        (
            PREDICT,
            b"\x12\x01i",
            Some("m"),
            Some("1"),
            Ok(b"\x0a\x07\x0a\x01m\x12\x02\x08\x01\x12\x01i".to_vec()),
        ),
        (PREDICT, b"", Some("m"), None, Ok(b"\x0a\x03\x0a\x01m".to_vec())),
        (
            PREDICT,
            b"\x0a\x00",
            Some("m"),
            Some("1"),
            Ok(b"\x0a\x07\x0a\x01m\x12\x02\x08\x01".to_vec()),
        ),
        // Lengths that need a second byte, in every message around the spec.
        (
            MULTI,
            b"\x0a\x05\x0a\x03\x0a\x01m\x0a\x05\x0a\x03\x0a\x01m",
            Some(&long),
            None,
            Ok({
                let name = [&b"\x0a\xc8\x01"[..], long.as_bytes()].concat();
                let task = [&b"\x0a\xce\x01\x0a\xcb\x01"[..], &name].concat();
                [task.clone(), task].concat()
            }),
        ),
        (
            STREAM,
            b"\x0a\x01m\x3a\x01t",
            Some("new"),
            Some("v2"),
            Ok(b"\x0a\x03new\x12\x02v2\x3a\x01t".to_vec()),
        ),
        (
            STREAM,
            b"\x12\x011\x0a\x01m",
            None,
            Some("2"),
            Ok(b"\x12\x012\x0a\x01m".to_vec()),
        ),
        // A name is put next to a version that stands behind other fields, where the next reader looks for both.
        (
            STREAM,
            b"\x3a\x01t\x12\x012\x1a\x01i",
            Some("new"),
            None,
            Ok(b"\x3a\x01t\x0a\x03new\x12\x012\x1a\x01i".to_vec()),
        ),
        (
            STREAM,
            b"\x0a\x00\x3a\x01t\x12\x012",
            Some("new"),
            Some("3"),
            Ok(b"\x3a\x01t\x0a\x03new\x12\x013".to_vec()),
        ),
        (LOAD, b"\x12\x01m", Some("n"), None, Ok(b"\x12\x01n".to_vec())),
        (
            PREDICT,
            b"\x0a\x03\x0a\x01m",
            None,
            Some("v1"),
            Err(CannotRewrite::NotANumber),
        ),
        (
            STREAM,
            b"\x0a\x01m",
            None,
            Some("label:x"),
            Err(CannotRewrite::NoLabels),
        ),
        (
            LOAD,
            b"\x12\x01m",
            None,
            Some("1"),
            Err(CannotRewrite::NoVersions),
        ),
        (MULTI, b"\x12\x01i", Some("m"), None, Err(CannotRewrite::Nowhere)),
        (LOAD, b"", Some("m"), None, Err(CannotRewrite::Nowhere)),
    ] {
        let out = send(
            AppProtocol::Grpc,
            target,
            &HeaderMap::new(),
            &frame(message),
            &to(name, version),
        );
        assert_eq!(
            out,
            expected.map(|message| frame(&message)),
            "{target} {message:x?}"
        );
    }
}

#[test]
fn every_message_of_a_stream_is_rewritten() {
    let body = [
        frame(b"\x0a\x01a\x3a\x01t"),
        frame(b"\x0a\x03new"),
        frame(b"\x3a\x00"),
        frame(b"\x0a\x01c"),
    ]
    .concat();
    let out = send(
        AppProtocol::Grpc,
        STREAM,
        &HeaderMap::new(),
        &body,
        &to(Some("new"), Some("2")),
    )
    .unwrap();
    let expected = [
        frame(b"\x0a\x03new\x12\x012\x3a\x01t"),
        frame(b"\x0a\x03new\x12\x012"),
        frame(b"\x0a\x03new\x12\x012\x3a\x00"),
        frame(b"\x0a\x03new\x12\x012"),
    ]
    .concat();
    assert_eq!(out, expected);
}

#[test]
fn compressed_and_unreadable_bodies_cannot_be_rewritten() {
    use std::io::Write;
    let mut headers = HeaderMap::new();
    headers.insert("content-encoding", HeaderValue::from_static("gzip"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(br#"{"model":"m"}"#).unwrap();
    let body = encoder.finish().unwrap();
    let target = "/v1/embeddings";
    assert_eq!(
        send(AppProtocol::OpenAi, target, &headers, &body, &to(Some("n"), None)),
        Err(CannotRewrite::Compressed)
    );
    let unreadable = ModelRequest::unreadable(
        crate::inference::Operation::Embed,
        crate::inference::Unreadable::ContentEncoding,
    );
    assert_eq!(
        rewrite(&unreadable, target, &to(Some("n"), None)),
        Err(CannotRewrite::Unreadable)
    );
}

proptest! {
    /// A rewritten path asks for the new model, with the same operation, or cannot be rewritten.
    #[test]
    fn paths_round_trip(name in "[^\\p{Cc}]{1,20}", version in proptest::option::of("[1-9][0-9]{0,6}")) {
        let wanted = to(Some(&name), version.as_deref());
        for (protocol, method, target) in [
            (AppProtocol::TensorFlow, Method::POST, "/v1/models/a/versions/7:predict"),
            (AppProtocol::TensorFlow, Method::GET, "/v1/models/a"),
            (AppProtocol::OpenInference, Method::POST, "/v2/models/a/infer"),
            (AppProtocol::KServe, Method::POST, "/v1/models/a:explain"),
            (AppProtocol::KServe, Method::GET, "/v1/models/a"),
            (AppProtocol::OpenAi, Method::GET, "/v1/models/a/b"),
        ] {
            let request = known(protocol, &method, target, &HeaderMap::new());
            let Ok(rewritten) = rewrite(&request, target, &wanted) else { continue };
            let new = rewritten.target.unwrap_or_else(|| target.to_owned());
            let again = known(protocol, &method, &new, &HeaderMap::new());
            prop_assert_eq!(again.model.as_ref(), wanted.name.as_ref(), "{}", new);
            prop_assert_eq!(again.version.as_ref(), wanted.version.as_ref().or(request.version.as_ref()), "{}", new);
            prop_assert_eq!(again.operation, request.operation, "{}", new);
        }
    }

    /// Every ordinary name can be put into every path.
    #[test]
    fn ordinary_names_fit_everywhere(name in "[A-Za-z0-9_][A-Za-z0-9_.@ -]{0,20}") {
        for target in ["/v1/models/a:predict", "/v1/models/a/metadata"] {
            let method = if target.ends_with("predict") { Method::POST } else { Method::GET };
            let request = known(AppProtocol::TensorFlow, &method, target, &HeaderMap::new());
            prop_assert!(rewrite(&request, target, &to(Some(&name), None)).is_ok());
        }
        let request = known(AppProtocol::OpenInference, &Method::POST, "/v2/models/a/infer", &HeaderMap::new());
        prop_assert!(rewrite(&request, "/v2/models/a/infer", &to(Some(&name), None)).is_ok());
    }

    #[test]
    fn json_round_trips(name in "[^\\p{Cc}]{1,40}", before in ".{0,20}", after in ".{0,20}") {
        let body = serde_json::json!({"a": before, "model": "old", "z": [after]}).to_string();
        let target = "/v1/completions";
        let out = send(AppProtocol::OpenAi, target, &HeaderMap::new(), body.as_bytes(), &to(Some(&name), None)).unwrap();
        prop_assert_eq!(read(AppProtocol::OpenAi, target, &HeaderMap::new(), &out), [format!("generate {name}")]);
        let mut expected: serde_json::Value = serde_json::from_str(&body).unwrap();
        expected["model"] = name.into();
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), expected);
    }

    /// A rewritten message names the new model and version; with its fields of interest cut out, nothing else changed.
    #[test]
    fn messages_round_trip(old in "[a-z]{0,9}", old_version in "([1-9]{0,3})", name in "[a-zé]{1,128}", version in proptest::option::of("[1-9][0-9]{0,6}"), tensor in proptest::collection::vec(any::<u8>(), 0..99)) {
        let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat();
        let wanted = to(Some(&name), version.as_deref());
        let tail = field(7, &tensor);
        let message = [field(1, old.as_bytes()), field(2, old_version.as_bytes()), tail.clone()].concat();
        let out = send(AppProtocol::Grpc, STREAM, &HeaderMap::new(), &frame(&message), &wanted).unwrap();
        let version_now = version.as_deref().unwrap_or(&old_version);
        let expected = if version_now.is_empty() { format!("infer {name}") } else { format!("infer {name}@{version_now}") };
        prop_assert_eq!(read(AppProtocol::Grpc, STREAM, &HeaderMap::new(), &out), [expected]);
        prop_assert!(out.ends_with(&tail));

        let mut spec = field(1, old.as_bytes());
        spec.extend(field(3, b"signature"));
        let message = [field(1, &spec), field(2, &tensor)].concat();
        let out = send(AppProtocol::Grpc, PREDICT, &HeaderMap::new(), &frame(&message), &wanted).unwrap();
        let expected = match &version { Some(version) => format!("predict {name}@{version}"), None => format!("predict {name}") };
        prop_assert_eq!(read(AppProtocol::Grpc, PREDICT, &HeaderMap::new(), &out), [expected]);
        prop_assert!(out.ends_with(&[field(3, b"signature"), field(2, &tensor)].concat()));
    }
}
