//! Why a request has the route it has: how each route fared, in words.
//! Promises to agree with `Table::find`, at the cost of looking at every route.
//! It is for people, not for the data path.

use std::fmt;

use http::Method;

use crate::config::checked::{HeaderMatch, HostMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};
use crate::routing::precedence::{ConditionRank, PathKind, Rank};
use crate::routing::table::{Entry, Inquiry};
use crate::routing::{path, predicate};

/// How many routes are named when none takes the request.
const NEAREST: usize = 3;

/// How every route fared with one request.
#[derive(Debug)]
pub struct Explanation<'t, T> {
    /// Best first: a route that was chosen stands before those that it outranks.
    pub candidates: Vec<Candidate<'t, T>>,
}

/// How one route fared.
#[derive(Debug)]
pub struct Candidate<'t, T> {
    /// Its conditions.
    pub matcher: &'t RouteMatch,
    /// What the table keeps for it.
    pub value: &'t T,
    /// Chosen, outranked or refused.
    pub verdict: Verdict<'t>,
    /// How many leading bytes of the request's path its path has.
    shared_path_bytes: usize,
}

/// What became of a route. Displays as the words for people.
#[derive(Clone, Debug)]
pub enum Verdict<'t> {
    /// This one takes the request.
    Chosen(Because<'t>),
    /// It would, were there no better one.
    Outranked(Outranked),
    /// It does not; at least one condition, in the order host, path, method, headers, query.
    Unmet(Vec<Unmet<'t>>),
}

/// Why a route was chosen.
#[derive(Clone, Debug)]
pub struct Because<'t> {
    /// Of the chosen route.
    pub matcher: &'t RouteMatch,
    /// The path of the best route of the same host that has another path and would have taken the request.
    pub runner_up: Option<&'t PathMatch>,
}

/// Why a route that takes the request was not chosen: what the better one is better at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outranked {
    /// Exact beats wildcard, a longer wildcard a shorter one, a wildcard none.
    LessSpecificHost,
    /// Exact beats pattern and prefix.
    NotExactPath,
    /// A pattern beats a prefix.
    PrefixAfterPattern,
    /// Of prefixes.
    ShorterPrefix,
    /// Of patterns.
    ShorterPattern,
    /// Methods, headers and query parameters.
    FewerConditions,
    /// As many conditions, but fewer exact values or patterns, or more methods.
    LooserConditions,
    /// Equal in all that is compared; the text decides.
    LaterText,
}

