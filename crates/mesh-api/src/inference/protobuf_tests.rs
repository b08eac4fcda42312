//! Messages: where names are found, what is refused, agreement with prost, and that chunks do not matter.

use proptest::prelude::*;
use prost::Message;

use super::*;

/// `tensorflow.serving.ModelSpec`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelSpec {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(oneof = "VersionChoice", tags = "2, 4")]
    pub(super) choice: Option<VersionChoice>,
    #[prost(string, tag = "3")]
    pub(super) signature_name: String,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum VersionChoice {
    #[prost(message, tag = "2")]
    Version(Int64Value),
    #[prost(string, tag = "4")]
    Label(String),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Int64Value {
    #[prost(int64, tag = "1")]
    pub(super) value: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PredictRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) model_spec: Option<ModelSpec>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) inputs: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "3")]
    pub(super) output_filter: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Task {
    #[prost(message, optional, tag = "1")]
    pub(super) model_spec: Option<ModelSpec>,
    #[prost(string, tag = "2")]
    pub(super) method_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MultiInference {
    #[prost(message, repeated, tag = "1")]
    pub(super) tasks: Vec<Task>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) input: Vec<u8>,
}

/// `inference.ModelInferRequest`, as far as wire types go.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelInfer {
    #[prost(string, tag = "1")]
    pub(super) model_name: String,
    #[prost(string, tag = "2")]
    pub(super) model_version: String,
    #[prost(string, tag = "3")]
    pub(super) id: String,
    #[prost(fixed64, tag = "5")]
    pub(super) fixed: u64,
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub(super) raw: Vec<Vec<u8>>,
    #[prost(uint64, tag = "100")]
    pub(super) unknown: u64,
}

pub(super) fn spec(name: &str, choice: Option<VersionChoice>) -> ModelSpec {
    ModelSpec {
        name: name.into(),
        choice,
        signature_name: "serving_default".into(),
    }
}

fn scan<'a>(
    layout: Layout,
    length: usize,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Named, RefusalReason> {
    let mut scanner = MessageScanner::new(layout, 0, Some(length as u64));
    for chunk in chunks {
        scanner.push(chunk).map_err(|refusal| refusal.reason)?;
    }
    scanner.finish().cloned().map_err(|refusal| refusal.reason)
}

/// Scans a message whole and byte by byte, and says `model@version`.
fn read(layout: Layout, bytes: &[u8]) -> Result<String, RefusalReason> {
    let whole = scan(layout, bytes.len(), [bytes]);
    assert_eq!(whole, scan(layout, bytes.len(), bytes.chunks(1)), "{bytes:x?}");
    let named = whole?;
    let model = named
        .model
        .map_or_else(|| "-".to_owned(), |model| model.to_string());
    Ok(match named.version {
        None => model,
        Some(ModelVersion::Exact(_)) => format!("{model}@{}", named.version.unwrap()),
        Some(ModelVersion::Label(_)) => format!("{model}@label:{}", named.version.unwrap()),
    })
}

fn predict(name: &str, choice: Option<VersionChoice>) -> Vec<u8> {
    PredictRequest {
        model_spec: Some(spec(name, choice)),
        inputs: vec![vec![1; 300], vec![]],
        output_filter: vec!["y".into()],
    }
    .encode_to_vec()
}

#[test]
fn model_specs() {
    let version = |value| Some(VersionChoice::Version(Int64Value { value }));
    assert_eq!(read(Layout::Spec, &predict("half", None)).unwrap(), "half");
    assert_eq!(
        read(Layout::Spec, &predict("half", version(3))).unwrap(),
        "half@3"
    );
    assert_eq!(
        read(Layout::Spec, &predict("half", version(0))).unwrap(),
        "half@0"
    );
    assert_eq!(
        read(Layout::Spec, &predict("half", version(-1))).unwrap(),
        "half@-1"
    );
    assert_eq!(
        read(Layout::Spec, &predict("half", version(i64::MAX))).unwrap(),
        format!("half@{}", i64::MAX)
    );
    assert_eq!(
        read(
            Layout::Spec,
            &predict("half", Some(VersionChoice::Label("canary".into())))
        )
        .unwrap(),
        "half@label:canary"
    );
    assert_eq!(read(Layout::Spec, &predict("", None)).unwrap(), "-");
    assert_eq!(read(Layout::Spec, &[]).unwrap(), "-");
    // Field 2 of the spec before field 1.
    assert_eq!(
        read(Layout::Spec, b"\x0a\x07\x12\x02\x08\x05\x0a\x01m").unwrap(),
        "m@5"
    );
    // Inputs before the spec, unknown fields of every wire type around it.
    let odd = b"\x12\x03abc\x99\x06aaaaaaaa\x95\x06aaaa\x90\x06\x80\x01\x0a\x03\x0a\x01m\x1a\x00";
    assert_eq!(read(Layout::Spec, odd).unwrap(), "m");
}

