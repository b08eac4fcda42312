//! What leads from one JSON document to another, as a JSON Patch (RFC 6902), which is how a webhook answers.

use serde_json::{Map, Value, json};

/// The operations that make `after` of `before`, as a JSON array. What is alike on both sides is not mentioned; items that
/// were added to a list or taken from it in one place are added or taken, and the others left alone.
pub fn patch(before: &Value, after: &Value) -> Value {
    let mut operations = Vec::new();
    differ(before, after, "", &mut operations);
    Value::Array(operations)
}

fn differ(before: &Value, after: &Value, path: &str, operations: &mut Vec<Value>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(before), Value::Object(after)) => maps(before, after, path, operations),
        (Value::Array(before), Value::Array(after)) => lists(before, after, path, operations),
        _ => operations.push(json!({"op": "replace", "path": path, "value": after})),
    }
}

fn maps(before: &Map<String, Value>, after: &Map<String, Value>, path: &str, operations: &mut Vec<Value>) {
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        operations.push(json!({"op": "remove", "path": below(path, name)}));
    }
    for (name, value) in after {
        match before.get(name) {
            Some(before) => differ(before, value, &below(path, name), operations),
            None => operations.push(json!({"op": "add", "path": below(path, name), "value": value})),
        }
    }
}

fn lists(before: &[Value], after: &[Value], path: &str, operations: &mut Vec<Value>) {
    // Where the list stands once the operations so far are done.
    let mut at = 0;
    for step in aligned(before, after) {
        let path = below(path, &at.to_string());
        match step {
            Step::Both(before, after) => differ(before, after, &path, operations),
            Step::Removed(_) => {
                operations.push(json!({"op": "remove", "path": path}));
                continue;
            }
            Step::Added(value) => operations.push(json!({"op": "add", "path": path, "value": value})),
        }
        at += 1;
    }
}

/// What becomes of the items of a list, in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step<'a> {
    /// The same item, maybe with other content.
    Both(&'a Value, &'a Value),
    /// An item that is gone.
    Removed(&'a Value),
    /// An item that is new.
    Added(&'a Value),
}

/// Lays two lists side by side. Items are the same if they are alike, or are called alike as items of Kubernetes are; in
/// lists of the same length each is the same as the one in its place.
pub fn aligned<'a>(mut before: &'a [Value], mut after: &'a [Value]) -> Vec<Step<'a>> {
    if before.len() == after.len() {
        let pairs = before.iter().zip(after);
        return pairs.map(|(before, after)| Step::Both(before, after)).collect();
    }
    let mut steps = Vec::new();
    loop {
        match (before.split_first(), after.split_first()) {
            (Some((old, olds)), Some((new, news))) if same(old, new) => {
                steps.push(Step::Both(old, new));
                (before, after) = (olds, news);
            }
            (Some(_), Some((new, news))) if after.iter().any(|item| same(&before[0], item)) => {
                steps.push(Step::Added(new));
                after = news;
            }
            (Some((old, olds)), _) => {
                steps.push(Step::Removed(old));
                before = olds;
            }
            (None, Some((new, news))) => {
                steps.push(Step::Added(new));
                after = news;
            }
            (None, None) => return steps,
        }
    }
}

fn same(before: &Value, after: &Value) -> bool {
    before == after || (before["name"].is_string() && before["name"] == after["name"])
}

/// A place below another (RFC 6901).
fn below(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `before` with the patch applied by an implementation that is not ours.
    fn patched(before: &Value, after: &Value) -> Value {
        let patch: json_patch::Patch = serde_json::from_value(patch(before, after)).unwrap();
        let mut patched = before.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        patched
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3_u8).prop_map(Value::from),
            "[a~/]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("name|a|b/|~", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_patch_leads_from_any_document_to_any_other((before, after) in (json(), json())) {
            prop_assert_eq!(&patched(&before, &after), &after);
            prop_assert_eq!(patch(&before, &before), json!([]));
        }
    }

    #[test]
    fn what_is_alike_is_not_mentioned() {
        let before =
            json!({"list": [{"name": "web", "image": "a", "port": 1}, {"name": "log"}], "kept": {"x": 1}});
        let after = json!({
            "list": [{"name": "mesh"}, {"name": "web", "image": "a", "port": 2}, {"name": "log"}],
            "kept": {"x": 1},
            "a/b": true,
        });
        assert_eq!(
            patch(&before, &after),
            json!([
                {"op": "add", "path": "/a~1b", "value": true},
                {"op": "add", "path": "/list/0", "value": {"name": "mesh"}},
                {"op": "replace", "path": "/list/1/port", "value": 2},
            ])
        );
    }
}
