//! From what a document says is changed of headers to filters.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use crate::document::{HeaderEditsSpec, HeadersSpec};
use crate::route::{Filters, HeaderEdits, untouchable};
use crate::validate::Problem;

impl Filters {
    pub(crate) fn new(at: &str, spec: &HeadersSpec, problems: &mut Vec<Problem>) -> Self {
        Self {
            request: edits(&format!("{at}.request"), &spec.request, problems),
            response: edits(&format!("{at}.response"), &spec.response, problems),
            host: None,
            path: None,
        }
    }
}

fn edits(at: &str, spec: &HeaderEditsSpec, problems: &mut Vec<Problem>) -> HeaderEdits {
    let remove = spec.remove.iter();
    HeaderEdits {
        remove: remove
            .filter_map(|text| name(&format!("{at}.remove"), text, problems))
            .collect(),
        set: pairs(&format!("{at}.set"), &spec.set, problems),
        add: pairs(&format!("{at}.add"), &spec.add, problems),
    }
}

fn pairs(
    at: &str,
    spec: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut pairs: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(spec.len());
    for (text, value) in spec {
        let Some(name) = name(at, text, problems) else {
            continue;
        };
        match HeaderValue::from_str(value) {
            _ if pairs.iter().any(|(other, _)| *other == name) => {
                problems.push(Problem::new(at, format!("{text:?} stands twice")));
            }
            Ok(value) => pairs.push((name, value)),
            Err(_) => problems.push(Problem::new(
                format!("{at}.{text}"),
                "no header can have this value",
            )),
        }
    }
    pairs
}

fn name(at: &str, text: &str, problems: &mut Vec<Problem>) -> Option<HeaderName> {
    let reason = match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) => match untouchable(&name) {
            None => return Some(name),
            Some(why) => format!("{text:?} {why}: leave it out"),
        },
        Err(_) => format!("{text:?} is not a header name"),
    };
    problems.push(Problem::new(at, reason));
    None
}
