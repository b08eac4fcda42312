//! Multipart bodies: where the field is found, what is refused, and that chunks do not matter.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

type Answer = Option<(String, Range<u64>)>;

fn scan<'a>(boundary: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Answer, RefusalReason> {
    let mut scanner = MultipartScanner::new(boundary.as_bytes());
    for chunk in chunks {
        scanner.push(chunk).map_err(|refusal| refusal.reason)?;
    }
    scanner.finish().map_err(|refusal| refusal.reason)?;
    Ok(scanner.model().map(|(model, at)| (model.to_string(), at)))
}

/// The field `model` of a body with boundary `b`, read whole and byte by byte.
fn model(body: &str) -> Result<Option<String>, RefusalReason> {
    let whole = scan("b", [body.as_bytes()]);
    assert_eq!(whole, scan("b", body.as_bytes().chunks(1)), "{body}");
    if let Ok(Some((model, at))) = &whole {
        assert_eq!(&body[at.start as usize..at.end as usize], model);
    }
    whole.map(|answer| answer.map(|(model, _)| model))
}

fn part(disposition: &str, content: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n")
}

const END: &str = "--b--\r\n";

#[test]
fn finds_the_field_among_parts() {
    let file = part(
        "name=\"file\"; filename=\"model\"",
        "RIFF\r\n\r\n--\r\n-b\n\r\r\nname=\"model\"",
    );
    let field = part("name=\"model\"", "whisper-1");
    let other = part("name=language", "en");
    for body in [
        format!("{field}{END}"),
        format!("{file}{other}{field}{END}"),
        format!("{field}{file}{other}{END}"),
        format!("\r\n{field}--b--"),
        format!("--b \t\r\nX: y\r\nContent-Disposition: form-data; name=model\r\n\r\nwhisper-1\r\n{END}"),
    ] {
        assert_eq!(model(&body).unwrap().as_deref(), Some("whisper-1"), "{body}");
    }
    assert_eq!(model(&format!("{file}{END}")).unwrap(), None);
    assert_eq!(model(&format!("{}{END}", part("name=model", ""))).unwrap(), None);
    assert_eq!(model(&format!("{}{END}", part("name=Model", "x"))).unwrap(), None);
    assert_eq!(
        model(&format!("{}{END}", part("name=model; filename=a", "x"))).unwrap(),
        None
    );
    assert_eq!(model("").unwrap(), None);
    assert_eq!(model("--b--").unwrap(), None);
}

#[test]
fn values_are_taken_byte_by_byte() {
    for value in ["a b", " a", "a\"b", "größe", "--", "-", "a--b", "a--b--"] {
        assert_eq!(
            model(&format!("{}{END}", part("name=model", value)))
                .unwrap()
                .as_deref(),
            Some(value)
        );
    }
    for value in ["a\r\nb", "a\rb", "a\nb", "a\r\n--c", "a\0"] {
        let refused = model(&format!("{}{END}", part("name=model", value)));
        assert_eq!(refused, Err(RefusalReason::BadName), "{value:?}");
    }
    assert_eq!(
        model(&format!("{}{END}", part("name=model", &"x".repeat(257)))),
        Err(RefusalReason::BadName)
    );
    assert_eq!(
        model(&format!("{}{END}", part("name=model", &"x".repeat(9999)))),
        Err(RefusalReason::BadName)
    );
}

#[test]
fn trap_2_a_repeated_field_is_refused() {
    let twice = format!("{}{}{END}", part("name=model", "a"), part("name=\"model\"", "b"));
    assert_eq!(model(&twice), Err(RefusalReason::DuplicateModel));
    let empty = format!("{}{}{END}", part("name=model", ""), part("name=\"model\"", "b"));
    assert_eq!(model(&empty), Err(RefusalReason::DuplicateModel));
}

