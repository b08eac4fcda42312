//! Helm's templates as far as our chart uses them, parsed: text, `{{ … }}`, `if`, `with`, `define`, comments.
//!
//! The language is Go's `text/template` (<https://pkg.go.dev/text/template>) with a few of Helm's functions. Whatever
//! else stands in a template is refused here, so that what meshctl renders never differs in silence from what Helm does.

use std::collections::BTreeMap;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// As it is.
    Text(String),
    /// What an expression is.
    Print(Expression),
    /// The first arm whose condition holds, or else what is left.
    If {
        /// Condition and pieces of each arm.
        arms: Vec<(Expression, Vec<Node>)>,
        /// When no condition holds.
        otherwise: Vec<Node>,
    },
    /// The pieces with the dot set to a value, unless that is empty.
    With(Expression, Vec<Node>),
}

/// Something that has a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    /// `.a.b`, from the dot; `.` alone is the dot itself.
    Dot(Vec<String>),
    /// `$.a.b`, from what the template was given.
    Root(Vec<String>),
    /// `"text"`.
    Text(String),
    /// `7`.
    Number(i64),
    /// A function of values. What is piped in is its last one.
    Call(Function, Vec<Expression>),
}

/// The functions of our chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// `default FALLBACK VALUE`
    Default,
    /// `eq A B`
    Eq,
    /// `include "NAME" DOT`
    Include,
    /// `nindent N TEXT`
    Nindent,
    /// `not VALUE`
    Not,
    /// `quote VALUE`
    Quote,
    /// `toYaml VALUE`
    ToYaml,
}

impl Function {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "default" => Self::Default,
            "eq" => Self::Eq,
            "include" => Self::Include,
            "nindent" => Self::Nindent,
            "not" => Self::Not,
            "quote" => Self::Quote,
            "toYaml" => Self::ToYaml,
            _ => return None,
        })
    }

    /// How many values it takes.
    fn arity(self) -> usize {
        match self {
            Self::Not | Self::Quote | Self::ToYaml => 1,
            Self::Default | Self::Eq | Self::Include | Self::Nindent => 2,
        }
    }
}

/// A parsed file: its own pieces, and the templates it defines.
#[derive(Debug, Default)]
pub(crate) struct Template {
    /// What the file itself renders.
    pub(crate) nodes: Vec<Node>,
    /// What it defines for others.
    pub(crate) defined: BTreeMap<String, Vec<Node>>,
}

/// Parses a file's text.
///
/// # Errors
/// What stands in it that this language does not have.
pub(crate) fn parse(text: &str) -> Result<Template, String> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        defined: BTreeMap::new(),
    };
    let (nodes, end) = parser.nodes(true)?;
    match end {
        None => Ok(Template {
            nodes,
            defined: parser.defined,
        }),
        Some(word) => Err(format!("{{{{ {word} }}}} without a beginning")),
    }
}

/// Text, or what stands between braces.
#[derive(Debug, PartialEq)]
enum Token {
    Text(String),
    Action(Vec<Word>),
}

/// Cuts text at its `{{ … }}`, and trims it as `{{-` and `-}}` say.
fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let (mut tokens, mut rest, mut trim) = (Vec::new(), text, false);
    loop {
        let (mut before, action) = match rest.split_once("{{") {
            None => (rest, None),
            Some((before, after)) => (before, Some(after)),
        };
        if trim {
            before = before.trim_start();
        }
        let Some(after) = action else {
            tokens.push(Token::Text(before.to_owned()));
            return Ok(tokens);
        };
        let end = after.find("}}").ok_or("{{ without }}")?;
        let (mut inside, behind) = (&after[..end], &after[end + 2..]);
        if let Some(trimmed) = inside.strip_prefix('-') {
            inside = trimmed;
            before = before.trim_end();
        }
        trim = inside.ends_with('-');
        inside = inside.strip_suffix('-').unwrap_or(inside).trim();
        tokens.push(Token::Text(before.to_owned()));
        if !(inside.starts_with("/*") && inside.ends_with("*/")) {
            tokens.push(Token::Action(words(inside)?));
        }
        rest = behind;
    }
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
enum Word {
    Name(String),
    Dot(Vec<String>),
    Root(Vec<String>),
    Text(String),
    Number(i64),
    Pipe,
    Open,
    Close,
}

