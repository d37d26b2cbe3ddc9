//! Routes: the conditions of a match and what happens to the request.
//! Promises that actions fit their conditions. Which of two routes wins is `routing`'s business.

use http::StatusCode;
use regex::Regex;

use super::check::Check;
use super::path::{self, PathText};
use crate::config::checked::{
    HeaderMatch, HostMatch, PathMatch, QueryMatch, Redirect, Rewrite, Route, RouteAction, RouteMatch, ValueMatch,
};
use crate::config::decode::Named;
use crate::config::defaults;
use crate::config::raw::{self, RouteForm, kind};
use crate::config::scalar::Scalar;
use crate::config::source::Span;

/// A route with its place.
pub(crate) type Placed = (Route, Span);

/// One route as it was typed; `at` is its service, for what has no place of its own. With a mistake in it there is none: a
/// condition would be missing, and what is left could be the same as another route.
pub(crate) fn route(form: &RouteForm, at: Span, check: &mut Check<'_>) -> Option<Placed> {
    let n_before = check.report.n_errors();
    let placed = match form {
        RouteForm::Short(scalar) => short(scalar, check),
        RouteForm::Long(raw) => long(raw, at, check),
        RouteForm::Broken(raw) => long(raw, at, check).and(None),
    };
    placed.filter(|_| check.report.n_errors() == n_before)
}

/// What a service without `route` takes: everything.
pub(crate) fn catch_all(at: Span) -> Placed {
    let path = PathMatch::Prefix(defaults::ROUTE.to_owned());
    let matcher =
        RouteMatch { host: HostMatch::Any, path, methods: Vec::new(), headers: Vec::new(), query: Vec::new() };
    (Route { display: display(&matcher), matcher, action: RouteAction::Forward(Rewrite::None) }, at)
}

/// `"[host]/path"`.
fn short(scalar: &Scalar<kind::Route>, check: &mut Check<'_>) -> Option<Placed> {
    let Some((host, path)) = split_short(scalar.value()) else {
        let shown = scalar.shown();
        let (message, help) = match scalar.value().contains("://") {
            true => ("has a scheme", "leave it out: a route takes what its listener takes".to_owned()),
            false if scalar.has_variables() => ("has no slash", "write \"shop.example.com/\" or \"/api\"".to_owned()),
            false => ("has no slash", format!("write \"{shown}/\" for a host or \"/{shown}\" for a path")),
        };
        check.error(scalar.span(), format!("the route \"{shown}\" {message}"), help);
        return None;
    };
    let host = path::host(scalar, host, check);
    let path = path::path(&PathText { scalar, path }, check);
    let matcher = RouteMatch {
        host: host?,
        path: PathMatch::Prefix(path::prefix(path?)),
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
    };
    Some((Route { display: display(&matcher), matcher, action: RouteAction::Forward(Rewrite::None) }, scalar.span()))
}

/// Host and path of a short form, if it has a slash and no scheme.
pub(crate) fn split_short(text: &str) -> Option<(&str, &str)> {
    let slash = text.find('/').filter(|_| !text.contains("://"))?;
    Some(text.split_at(slash))
}

fn long(raw: &raw::Route, at: Span, check: &mut Check<'_>) -> Option<Placed> {
    let host = match &raw.host {
        Some(scalar) => path::host(scalar, scalar.value(), check),
        None => Some(HostMatch::Any),
    };
    let matched = path_match(raw, check);
    let methods = raw.methods.iter().flatten().filter_map(|method| check.method(method)).collect();
    let headers = header_matches(raw.headers.as_ref(), check);
    let query = query_matches(raw.query.as_ref(), check);
    let action = matched.as_ref().and_then(|matched| action(raw, matched, check));
    let matcher = RouteMatch { host: host?, path: matched?, methods, headers, query };
    let path_scalar = raw.path.as_ref().or(raw.exact.as_ref()).map(Scalar::span);
    let span =
        path_scalar.or(raw.regex.as_ref().map(Scalar::span)).or(raw.host.as_ref().map(Scalar::span)).unwrap_or(at);
    Some((Route { display: display(&matcher), matcher, action: action? }, span))
}