/// A condition that does not hold.
#[derive(Clone, Copy, Debug)]
pub enum Unmet<'t> {
    /// Another host.
    Host(&'t HostMatch),
    /// Another path.
    Path(&'t PathMatch),
    /// None of these methods.
    Method(&'t [Method]),
    /// A header field that is missing or different.
    Header(&'t HeaderMatch),
    /// A query parameter that is missing or different.
    Query(&'t QueryMatch),
}

impl<'t, T> Explanation<'t, T> {
    pub(crate) fn of(entries: &'t [Entry<T>], inquiry: &Inquiry<'_>) -> Explanation<'t, T> {
        let normal = path::normal(inquiry.path);
        let judged = entries.iter().map(|entry| (entry, unmet(&entry.matcher, inquiry, &normal)));
        let judged: Vec<(&'t Entry<T>, Vec<Unmet<'t>>)> = judged.collect();
        let mut takers = judged.iter().filter(|(_, unmet)| unmet.is_empty()).map(|&(entry, _)| entry);
        let chosen = takers.next();
        let runner_up = chosen.and_then(|chosen| {
            let mut same_host = takers.filter(|entry| entry.rank.host == chosen.rank.host);
            same_host.find(|entry| entry.rank.path != chosen.rank.path).map(|entry| &entry.matcher.path)
        });
        let candidate = |(entry, unmet): (&'t Entry<T>, Vec<Unmet<'t>>)| {
            let verdict = match chosen {
                _ if !unmet.is_empty() => Verdict::Unmet(unmet),
                Some(chosen) if !std::ptr::eq(chosen, entry) => {
                    Verdict::Outranked(Outranked::of(&entry.rank, &chosen.rank))
                }
                _ => Verdict::Chosen(Because { matcher: &entry.matcher, runner_up }),
            };
            let shared_path_bytes = shared_bytes(&entry.rank.path.text, &normal);
            Candidate { matcher: &entry.matcher, value: &entry.value, verdict, shared_path_bytes }
        };
        Explanation { candidates: judged.into_iter().map(candidate).collect() }
    }

    /// The route that takes the request: the one that `Table::find` finds.
    pub fn chosen(&self) -> Option<&Candidate<'t, T>> {
        self.candidates.iter().find(|candidate| matches!(candidate.verdict, Verdict::Chosen(_)))
    }

    /// Routes that would take the request, were there no better one; best first.
    pub fn outranked(&self) -> impl Iterator<Item = &Candidate<'t, T>> {
        self.candidates.iter().filter(|candidate| matches!(candidate.verdict, Verdict::Outranked(_)))
    }

    /// The three routes that come nearest without taking the request: fewest conditions unmet first, then the longest common path.
    pub fn nearest(&self) -> Vec<&Candidate<'t, T>> {
        let mut near: Vec<_> = self.candidates.iter().filter(|candidate| candidate.verdict.n_unmet() > 0).collect();
        near.sort_by_key(|candidate| (candidate.verdict.n_unmet(), std::cmp::Reverse(candidate.shared_path_bytes)));
        near.truncate(NEAREST);
        near
    }
}

impl Verdict<'_> {
    fn n_unmet(&self) -> usize {
        match self {
            Verdict::Unmet(unmet) => unmet.len(),
            Verdict::Chosen(_) | Verdict::Outranked(_) => 0,
        }
    }
}

impl Outranked {
    fn of(loser: &Rank, winner: &Rank) -> Outranked {
        if loser.host != winner.host {
            return Outranked::LessSpecificHost;
        }
        match (winner.path.kind, loser.path.kind) {
            (PathKind::Exact, PathKind::Pattern | PathKind::Prefix) => return Outranked::NotExactPath,
            (PathKind::Pattern, PathKind::Prefix) => return Outranked::PrefixAfterPattern,
            (_, PathKind::Prefix) if loser.path.length != winner.path.length => return Outranked::ShorterPrefix,
            (_, PathKind::Pattern) if loser.path.length != winner.path.length => return Outranked::ShorterPattern,
            _ => {}
        }
        let (loser, winner) = (&loser.conditions, &winner.conditions);
        let tightness = |rank: &ConditionRank| (rank.n_exact_values, rank.n_patterns, rank.n_methods);
        match () {
            () if loser.n_conditions != winner.n_conditions => Outranked::FewerConditions,
            () if tightness(loser) != tightness(winner) => Outranked::LooserConditions,
            () => Outranked::LaterText,
        }
    }
}

fn unmet<'t>(matcher: &'t RouteMatch, inquiry: &Inquiry<'_>, normal_path: &str) -> Vec<Unmet<'t>> {
    let mut unmet = Vec::new();
    if !predicate::host_holds(&matcher.host, inquiry.host) {
        unmet.push(Unmet::Host(&matcher.host));
    }
    if !predicate::path_holds(&matcher.path, normal_path) {
        unmet.push(Unmet::Path(&matcher.path));
    }
    if !predicate::method_holds(matcher, inquiry) {
        unmet.push(Unmet::Method(&matcher.methods));
    }
    let headers = matcher.headers.iter().filter(|condition| !predicate::header_holds(condition, inquiry.headers));
    let query = matcher.query.iter().filter(|condition| !predicate::query_holds(condition, inquiry.query));
    unmet.extend(headers.map(Unmet::Header));
    unmet.extend(query.map(Unmet::Query));
    unmet
}

