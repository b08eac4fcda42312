//! A route's rules, and the way to the first one that takes a request without asking them all.
//!
//! A request is answered by the first rule, in the route's order, one of whose matches holds; [`Rules::find`] gives
//! exactly that answer. Matches are sorted into a tree by the texts they ask for: at each node by the field that tells
//! them apart best (the model, the version, a header …), below it by the next one. On the way down only matches that
//! ask for what the request has are met, and each of them is asked for what the way has not. What no field narrows is
//! asked in order. Where a text leads to a single match, as in most long routes, that match stands beside the text: a
//! request for any of thousands of models then reads little memory that the ones before it have not.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use hashbrown::HashMap;
use http::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

use super::{Match, Rule};
use crate::document::{HeaderMatch, PathMatch, StringMatch};
use crate::inference::Operation;
use crate::matching::{self, Request};
use crate::name::Name;

mod equals;
mod prefixes;

use equals::Equals;
use prefixes::Prefixes;

/// So many matches are asked one after the other: a look into a branch costs as much.
const LEAF: usize = 4;
/// The most branches of a node: each is looked into for each request that comes by.
const MAX_BRANCHES: usize = 4;

/// The rules of a route, in order, with their index. Clones share both.
#[derive(Clone, Default)]
pub struct Rules(Arc<Indexed>);

#[derive(Default)]
struct Indexed {
    list: Box<[Rule]>,
    root: Node,
}

impl Rules {
    /// Indexes rules, at most [`MAX_RULES`](super::MAX_RULES) of them.
    pub(super) fn new(list: Vec<Rule>) -> Self {
        let mut open = Vec::with_capacity(list.len());
        for (rule, position) in list.iter().zip(0..) {
            if rule.matches.is_empty() {
                open.push(Open::always(position));
            }
            let matches = rule.matches.iter().zip(0..);
            open.extend(matches.map(|(wanted, nth)| Open::new(position, nth, wanted)));
        }
        let root = Node::new(open);
        Self(Arc::new(Indexed {
            list: list.into(),
            root,
        }))
    }

    /// The rules that can take requests to a port. All of them share what is here.
    #[must_use]
    pub fn of_port(&self, port: &Name) -> Self {
        self.only(|rule| rule.scope.port.as_ref().is_none_or(|there| there == port))
    }

    /// The rules that can take requests that are addressed to an endpoint of the service, not to the service: the first
    /// ones, so that their positions stay what they are. All of them share what is here.
    #[must_use]
    pub fn of_endpoints(&self) -> Self {
        self.only(|rule| !rule.scope.service_alone)
    }

    fn only(&self, wanted: impl Fn(&Rule) -> bool) -> Self {
        if self.iter().all(&wanted) {
            return self.clone();
        }
        Self::new(self.iter().filter(|rule| wanted(rule)).cloned().collect())
    }

    /// The position of the first rule that takes the request; none when no rule does.
    pub fn find(&self, request: &Request<'_>) -> Option<usize> {
        let Indexed { list, root } = &*self.0;
        let found = root.first(list, request, u32::MAX);
        (found != u32::MAX).then_some(found as usize)
    }
}

impl Deref for Rules {
    type Target = [Rule];

    fn deref(&self) -> &[Rule] {
        &self.0.list
    }
}

impl<'a> IntoIterator for &'a Rules {
    type Item = &'a Rule;
    type IntoIter = std::slice::Iter<'a, Rule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.list == other.0.list
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.list.fmt(f)
    }
}

impl Serialize for Rules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.list.serialize(serializer)
    }
}

/// A match, by its rule's position.
#[derive(Clone, Copy)]
struct Entry {
    rule: u32,
    left: Left,
}

/// What a match asks for that the way to it has not asked.
#[derive(Clone, Copy)]
enum Left {
    /// Nothing: it holds.
    Nothing,
    /// This operation, and nothing else.
    Operation(Operation),
    /// Something: the match is asked in full, by its position in the rule.
    All(u32),
}

impl Entry {
    fn holds(self, rules: &[Rule], request: &Request<'_>) -> bool {
        match self.left {
            Left::Nothing => true,
            Left::Operation(operation) => request.operation == Some(operation),
            Left::All(nth) => {
                let wanted = rules
                    .get(self.rule as usize)
                    .and_then(|rule| rule.matches.get(nth as usize));
                wanted.is_some_and(|wanted| matching::mismatch(wanted, request).is_none())
            }
        }
    }
}

/// Some matches.
enum Node {
    One(Entry),
    More(Box<Several>),
}

