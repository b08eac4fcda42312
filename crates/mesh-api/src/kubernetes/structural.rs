//! From the JSON Schema of a document's part to one that an API server takes: structural (every node has one type, every
//! field stands in `properties`), without references, and with a bound on whatever can be long, so that the cost of rules
//! is bounded too.

use serde_json::{Map, Value, json};

/// The longest list, where no type says how long it may be.
const MAX_ITEMS: u64 = 64;
/// The longest text in bytes, where no type says how long it may be.
const MAX_LENGTH: u64 = 1024;
/// The longest duration, such as `99999h99999m99999s99999ms`.
const MAX_DURATION: u64 = 28;

/// Makes a schema structural. References in it must be inlined.
pub(super) fn structural(schema: &Value) -> Value {
    let mut node = match options(schema) {
        Some(options) => union(&options),
        None => plain(schema),
    };
    if let (Some(node), Some(text)) = (node.as_object_mut(), schema["description"].as_str()) {
        node.insert("description".into(), first_paragraph(text).into());
    }
    node
}

/// What a node may be, if it may be several things; that it may be left out is none of them.
fn options(schema: &Value) -> Option<Vec<&Value>> {
    let several = schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array()?;
    Some(several.iter().filter(|option| option["type"] != "null").collect())
}

fn union(options: &[&Value]) -> Value {
    let words: Option<Vec<&Value>> = options.iter().map(|option| option.get("const")).collect();
    let objects = options.iter().filter(|option| option["type"] == "object");
    let objects: Vec<Value> = objects.map(|option| plain(option)).collect();
    match (options, words) {
        (_, Some(words)) => json!({"type": "string", "enum": words}),
        ([only], None) => structural(only),
        _ if objects.len() == options.len() => one_of(options, &objects),
        _ => text_or(&objects),
    }
}

/// An object that has exactly one of some fields.
fn one_of(options: &[&Value], objects: &[Value]) -> Value {
    let mut properties = Map::new();
    for (option, object) in options.iter().zip(objects) {
        for (name, field) in object["properties"].as_object().into_iter().flatten() {
            let mut field = field.clone();
            if field["description"].is_null() {
                field["description"] = option["description"].clone();
            }
            properties.insert(name.clone(), field);
        }
    }
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    let has: Vec<String> = names.iter().map(|name| format!("has(self.{name})")).collect();
    let rule = format!("[{}].filter(it, it).size() == 1", has.join(", "));
    let message = format!("say exactly one of {}", names.join(" and "));
    json!({
        "type": "object",
        "properties": properties,
        "x-kubernetes-validations": [{"rule": rule, "message": message}],
    })
}

/// A text, or an object that has exactly one of some fields. A structural schema has no type for that: whatever is no
/// object is left to the control plane's own reading, and an object's fields are checked here.
fn text_or(objects: &[Value]) -> Value {
    let fields = |object: &Value| object["properties"].as_object().cloned().unwrap_or_default();
    let properties: Map<String, Value> = objects.iter().flat_map(fields).collect();
    let forms: Vec<Value> = properties
        .keys()
        .map(|name| json!({"required": [name]}))
        .collect();
    json!({
        "x-kubernetes-preserve-unknown-fields": true,
        "maxLength": MAX_LENGTH,
        "maxProperties": 1,
        "properties": properties,
        "anyOf": forms,
    })
}

/// A node of one type.
fn plain(schema: &Value) -> Value {
    let mut node = Map::new();
    let kept = [
        "enum",
        "minimum",
        "maximum",
        "pattern",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "required",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-preserve-unknown-fields",
    ];
    for (name, value) in schema.as_object().into_iter().flatten() {
        if kept.contains(&name.as_str()) {
            node.insert(name.clone(), value.clone());
        }
    }
    let kind = one_type(schema);
    node.insert("type".into(), kind.into());
    match kind {
        "string" => {
            let is_duration = schema["pattern"]
                .as_str()
                .is_some_and(|it| it.contains("(h|m|s|ms)"));
            let length = if is_duration { MAX_DURATION } else { MAX_LENGTH };
            if schema.get("enum").is_none() {
                node.entry("maxLength").or_insert(length.into());
            }
            if schema["format"] == "date-time" {
                node.insert("format".into(), "date-time".into());
            }
        }
        "integer" => {
            let wide = matches!(schema["format"].as_str(), Some("uint32" | "uint64" | "int64"));
            node.insert("format".into(), if wide { "int64" } else { "int32" }.into());
        }
        "array" => array(schema, &mut node),
        "object" => object(schema, &mut node),
        _ => {}
    }
    Value::Object(node)
}

fn array(schema: &Value, node: &mut Map<String, Value>) {
    let mut items = structural(&schema["items"]);
    node.entry("maxItems").or_insert(MAX_ITEMS.into());
    // What has a name is known by it, whoever writes a part of the list.
    if items["properties"].get("name").is_some() {
        node.insert("x-kubernetes-list-type".into(), "map".into());
        node.insert("x-kubernetes-list-map-keys".into(), json!(["name"]));
        require(&mut items, "name");
    } else {
        node.entry("x-kubernetes-list-type").or_insert("atomic".into());
    }
    node.insert("items".into(), items);
}

fn require(node: &mut Value, name: &str) {
    let mut required = node["required"].as_array().cloned().unwrap_or_default();
    if !required.iter().any(|there| there == name) {
        required.push(name.into());
    }
    node["required"] = required.into();
}

fn object(schema: &Value, node: &mut Map<String, Value>) {
    if let Some(values) = schema.get("additionalProperties").filter(|it| it.is_object()) {
        node.insert("additionalProperties".into(), structural(values));
        node.insert("maxProperties".into(), MAX_ITEMS.into());
    }
    if let Some(fields) = schema["properties"].as_object() {
        let fields = fields
            .iter()
            .map(|(name, field)| (name.clone(), structural(field)));
        node.insert("properties".into(), Value::Object(fields.collect()));
    }
}

fn one_type(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(word) => word,
        Value::Array(words) => words
            .iter()
            .filter_map(Value::as_str)
            .find(|word| *word != "null")
            .unwrap_or("object"),
        _ => "object",
    }
}

fn first_paragraph(text: &str) -> String {
    text.split("\n\n").next().unwrap_or_default().replace('\n', " ")
}
