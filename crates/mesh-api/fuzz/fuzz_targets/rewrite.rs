//! Rewriting: what comes out is recognised as the new model and version, with the same operation.
#![no_main]

use bytes::Bytes;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use mesh_api::{
    inference::{
        AppProtocol, Head, ModelName, ModelVersion, Recognition, recognise,
        rewrite::{Splicer, rewrite},
    },
    route::ModelRewrite,
};
use mesh_api_fuzz::Ask;

fuzz_target!(|data: &[u8]| {
    let [choice, size, rest @ ..] = data else { return };
    let mut parts = rest.splitn(3, |&byte| byte == 0xff);
    let mut text = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
    let (name, version) = (text(), text());
    let to = ModelRewrite {
        name: name.and_then(|name| ModelName::new(name).ok()),
        version: version.and_then(|text| match choice & 16 {
            0 => ModelVersion::exact(text).ok(),
            _ => ModelVersion::label(text).ok(),
        }),
    };
    let Some(input) = parts.next() else { return };
    match choice & 15 {
        0 => path(AppProtocol::TensorFlow, Method::POST, input, &to),
        1 => path(AppProtocol::TensorFlow, Method::GET, input, &to),
        2 => path(AppProtocol::OpenInference, Method::POST, input, &to),
        3 => path(AppProtocol::KServe, Method::POST, input, &to),
        4 => path(AppProtocol::KServe, Method::GET, input, &to),
        5 => path(AppProtocol::OpenAi, Method::GET, input, &to),
        6 => path(AppProtocol::Mlflow, Method::POST, input, &to),
        7 => body(
            &Ask::new(AppProtocol::OpenAi, "/v1/completions", None),
            input,
            &to,
            *size,
        ),
        8 => {
            let media = Some(("content-type", "multipart/form-data; boundary=b"));
            body(
                &Ask::new(AppProtocol::OpenAi, "/v1/images/edits", media),
                input,
                &to,
                *size,
            );
        }
        9 => body(
            &Ask::new(
                AppProtocol::Grpc,
                "/inference.GRPCInferenceService/ModelStreamInfer",
                None,
            ),
            input,
            &to,
            *size,
        ),
        10 => message("/inference.GRPCInferenceService/ModelInfer", input, &to, *size),
        11 => message(
            "/inference.GRPCInferenceService/RepositoryModelLoad",
            input,
            &to,
            *size,
        ),
        12 => message(
            "/tensorflow.serving.PredictionService/MultiInference",
            input,
            &to,
            *size,
        ),
        _ => message("/tensorflow.serving.PredictionService/Predict", input, &to, *size),
    }
});

fn path(protocol: AppProtocol, method: Method, target: &[u8], to: &ModelRewrite) {
    let Ok(target) = std::str::from_utf8(target) else {
        return;
    };
    let headers = HeaderMap::new();
    let ask = |target: &str| {
        recognise(
            protocol,
            &Head {
                method: &method,
                target,
                headers: &headers,
            },
        )
    };
    let Ok(Recognition::Known(request)) = ask(target) else {
        return;
    };
    let Ok(rewritten) = rewrite(&request, target, to) else {
        return;
    };
    let Some(new) = rewritten.target else { return };
    // Triton's statistics of all models are what a model of that name would be at.
    if new.to_ascii_lowercase().contains("/models/stats") {
        return;
    }
    let Ok(Recognition::Known(again)) = ask(&new) else {
        panic!("{target} became {new}")
    };
    assert_eq!(again.operation, request.operation, "{target} became {new}");
    assert_eq!(
        again.model,
        to.name.clone().or(request.model),
        "{target} became {new}"
    );
    let wanted = to.version.clone().or(request.version);
    let version = again.version.as_ref().map(ModelVersion::as_str);
    assert_eq!(
        version,
        canonical(protocol, wanted.as_ref()).as_deref(),
        "{target} became {new}"
    );
}

fn message(target: &'static str, message: &[u8], to: &ModelRewrite, size: u8) {
    let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    body(&Ask::new(AppProtocol::Grpc, target, None), &framed, to, size);
}

fn body(ask: &Ask, body: &[u8], to: &ModelRewrite, size: u8) {
    let Ok((told, last)) = ask.read(body, usize::MAX) else {
        return;
    };
    let mut splicer = Splicer::new();
    let mut growth = 0;
    for request in &told {
        let Ok(rewritten) = rewrite(request, ask.target, to) else {
            return;
        };
        growth += rewritten.growth();
        splicer.add(rewritten.splices);
    }
    let mut out = Vec::new();
    for chunk in body.chunks(usize::from(size % 16) + 1) {
        splicer.push(Bytes::copy_from_slice(chunk), |piece| out.extend(piece));
    }
    splicer.finish(|piece| out.extend(piece));
    assert_eq!(out.len() as i64, body.len() as i64 + growth);
    let again = ask.read(&out, usize::MAX).unwrap();
    assert_eq!(again.0.len(), told.len());
    for (new, old) in again.0.iter().zip(&told) {
        assert_eq!(new.model, to.name.clone().or_else(|| old.model.clone()));
        let wanted = to.version.clone().or_else(|| old.version.clone());
        assert_eq!(
            new.version.as_ref().map(ModelVersion::as_str),
            canonical(ask.protocol, wanted.as_ref()).as_deref()
        );
        assert_eq!(new.operation, last.operation);
    }
}

/// A number as TensorFlow Serving (and KServe in front of it) is sent it.
fn canonical(protocol: AppProtocol, version: Option<&ModelVersion>) -> Option<String> {
    version.map(
        |version| match (protocol, version, version.as_str().parse::<i64>()) {
            (AppProtocol::OpenInference, ..) => version.to_string(),
            (_, ModelVersion::Exact(_), Ok(number)) => number.to_string(),
            _ => version.to_string(),
        },
    )
}