#[test]
fn strings_and_repositories() {
    assert_eq!(
        read(Layout::Strings, b"\x0a\x01m\x12\x012\x1a\x02id").unwrap(),
        "m@2"
    );
    assert_eq!(read(Layout::Strings, b"\x12\x012\x0a\x01m").unwrap(), "m@2");
    assert_eq!(read(Layout::Strings, b"\x0a\x01m\x12\x00").unwrap(), "m");
    assert_eq!(read(Layout::Strings, b"\x3a\x03raw\x0a\x01m").unwrap(), "m");
    assert_eq!(
        read(Layout::Strings, b"\x0a\x01m\x12\x0201"),
        Err(RefusalReason::AmbiguousVersion)
    );
    assert_eq!(read(Layout::Repository, b"\x0a\x01m").unwrap(), "m");
    assert_eq!(read(Layout::Repository, b"\x12\x01m\x1a\x00").unwrap(), "m");
    assert_eq!(read(Layout::Repository, b"\x0a\x00\x12\x01m").unwrap(), "m");
    assert_eq!(
        read(Layout::Repository, b"\x0a\x01r\x12\x01m"),
        Err(RefusalReason::AmbiguousModel)
    );
    assert_eq!(read(Layout::Unnamed, b"\xff\xff").unwrap(), "-");
}

#[test]
fn multi_inference_names_one_model() {
    let ask = |names: &[&str]| {
        let tasks = names.iter().map(|name| Task {
            model_spec: Some(spec(name, None)),
            method_name: "m".into(),
        });
        read(
            Layout::Tasks,
            &MultiInference {
                tasks: tasks.collect(),
                input: vec![0; 9],
            }
            .encode_to_vec(),
        )
    };
    assert_eq!(ask(&["a"]).unwrap(), "a");
    assert_eq!(ask(&["a", "a", "a"]).unwrap(), "a");
    assert_eq!(ask(&["a", "b"]), Err(RefusalReason::DuplicateModel));
    assert_eq!(ask(&["a", ""]), Err(RefusalReason::DuplicateModel));
    assert_eq!(ask(&["a"; 65]), Err(RefusalReason::MalformedBody));
}

#[test]
fn trap_2_repeated_fields_are_refused() {
    for (layout, twice) in [
        (Layout::Strings, &b"\x0a\x01a\x0a\x01b"[..]),
        (Layout::Strings, b"\x0a\x01a\x12\x011\x12\x012"),
        // After a field behind both: the answer was given already.
        (Layout::Strings, b"\x0a\x01a\x1a\x00\x12\x012"),
        (Layout::Strings, b"\x0a\x01a\x3a\x00\x0a\x01b"),
        (Layout::Spec, b"\x0a\x03\x0a\x01a\x0a\x03\x0a\x01b"),
        (Layout::Spec, b"\x0a\x03\x0a\x01a\x12\x00\x0a\x03\x0a\x01b"),
        (Layout::Spec, b"\x0a\x06\x0a\x01a\x0a\x01b"),
        // Version and label are one choice.
        (Layout::Spec, b"\x0a\x07\x12\x02\x08\x01\x22\x01x"),
        (Layout::Spec, b"\x0a\x07\x22\x01x\x12\x02\x08\x01"),
        (Layout::Spec, b"\x0a\x06\x12\x04\x08\x01\x08\x02"),
    ] {
        assert_eq!(
            read(layout, twice),
            Err(RefusalReason::DuplicateModel),
            "{twice:x?}"
        );
    }
}

#[test]
fn malformed_messages_are_refused() {
    for bad in [
        &b"\x0a"[..],
        b"\x0a\x05ab",
        b"\x0a\x80",
        b"\x00\x00",
        b"\x0b\x0c",
        b"\x0c",
        b"\x0e\x00",
        b"\x0f\x00",
        b"\x08\x01",
        // An overlong and a padded tag, an overflowing value, an overlong length.
        b"\x8a\x80\x80\x80\x80\x00\x01a",
        b"\x8a\x00\x01a",
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\x81\x80\x80\x80\x80\x00a",
        b"\x1d\x00\x00",
        b"\xfa\xff\xff\xff\x7f\x00",
    ] {
        assert_eq!(
            read(Layout::Strings, bad),
            Err(RefusalReason::MalformedBody),
            "{bad:x?}"
        );
    }
    // A field of the spec that reaches over its end.
    for bad in [
        &b"\x0a\x03\x0a\x02abcd"[..],
        b"\x0a\x02\x1d\x00\x00\x00\x00",
        b"\x0a\x01\x0a\x01m",
        b"\x0a\x03\x12\x02\x08\x01\x00",
    ] {
        assert_eq!(
            read(Layout::Spec, bad),
            Err(RefusalReason::MalformedBody),
            "{bad:x?}"
        );
    }
    assert_eq!(
        read(Layout::Strings, b"\x0a\x02\xff\xff"),
        Err(RefusalReason::BadName)
    );
    assert_eq!(
        read(Layout::Strings, b"\x0a\x02a\x00"),
        Err(RefusalReason::BadName)
    );
    let long = ModelInfer {
        model_name: "x".repeat(257),
        ..Default::default()
    }
    .encode_to_vec();
    assert_eq!(read(Layout::Strings, &long), Err(RefusalReason::BadName));
}

