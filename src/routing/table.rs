//! All routes of a configuration, laid out so that a request finds its own among ten thousand in well under a microsecond.
//! Chooses as `routing` documents, whatever order the routes came in, and takes no lock and no heap memory to do so.
//! It does not refuse ambiguous paths: `path::is_ambiguous` is asked before.

use std::collections::HashMap;
use std::iter;
use std::ops::Range;

use http::{HeaderMap, Method};

use crate::config::checked::{self, PathMatch, RouteMatch};
use crate::routing::explain::Explanation;
use crate::routing::path;
use crate::routing::precedence::{HostKind, HostRank, PathKind, Rank};
use crate::routing::predicate;

/// The longest host that a request can name a route by. DNS names have at most 253 characters (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 255;

/// Nodes with more children than this look them up in a map: below it, comparing each is faster than hashing.
const CHILDREN_FEW: usize = 6;

/// What a request is matched by.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// Without port. Compared in any case, with or without a final dot.
    pub host: &'a str,
    /// The request's method.
    pub method: &'a Method,
    /// As sent, without query.
    pub path: &'a str,
    /// As sent, without `?`.
    pub query: Option<&'a str>,
    /// The request's fields.
    pub headers: &'a HeaderMap,
}

/// Routes, each with what the caller keeps for it.
///
/// Hosts and prefixes cost the same among ten and among ten thousand; patterns are tried one after the other.
///
/// A path is matched in its normal form. That takes heap memory only for a path that is not normal already (`/%7Ebob`), and
/// a pattern may take some for its own work. A host longer than 255 bytes has the routes without a host.
#[derive(Debug)]
pub struct Table<T> {
    /// Best first.
    entries: Vec<Entry<T>>,
    nodes: Vec<Node>,
    /// By host name in lower case; for a wildcard, by what follows `*.`.
    hosts: HashMap<Box<[u8]>, Host>,
    any_host: Option<Paths>,
    /// So that a host of a hundred dots costs no hundred look-ups.
    wildcard_labels_max: usize,
}

#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) matcher: RouteMatch,
    pub(crate) rank: Rank,
    pub(crate) value: T,
}

#[derive(Debug, Default)]
struct Host {
    exact: Option<Paths>,
    wildcard: Option<Paths>,
}

/// The routes of one host.
#[derive(Debug)]
struct Paths {
    /// Where its tree of segments starts in `Table::nodes`.
    root: usize,
    patterns: Vec<Pattern>,
}

/// Routes that share a pattern, and thus stand side by side in `Table::entries`.
#[derive(Debug)]
struct Pattern {
    regex: checked::Pattern,
    entries: Range<usize>,
}

/// The end of a path: the routes that take just it, and those that take all below it too.
#[derive(Debug, Default)]
struct Node {
    exact: Range<usize>,
    prefix: Range<usize>,
    parent: Option<usize>,
    children: Children,
}

/// Nodes by their next segment.
#[derive(Debug)]
enum Children {
    Few(Vec<(Box<[u8]>, usize)>),
    Many(HashMap<Box<[u8]>, usize>),
}

impl<T> Table<T> {
    /// A table of these routes, in whatever order.
    pub fn build(routes: impl IntoIterator<Item = (RouteMatch, T)>) -> Table<T> {
        let ranked = |(matcher, value)| Entry { rank: Rank::of(&matcher), matcher, value };
        let mut entries: Vec<Entry<T>> = routes.into_iter().map(ranked).collect();
        entries.sort_by(|a, b| a.rank.cmp(&b.rank));
        let mut table = Table {
            entries: Vec::new(),
            nodes: Vec::new(),
            hosts: HashMap::new(),
            any_host: None,
            wildcard_labels_max: 0,
        };
        for (idx, entry) in entries.iter().enumerate() {
            table.insert(idx, entry);
        }
        table.entries = entries;
        table
    }

    /// The route that takes the request.
    pub fn find(&self, inquiry: &Inquiry<'_>) -> Option<&T> {
        if self.hosts.is_empty() {
            return self.any_host.as_ref().and_then(|paths| self.find_under(paths, inquiry));
        }
        let host = predicate::without_root_dot(inquiry.host).as_bytes();
        if host.len() > HOST_BYTES_MAX {
            return self.find_for_host(b"", inquiry);
        }
        if host.iter().any(u8::is_ascii_uppercase) {
            let mut lower_case = [0; HOST_BYTES_MAX];
            lower_case[..host.len()].copy_from_slice(host);
            lower_case.make_ascii_lowercase();
            return self.find_for_host(&lower_case[..host.len()], inquiry);
        }
        self.find_for_host(host, inquiry)
    }

