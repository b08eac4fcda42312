//! Properties of rewriting: whatever a document says and is to say, it says that afterwards.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn texts_that_readers_take_for_something_else_are_quoted() {
    for (value, expected) in [
        ("web", "web"),
        ("mesh.dev/injected", "mesh.dev/injected"),
        ("$(POD_NAME)", "$(POD_NAME)"),
        ("64Mi", "64Mi"),
        ("--proxy-uid=2102", "--proxy-uid=2102"),
        ("---", "\"---\""),
        ("127.0.0.1:15000", "\"127.0.0.1:15000\""),
        ("0.1.0", "\"0.1.0\""),
        ("true", "\"true\""),
        ("No", "\"No\""),
        ("", "\"\""),
        ("a: b", "\"a: b\""),
        ("[::]:15020", "\"[::]:15020\""),
        ("{\"it's\":1}", "'{\"it''s\":1}'"),
        ("a\nb", "\"a\\nb\""),
    ] {
        assert_eq!(emit::text(value), expected);
        let read: Value = serde_saphyr::from_str(&format!("a: {expected}\n")).unwrap();
        assert_eq!(read["a"], value, "{expected}");
    }
}

#[test]
fn a_block_is_read_as_what_was_written() {
    let value = json!({"spec": {"b": [{"x": 1, "name": "n"}, []], "a": {}, "c": [["d"]], "kind": null, "e": [{"f": [{"g": true}]}]}});
    for list in [0, 2] {
        let text = block(&value, 0, list);
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
    }
}

fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (0..9_u8).prop_map(Value::from),
        "[a:#\\-' \n]{0,4}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("name|[ab]{1,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("kind|spec|[xy]", value, 1..4)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

proptest! {
    #[test]
    fn a_document_says_what_it_is_to_say((before, after, list) in (documents(), documents(), 0..3_usize)) {
        for text in [block(&before, 0, list), format!("{before}\n"), format!("{before:#}\n"), emit::flow(&before, None)] {
            let said: Value = serde_saphyr::from_str(&text).unwrap();
            prop_assert_eq!(&said, &before);
            let next = rewrite(&text, &before, &after);
            let said: Value = serde_saphyr::from_str(&next.text).unwrap();
            prop_assert_eq!(&said, &after, "{}", next.text);
            let back = rewrite(&text, &before, &before);
            prop_assert_eq!(back, Rewritten { text: text.clone(), in_place: true });
        }
    }
}