fn path_match(raw: &raw::Route, check: &mut Check<'_>) -> Option<PathMatch> {
    let spans = [
        raw.path.as_ref().map(Scalar::span),
        raw.exact.as_ref().map(Scalar::span),
        raw.regex.as_ref().map(Scalar::span),
    ];
    if let [first, second, ..] = spans.into_iter().flatten().collect::<Vec<_>>()[..] {
        check
            .error(second, "a route has one of `path`, `exact` and `regex`", "again here; keep one of them")
            .also(first, "first here");
        return None;
    }
    if let Some(scalar) = &raw.exact {
        return path::path(&PathText { scalar, path: scalar.value() }, check).map(PathMatch::Exact);
    }
    if let Some(scalar) = &raw.regex {
        return check.regex(scalar).map(|regex| PathMatch::Regex(regex.into()));
    }
    match &raw.path {
        Some(scalar) => path::path(&PathText { scalar, path: scalar.value() }, check)
            .map(|path| PathMatch::Prefix(path::prefix(path))),
        None => Some(PathMatch::Prefix(defaults::ROUTE.to_owned())),
    }
}

fn header_matches(raw: Option<&Named<raw::ValueMatch>>, check: &mut Check<'_>) -> Vec<HeaderMatch> {
    let mut matches = Vec::new();
    for named in raw.iter().flat_map(|named| &named.0) {
        let name = check.header_name(&named.name, &named.name, named.span);
        let value = value_match(&named.value, check);
        matches.extend(name.zip(value).map(|(name, value)| HeaderMatch { name, value }));
    }
    matches
}

fn query_matches(raw: Option<&Named<raw::ValueMatch>>, check: &mut Check<'_>) -> Vec<QueryMatch> {
    let mut matches = Vec::new();
    for named in raw.iter().flat_map(|named| &named.0) {
        let value = value_match(&named.value, check);
        matches.extend(value.map(|value| QueryMatch { name: named.name.clone(), value }));
    }
    matches
}

fn value_match(raw: &raw::ValueMatch, check: &mut Check<'_>) -> Option<ValueMatch> {
    match raw {
        raw::ValueMatch::Present => Some(ValueMatch::Present),
        raw::ValueMatch::Exact(scalar) => Some(ValueMatch::Exact(scalar.value().to_owned())),
        raw::ValueMatch::Regex(scalar) => check.regex(scalar).map(|regex| ValueMatch::Regex(regex.into())),
    }
}

fn action(raw: &raw::Route, matched: &PathMatch, check: &mut Check<'_>) -> Option<RouteAction> {
    if let Some(redirect) = &raw.redirect {
        let also = [raw.strip_prefix.as_ref().map(Scalar::span), raw.rewrite.as_ref().map(Scalar::span)];
        if let Some(span) = also.into_iter().flatten().next() {
            check.error(span, "a redirect changes no path on its way to a backend", "remove this, or `redirect`");
        }
        return self::redirect(redirect, check).map(RouteAction::Redirect);
    }
    let strips = check.flag(&raw.strip_prefix);
    match (&raw.strip_prefix, &raw.rewrite, matched) {
        (Some(strip), Some(rewrite), _) if strips => {
            check
                .error(
                    rewrite.span(),
                    "a route has one of `strip_prefix` and `rewrite`",
                    "again here; keep one of them",
                )
                .also(strip.span(), "first here");
            None
        }
        (_, Some(rewrite), matched) => self::rewrite(rewrite, matched, check).map(RouteAction::Forward),
        (Some(_), None, PathMatch::Prefix(prefix)) if strips => Some(RouteAction::Forward(match prefix.as_str() {
            "/" => Rewrite::None,
            prefix => Rewrite::StripPrefix(prefix.to_owned()),
        })),
        (Some(strip), None, _) if strips => {
            check.error(
                strip.span(),
                "`strip_prefix` needs a `path`",
                "write `path` in place of `exact` or `regex`, or use `rewrite`",
            );
            None
        }
        _ => Some(RouteAction::Forward(Rewrite::None)),
    }
}

fn rewrite(scalar: &Scalar<kind::Path>, matched: &PathMatch, check: &mut Check<'_>) -> Option<Rewrite> {
    let PathMatch::Regex(pattern) = matched else {
        let to = path::prefix(path::path(&PathText { scalar, path: scalar.value() }, check)?);
        let (PathMatch::Prefix(from) | PathMatch::Exact(from)) = matched else { return None };
        return Some(Rewrite::ReplacePrefix { from: from.clone(), to });
    };
    let replacement = scalar.value();
    if !replacement.starts_with(['/', '$']) {
        let message = format!("the path \"{}\" does not begin with a slash", scalar.shown());
        check.error(scalar.span(), message, "write it as /…, with $1 for the first group");
        return None;
    }
    if let Some(group) = unknown_group(replacement, pattern) {
        let message = format!("`${group}` is no group of the regular expression");
        let help = match pattern.captures_len() {
            1 => "put what it stands for in parentheses there".to_owned(),
            n => format!("groups are $1 to ${}; before a letter or digit write ${{1}}", n - 1),
        };
        check.error(scalar.span(), message, help);
        return None;
    }
    Some(Rewrite::Regex { pattern: pattern.clone(), replacement: replacement.to_owned() })
}