fn shared_bytes(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Chosen(because) => because.fmt(f),
            Verdict::Outranked(outranked) => outranked.fmt(f),
            Verdict::Unmet(unmet) => {
                for (idx, condition) in unmet.iter().enumerate() {
                    let separator = if idx == 0 { "" } else { ", " };
                    write!(f, "{separator}{condition}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.matcher.host {
            HostMatch::Any => f.write_str("takes any host")?,
            HostMatch::Exact(_) => f.write_str("host matches exactly")?,
            HostMatch::Wildcard(suffix) => write!(f, "host matches *.{suffix}")?,
        }
        write!(f, ", {}", Ranked(&self.matcher.path))?;
        if let Some(runner_up) = self.runner_up {
            match (&self.matcher.path, runner_up) {
                (PathMatch::Prefix(_), PathMatch::Prefix(shorter)) => {
                    write!(f, " beats {shorter} ({})", shorter.len())?
                }
                _ => write!(f, " beats {}", Ranked(runner_up))?,
            }
        }
        let n_conditions =
            self.matcher.headers.len() + self.matcher.query.len() + usize::from(!self.matcher.methods.is_empty());
        match n_conditions {
            0 => Ok(()),
            1 => f.write_str(", 1 condition holds"),
            n => write!(f, ", {n} conditions hold"),
        }
    }
}

/// A path condition with what its rank hangs on.
struct Ranked<'a>(&'a PathMatch);

impl fmt::Display for Ranked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            PathMatch::Exact(path) => write!(f, "exact path {path}"),
            PathMatch::Prefix(prefix) => write!(f, "path prefix {prefix} ({})", prefix.len()),
            PathMatch::Regex(pattern) => write!(f, "path pattern {pattern}"),
        }
    }
}

impl fmt::Display for Outranked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outranked::LessSpecificHost => "less specific host",
            Outranked::NotExactPath => "path is not exact",
            Outranked::PrefixAfterPattern => "a prefix yields to a pattern",
            Outranked::ShorterPrefix => "shorter prefix",
            Outranked::ShorterPattern => "shorter pattern",
            Outranked::FewerConditions => "fewer conditions",
            Outranked::LooserConditions => "looser conditions",
            Outranked::LaterText => "as specific, but later in the alphabet",
        })
    }
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unmet::Host(HostMatch::Any) => f.write_str("takes any host"),
            Unmet::Host(HostMatch::Exact(name)) => write!(f, "needs host {name}"),
            Unmet::Host(HostMatch::Wildcard(suffix)) => write!(f, "needs host *.{suffix}"),
            Unmet::Path(PathMatch::Exact(path)) => write!(f, "needs path {path} exactly"),
            Unmet::Path(PathMatch::Prefix(prefix)) => write!(f, "needs path prefix {prefix}"),
            Unmet::Path(PathMatch::Regex(pattern)) => write!(f, "needs path pattern {pattern}"),
            Unmet::Method(methods) => {
                f.write_str("needs method ")?;
                for (idx, method) in methods.iter().enumerate() {
                    let separator = if idx == 0 { "" } else { " or " };
                    write!(f, "{separator}{method}")?;
                }
                Ok(())
            }
            Unmet::Header(HeaderMatch { name, value }) => write!(f, "needs header {name}{}", Wanted(value, ": ")),
            Unmet::Query(QueryMatch { name, value }) => write!(f, "needs query {name}{}", Wanted(value, "=")),
        }
    }
}

/// What a value must be, after a separator.
struct Wanted<'a>(&'a ValueMatch, &'static str);

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ValueMatch::Present => Ok(()),
            ValueMatch::Exact(exact) => write!(f, "{}{exact}", self.1),
            ValueMatch::Regex(pattern) => write!(f, " matching {pattern}"),
        }
    }
}
