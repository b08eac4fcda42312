//! Routes in words: what a rule asks for, what a split keeps together, what is rewritten on the way.

use mesh_api::document::Kind;
use mesh_api::document::{HeaderMatch, PathMatch, StringMatch};
use mesh_api::route::{Action, Backend, Key, Match, Origin, Rule};

/// What a rule takes, such as `model fraud, infer or generate`.
pub(crate) fn rule(rule: &Rule) -> String {
    if rule.matches.is_empty() {
        return "every request".into();
    }
    let matches: Vec<String> = rule.matches.iter().map(wanted).collect();
    matches.join(" | ")
}

/// What a match asks for.
pub(crate) fn wanted(wanted: &Match) -> String {
    let mut parts = Vec::new();
    for (field, text) in [("model", &wanted.model), ("version", &wanted.version)] {
        parts.extend(text.as_ref().map(|text| format!("{field} {}", string(text))));
    }
    if !wanted.operations.is_empty() {
        let words: Vec<_> = wanted.operations.iter().map(|it| it.as_str()).collect();
        parts.push(words.join(" or "));
    }
    parts.extend(wanted.method.as_ref().map(ToString::to_string));
    parts.extend(
        wanted
            .path
            .as_ref()
            .map(|path| format!("path {}", path_in_words(path))),
    );
    let query = wanted.query.iter();
    parts.extend(query.map(|(name, value)| format!("query {name}={}", string(value))));
    for (name, value) in &wanted.headers {
        parts.push(match value {
            HeaderMatch::Exact(text) => format!("{name}: {text}"),
            HeaderMatch::Prefix { prefix } => format!("{name}: {prefix}*"),
            HeaderMatch::Present { present: true } => format!("with {name}"),
            HeaderMatch::Present { present: false } => format!("without {name}"),
        });
    }
    if let Some(caller) = &wanted.caller {
        let account = caller.account.as_ref().map_or("*", |name| name.as_str());
        parts.push(format!("from {}/{account}", caller.namespace));
    }
    if parts.is_empty() {
        return "every request".into();
    }
    parts.join(", ")
}

fn path_in_words(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(path) => path.clone(),
        PathMatch::Prefix { prefix } => format!("{prefix}*"),
        PathMatch::Suffix { suffix } => format!("*{suffix}"),
        PathMatch::Under { under } => format!("{}/**", under.trim_end_matches('/')),
    }
}

fn string(text: &StringMatch) -> String {
    match text {
        StringMatch::Exact(text) => text.clone(),
        StringMatch::Prefix { prefix } => format!("{prefix}*"),
    }
}

/// What else than a ModelRoute a rule was made from, such as `HTTPRoute ml/web`.
pub(crate) fn foreign(origin: &Origin) -> Option<String> {
    let own = origin.label().starts_with(Kind::ModelRoute.as_str());
    (!own).then(|| origin.to_string())
}

/// How a rule answers by itself, without asking any server.
pub(crate) fn answer(rule: &Rule) -> Option<String> {
    match &rule.action {
        Action::Split(_) => None,
        Action::Redirect(redirect) => Some(format!("redirected with {}", redirect.status.as_u16())),
        Action::Refuse(refused) => Some(format!(
            "refused with {}: {}",
            refused.reason.status(),
            refused.detail
        )),
    }
}

/// What keeps a caller on one backend; none: each request is drawn anew.
pub(crate) fn key(rule: &Rule) -> Option<String> {
    Some(match rule.split()?.by.as_ref()? {
        Key::Header(name) => format!("by {name}"),
        Key::Caller => "by caller".into(),
    })
}

/// What a backend asks its server for instead, such as `as version 2`.
pub(crate) fn rewrite(backend: &Backend) -> Option<String> {
    let rewrite = backend.rewrite.as_ref()?;
    let parts = [
        rewrite.name.as_ref().map(|name| format!("model {name}")),
        rewrite
            .version
            .as_ref()
            .map(|version| format!("version {version}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    Some(format!("as {}", parts.join(" ")))
}