/// Matches, those that ask for a text of some field in the branches, the others in `rest`.
#[derive(Default)]
struct Several {
    /// The position of the first rule in it.
    first: u32,
    branches: Box<[Branch]>,
    /// In the order of the route.
    rest: Box<[Entry]>,
}

/// Matches by the text they ask for in one field.
struct Branch {
    field: Field,
    texts: Texts,
}

enum Texts {
    Equal(Equals),
    Begins(Prefixes),
}

impl Default for Node {
    fn default() -> Self {
        Self::More(Box::default())
    }
}

impl Node {
    fn new(open: Vec<Open<'_>>) -> Self {
        match open.as_slice() {
            [only] => Self::One(only.entry()),
            _ => Self::More(Box::new(Several::new(open))),
        }
    }

    /// The position of the first rule in it before `best` that takes the request; else `best`.
    fn first(&self, rules: &[Rule], request: &Request<'_>, best: u32) -> u32 {
        match self {
            Self::One(entry) if entry.rule < best && entry.holds(rules, request) => entry.rule,
            Self::More(several) if several.first < best => several.first(rules, request, best),
            Self::One(_) | Self::More(_) => best,
        }
    }
}

impl Several {
    fn new(mut open: Vec<Open<'_>>) -> Self {
        let first = open.first().map_or(u32::MAX, |it| it.rule);
        let mut branches = Vec::new();
        while open.len() > LEAF && branches.len() < MAX_BRANCHES {
            let Some(key) = most_telling(&open) else { break };
            let mut by_text: BTreeMap<&[u8], Vec<Open<'_>>> = BTreeMap::new();
            let mut others = Vec::new();
            for mut it in open {
                match it.take(&key) {
                    Some(text) => by_text.entry(text).or_default().push(it),
                    None => others.push(it),
                }
            }
            open = others;
            let nodes = by_text.into_iter().map(|(text, open)| (text, Node::new(open)));
            branches.push(Branch {
                field: key.field,
                texts: match key.how {
                    How::Equals => Texts::Equal(Equals::new(nodes)),
                    How::Begins => {
                        let nodes = nodes.map(|(text, node)| (text.into(), node));
                        Texts::Begins(Prefixes::new(nodes.collect()))
                    }
                },
            });
        }
        Self {
            first,
            branches: branches.into(),
            rest: open.iter().map(Open::entry).collect(),
        }
    }

    /// The position of the first rule in it before `best` that takes the request; else `best`.
    fn first(&self, rules: &[Rule], request: &Request<'_>, mut best: u32) -> u32 {
        for branch in &self.branches {
            let Some(value) = branch.field.of(request) else {
                continue;
            };
            let mut meet = |node: &Node| best = node.first(rules, request, best);
            match &branch.texts {
                Texts::Equal(nodes) => nodes.get(value).into_iter().for_each(&mut meet),
                Texts::Begins(prefixes) => prefixes.of(value).for_each(&mut meet),
            }
        }
        for entry in &self.rest {
            if entry.rule >= best {
                break;
            }
            if entry.holds(rules, request) {
                return entry.rule;
            }
        }
        best
    }
}

/// A match that has not found its place yet, with what it asks for and no node above asks already.
struct Open<'a> {
    rule: u32,
    wants: Vec<(Key, &'a [u8])>,
    /// What is left to ask when nothing of `wants` is.
    left: Left,
    /// What is left to ask when something is.
    all: Left,
}

/// What a text is compared with, and how.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    field: Field,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum How {
    Equals,
    Begins,
}

/// A field of a request that has one text, or none.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Field {
    Model,
    Version,
    Operation,
    Method,
    Path,
    CallerNamespace,
    CallerAccount,
    Header(HeaderName),
}

impl Field {
    fn of<'a>(&self, request: &Request<'a>) -> Option<&'a [u8]> {
        let caller = request.caller;
        let text = match self {
            Self::Model => request.model?,
            Self::Version => request.version?,
            Self::Operation => request.operation?.as_str(),
            Self::Method => request.method.as_str(),
            Self::Path => request.path,
            Self::CallerNamespace => caller?.namespace.as_str(),
            Self::CallerAccount => caller?.account.as_str(),
            Self::Header(name) => return request.headers.get(name).map(HeaderValue::as_bytes),
        };
        Some(text.as_bytes())
    }

    fn equals(self, text: &str) -> (Key, &[u8]) {
        let key = Key {
            field: self,
            how: How::Equals,
        };
        (key, text.as_bytes())
    }

    fn begins(self, text: &str) -> (Key, &[u8]) {
        let key = Key {
            field: self,
            how: How::Begins,
        };
        (key, text.as_bytes())
    }

    fn wants(self, wanted: &StringMatch) -> (Key, &[u8]) {
        match wanted {
            StringMatch::Exact(text) => self.equals(text),
            StringMatch::Prefix { prefix } => self.begins(prefix),
        }
    }
}

