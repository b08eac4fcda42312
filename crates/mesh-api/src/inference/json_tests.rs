//! JSON bodies: where the name is found, what is refused, and that chunks do not matter.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq)]
struct Answer {
    model: Option<String>,
    value: Option<Range<u64>>,
    stream: Option<bool>,
}

fn scan<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Answer, RefusalReason> {
    let mut scanner = JsonScanner::new();
    for chunk in chunks {
        scanner.push(chunk).map_err(|refusal| refusal.reason)?;
    }
    scanner.finish().map_err(|refusal| refusal.reason)?;
    Ok(Answer {
        model: scanner.model().map(|(model, _)| model.to_string()),
        value: scanner.model().map(|(_, at)| at),
        stream: scanner.stream(),
    })
}

fn model(text: &str) -> Result<Option<String>, RefusalReason> {
    let whole = scan([text.as_bytes()]);
    assert_eq!(whole, scan(text.as_bytes().chunks(1)), "{text}");
    whole.map(|answer| answer.model)
}

fn named(text: &str) -> String {
    model(text).unwrap().unwrap()
}

#[test]
fn finds_the_name_wherever_it_stands() {
    assert_eq!(named(r#"{"model":"m"}"#), "m");
    assert_eq!(
        named(
            " \n{ \"a\" : [1, {\"model\": \"no\"}, \"\\\"model\\\"\"] ,\t\"model\" : \"m\" , \"b\":-1.5e3 } \r\n"
        ),
        "m"
    );
    assert_eq!(named("\u{feff}{\"model\":\"m\"}"), "m");
    assert_eq!(
        named(r#"{"x":{"model":"no"},"y":true,"z":null,"w":NaN,"model":"m","e":{},"f":[]}"#),
        "m"
    );
    assert_eq!(model("{}").unwrap(), None);
    assert_eq!(model("").unwrap(), None);
    assert_eq!(model(r#"{"model":""}"#).unwrap(), None);
    assert_eq!(model(r#"{"model": null }"#).unwrap(), None);
    assert_eq!(model(r#"{"models":"x","mode":"y","":"z"}"#).unwrap(), None);
    assert_eq!(named(r#"{"model":"m","stream":true}"#), "m");
}

#[test]
fn decodes_escapes_in_key_and_value() {
    assert_eq!(named(r#"{"mo\u0064el":"m"}"#), "m");
    assert_eq!(named(r#"{"\u006D\u006f\u0064\u0065\u006c":"m"}"#), "m");
    assert_eq!(named(r#"{"model":"meta\/llama"}"#), "meta/llama");
    assert_eq!(named(r#"{"model":"a\"b\\c"}"#), "a\"b\\c");
    assert_eq!(named(r#"{"model":"\ud83d\ude00\u00e4ä"}"#), "😀ää");
    assert_eq!(model(r#"{"mod\/el":"m"}"#).unwrap(), None);
    for lone in [
        r#"{"model":"\ud83d"}"#,
        r#"{"model":"\ude00"}"#,
        r#"{"model":"\ud83dx"}"#,
        r#"{"model":"\ud83d\ud83d\ude00"}"#,
    ] {
        assert_eq!(model(lone), Err(RefusalReason::BadName), "{lone}");
    }
    assert_eq!(model(r#"{"model":"a\x"}"#), Err(RefusalReason::MalformedBody));
    assert_eq!(model(r#"{"model":"\u12g4"}"#), Err(RefusalReason::MalformedBody));
}

#[test]
fn trap_2_repeated_and_ambiguous_names_are_refused() {
    for twice in [
        r#"{"model":"a","model":"b"}"#,
        r#"{"model":"a","model":"a"}"#,
        r#"{"model":"a","x":[[]],"mod\u0065l":"b"}"#,
        r#"{"model":null,"model":"b"}"#,
    ] {
        assert_eq!(model(twice), Err(RefusalReason::DuplicateModel), "{twice}");
    }
    for case in [
        r#"{"Model":"a"}"#,
        r#"{"model":"a","MODEL":"b"}"#,
        r#"{"model":"a","\u004dodel":"b"}"#,
    ] {
        assert_eq!(model(case), Err(RefusalReason::AmbiguousModel), "{case}");
    }
    for name in [
        r#"{"model":1}"#,
        r#"{"model":{}}"#,
        r#"{"model":["a"]}"#,
        r#"{"model":true}"#,
        r#"{"model":nul}"#,
        "{\"model\":\"a\nb\"}",
        r#"{"model":"a\u0000"}"#,
    ] {
        assert_eq!(model(name), Err(RefusalReason::BadName), "{name}");
    }
    let long = format!(r#"{{"model":"{}"}}"#, "x".repeat(257));
    assert_eq!(model(&long), Err(RefusalReason::BadName));
}

#[test]
fn what_other_parsers_could_read_otherwise_is_refused() {
    let utf16: Vec<u8> = r#"{"model":"m"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(scan([&utf16[..]]), Err(RefusalReason::MalformedBody));
    assert_eq!(scan([&b"{\"model\":\"\xff\"}"[..]]), Err(RefusalReason::BadName));
    for text in [
        "[]",
        "\"model\"",
        "null",
        "{",
        "{\"model\"",
        "{\"model\":",
        "{\"model\":\"m",
        "{\"model\":\"m\"",
        "{\"a\":[}",
        "{} {}",
        "{}x",
        "{\"model\":\"m\"}{\"model\":\"n\"}",
        "{,}",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{\"a\":1 2}",
        "{\"a\"::1}",
        "{a:1}",
        "{'model':'m'}",
        "{/**/\"model\":\"m\"}",
        "{\"a\":[/*\"*/],\"model\":\"m\"}",
        "{\"a\":#\n1}",
        "x{}",
        "\u{feff}\u{feff}{}",
        " \u{feff}{}",
        "{\"a\":tr\"ue}",
        "{\"a\":}",
        "{\"a\":,\"model\":\"m\"}",
        "{\"a\":]}",
    ] {
        assert_eq!(model(text), Err(RefusalReason::MalformedBody), "{text}");
    }
}

#[test]
fn trap_3_the_name_may_stand_after_megabytes_and_any_depth() {
    let mut late = br#"{"messages":[{"content":""#.to_vec();
    late.resize(late.len() + (4 << 20), b'A');
    late.extend(br#""}],"deep":"#);
    late.resize(late.len() + 100_000, b'[');
    late.resize(late.len() + 100_000, b']');
    late.extend(br#","model":"late"}"#);
    let answer = scan(late.chunks(65_521)).unwrap();
    assert_eq!(answer.model.as_deref(), Some("late"));
    let value = answer.value.unwrap();
    assert_eq!(&late[value.start as usize..value.end as usize], b"\"late\"");
}

#[test]
fn the_name_is_found_before_the_body_ends() {
    let mut scanner = JsonScanner::new();
    scanner.push(br#"{"stream":true,"model":"m""#).unwrap();
    assert_eq!(
        scanner.model().map(|(model, at)| (model.to_string(), at)),
        Some(("m".to_owned(), 23..26))
    );
    assert_eq!(scanner.stream(), Some(true));
    let mut scanner = JsonScanner::new();
    scanner.push(br#"{"stream":false"#).unwrap();
    assert_eq!(scanner.stream(), None);
}

/// Arbitrary JSON values, as text that servers might send.
fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::btree_map(key(), inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("model".to_owned()),
        Just("stream".to_owned()),
        "[a-z\"\\\\é]{0,8}"
    ]
}

proptest! {
    #[test]
    fn agrees_with_serde_json(mut object in proptest::collection::btree_map(key(), json_value(), 0..6), name in proptest::option::of("[^\\p{Cc}]{1,40}"), pretty: bool) {
        object.remove("model");
        if let Some(name) = &name {
            object.insert("model".to_owned(), name.clone().into());
        }
        let value = serde_json::Value::Object(object.into_iter().collect());
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let answer = scan([text.as_bytes()]).unwrap();
        prop_assert_eq!(&answer.model, &name);
        prop_assert_eq!(answer.stream, value.get("stream").and_then(serde_json::Value::as_bool));
        if let Some(at) = answer.value {
            let inside: String = serde_json::from_str(&text[at.start as usize..at.end as usize]).unwrap();
            prop_assert_eq!(Some(inside), name);
        }
    }

    /// Whatever serde_json reads, the scanner reads the same; whatever the scanner takes, it reads the same at any cut.
    #[test]
    fn arbitrary_texts_and_cuts(text in r#"[{}\[\]:,"\\ elmodu0-9n/]{0,40}|\{"model":"[a-z\\"]{0,6}"(,"[model\\u]{0,12}":[0-9\[\]"{}]{0,8}){0,3}\}"#, cuts in proptest::collection::vec(0_usize..40, 0..5)) {
        let bytes = text.as_bytes();
        let whole = scan([bytes]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut start = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            chunks.push(&bytes[start..cut]);
            start = cut;
        }
        prop_assert_eq!(&whole, &scan(chunks));
        if let (Ok(answer), Ok(value)) = (&whole, serde_json::from_str::<serde_json::Value>(&text)) {
            let expected = value.get("model").and_then(serde_json::Value::as_str).filter(|name| !name.is_empty());
            prop_assert_eq!(answer.model.as_deref(), expected);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1_usize..9) {
        prop_assert_eq!(scan([&bytes[..]]), scan(bytes.chunks(size)));
    }
}
