//! The files that come with this program: the models that the servers serve, the demo's client, and what to install.

use std::path::Path;

use super::Problem;
use super::run::write;

macro_rules! asset {
    ($name:literal) => {
        include_str!(concat!("../../assets/demo/", $name))
    };
}

/// Tells what a Python offers.
pub(super) const PROBE: &str = asset!("probe.py");
/// The pinned packages of servers and clients.
pub(super) const REQUIREMENTS: &str = asset!("requirements.txt");
/// What LitServe needs beside them.
pub(super) const LITSERVE_REQUIREMENTS: &str = asset!("requirements-litserve.txt");
/// Makes the language model.
pub(super) const MAKE_MODEL: &str = asset!("chat/make_gguf.py");

const FRAUD_CONFIG: &str = asset!("triton/fraud.pbtxt");
const FRAUD: &str = asset!("triton/fraud.py");
const TOKENS_CONFIG: &str = asset!("triton/tokens.pbtxt");
const TOKENS: &str = asset!("triton/tokens.py");
const IRIS: &str = asset!("mlserver/iris_runtime.py");
const IRIS_V1: &str =
    r#"{"name": "iris", "implementation": "iris_runtime.Iris", "parameters": {"version": "v1"}}"#;
const IRIS_V2: &str =
    r#"{"name": "iris", "implementation": "iris_runtime.Iris", "parameters": {"version": "v2"}}"#;

/// Every file as the servers want it: where, below the folder of files, and what is in it. Triton and MLServer load
/// whatever is in their repository, so there is one for each choice of versions.
const FILES: &[(&str, &str)] = &[
    ("client.py", asset!("client.py")),
    ("make_gguf.py", MAKE_MODEL),
    ("litserve_chat.py", asset!("chat/litserve_chat.py")),
    ("triton/both/fraud/config.pbtxt", FRAUD_CONFIG),
    ("triton/both/fraud/1/model.py", FRAUD),
    ("triton/both/fraud/2/model.py", FRAUD),
    ("triton/both/tokens/config.pbtxt", TOKENS_CONFIG),
    ("triton/both/tokens/1/model.py", TOKENS),
    ("triton/first/fraud/config.pbtxt", FRAUD_CONFIG),
    ("triton/first/fraud/1/model.py", FRAUD),
    ("triton/first/tokens/config.pbtxt", TOKENS_CONFIG),
    ("triton/first/tokens/1/model.py", TOKENS),
    ("triton/second/fraud/config.pbtxt", FRAUD_CONFIG),
    ("triton/second/fraud/2/model.py", FRAUD),
    ("triton/second/tokens/config.pbtxt", TOKENS_CONFIG),
    ("triton/second/tokens/1/model.py", TOKENS),
    ("mlserver/iris_runtime.py", IRIS),
    ("mlserver/both/iris-v1/model-settings.json", IRIS_V1),
    ("mlserver/both/iris-v2/model-settings.json", IRIS_V2),
    ("mlserver/first/iris-v1/model-settings.json", IRIS_V1),
    ("mlserver/second/iris-v2/model-settings.json", IRIS_V2),
];

/// Lays the files out in a folder. Files that are there already, and the same, are not touched.
pub(super) fn lay_out(folder: &Path) -> Result<(), Problem> {
    FILES
        .iter()
        .try_for_each(|(name, contents)| write(&folder.join(name), contents.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned() {
        for line in REQUIREMENTS.lines().chain(LITSERVE_REQUIREMENTS.lines()) {
            assert!(line.starts_with('#') || line.contains("=="), "{line}");
            assert!(
                !line.contains("://"),
                "an address of a registry does not belong here: {line}"
            );
        }
    }

    #[test]
    fn laying_out_again_touches_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        lay_out(folder.path()).expect("laid out");
        let client = folder.path().join("client.py");
        let modified = || {
            client
                .metadata()
                .expect("it is there")
                .modified()
                .expect("a time")
        };
        let before = modified();
        lay_out(folder.path()).expect("laid out again");
        assert_eq!(modified(), before);
        std::fs::write(&client, "older").expect("written");
        lay_out(folder.path()).expect("laid out again");
        assert_eq!(
            std::fs::read_to_string(&client).expect("read"),
            asset!("client.py")
        );
    }
}