impl<'a> Open<'a> {
    fn always(rule: u32) -> Self {
        Self {
            rule,
            wants: Vec::new(),
            left: Left::Nothing,
            all: Left::Nothing,
        }
    }

    /// Everything said here must hold for the match to hold: what is left out costs time, nothing else.
    fn new(rule: u32, nth: u32, wanted: &'a Match) -> Self {
        let mut wants = Vec::new();
        let all = Left::All(nth);
        let mut left = match wanted.operations.as_slice() {
            [] => Left::Nothing,
            [only] => Left::Operation(*only),
            _ => all,
        };
        wants.extend(wanted.model.as_ref().map(|it| Field::Model.wants(it)));
        wants.extend(wanted.version.as_ref().map(|it| Field::Version.wants(it)));
        match &wanted.path {
            Some(PathMatch::Exact(text)) => wants.push(Field::Path.equals(text)),
            Some(PathMatch::Prefix { prefix }) => wants.push(Field::Path.begins(prefix)),
            // It begins so, but that is not all there is to it.
            Some(PathMatch::Under { under }) => {
                wants.push(Field::Path.begins(under.trim_end_matches('/')));
                left = all;
            }
            Some(PathMatch::Suffix { .. }) => left = all,
            None => {}
        }
        if !wanted.query.is_empty() {
            left = all;
        }
        for (name, value) in &wanted.headers {
            let field = Field::Header(name.clone());
            match value {
                HeaderMatch::Exact(text) => wants.push(field.equals(text)),
                HeaderMatch::Prefix { prefix } => wants.push(field.begins(prefix)),
                HeaderMatch::Present { .. } => left = all,
            }
        }
        if let Some(caller) = &wanted.caller {
            wants.push(Field::CallerNamespace.equals(caller.namespace.as_str()));
            let account = caller.account.as_ref();
            wants.extend(account.map(|account| Field::CallerAccount.equals(account.as_str())));
        }
        if let [only] = wanted.operations.as_slice() {
            wants.push(Field::Operation.equals(only.as_str()));
        }
        let method = wanted.method.as_ref();
        wants.extend(method.map(|method| Field::Method.equals(method.as_str())));
        Self {
            rule,
            wants,
            left,
            all,
        }
    }

    fn entry(&self) -> Entry {
        let left = match (self.wants.as_slice(), self.left) {
            ([], Left::Operation(_)) => Left::Nothing,
            ([], left) => left,
            ([(key, _)], Left::Operation(operation)) if key.field == Field::Operation => {
                Left::Operation(operation)
            }
            _ => self.all,
        };
        Entry {
            rule: self.rule,
            left,
        }
    }

    /// The text it asks for there, which is not to be asked below again.
    fn take(&mut self, key: &Key) -> Option<&'a [u8]> {
        let at = self.wants.iter().position(|(other, _)| other == key)?;
        Some(self.wants.remove(at).1)
    }
}

/// The key after which the fewest matches are left to be asked; none when none spares more than a look costs.
///
/// Of `n` matches with a key whose texts stand in `b1`, `b2` … of them, a request for one of them meets `Σ b² / n` on
/// average, and is spared the others.
fn most_telling(open: &[Open<'_>]) -> Option<Key> {
    let mut keys: HashMap<&Key, HashMap<&[u8], usize>> = HashMap::new();
    for (key, text) in open.iter().flat_map(|it| &it.wants) {
        *keys.entry(key).or_default().entry(text).or_default() += 1;
    }
    let spared = |texts: &HashMap<&[u8], usize>| {
        let all: usize = texts.values().sum();
        let squares: usize = texts.values().map(|count| count * count).sum();
        all - squares / all.max(1)
    };
    // Among equals the first that the first match asks for: the index must not depend on a hash.
    let mut best: Option<(&Key, usize)> = None;
    for (key, _) in open.iter().flat_map(|it| &it.wants) {
        let Some(texts) = keys.remove(key) else { continue };
        let spares = spared(&texts);
        if spares >= best.map_or(LEAF, |(_, most)| most + 1) {
            best = Some((key, spares));
        }
    }
    best.map(|(key, _)| key.clone())
}

#[cfg(test)]
mod tests;
