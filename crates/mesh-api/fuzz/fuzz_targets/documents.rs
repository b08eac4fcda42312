//! Documents: arbitrary text is an error that names its file, or a document that is written and read again the same.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mesh_api::document::parse_all;
use mesh_api::validate;

fuzz_target!(|text: &str| {
    let file = Path::new("mesh.yaml");
    let documents: Vec<_> = parse_all(file, text)
        .into_iter()
        .filter_map(|result| match result {
            Ok((document, source)) => {
                assert_eq!(&text[source.offset..source.offset + source.text.len()], source.text);
                Some(document)
            }
            Err(error) => {
                assert_eq!(error.file, file);
                // A carriage return ends a line too (YAML 1.2.2, §5.4).
                assert!(error.line <= text.matches(['\n', '\r']).count() + 1);
                None
            }
        })
        .collect();
    for document in &documents {
        let _ = validate::alone(document);
    }
    let _ = validate::together(&documents);
});