fn words(action: &str) -> Result<Vec<Word>, String> {
    let (mut words, mut rest) = (Vec::new(), action);
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return Ok(words);
        };
        let single = match first {
            '|' => Some(Word::Pipe),
            '(' => Some(Word::Open),
            ')' => Some(Word::Close),
            _ => None,
        };
        if let Some(word) = single {
            words.push(word);
            rest = &rest[1..];
            continue;
        }
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted
                .find('"')
                .ok_or_else(|| format!("a text without end in {action:?}"))?;
            if quoted[..end].contains('\\') {
                return Err(format!("an escape in {action:?}"));
            }
            words.push(Word::Text(quoted[..end].to_owned()));
            rest = &quoted[end + 1..];
            continue;
        }
        let end = rest.find(|letter: char| letter.is_whitespace() || "|()\"".contains(letter));
        let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(plain(word).ok_or_else(|| format!("{word:?} in {action:?}"))?);
        rest = behind;
    }
}

fn plain(word: &str) -> Option<Word> {
    if let Ok(number) = word.parse() {
        return Some(Word::Number(number));
    }
    let good = |name: &str| !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric());
    let fields = |path: &str| {
        let fields = path.split('.').map(|field| good(field).then(|| field.to_owned()));
        fields.collect::<Option<Vec<_>>>()
    };
    match word {
        "." => Some(Word::Dot(Vec::new())),
        "$" => Some(Word::Root(Vec::new())),
        _ => {
            if let Some(path) = word.strip_prefix("$.") {
                Some(Word::Root(fields(path)?))
            } else if let Some(path) = word.strip_prefix('.') {
                Some(Word::Dot(fields(path)?))
            } else {
                good(word).then(|| Word::Name(word.to_owned()))
            }
        }
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    defined: BTreeMap<String, Vec<Node>>,
}

/// The action that ended a list of nodes: `end`, `else`, or `else if` with its condition.
enum Close {
    End,
    Else,
    ElseIf(Expression),
}

impl std::fmt::Display for Close {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::End => "end",
            Self::Else | Self::ElseIf(_) => "else",
        })
    }
}

impl Parser {
    /// Pieces up to the `end` or `else` that closes them, or to the end of the file.
    fn nodes(&mut self, file: bool) -> Result<(Vec<Node>, Option<Close>), String> {
        let mut nodes = Vec::new();
        while self.at < self.tokens.len() {
            let token = std::mem::replace(&mut self.tokens[self.at], Token::Text(String::new()));
            self.at += 1;
            let words = match token {
                Token::Text(text) => {
                    if !text.is_empty() {
                        nodes.push(Node::Text(text));
                    }
                    continue;
                }
                Token::Action(words) => words,
            };
            let keyword = match words.first() {
                Some(Word::Name(name)) => name.as_str(),
                _ => "",
            };
            match keyword {
                "end" if words.len() == 1 => return Ok((nodes, Some(Close::End))),
                "else" => {
                    let end = match words.get(1) {
                        None => Close::Else,
                        Some(Word::Name(name)) if name == "if" => Close::ElseIf(expression(&words[2..])?),
                        Some(other) => return Err(format!("else {other:?}")),
                    };
                    return Ok((nodes, Some(end)));
                }
                "if" => nodes.push(self.conditional(expression(&words[1..])?)?),
                "with" => {
                    let value = expression(&words[1..])?;
                    nodes.push(Node::With(value, self.block("with")?));
                }
                "define" if file => match words.as_slice() {
                    [_, Word::Text(name)] => {
                        let block = self.block("define")?;
                        self.defined.insert(name.clone(), block);
                    }
                    _ => return Err("define without a name".into()),
                },
                _ => nodes.push(Node::Print(expression(&words)?)),
            }
        }
        Ok((nodes, None))
    }

    fn block(&mut self, of: &str) -> Result<Vec<Node>, String> {
        match self.nodes(false)? {
            (nodes, Some(Close::End)) => Ok(nodes),
            (_, Some(end)) => Err(format!("{end} in {of}")),
            (_, None) => Err(format!("{of} without end")),
        }
    }

    fn conditional(&mut self, first: Expression) -> Result<Node, String> {
        let (mut arms, mut condition) = (Vec::new(), first);
        loop {
            let (nodes, end) = self.nodes(false)?;
            arms.push((condition, nodes));
            let otherwise = match end {
                Some(Close::End) => Vec::new(),
                Some(Close::Else) => self.block("else")?,
                Some(Close::ElseIf(next)) => {
                    condition = next;
                    continue;
                }
                None => return Err("if without end".into()),
            };
            return Ok(Node::If { arms, otherwise });
        }
    }
}