#[test]
fn what_parsers_read_differently_is_refused() {
    let field = part("name=model", "m");
    for bad in [
        // Line ends that some parsers take for a delimiter's.
        format!(
            "{}{END}",
            part(
                "name=file",
                "x\n--b\r\nContent-Disposition: form-data; name=model\r\n\r\nno"
            )
        ),
        format!("{}{END}", part("name=file", "x\r--b\r\n\r\nno")),
        "--b\nContent-Disposition: form-data; name=model\n\nm\n--b--\n".to_owned(),
        // A delimiter that is only the begin of a line, or lacks a line break of its own.
        format!("{}{END}", part("name=file", "x\r\n--bc\r\n\r\nno")),
        "--b\r\nContent-Disposition: form-data; name=x\r\n\r\n--b\r\n\r\n--b--".to_owned(),
        format!("--b\r\n\r\n--b--{END}"),
        // A preamble, an epilogue, a body that breaks off.
        format!("preamble\r\n{field}{END}"),
        format!("-{field}{END}"),
        format!("{field}{END}more"),
        field.clone(),
        format!("{field}--b-"),
        format!("{field}--b\r\n"),
        "--".to_owned(),
        // Headers.
        format!("--b\r\nno colon\r\n\r\nx\r\n{END}"),
        format!("--b\r\nX : y\r\n\r\nx\r\n{END}"),
        format!("--b\r\n{}\r\n\r\nx\r\n{END}", "X: y\r\n".repeat(2000)),
    ] {
        assert_eq!(model(&bad), Err(RefusalReason::MalformedBody), "{bad}");
    }
}

#[test]
fn trap_3_a_large_file_before_the_field_streams_through() {
    let mut body = b"--b\r\nContent-Disposition: form-data; name=file; filename=a.wav\r\n\r\n".to_vec();
    body.extend((0..3 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8));
    body.extend(format!("\r\n{}{END}", part("name=model", "m")).into_bytes());
    let mut scanner = MultipartScanner::new(b"b");
    for chunk in body.chunks(10_007) {
        scanner.push(chunk).unwrap();
        assert!(scanner.held.capacity() <= 2 * MAX_HEADER_BYTES);
    }
    scanner.finish().unwrap();
    assert_eq!(scanner.model().unwrap().0.as_str(), "m");
}

#[test]
fn boundaries() {
    let boundary = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        super::boundary(&headers).map_err(|refusal| refusal.reason)
    };
    assert_eq!(
        boundary("multipart/form-data; boundary=----abc'()+_,-./:=?")
            .unwrap()
            .unwrap(),
        b"----abc'()+_,-./:=?"
    );
    assert_eq!(
        boundary("multipart/form-data; charset=x; boundary=\"a b\"")
            .unwrap()
            .unwrap(),
        b"a b"
    );
    assert_eq!(boundary("application/json").unwrap(), None);
    assert_eq!(
        boundary("multipart/form-data"),
        Err(RefusalReason::UnsupportedMedia)
    );
    assert_eq!(
        boundary("multipart/form-data; boundary=a; boundary=b"),
        Err(RefusalReason::UnsupportedMedia)
    );
    assert_eq!(
        boundary("multipart/form-data; boundary=\"a \""),
        Err(RefusalReason::UnsupportedMedia)
    );
}

proptest! {
    #[test]
    fn finds_the_field_at_any_cut(parts in proptest::collection::vec(("[a-l]{1,6}", proptest::collection::vec(any::<u8>(), 0..40)), 0..4), name in "[^\\p{Cc}]{1,40}", place in 0_usize..5, size in 1_usize..50) {
        let boundary = "------------------------d74496d66958873e";
        let mut all: Vec<(String, Vec<u8>)> = parts;
        let place = place.min(all.len());
        all.insert(place, ("model".to_owned(), name.clone().into_bytes()));
        let mut body = Vec::new();
        for (field, content) in &all {
            body.extend(format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{field}\"\r\n\r\n").into_bytes());
            body.extend(content);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{boundary}--\r\n").into_bytes());
        let answer = scan(boundary, body.chunks(size)).unwrap();
        prop_assert_eq!(answer.map(|(model, _)| model), Some(name));
    }

    #[test]
    fn arbitrary_bytes_and_cuts(text in "(--b(--|\r\n|\n|\r|a)|Content-Disposition: form-data; name=(model|\"x\")|\r\n|\r\n\r\n|[\r\nab -]){0,16}", size in 1_usize..9) {
        prop_assert_eq!(scan("b", [text.as_bytes()]), scan("b", text.as_bytes().chunks(size)));
    }
}