/// The first `$name` of a replacement that the pattern does not have. The crate would put nothing in its place.
fn unknown_group(replacement: &str, pattern: &Regex) -> Option<String> {
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        let (name, after) = match rest.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
            Some(braced) => braced,
            None => rest.split_at(rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())),
        };
        let is_known = match name.parse::<usize>() {
            Ok(number) => number < pattern.captures_len(),
            Err(_) => name.is_empty() || pattern.capture_names().flatten().any(|known| known == name),
        };
        if !is_known {
            return Some(name.to_owned());
        }
        rest = if name.is_empty() { rest.strip_prefix('$').unwrap_or(rest) } else { after };
    }
    None
}

fn redirect(raw: &raw::Redirect, check: &mut Check<'_>) -> Option<Redirect> {
    const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
    let number = raw.status.as_ref().map(|status| (status, status.value().parse::<u16>().ok()));
    let status = match number {
        None => Some(defaults::REDIRECT_STATUS),
        Some((_, Some(number))) if STATUSES.contains(&number) => Some(number),
        Some((status, _)) => {
            let message = format!("\"{}\" is not the status of a redirect", status.shown());
            check.error(status.span(), message, "write 301 or 308 (for ever), 302 or 307 (for now), or 303");
            None
        }
    };
    let location = location(raw.location.as_ref()?, check)?;
    Some(Redirect { status: StatusCode::from_u16(status?).ok()?, location })
}

fn location(scalar: &Scalar<kind::Text>, check: &mut Check<'_>) -> Option<String> {
    const PLACEHOLDERS: [&str; 4] = ["scheme", "host", "path", "query"];
    let text = scalar.value();
    let is_target = ["/", "http://", "https://", "{scheme}://", "{path}"].iter().any(|start| text.starts_with(start));
    if !is_target {
        let message = format!("\"{}\" is not a location", scalar.shown());
        check.error(scalar.span(), message, "write a path or a URL, such as https://{host}{path}");
        return None;
    }
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        if !PLACEHOLDERS.contains(&name) {
            let message = format!("`{{{name}}}` is no placeholder of a location");
            check.error(scalar.span(), message, "placeholders are {scheme}, {host}, {path} and {query}");
            return None;
        }
        rest = after;
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("\"{}\" has characters that a location cannot", scalar.shown());
        check.error(scalar.span(), message, "percent-encode them, such as %20 for a space");
        return None;
    }
    Some(text.to_owned())
}

/// The route in short, for messages.
fn display(matcher: &RouteMatch) -> String {
    let host = match &matcher.host {
        HostMatch::Any => String::new(),
        HostMatch::Exact(host) => host.clone(),
        HostMatch::Wildcard(host) => format!("*.{host}"),
    };
    match &matcher.path {
        PathMatch::Prefix(path) => format!("{host}{path}"),
        PathMatch::Exact(path) => format!("{host}{path} (exact)"),
        PathMatch::Regex(regex) => format!("{host}/… (regex {regex})"),
    }
}

/// All conditions as one text: two routes with the same text take the same requests.
pub(crate) fn fingerprint(matcher: &RouteMatch) -> String {
    let value = |value: &ValueMatch| match value {
        ValueMatch::Present => "*".to_owned(),
        ValueMatch::Exact(value) => format!("={value:?}"),
        ValueMatch::Regex(regex) => format!("~{:?}", regex.as_str()),
    };
    let mut methods: Vec<&str> = matcher.methods.iter().map(|method| method.as_str()).collect();
    let mut headers: Vec<String> =
        matcher.headers.iter().map(|header| format!("{}{}", header.name, value(&header.value))).collect();
    let mut query: Vec<String> =
        matcher.query.iter().map(|query| format!("{:?}{}", query.name, value(&query.value))).collect();
    methods.sort_unstable();
    methods.dedup();
    headers.sort_unstable();
    query.sort_unstable();
    let path = match &matcher.path {
        PathMatch::Prefix(path) => format!("prefix {path}"),
        PathMatch::Exact(path) => format!("exact {path}"),
        PathMatch::Regex(regex) => format!("regex {regex}"),
    };
    format!("{:?} {path} {methods:?} {headers:?} {query:?}", matcher.host)
}