#[test]
fn padded_lengths_are_read() {
    assert_eq!(read(Layout::Strings, b"\x0a\x81\x80\x80\x00m").unwrap(), "m");
}

#[test]
fn certain_before_the_tensors() {
    let message = ModelInfer {
        model_name: "m".into(),
        model_version: "1".into(),
        raw: vec![vec![0; 1 << 20]],
        ..Default::default()
    }
    .encode_to_vec();
    let mut scanner = MessageScanner::new(Layout::Strings, 0, Some(message.len() as u64));
    scanner.push(&message[..6]).unwrap();
    assert!(scanner.certain().is_none());
    scanner.push(&message[6..7]).unwrap();
    assert_eq!(scanner.certain().unwrap().model.as_ref().unwrap().as_str(), "m");
}

fn choice() -> impl Strategy<Value = Option<VersionChoice>> {
    prop_oneof![
        Just(None),
        any::<i64>().prop_map(|value| Some(VersionChoice::Version(Int64Value { value }))),
        "[a-z]{1,9}".prop_map(|label| Some(VersionChoice::Label(label))),
    ]
}

proptest! {
    #[test]
    fn agrees_with_prost_on_specs(name in "[^\\p{Cc}]{0,40}", choice in choice(), inputs in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4), size in 1_usize..50) {
        let request = PredictRequest { model_spec: Some(spec(&name, choice.clone())), inputs, output_filter: vec![] };
        let bytes = request.encode_to_vec();
        let named = scan(Layout::Spec, bytes.len(), bytes.chunks(size)).unwrap();
        prop_assert_eq!(named.model.map_or(String::new(), |model| model.to_string()), name);
        let version = match choice {
            None => None,
            Some(VersionChoice::Version(Int64Value { value })) => Some(ModelVersion::number(value)),
            Some(VersionChoice::Label(label)) => Some(ModelVersion::label(&label).unwrap()),
        };
        prop_assert_eq!(named.version, version);
        let place = &named.specs[0];
        if let Some((_, at)) = &place.name {
            let field = &bytes[at.start as usize..at.end as usize];
            let alone = ModelSpec::decode(field).unwrap();
            prop_assert_eq!(alone.name, request.model_spec.unwrap().name);
        }
    }

    #[test]
    fn agrees_with_prost_on_strings(model_name in "[^\\p{Cc}]{0,40}", model_version in "(|[1-9][0-9]{0,5}|v[0-9.]{1,5})", id in ".{0,9}", fixed: u64, raw in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4), unknown: u64, size in 1_usize..50) {
        let request = ModelInfer { model_name, model_version, id, fixed, raw, unknown };
        let bytes = request.encode_to_vec();
        let named = scan(Layout::Strings, bytes.len(), bytes.chunks(size)).unwrap();
        prop_assert_eq!(named.model.map_or(String::new(), |model| model.to_string()), request.model_name);
        prop_assert_eq!(named.version.map_or(String::new(), |version| version.to_string()), request.model_version);
    }

    /// Whatever the scanner takes, prost reads the same (or refuses), and chunks do not matter.
    #[test]
    fn arbitrary_fields(fields in proptest::collection::vec((1_u8..5, prop_oneof![Just(0_u8), Just(2), Just(5), 0_u8..8], proptest::collection::vec(any::<u8>(), 0..6)), 0..6), size in 1_usize..9) {
        let mut bytes = Vec::new();
        for (number, wire, content) in fields {
            bytes.push(number << 3 | wire);
            if wire == 2 {
                bytes.push(content.len() as u8);
            }
            bytes.extend(content);
        }
        for layout in [Layout::Strings, Layout::Spec, Layout::Tasks, Layout::Repository] {
            let whole = scan(layout, bytes.len(), [&bytes[..]]);
            prop_assert_eq!(&whole, &scan(layout, bytes.len(), bytes.chunks(size)));
            let Ok(named) = whole else { continue };
            let name = named.model.map_or(String::new(), |model| model.to_string());
            if layout == Layout::Strings && let Ok(message) = ModelInfer::decode(&bytes[..]) {
                prop_assert_eq!(name, message.model_name);
            } else if layout == Layout::Spec && let Ok(message) = PredictRequest::decode(&bytes[..]) {
                prop_assert_eq!(name, message.model_spec.unwrap_or_default().name);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), size in 1_usize..9) {
        for layout in [Layout::Strings, Layout::Spec, Layout::Tasks, Layout::Repository, Layout::Unnamed] {
            prop_assert_eq!(scan(layout, bytes.len(), [&bytes[..]]), scan(layout, bytes.len(), bytes.chunks(size)));
        }
    }
}
