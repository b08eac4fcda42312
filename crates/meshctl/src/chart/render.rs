//! Templates with values put in, as Helm renders them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::template::{Expression, Function, Node};

/// What templates can include by name.
pub(crate) type Defined = BTreeMap<String, Vec<Node>>;

/// Renders pieces of a template.
///
/// # Errors
/// When an expression names a value that is not there, or gives a function what it does not take.
pub(crate) fn render(nodes: &[Node], defined: &Defined, root: &Value) -> Result<String, String> {
    let mut out = String::new();
    Scope {
        defined,
        root,
        dot: root,
    }
    .render(nodes, &mut out)?;
    Ok(out)
}

#[derive(Clone, Copy)]
struct Scope<'a> {
    defined: &'a Defined,
    root: &'a Value,
    dot: &'a Value,
}

impl Scope<'_> {
    fn render(&self, nodes: &[Node], out: &mut String) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Print(expression) => out.push_str(&printed(&self.value(expression)?)?),
                Node::If { arms, otherwise } => {
                    let mut taken = otherwise;
                    for (condition, nodes) in arms {
                        if holds(&self.value(condition)?) {
                            taken = nodes;
                            break;
                        }
                    }
                    self.render(taken, out)?;
                }
                Node::With(expression, nodes) => {
                    let dot = self.value(expression)?;
                    if holds(&dot) {
                        Scope { dot: &dot, ..*self }.render(nodes, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn value(&self, expression: &Expression) -> Result<Value, String> {
        let (function, values) = match expression {
            Expression::Dot(path) => return field(self.dot, path),
            Expression::Root(path) => return field(self.root, path),
            Expression::Text(text) => return Ok(Value::from(text.as_str())),
            Expression::Number(number) => return Ok(Value::from(*number)),
            Expression::Call(function, values) => (function, values),
        };
        let values: Vec<Value> = values
            .iter()
            .map(|value| self.value(value))
            .collect::<Result<_, _>>()?;
        match (function, values.as_slice()) {
            (Function::Default, [fallback, value]) => Ok(if holds(value) { value } else { fallback }.clone()),
            (Function::Eq, [one, other]) => Ok(Value::from(one == other)),
            (Function::Not, [value]) => Ok(Value::from(!holds(value))),
            // JSON's quotes and escapes are YAML's too.
            (Function::Quote, [value]) => Ok(Value::from(Value::from(printed(value)?).to_string())),
            (Function::ToYaml, [value]) => {
                let text = serde_saphyr::to_string(value).map_err(|error| error.to_string())?;
                Ok(Value::from(text.trim_end()))
            }
            (Function::Nindent, [width, Value::String(text)]) => {
                let width = width.as_u64().and_then(|it| usize::try_from(it).ok());
                let lead = format!("\n{}", " ".repeat(width.ok_or("nindent wants a width")?));
                Ok(Value::from(format!("{lead}{}", text.replace('\n', &lead))))
            }
            (Function::Include, [Value::String(name), root]) => {
                let nodes = self
                    .defined
                    .get(name)
                    .ok_or_else(|| format!("no template {name:?}"))?;
                render(nodes, self.defined, root).map(Value::from)
            }
            (function, _) => Err(format!("{function:?} does not take these values")),
        }
    }
}

/// The value at a path. Go says `<no value>` where there is none; that is never what was meant.
fn field(from: &Value, path: &[String]) -> Result<Value, String> {
    let mut value = from;
    for name in path {
        value = value
            .get(name)
            .ok_or_else(|| format!("there is no value .{}", path.join(".")))?;
    }
    Ok(value.clone())
}

/// Whether a value is not empty, in Go's sense.
fn holds(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A value as text.
fn printed(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(format!("{value} has no text of its own: write toYaml"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::template::parse;
    use serde_json::json;

    fn rendered(text: &str) -> Result<String, String> {
        let values = json!({
            "a": "x", "n": 7, "no": false, "empty": {}, "map": {"k": "v", "l": [1, "2"]}, "quote": "a\"b",
        });
        let template = parse(text)?;
        render(&template.nodes, &template.defined, &values)
    }

    #[test]
    fn templates_render_as_go_renders_them() {
        for (text, expected) in [
            ("a {{ .a }} b", "a x b"),
            ("a {{- .a -}} b", "axb"),
            ("a\n{{- /* why */}}\nb", "a\nb"),
            ("{{ .n }} {{ .no }}", "7 false"),
            ("{{ .no | default \"y\" }}{{ .a | default \"y\" }}", "yx"),
            ("{{ quote .n }}{{ quote .quote }}", r#""7""a\"b""#),
            ("{{ if .no }}a{{ else if .n }}b{{ else }}c{{ end }}", "b"),
            ("{{ if not .a }}a{{ else if .empty }}b{{ else }}c{{ end }}", "c"),
            ("{{ with .map }}{{ .k }}{{ $.a }}{{ end }}", "vx"),
            ("{{ with .empty }}never{{ end }}", ""),
            ("{{ if eq .a \"x\" }}yes{{ end }}", "yes"),
            (
                "{{ define \"t\" }}<{{ .k }}>{{ end }}{{ include \"t\" .map }}",
                "<v>",
            ),
            (
                "m:{{ toYaml .map | nindent 2 }}",
                "m:\n  k: v\n  l:\n  - 1\n  - \"2\"",
            ),
        ] {
            assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_value_that_is_not_there_is_an_error() {
        for (text, reason) in [
            ("{{ .b }}", "there is no value .b"),
            ("{{ .map.x.y }}", "there is no value .map.x.y"),
            ("{{ .map }}", "write toYaml"),
            ("{{ include \"none\" . }}", "no template \"none\""),
            ("{{ nindent \"a\" .a }}", "nindent wants a width"),
            ("{{ .map | nindent 2 }}", "does not take"),
        ] {
            let error = rendered(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
