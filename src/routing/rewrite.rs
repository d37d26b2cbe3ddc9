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
/// client's own follows after `&`. A missing leading `/` is added. The `*` of `OPTIONS *` is no path and stays.
pub fn apply<'a>(rewrite: &Rewrite, path: &'a str, query: Option<&str>) -> Result<Cow<'a, str>, RewriteError> {
    if path == "*" {
        return Ok(Cow::Borrowed(path));
    }
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
    let separator = if new_query.is_some() { "&" } else { "?" };
    Ok(Cow::Owned([&*target, separator, query].concat()))
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
        Some(rest) => Cow::Owned([to.trim_end_matches('/'), rest].concat()),
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

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn strip(prefix: &str) -> Rewrite {
        Rewrite::StripPrefix(prefix.to_owned())
    }

    fn replace(from: &str, to: &str) -> Rewrite {
        Rewrite::ReplacePrefix { from: from.to_owned(), to: to.to_owned() }
    }

    fn regex(pattern: &str, replacement: &str) -> Rewrite {
        Rewrite::Regex { pattern: Regex::new(pattern).unwrap().into(), replacement: replacement.to_owned() }
    }

    fn check(rewrite: &Rewrite, target: &str, expected: Result<&str, RewriteError>) {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        assert_eq!(apply(rewrite, path, query).as_deref(), expected.as_ref().copied(), "{target} through {rewrite:?}");
    }

    #[test]
    fn a_stripped_prefix_leaves_a_path_with_its_query() {
        check(&strip("/api"), "/api", Ok("/"));
        check(&strip("/api"), "/api/", Ok("/"));
        check(&strip("/api"), "/api?page=2", Ok("/?page=2"));
        check(&strip("/api"), "/api/items?page=2&q=a%20b", Ok("/items?page=2&q=a%20b"));
        check(&strip("/api"), "/api/items?", Ok("/items?"));
        check(&strip("/"), "/items", Ok("/items"));
    }

    #[test]
    fn stripping_without_a_query_copies_nothing() {
        assert!(matches!(apply(&strip("/api"), "/api/items", None), Ok(Cow::Borrowed("/items"))));
    }

    #[test]
    fn only_whole_segments_are_stripped() {
        check(&strip("/api"), "/apix/y", Ok("/apix/y"));
        check(&strip("/api"), "/a/api/y", Ok("/a/api/y"));
    }

    #[test]
    fn percent_encoding_is_kept_byte_for_byte() {
        check(&strip("/api"), "/api/caf%c3%a9/%7Ebob/a+b%20c", Ok("/caf%c3%a9/%7Ebob/a+b%20c"));
        check(&replace("/api", "/v2"), "/api/caf%c3%a9?q=%c3", Ok("/v2/caf%c3%a9?q=%c3"));
        check(&regex("^/api(/.*)$", "$1"), "/api/caf%c3%a9?q=%c3", Ok("/caf%c3%a9?q=%c3"));
    }

    #[test]
    fn a_prefix_is_found_however_its_characters_are_escaped() {
        check(&strip("/~bob"), "/%7ebob/x%2cy", Ok("/x%2cy"));
        check(&strip("/%7Ebob"), "/~bob/x", Ok("/x"));
        check(&strip("/café"), "/caf%c3%a9/x", Ok("/x"));
        check(&replace("/café", "/tea"), "/caf%C3%A9", Ok("/tea"));
        check(&strip("/caf\u{e9}"), "/caf%c3/x", Ok("/caf%c3/x"));
        check(&regex("^/~(.*)", "/users/$1"), "/%7Ebob", Ok("/users/bob"));
    }

    #[test]
    fn a_replaced_prefix_joins_with_one_slash() {
        for to in ["/v2", "/v2/"] {
            check(&replace("/api", to), "/api/x", Ok("/v2/x"));
            check(&replace("/api", to), "/api", Ok(to));
        }
        check(&replace("/api", "/"), "/api/x", Ok("/x"));
        check(&replace("/api", "/"), "/api", Ok("/"));
        check(&replace("/api", ""), "/api", Ok("/"));
        check(&replace("/", "/app"), "/", Ok("/app/"));
        check(&replace("/", "/app"), "/x?y", Ok("/app/x?y"));
    }

    #[test]
    fn a_pattern_fills_its_groups_in() {
        check(&regex(r"^/users/(?P<id>\d+)", "/u/${id}"), "/users/42/posts", Ok("/u/42/posts"));
        check(&regex("^/old/(.*)$", "$1"), "/old/x", Ok("/x"));
        check(&regex("^/old/(.*)$", "$1"), "/old/", Ok("/"));
        check(&regex("/a", "/b"), "/a/a", Ok("/b/a"));
        check(&regex("^/nothing", "/b"), "/a", Ok("/a"));
    }

    #[test]
    fn a_query_in_the_replacement_comes_before_the_clients() {
        check(&regex(r"^/item/(\d+)$", "/item?id=$1"), "/item/7", Ok("/item?id=7"));
        check(&regex(r"^/item/(\d+)$", "/item?id=$1"), "/item/7?page=2", Ok("/item?id=7&page=2"));
    }

    #[test]
    fn what_may_not_stand_in_a_target_is_escaped() {
        check(&replace("/api", "/my files/é"), "/api/x", Ok("/my%20files/%C3%A9/x"));
    }

    #[test]
    fn a_result_that_reads_as_a_host_is_refused() {
        check(&strip("/api"), "/api//evil", Err(RewriteError::AuthorityLike));
        check(&strip("/api"), "/api//", Err(RewriteError::AuthorityLike));
        check(&replace("/api", "/"), "/api//evil", Err(RewriteError::AuthorityLike));
        check(&regex("^/api", ""), "/api//evil", Err(RewriteError::AuthorityLike));
        check(&regex("^/go/", "/$0"), "/go/evil", Err(RewriteError::AuthorityLike));
        check(&strip("/api"), "/api/x//y", Ok("/x//y"));
        check(&replace("/api", "/v2"), "/api//y", Ok("/v2//y"));
    }

    #[test]
    fn a_result_with_dot_segments_is_refused() {
        check(&regex("^/a(.*)", "/x/$1"), "/a../b", Err(RewriteError::Ambiguous));
        check(&regex("^/a(.*)", "/x/$1"), "/a%2e%2e/b", Err(RewriteError::Ambiguous));
        check(&regex("^/a", "/."), "/a/b", Err(RewriteError::Ambiguous));
        check(&regex("X", "2"), "/a/%Xe./b", Err(RewriteError::Ambiguous));
    }

    #[test]
    fn the_asterisk_of_options_stays() {
        check(&strip("/api"), "*", Ok("*"));
        check(&replace("/", "/app"), "*", Ok("*"));
    }
}
