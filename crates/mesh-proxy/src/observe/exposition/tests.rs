use std::collections::{BTreeMap, HashMap};

use http::StatusCode;

use super::super::{Record, SeriesKeyRef};
use super::*;

/// One sample, read back.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads a page as Prometheus would, and fails where it would.
fn parse(page: &str) -> (HashMap<String, String>, Vec<Sample>) {
    let (mut types, mut samples) = (HashMap::new(), Vec::new());
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (name, kind) = head.split_once(' ').unwrap();
            assert!(
                types.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{name} stands twice"
            );
        } else if !line.starts_with("# HELP ") {
            samples.push(sample(line));
        }
    }
    (types, samples)
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if rest.starts_with('{') {
        rest = &rest[1..];
        while !rest.starts_with('}') {
            let (key, value) = rest.trim_start_matches(',').split_once("=\"").unwrap();
            let mut text = String::new();
            let mut letters = value.char_indices();
            loop {
                match letters.next().unwrap() {
                    (_, '\\') => text.push(match letters.next().unwrap().1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (at, '"') => {
                        rest = &value[at + 1..];
                        break;
                    }
                    (_, letter) => text.push(letter),
                }
            }
            assert!(labels.insert(key.to_owned(), text).is_none());
        }
        rest = &rest[1..];
    }
    (name.to_owned(), labels, rest.trim().parse().unwrap())
}

#[test]
fn what_is_counted_is_read_back() {
    let (observe, _) = Observe::new("ml/web".parse().unwrap(), Box::new(std::io::sink()));
    let worker = observe.worker();
    let model = "a\"b\\c\nd";
    for status in [StatusCode::OK, StatusCode::OK, StatusCode::BAD_GATEWAY] {
        let mut record = Record::open(&worker, Direction::Outbound);
        record.route(SeriesKeyRef {
            service: "ml/fraud",
            model,
            ..SeriesKeyRef::unrouted(Direction::Outbound)
        });
        record.response_bytes(5);
        record.status(status);
    }
    let _open = observe.connection(Direction::Inbound);
    observe.handshake(Direction::Inbound, "ok");
    let (types, samples) = parse(&render(&observe));
    let of = |name: &'static str| samples.iter().filter(move |(found, _, _)| found == name);

    let ended: Vec<_> = of("mesh_requests_total")
        .map(|(_, labels, value)| (labels["code"].as_str(), *value))
        .collect();
    assert_eq!(ended, [("200", 2.0), ("502", 1.0)]);
    let (_, labels, _) = of("mesh_requests_total").next().unwrap();
    assert_eq!(
        (labels["model"].as_str(), labels["source"].as_str()),
        (model, "ml/web")
    );
    let buckets: Vec<_> = of("mesh_request_duration_seconds_bucket")
        .filter(|(_, labels, _)| labels["service"] == "ml/fraud")
        .map(|(_, _, value)| *value)
        .collect();
    assert_eq!(buckets.len(), BOUNDS.len() + 1);
    assert!(buckets.windows(2).all(|pair| pair[0] <= pair[1]), "cumulative");
    assert_eq!(buckets.last(), Some(&3.0));
    assert!(of("mesh_response_bytes_total").any(|(_, _, value)| *value == 15.0));
    assert!(
        of("mesh_connections_open")
            .any(|(_, labels, value)| labels["direction"] == "inbound" && *value == 1.0)
    );
    assert!(of("mesh_tls_handshakes_total").any(|(_, labels, _)| labels["result"] == "ok"));

    for (name, _, _) in &samples {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
            name.strip_suffix(end)
                .filter(|family| types.get(*family).is_some_and(|kind| kind == "histogram"))
        });
        assert!(types.contains_key(family.unwrap_or(name)), "{name} has no type");
    }
    for (name, kind, _) in ALL {
        if let Some(found) = types.get(name) {
            assert_eq!(found, kind.as_str(), "{name}");
        }
        assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
    }
}