/// Calls joined by `|`: each one's value is the last argument of the next.
fn expression(words: &[Word]) -> Result<Expression, String> {
    let mut value = None;
    let mut depth = 0_usize;
    for call in words.split(|word| {
        match word {
            Word::Open => depth += 1,
            Word::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && *word == Word::Pipe
    }) {
        value = Some(one(call, value)?);
    }
    value.ok_or_else(|| "an empty action".into())
}

fn one(words: &[Word], piped: Option<Expression>) -> Result<Expression, String> {
    let Some((first, rest)) = words.split_first() else {
        return Err("nothing beside |".into());
    };
    let Word::Name(name) = first else {
        let (value, behind) = term(words)?;
        return match (behind.is_empty(), piped) {
            (true, None) => Ok(value),
            _ => Err(format!("{first:?} takes no values")),
        };
    };
    let function = Function::named(name).ok_or_else(|| format!("{name} is no function of this chart"))?;
    let (mut values, mut rest) = (Vec::new(), rest);
    while !rest.is_empty() {
        let (value, behind) = term(rest)?;
        values.push(value);
        rest = behind;
    }
    values.extend(piped);
    if values.len() == function.arity() {
        Ok(Expression::Call(function, values))
    } else {
        Err(format!(
            "{name} takes {} values, not {}",
            function.arity(),
            values.len()
        ))
    }
}

/// A single value at the beginning of words, and what stands behind it.
fn term(words: &[Word]) -> Result<(Expression, &[Word]), String> {
    let (first, rest) = words.split_first().ok_or("a value is missing")?;
    let value = match first {
        Word::Dot(path) => Expression::Dot(path.clone()),
        Word::Root(path) => Expression::Root(path.clone()),
        Word::Text(text) => Expression::Text(text.clone()),
        Word::Number(number) => Expression::Number(*number),
        Word::Open => {
            let mut depth = 1;
            let close = rest.iter().position(|word| {
                match word {
                    Word::Open => depth += 1,
                    Word::Close => depth -= 1,
                    _ => {}
                }
                depth == 0
            });
            let close = close.ok_or("( without )")?;
            return Ok((expression(&rest[..close])?, &rest[close + 1..]));
        }
        Word::Name(name) => return Err(format!("{name} stands where a value should")),
        Word::Pipe | Word::Close => return Err(format!("{first:?} stands where a value should")),
    };
    Ok((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_chart_does_not_use_is_refused() {
        for (text, reason) in [
            ("{{ .a", "{{ without }}"),
            ("{{ range .a }}{{ end }}", "range is no function"),
            ("{{ lookup \"v1\" }}", "lookup is no function"),
            ("{{ tpl .a . }}", "tpl is no function"),
            ("{{ $x := 1 }}", "$x"),
            ("{{ .a.b-c }}", ".a.b-c"),
            ("{{ if .a }}", "if without end"),
            ("{{ with .a }}{{ else }}{{ end }}", "else in with"),
            ("{{ end }}", "without a beginning"),
            (
                "{{ if .a }}{{ define \"x\" }}{{ end }}{{ end }}",
                "define is no function",
            ),
            ("{{ quote }}", "quote takes 1 values, not 0"),
            ("{{ .a | .b }}", "takes no values"),
            ("{{ quote \"a\\n\" }}", "an escape"),
            ("{{ quote (not .a }}", "( without )"),
            ("{{ }}", "nothing"),
            ("{{ .a | }}", "nothing beside |"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn pipes_and_parentheses_nest() {
        let template = parse("{{ include \"x\" . | nindent 4 }}{{ not (eq .a \"b\") }}").unwrap();
        let include = Expression::Call(
            Function::Include,
            vec![Expression::Text("x".into()), Expression::Dot(vec![])],
        );
        let eq = Expression::Call(
            Function::Eq,
            vec![Expression::Dot(vec!["a".into()]), Expression::Text("b".into())],
        );
        assert_eq!(
            template.nodes,
            [
                Node::Print(Expression::Call(
                    Function::Nindent,
                    vec![Expression::Number(4), include]
                )),
                Node::Print(Expression::Call(Function::Not, vec![eq])),
            ]
        );
    }
}
