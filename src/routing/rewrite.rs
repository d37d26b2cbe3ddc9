//! The path that the backend sees, made from the path that the client sent.
//! What the rewrite does not touch keeps its bytes; the result starts with one `/` and is never ambiguous.
//! It does not decide which route applies.

use std::borrow::Cow;

use crate::config::checked::Rewrite;
use crate::routing::path;

/// Why a rewritten path may not go upstream. The client's path made it so: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// See [`path::is_ambiguous`].
    #[error("the rewritten path has a dot segment, or an escape that backends read in two ways")]
    Ambiguous,
    /// `/api//evil` without `/api` is `//evil`, which reads as the host `evil`. Dropping a slash instead would turn it into
    /// `/evil`: a path that another route may guard.
    #[error("the rewritten path starts with //, which reads as a host")]
    AuthorityLike,
}

/// Path and query for the backend. A path that the rewrite does not apply to stays as it is.
///
/// A pattern replaces its first match only, as in `s/pattern/replacement/`; a `?` in the replacement starts a query, which the
/// client's own follows after `&`. A missing leading `/` is added.
pub fn apply<'a>(rewrite: &Rewrite, path: &'a str, query: Option<&str>) -> Result<Cow<'a, str>, RewriteError> {
    let target = match rewrite {
        Rewrite::None => Cow::Borrowed(path),
        Rewrite::StripPrefix(prefix) => strip_prefix(path, prefix),
        Rewrite::ReplacePrefix { from, to } => replace_prefix(path, from, to),
        Rewrite::Regex { pattern, replacement } => replace_match(path, pattern, replacement),
    };
    let target = presentable(target);
    let (new_path, new_query) = match target.split_once('?') {
        Some((new_path, new_query)) => (new_path, Some(new_query)),
        None => (&*target, None),
    };
    if new_path.starts_with("//") {
        return Err(RewriteError::AuthorityLike);
    }
    if path::is_ambiguous(new_path) {
        return Err(RewriteError::Ambiguous);
    }
    let Some(query) = query else { return Ok(target) };
    let separator = if new_query.is_some() { '&' } else { '?' };
    Ok(Cow::Owned(format!("{target}{separator}{query}")))
}

fn strip_prefix<'a>(path: &'a str, prefix: &str) -> Cow<'a, str> {
    match path::after_prefix(path, prefix) {
        Some("") => Cow::Borrowed("/"),
        Some(rest) => Cow::Borrowed(rest),
        None => Cow::Borrowed(path),
    }
}

fn replace_prefix<'a>(path: &'a str, from: &str, to: &str) -> Cow<'a, str> {
    match path::after_prefix(path, from) {
        Some("") => Cow::Owned(to.to_owned()),
        Some(rest) => Cow::Owned(format!("{}{rest}", to.trim_end_matches('/'))),
        None => Cow::Borrowed(path),
    }
}

/// The route matched the normal form, so where the bytes as sent do not match, the normal form is what is rewritten.
fn replace_match<'a>(path: &'a str, pattern: &regex::Regex, replacement: &str) -> Cow<'a, str> {
    if pattern.is_match(path) {
        return pattern.replace(path, replacement);
    }
    let normal = path::normal(path);
    match pattern.is_match(&normal) {
        true => Cow::Owned(pattern.replace(&normal, replacement).into_owned()),
        false => Cow::Borrowed(path),
    }
}

/// With a leading `/` and without bytes that may not stand in a request target.
fn presentable(target: Cow<'_, str>) -> Cow<'_, str> {
    let target = match target.starts_with('/') {
        true => target,
        false => Cow::Owned(format!("/{target}")),
    };
    let escaped = match path::escaped(&target) {
        Cow::Borrowed(_) => None,
        Cow::Owned(escaped) => Some(escaped),
    };
    escaped.map_or(target, Cow::Owned)
}