    /// How each route fared, best first: for people.
    pub fn explain(&self, inquiry: &Inquiry<'_>) -> Explanation<'_, T> {
        Explanation::of(&self.entries, inquiry)
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn find_for_host(&self, host: &[u8], inquiry: &Inquiry<'_>) -> Option<&T> {
        let exact = || self.hosts.get(host)?.exact.as_ref();
        let wildcards =
            suffixes(host, self.wildcard_labels_max).filter_map(|suffix| self.hosts.get(suffix)?.wildcard.as_ref());
        let by_preference = iter::once_with(exact).flatten().chain(wildcards).chain(&self.any_host);
        by_preference.into_iter().find_map(|paths| self.find_under(paths, inquiry))
    }

    fn find_under(&self, paths: &Paths, inquiry: &Inquiry<'_>) -> Option<&T> {
        let root = &self.nodes[paths.root];
        if root.children.is_empty() && paths.patterns.is_empty() {
            // Nothing but `/`, as in the smallest file: it takes every path, so none is looked at.
            return self.first_of(&root.prefix, inquiry);
        }
        let normal = path::normal(inquiry.path);
        let (node, arrived) = self.walk(root, &normal);
        let exact = arrived.then(|| self.first_of(&node.exact, inquiry)).flatten();
        exact
            .or_else(|| {
                let mut patterns = paths.patterns.iter().filter(|pattern| pattern.regex.is_match(&normal));
                patterns.find_map(|pattern| self.first_of(&pattern.entries, inquiry))
            })
            .or_else(|| {
                let mut upwards = iter::successors(Some(node), |node| node.parent.map(|parent| &self.nodes[parent]));
                upwards.find_map(|node| self.first_of(&node.prefix, inquiry))
            })
    }

    /// The deepest node on the way of `path`, and whether that is its end.
    fn walk<'t>(&'t self, root: &'t Node, path: &str) -> (&'t Node, bool) {
        let mut node = root;
        let Some(path) = path.as_bytes().strip_prefix(b"/") else { return (node, false) };
        for segment in path.split(is_slash) {
            let Some(child) = node.children.get(segment) else { return (node, false) };
            node = &self.nodes[child];
        }
        (node, true)
    }

    #[inline]
    fn first_of(&self, candidates: &Range<usize>, inquiry: &Inquiry<'_>) -> Option<&T> {
        let mut candidates = self.entries[candidates.clone()].iter();
        candidates.find(|entry| predicate::conditions_hold(&entry.matcher, inquiry)).map(|entry| &entry.value)
    }

    /// Entries come best first, so those that share a host and a path come in one run.
    fn insert(&mut self, idx: usize, entry: &Entry<T>) {
        let root = self.paths(&entry.rank.host).root;
        let path = &entry.rank.path;
        let entries = match (&entry.matcher.path, path.kind) {
            (PathMatch::Regex(regex), _) => {
                let patterns = &mut self.paths(&entry.rank.host).patterns;
                if patterns.last().is_none_or(|last| last.regex.as_str() != regex.as_str()) {
                    patterns.push(Pattern { regex: regex.clone(), entries: 0..0 });
                }
                &mut patterns.last_mut().expect("pushed when missing").entries
            }
            (_, PathKind::Exact) => &mut self.node(root, &path.text).exact,
            _ => &mut self.node(root, &path.text).prefix,
        };
        debug_assert!(Range::is_empty(entries) || entries.end == idx, "routes of one host and path stand side by side");
        let start = if Range::is_empty(entries) { idx } else { entries.start };
        *entries = start..idx + 1;
    }

    fn paths(&mut self, host: &HostRank) -> &mut Paths {
        let slot = match host.kind {
            HostKind::Any => &mut self.any_host,
            HostKind::Exact => &mut self.hosts.entry(host.name.as_bytes().into()).or_default().exact,
            HostKind::Wildcard => {
                self.wildcard_labels_max = self.wildcard_labels_max.max(host.name.split('.').count());
                &mut self.hosts.entry(host.name.as_bytes().into()).or_default().wildcard
            }
        };
        slot.get_or_insert_with(|| {
            self.nodes.push(Node::default());
            Paths { root: self.nodes.len() - 1, patterns: Vec::new() }
        })
    }

    /// The node at the end of `path`; the empty path is the root.
    fn node(&mut self, root: usize, path: &str) -> &mut Node {
        let mut at = root;
        let segments = path.as_bytes().strip_prefix(b"/").map(|path| path.split(is_slash));
        for segment in segments.into_iter().flatten() {
            at = self.nodes[at].children.get(segment).unwrap_or_else(|| {
                let child = self.nodes.len();
                self.nodes.push(Node { parent: Some(at), ..Node::default() });
                self.nodes[at].children.insert(segment, child);
                child
            });
        }
        &mut self.nodes[at]
    }
}

impl Children {
    fn is_empty(&self) -> bool {
        matches!(self, Children::Few(few) if few.is_empty())
    }

    fn get(&self, segment: &[u8]) -> Option<usize> {
        match self {
            Children::Few(few) => few.iter().find(|(name, _)| **name == *segment).map(|(_, node)| *node),
            Children::Many(many) => many.get(segment).copied(),
        }
    }

    fn insert(&mut self, segment: &[u8], node: usize) {
        match self {
            Children::Few(few) if few.len() == CHILDREN_FEW => {
                let all = few.drain(..).chain([(segment.into(), node)]);
                *self = Children::Many(all.collect());
            }
            Children::Few(few) => few.push((segment.into(), node)),
            Children::Many(many) => _ = many.insert(segment.into(), node),
        }
    }
}

impl Default for Children {
    fn default() -> Self {
        Children::Few(Vec::new())
    }
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// What follows a dot of `host`, longest first, if it has no more than `labels_max` labels.
fn suffixes(host: &[u8], labels_max: usize) -> impl Iterator<Item = &[u8]> {
    let longest = memchr::memrchr_iter(b'.', host).take(labels_max).filter(|&dot| dot > 0).last();
    let tail = longest.map_or(&host[..0], |dot| &host[dot..]);
    memchr::memchr_iter(b'.', tail).map(|dot| &tail[dot + 1..])
}
