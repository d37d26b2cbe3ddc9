//! The filters of a service: CORS, compression, header edits.
//! Promises that no filter can break the framing of a message. In which order they run is `proxy::stack`'s business.

use http::{HeaderName, HeaderValue, header};

use super::check::{Check, Zero};
use crate::config::checked::{Compression, Cors, Credentials, Filters, HeaderEdit, HeaderEdits};
use crate::config::defaults;
use crate::config::raw::{self, Switch, kind};
use crate::config::scalar::Scalar;
use crate::config::source::Span;

/// Header fields that say where a message ends or belong to one connection. RFC 9110 §7.6.1, RFC 9112 §6.
const FRAMING: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// All filters of one service.
pub(crate) fn filters(
    cors: Option<&Switch<raw::Cors>>,
    compression: Option<&Switch<raw::Compression>>,
    headers: Option<&raw::Headers>,
    check: &mut Check<'_>,
) -> Filters {
    let cors = match cors {
        Some(Switch::On(raw)) => Some(self::cors(raw, check)),
        Some(Switch::Off) | None => None,
    };
    let compression = match compression {
        Some(Switch::On(raw)) => {
            Some(Compression { min_size: check.size(&raw.min_size, defaults::COMPRESSION_MIN_SIZE, Zero::Allowed) })
        }
        Some(Switch::Off) | None => None,
    };
    let headers = headers.map(|raw| HeaderEdits {
        request: edit(raw.request.as_ref(), check),
        response: edit(raw.response.as_ref(), check),
    });
    Filters { cors, compression, headers: headers.filter(|edits| *edits != HeaderEdits::default()) }
}

fn cors(raw: &raw::Cors, check: &mut Check<'_>) -> Cors {
    let typed = raw.origins.as_deref().unwrap_or_default();
    let any = typed.iter().find(|origin| origin.value() == "*");
    let origins: Vec<HeaderValue> =
        typed.iter().filter(|origin| origin.value() != "*").filter_map(|scalar| origin(scalar, check)).collect();
    if let (Some(any), true) = (any, typed.len() > 1) {
        check.error(any.span(), "\"*\" beside other origins", "keep \"*\" alone, or the other origins");
    }
    let takes_any = any.is_some() || typed.is_empty();
    let credentials = if check.flag(&raw.credentials) { Credentials::Allowed } else { Credentials::Omitted };
    if let (Some(scalar), Credentials::Allowed, true) = (&raw.credentials, credentials, takes_any) {
        // Fetch §3.3.5: a browser refuses the combination, and with good reason.
        check.error(
            scalar.span(),
            "cookies for every origin",
            "list the origins that may send cookies under `origins`",
        );
    }
    Cors {
        origins: (!takes_any).then_some(origins),
        methods: raw.methods.iter().flatten().filter_map(|method| check.method(method)).collect(),
        headers: names(raw.headers.as_deref(), check),
        expose: names(raw.expose.as_deref(), check),
        credentials,
        max_age: check.duration(&raw.max_age, defaults::CORS_MAX_AGE, Zero::Allowed),
    }
}

/// An origin as browsers send it: scheme, host and perhaps a port, nothing behind. RFC 6454 §7.
fn origin(scalar: &Scalar<kind::Text>, check: &mut Check<'_>) -> Option<HeaderValue> {
    let text = scalar.value();
    let is_origin = text == "null"
        || text.split_once("://").is_some_and(|(scheme, rest)| {
            !scheme.is_empty() && !rest.is_empty() && !rest.contains(['/', '?', '#', '*', '@'])
        });
    if !is_origin {
        let message = format!("\"{}\" is not an origin", scalar.shown());
        check.error(scalar.span(), message, "write scheme and host only, such as https://app.example.com");
        return None;
    }
    check.header_value(scalar)
}

fn names(raw: Option<&[Scalar<kind::Text>]>, check: &mut Check<'_>) -> Vec<HeaderName> {
    let scalars = raw.unwrap_or_default().iter();
    scalars.filter_map(|name| check.header_name(name.value(), name.shown(), name.span())).collect()
}

fn edit(raw: Option<&raw::HeaderEdit>, check: &mut Check<'_>) -> HeaderEdit {
    let Some(raw) = raw else { return HeaderEdit::default() };
    let mut edit = HeaderEdit::default();
    for named in raw.set.iter().flat_map(|set| &set.0) {
        let name = editable(&named.name, &named.name, named.span, check);
        let value = check.header_value(&named.value);
        edit.set.extend(name.zip(value));
    }
    for scalar in raw.remove.iter().flatten() {
        edit.remove.extend(editable(scalar.value(), scalar.shown(), scalar.span(), check));
    }
    edit
}

/// The name of a field that may be set or removed.
pub(super) fn editable(name: &str, shown: &str, span: Span, check: &mut Check<'_>) -> Option<HeaderName> {
    let name = check.header_name(name, shown, span)?;
    if FRAMING.contains(&name) {
        let message = format!("`{name}` belongs to the connection, not to the message");
        check.error(span, message, "remove it: Portway writes it anew on either side");
        return None;
    }
    Some(name)
}
