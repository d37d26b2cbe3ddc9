//! What was typed about the number of replicas: its bounds, its target, its windows, who waits and who is told.
//! Promises the same keys as the JSON Schema (a test compares them). Looks at no value.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::containers::Command;
use super::kind;
use crate::config::decode::{Decode, Decoder};
use crate::config::scalar::Scalar;
use crate::config::source::Span;
use crate::config::tree::{Node, Value};

/// How many replicas there should be. At most one of the targets says what one of them carries.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::config::schema::or_true)]
pub struct Autoscale {
    /// Never fewer replicas; 0 scales to zero, and requests that come are held until one is ready. Default 1.
    pub min: Option<Scalar<kind::Count>>,
    /// Never more replicas.
    pub max: Option<Scalar<kind::Count>>,
    /// Requests in flight that one replica should carry on average, waiting ones included. Default: 70% of `max_in_flight`, 7 if that is unlimited.
    pub target_in_flight: Option<Scalar<kind::Number>>,
    /// Requests per second that one replica should carry on average, instead.
    pub target_rps: Option<Scalar<kind::Number>>,
    /// The mean time to an answer that there should be replicas enough for, instead.
    pub target_latency: Option<Scalar<kind::Duration>>,
    /// The window of ordinary decisions, 1s to 1h. Default 60s.
    pub stable: Option<Scalar<kind::Duration>>,
    /// The window of bursts, shorter than `stable`. Default a tenth of it: 6s.
    pub panic: Option<Scalar<kind::Duration>>,
    /// At most times so many replicas per step up, more than 1. Default 1000.
    pub up_at_once: Option<Scalar<kind::Number>>,
    /// At most divided by so many per step down, more than 1. Default 2: at most halved.
    pub down_at_once: Option<Scalar<kind::Number>>,
    /// No request in flight and none that came for so long: `min`. Default 5m.
    pub idle: Option<Scalar<kind::Duration>>,
    /// Requests that wait for the first replica.
    pub hold: Option<Hold>,
    /// Who is told the number: a URL, or an object. Needed unless the containers are Portway's own or a swarm's, which it scales itself.
    pub hook: Option<Hook>,
    /// Where it stands, and whether `max` and `hook` were meant to stand there.
    #[serde(skip)]
    pub place: Place,
}

/// Where an `autoscale` stands and what is in it, readable or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Where.
    pub at: Option<Span>,
    /// Whether it has a `max`.
    pub has_max: bool,
    /// Whether it has a `hook`.
    pub has_hook: bool,
}

/// Requests that wait for the first replica.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// How long each may wait for a replica. Default 60s.
    pub timeout: Option<Scalar<kind::Duration>>,
    /// How many may wait for a replica. Default 1000.
    pub max: Option<Scalar<kind::Count>>,
    /// `true` shows browsers a page that asks again by itself; everybody else waits. Default `off`: browsers wait, too.
    pub page: Option<Scalar<kind::Page>>,
}

/// Who changes the number of replicas. Exactly one of `url` and `command`.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::config::schema::or_text)]
pub struct Hook {
    /// Gets the number wanted as JSON, by `POST`.
    pub url: Option<Scalar<kind::Url>>,
    /// A program that gets the number wanted as JSON on its standard input: a line or a list; a path in it is relative to this file.
    pub command: Option<Command>,
    /// How long one try may take before it is tried again. Default 10s.
    pub timeout: Option<Scalar<kind::Duration>>,
    /// Where it stands.
    #[serde(skip)]
    pub at: Option<Span>,
    /// The folder of its file, which paths are relative to.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Decode for Autoscale {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let at = Some(node.span);
        if matches!(&node.value, Value::Scalar(text) if text.text == "true") {
            return Some(Autoscale { place: Place { at, ..Place::default() }, ..Autoscale::default() });
        }
        decoder.mapping(node, "a mapping such as { min: 0, max: 10, target_in_flight: 6 }, or off", |keys| {
            let is_meant = |key: &'static str| keys.has_value(key) || keys.has_misspelled(key);
            let place = Place { at, has_max: is_meant("max"), has_hook: is_meant("hook") };
            Autoscale {
                min: keys.get("min"),
                max: keys.get("max"),
                target_in_flight: keys.get("target_in_flight"),
                target_rps: keys.get("target_rps"),
                target_latency: keys.get("target_latency"),
                stable: keys.get("stable"),
                panic: keys.get("panic"),
                up_at_once: keys.get("up_at_once"),
                down_at_once: keys.get("down_at_once"),
                idle: keys.get("idle"),
                hold: keys.get("hold"),
                hook: keys.get("hook"),
                place,
            }
        })
    }
}

impl Decode for Hold {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { timeout: 60s, max: 1000 }", |keys| Hold {
            timeout: keys.get("timeout"),
            max: keys.get("max"),
            page: keys.get("page"),
        })
    }
}

impl Decode for Hook {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let (at, folder) = (Some(node.span), decoder.folder.clone());
        if let Value::Scalar(_) = &node.value {
            return Some(Hook { url: Some(Decode::decode(node, decoder)?), at, folder, ..Hook::default() });
        }
        let example = "a URL such as http://scaler/scale, { url }, or { command: [./scale.sh] }";
        decoder.mapping(node, example, |keys| {
            if !["url", "command"].into_iter().any(|key| keys.has_value(key) || keys.has_misspelled(key)) {
                let message = format!("{} says nobody to tell", keys.decoder.context());
                keys.decoder.report.error(node.span, message, "add `url: http://…` or `command: […]`");
            }
            Hook { url: keys.get("url"), command: keys.get("command"), timeout: keys.get("timeout"), at, folder }
        })
    }
}
