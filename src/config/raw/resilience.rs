//! What was typed about a service's bad days: probes, ejection, retries, hedging; their keys and their short forms.
//! Promises the same keys as the JSON Schema (a test compares them). Looks at no value.

use schemars::JsonSchema;
use serde::Serialize;

use super::kind;
use crate::config::decode::{Decode, Decoder, Named};
use crate::config::scalar::Scalar;
use crate::config::source::Span;
use crate::config::tree::{Node, Value};

/// How backends are probed. Exactly one of `path`, `tcp` and `grpc` says what is asked.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::config::schema::or_text)]
pub struct Health {
    /// `GET` of this path, which may have a query.
    pub path: Option<Scalar<kind::Path>>,
    /// `true`: an open connection is enough.
    pub tcp: Option<Scalar<kind::Flag>>,
    /// The standard gRPC health check: `true` for the server as a whole, or the name of a service.
    pub grpc: Option<Scalar<kind::Grpc>>,
    /// The `Host` of the probe. Default: the host of the service's first route that names one, else the backend's address.
    pub host: Option<Scalar<kind::Text>>,
    /// Further header fields of the probe. Default: none.
    pub headers: Option<Named<Scalar<kind::Text>>>,
    /// From one probe of a backend to its next, while nothing changes. Default 2s.
    pub every: Option<Scalar<kind::Duration>>,
    /// How long one probe may take, at most `every`. Default 1s, or `every` if that is shorter.
    pub timeout: Option<Scalar<kind::Duration>>,
    /// Passed probes in a row that make a backend healthy. Default 2.
    pub healthy_after: Option<Scalar<kind::Count>>,
    /// Failed probes in a row that make it unhealthy. Default 3.
    pub unhealthy_after: Option<Scalar<kind::Count>>,
    /// Statuses that pass: `200`, `2xx`, `200-399`, or a list of these. Default `200-399`.
    #[schemars(schema_with = "crate::config::schema::one_or_many::<Scalar<kind::Statuses>>")]
    pub expect: Option<Vec<Scalar<kind::Statuses>>>,
    /// What a backend is before its first probe, which runs at once: `up` or `down`. Default `up`.
    pub initial: Option<Scalar<kind::Initial>>,
    /// Where it stands, if nothing in it is meant to say what is asked.
    #[serde(skip)]
    pub lacks_probe_at: Option<Span>,
}

/// When a backend is taken out because of what it answers.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::config::schema::or_true)]
pub struct Ejection {
    /// Failures in a row; `off` does not count them. Default 5.
    pub consecutive: Option<Scalar<kind::CountOrOff>>,
    /// The smallest share of good answers over ten seconds, such as `80%`, unless the other backends are no better; `off` does not look at it. Default 50%.
    pub success_rate: Option<Scalar<kind::PercentOrOff>>,
    /// How long the first ejection lasts; each further one in a row lasts longer. Default 10s.
    pub base: Option<Scalar<kind::Duration>>,
    /// How long an ejection lasts at most. Default 5m.
    pub max: Option<Scalar<kind::Duration>>,
    /// The largest share of a service's backends that is out at a time: at least one, never the last. Default 50%.
    pub max_ejected: Option<Scalar<kind::Percent>>,
}

/// What follows a failed attempt.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::config::schema::or_count)]
pub struct Retries {
    /// Attempts after the first, at most 10; 0 turns retries off. Default 1.
    pub attempts: Option<Scalar<kind::Count>>,
    /// What is worth another attempt: `connection`, `timeout`, `invalid_response`, and statuses such as `503`, `5xx` or `502-504`.
    /// All but the first only if the request may be repeated. Default `[connection]`.
    #[schemars(schema_with = "crate::config::schema::one_or_many::<Scalar<kind::Outcome>>")]
    pub when: Option<Vec<Scalar<kind::Outcome>>>,
    /// How much extra load retries may be.
    pub budget: Option<RetryBudget>,
    /// The pause before a retry, drawn at random up to a limit that doubles with each.
    pub backoff: Option<Backoff>,
    /// Whether a retry must go to a backend that has not failed this request: `preferred` or `required`. Default `preferred`.
    pub other_backend: Option<Scalar<kind::OtherBackend>>,
    /// Where `when` stands, for a list without entries.
    #[serde(skip)]
    pub when_at: Option<Span>,
}

