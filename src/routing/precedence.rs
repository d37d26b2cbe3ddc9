//! Which of two routes that both take a request wins: the order of `routing`'s module documentation, as one `Ord`.
//! Promises a total order that does not depend on where a route stands in the file.
//! It does not look at requests.

use std::cmp::{Ordering, Reverse};

use crate::config::checked::{HostMatch, PathMatch, RouteMatch, ValueMatch};
use crate::routing::{path, predicate};

/// A route's place in the order: the least comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    pub(crate) host: HostRank,
    pub(crate) path: PathRank,
    pub(crate) conditions: ConditionRank,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostRank {
    pub(crate) kind: HostKind,
    pub(crate) length: Reverse<usize>,
    /// Lower case, without the root's dot.
    pub(crate) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostKind {
    Exact,
    Wildcard,
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathRank {
    pub(crate) kind: PathKind,
    pub(crate) length: Reverse<usize>,
    /// The normal form, or the pattern. `/` as a prefix is the empty text: it has no segments.
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PathKind {
    Exact,
    Pattern,
    Prefix,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConditionRank {
    /// The method list counts as one.
    pub(crate) n_conditions: Reverse<usize>,
    pub(crate) n_exact_values: Reverse<usize>,
    pub(crate) n_patterns: Reverse<usize>,
    pub(crate) n_methods: usize,
    /// Sorted, so that the order in which conditions are written does not matter either.
    pub(crate) text: String,
}

impl Rank {
    pub(crate) fn of(matcher: &RouteMatch) -> Rank {
        Rank {
            host: HostRank::of(&matcher.host),
            path: PathRank::of(&matcher.path),
            conditions: ConditionRank::of(matcher),
        }
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Rank) -> Ordering {
        let by_text = || self.path.text.cmp(&other.path.text).then_with(|| self.conditions.cmp(&other.conditions));
        let by_path = self.host.cmp(&other.host).then_with(|| self.path.specificity().cmp(&other.path.specificity()));
        match (by_path, self.path.kind) {
            // Two patterns of one length may both match a path, so the conditions decide before the text does. Two exact
            // paths or prefixes of one length never do; with the text first, routes of one path stand side by side.
            (Ordering::Equal, PathKind::Pattern) => {
                self.conditions.specificity().cmp(&other.conditions.specificity()).then_with(by_text)
            }
            (by_path, _) => by_path.then_with(by_text),
        }
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Rank) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl HostRank {
    fn of(host: &HostMatch) -> HostRank {
        let (kind, name) = match host {
            HostMatch::Exact(name) => (HostKind::Exact, name.as_str()),
            HostMatch::Wildcard(suffix) => (HostKind::Wildcard, suffix.as_str()),
            HostMatch::Any => (HostKind::Any, ""),
        };
        let name = predicate::without_root_dot(name).to_ascii_lowercase();
        HostRank { kind, length: Reverse(name.len()), name }
    }
}

impl PathRank {
    fn of(path: &PathMatch) -> PathRank {
        let (kind, text) = match path {
            PathMatch::Exact(exact) => (PathKind::Exact, path::normal(exact)),
            PathMatch::Regex(pattern) => (PathKind::Pattern, pattern.as_str().into()),
            PathMatch::Prefix(prefix) => (PathKind::Prefix, path::normal(prefix.trim_end_matches('/'))),
        };
        PathRank { kind, length: Reverse(text.len()), text: text.into_owned() }
    }

    /// What the rules compare; the text only breaks a tie.
    fn specificity(&self) -> (PathKind, Reverse<usize>) {
        (self.kind, self.length)
    }
}

impl ConditionRank {
    fn of(matcher: &RouteMatch) -> ConditionRank {
        let values = || {
            let headers = matcher.headers.iter().map(|condition| &condition.value);
            headers.chain(matcher.query.iter().map(|condition| &condition.value))
        };
        let n_exact_values = values().filter(|value| matches!(value, ValueMatch::Exact(_))).count();
        let n_patterns = values().filter(|value| matches!(value, ValueMatch::Regex(_))).count();
        ConditionRank {
            n_conditions: Reverse(values().count() + usize::from(!matcher.methods.is_empty())),
            n_exact_values: Reverse(n_exact_values),
            n_patterns: Reverse(n_patterns),
            n_methods: matcher.methods.len(),
            text: conditions_text(matcher),
        }
    }

    /// What the rules compare; the text only breaks a tie.
    fn specificity(&self) -> (Reverse<usize>, Reverse<usize>, Reverse<usize>, usize) {
        (self.n_conditions, self.n_exact_values, self.n_patterns, self.n_methods)
    }
}

/// All conditions besides host and path, sorted, one a line.
fn conditions_text(matcher: &RouteMatch) -> String {
    let methods = matcher.methods.iter().map(|method| format!("method {method}"));
    let headers =
        matcher.headers.iter().map(|condition| format!("header {}{}", condition.name, value_text(&condition.value)));
    let query =
        matcher.query.iter().map(|condition| format!("query {}{}", condition.name, value_text(&condition.value)));
    let mut lines: Vec<String> = methods.chain(headers).chain(query).collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn value_text(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Present => String::new(),
        ValueMatch::Exact(exact) => format!(" = {exact:?}"),
        ValueMatch::Regex(pattern) => format!(" ~ {:?}", pattern.as_str()),
    }
}