/// How much extra load retries may be: `ratio` of the requests of the last ten seconds, and `per_second` besides.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::config::schema::or_text)]
pub struct RetryBudget {
    /// Share of the service's requests. Default 20%.
    pub ratio: Option<Scalar<kind::Percent>>,
    /// Retries per second that are always allowed, so that a quiet service may retry too. Default 3.
    pub per_second: Option<Scalar<kind::Count>>,
}

/// The pause before a retry.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::config::schema::or_text)]
pub struct Backoff {
    /// Before the first retry, at most; 0 does not pause. Default 25ms.
    pub base: Option<Scalar<kind::Duration>>,
    /// Before any retry, at most. Default ten times `base`.
    pub max: Option<Scalar<kind::Duration>>,
}

/// A second attempt while the first has not answered; the first good answer wins.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::config::schema::or_hedge)]
pub struct Hedge {
    /// When it starts: `p95`, the 95th percentile of the service's latency, or a duration. Default `p95`.
    pub after: Option<Scalar<kind::HedgeAfter>>,
    /// Where it stands.
    #[serde(skip)]
    pub at: Option<Span>,
}

impl Decode for Health {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Value::Scalar(_) = &node.value {
            return Some(Health { path: Some(Decode::decode(node, decoder)?), ..Health::default() });
        }
        decoder.mapping(node, "a path such as /healthz, { tcp: true }, { grpc: true }, or off", |keys| {
            let is_meant = |key: &'static str| keys.has_value(key) || keys.has_misspelled(key);
            let lacks_probe_at = (!["path", "tcp", "grpc"].into_iter().any(is_meant)).then_some(node.span);
            let expect: Option<Vec<_>> = keys.get("expect");
            if let (Some([]), Some(span)) = (expect.as_deref(), keys.span_of("expect")) {
                keys.decoder.report.error(span, "no status would pass", "leave it out for 200-399, or list statuses");
            }
            Health {
                path: keys.get("path"),
                tcp: keys.get("tcp"),
                grpc: keys.get("grpc"),
                host: keys.get("host"),
                headers: keys.get("headers"),
                every: keys.get("every"),
                timeout: keys.get("timeout"),
                healthy_after: keys.get("healthy_after"),
                unhealthy_after: keys.get("unhealthy_after"),
                expect,
                initial: keys.get("initial"),
                lacks_probe_at,
            }
        })
    }
}

impl Decode for Ejection {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if is_true(node) {
            return Some(Ejection::default());
        }
        decoder.mapping(node, "a mapping such as { consecutive: 5, base: 10s }, or off", |keys| Ejection {
            consecutive: keys.get("consecutive"),
            success_rate: keys.get("success_rate"),
            base: keys.get("base"),
            max: keys.get("max"),
            max_ejected: keys.get("max_ejected"),
        })
    }
}

impl Decode for Retries {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Value::Scalar(_) = &node.value {
            return Some(Retries { attempts: Some(Decode::decode(node, decoder)?), ..Retries::default() });
        }
        decoder.mapping(node, "a number, a mapping such as { attempts: 2, when: [connection, 503] }, or off", |keys| {
            let when_at = keys.span_of("when");
            Retries {
                attempts: keys.get("attempts"),
                when: keys.get("when"),
                budget: keys.get("budget"),
                backoff: keys.get("backoff"),
                other_backend: keys.get("other_backend"),
                when_at,
            }
        })
    }
}

impl Decode for RetryBudget {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Value::Scalar(_) = &node.value {
            return Some(RetryBudget { ratio: Some(Decode::decode(node, decoder)?), per_second: None });
        }
        decoder.mapping(node, "a share such as 20%, or { ratio: 20%, per_second: 3 }", |keys| RetryBudget {
            ratio: keys.get("ratio"),
            per_second: keys.get("per_second"),
        })
    }
}

impl Decode for Backoff {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Value::Scalar(_) = &node.value {
            return Some(Backoff { base: Some(Decode::decode(node, decoder)?), max: None });
        }
        decoder.mapping(node, "a duration such as 25ms, or { base: 25ms, max: 250ms }", |keys| Backoff {
            base: keys.get("base"),
            max: keys.get("max"),
        })
    }
}

impl Decode for Hedge {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let at = Some(node.span);
        if is_true(node) {
            return Some(Hedge { after: None, at });
        }
        if let Value::Scalar(_) = &node.value {
            return Some(Hedge { after: Some(Decode::decode(node, decoder)?), at });
        }
        decoder.mapping(node, "p95, a duration such as 100ms, { after: … }, or off", |keys| Hedge {
            after: keys.get("after"),
            at,
        })
    }
}

/// The short form of "with its defaults".
fn is_true(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar(text) if text.text == "true")
}
