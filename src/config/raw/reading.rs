//! Which keys each mapping of the raw configuration has, and which short form stands for it.
//! Promises the same keys as the JSON Schema (a test compares them). Looks at no value.

use super::*;
use crate::config::decode::{Decode, Decoder, Keys};
use crate::config::tree::{Node, Value};

/// Keys of a service that later versions bring.
pub const LATER_SERVICE_KEYS: &[&str] = &["sticky", "tls", "kubernetes"];
/// Keys of a listener that later versions bring.
pub const LATER_LISTENER_KEYS: &[&str] = &["tls", "proxy_protocol"];
/// Keys that say where the backends of a service come from. A service has exactly one.
const SOURCES: [&str; 5] = ["backends", "docker", "container", "swarm", "kubernetes"];

impl Decode for Config {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { services: … }", |keys| Config {
            listen: keys.get("listen"),
            admin: keys.get("admin"),
            workers: keys.get("workers"),
            accept: keys.get("accept"),
            trusted_proxies: keys.get("trusted_proxies"),
            limits: keys.get("limits"),
            access_log: keys.get("access_log"),
            shutdown: keys.get("shutdown"),
            include: keys.get("include"),
            defaults: keys.get("defaults"),
            services: keys.get::<Services>("services").map(|services| services.0),
        })
    }
}

impl Decode for Included {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { services: … }", |keys| Included {
            services: keys.get::<Services>("services").map(|services| services.0),
        })
    }
}

/// The mapping under `services`, whose names begin a new context for messages.
struct Services(Named<Service>);

impl Decode for Services {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        Named::decode_as("service", node, decoder).map(Services)
    }
}

impl Decode for Service {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { backends: [\"127.0.0.1:5000\"] }", |keys| {
            keys.later(LATER_SERVICE_KEYS);
            keys.hints(BELOW_SOURCE);
            report_second_source(keys);
            let mut service = Service {
                route: keys.get("route"),
                backends: keys.filled("backends"),
                docker: keys.filled("docker"),
                container: keys.filled("container"),
                swarm: keys.filled("swarm"),
                autoscale: keys.get("autoscale"),
                protocol: keys.get("protocol"),
                balance: keys.get("balance"),
                health: keys.get("health"),
                ejection: keys.get("ejection"),
                slow_start: keys.get("slow_start"),
                retries: keys.get("retries"),
                hedge: keys.get("hedge"),
                timeout: keys.get("timeout"),
                timeouts: keys.get("timeouts"),
                max_in_flight: keys.get("max_in_flight"),
                queue: keys.get("queue"),
                keepalive: keys.get("keepalive"),
                buffer: keys.get("buffer"),
                max_body: keys.get("max_body"),
                cors: keys.get("cors"),
                compression: keys.get("compression"),
                headers: keys.get("headers"),
                drain: keys.get("drain"),
            };
            if service.route.is_none() && keys.has_misspelled("route") {
                service.route = Some(vec![RouteForm::Broken(Box::default())]);
            }
            let is_found = service.docker.is_some() || service.container.is_some() || service.swarm.is_some();
            if service.backends.is_none() && !is_found {
                service.backends = unreadable_source(keys);
            }
            service
        })
    }
}

/// Keys that people put one level too high.
const BELOW_SOURCE: &[(&str, &str)] = &[
    ("image", "it belongs below `container:`"),
    ("environment", "it belongs below `container:`"),
    ("volumes", "it belongs below `container:`"),
    ("command", "it belongs below `container:`"),
    ("replicas", "it belongs below `container:`; by load, write `autoscale:`"),
    ("label", "it belongs below `docker:`"),
    ("port", "it belongs below `container:` or `docker:`; a backend is host:port"),
    ("hook", "it belongs below `autoscale:`"),
];

/// What stands for backends that were typed, but wrong, under a wrong name, or in a way of a later version: that was reported, and "no
/// backends" beside it would mislead.
fn unreadable_source(keys: &Keys<'_, '_>) -> Option<Vec<Backend>> {
    let is_meant = |key: &'static str| keys.span_of(key).is_some() || keys.has_misspelled(key);
    let is_there = SOURCES.into_iter().chain(["image", "label"]).any(is_meant);
    is_there.then(|| vec![Backend { address: None, weight: None, zone: None }])
}

fn report_second_source(keys: &mut Keys<'_, '_>) {
    let mut sources: Vec<_> = SOURCES.into_iter().filter_map(|key| Some((keys.span_of(key)?, key))).collect();
    sources.sort_unstable();
    if let [(first_span, first), (second_span, second), ..] = sources[..] {
        let context = keys.decoder.context();
        let message = format!("{context} has two sources of backends: `{first}` and `{second}`");
        keys.decoder.report.error(second_span, message, "again here; keep one of them").also(first_span, "first here");
    }
}

impl Decode for Listener {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Value::Scalar(_) = &node.value {
            let address = Some(Decode::decode(node, decoder)?);
            return Some(Listener { address, protocol: None, max_connections: None });
        }
        decoder.mapping(node, "an address such as \":8080\"", |keys| {
            keys.later(LATER_LISTENER_KEYS);
            Listener {
                address: keys.required("address"),
                protocol: keys.get("protocol"),
                max_connections: keys.get("max_connections"),
            }
        })
    }
}

impl Decode for Admin {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Value::Scalar(_) = &node.value {
            return Some(Admin { address: Some(Decode::decode(node, decoder)?), token: None });
        }
        decoder.mapping(node, "an address such as 127.0.0.1:9900, or off", |keys| Admin {
            address: keys.get("address"),
            token: keys.get("token"),
        })
    }
}

impl Decode for AccessLog {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Value::Scalar(_) = &node.value {
            return Some(AccessLog { format: Some(Decode::decode(node, decoder)?), ..AccessLog::default() });
        }
        decoder.mapping(node, "json, combined, off, or a mapping", |keys| AccessLog {
            format: keys.get("format"),
            path: keys.get("path"),
            only: keys.get("only"),
            query: keys.get("query"),
            attempts: keys.get("attempts"),
        })
    }
}

impl Decode for Limits {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { connections: 10000 }", |keys| Limits {
            connections: keys.get("connections"),
            header_bytes: keys.get("header_bytes"),
            header_count: keys.get("header_count"),
            header_timeout: keys.get("header_timeout"),
            keep_alive: keys.get("keep_alive"),
            min_body_rate: keys.get("min_body_rate"),
        })
    }
}

impl Decode for Shutdown {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { delay: 0s, drain: 30s }", |keys| Shutdown {
            delay: keys.get("delay"),
            drain: keys.get("drain"),
        })
    }
}

impl Decode for Route {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a route such as shop.example.com/api or { path: /api }", |keys| Route {
            host: keys.filled("host"),
            path: keys.filled("path"),
            exact: keys.filled("exact"),
            regex: keys.filled("regex"),
            methods: keys.get("methods"),
            headers: keys.get("headers"),
            query: keys.get("query"),
            strip_prefix: keys.filled("strip_prefix"),
            rewrite: keys.filled("rewrite"),
            redirect: keys.filled("redirect"),
        })
    }
}

impl Decode for Redirect {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Value::Scalar(_) = &node.value {
            return Some(Redirect { status: None, location: Some(Decode::decode(node, decoder)?) });
        }
        decoder.mapping(node, "a location such as https://{host}{path}", |keys| Redirect {
            status: keys.get("status"),
            location: keys.required("location"),
        })
    }
}

impl Decode for Backend {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Value::Scalar(_) = &node.value {
            return Some(Backend { address: Decode::decode(node, decoder), weight: None, zone: None });
        }
        decoder.mapping(node, "an address such as 127.0.0.1:5000, or { address, weight, zone }", |keys| Backend {
            address: keys.required("address"),
            weight: keys.get("weight"),
            zone: keys.get("zone"),
        })
    }
}

impl Decode for HashField {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "ip, path, or one of { header }, { cookie }, { query }", |keys| HashField {
            header: keys.get("header"),
            cookie: keys.get("cookie"),
            query: keys.get("query"),
        })
    }
}

impl Decode for Timeouts {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { connect: 1s, response: 30s }", |keys| Timeouts {
            connect: keys.get("connect"),
            response: keys.get("response"),
            idle: keys.get("idle"),
        })
    }
}

impl Decode for Queue {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { size: 100, timeout: 1s }", |keys| Queue {
            size: keys.get("size"),
            timeout: keys.get("timeout"),
        })
    }
}

impl Decode for KeepAlive {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { idle: 1500ms }", |keys| KeepAlive {
            idle: keys.get("idle"),
            max_age: keys.get("max_age"),
            max_requests: keys.get("max_requests"),
        })
    }
}

impl Decode for Buffer {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { request: 1MiB, response: 256KiB }", |keys| Buffer {
            request: keys.get("request"),
            response: keys.get("response"),
        })
    }
}

impl Decode for Cors {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { origins: [\"https://app.example.com\"] }, or off", |keys| Cors {
            origins: keys.get("origins"),
            methods: keys.get("methods"),
            headers: keys.get("headers"),
            expose: keys.get("expose"),
            credentials: keys.get("credentials"),
            max_age: keys.get("max_age"),
        })
    }
}

impl Decode for Compression {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if matches!(&node.value, Value::Scalar(text) if text.text == "true") {
            return Some(Compression::default());
        }
        decoder.mapping(node, "true, off, or a mapping such as { min_size: 1KiB }", |keys| Compression {
            min_size: keys.get("min_size"),
        })
    }
}

impl Decode for Headers {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { response: { set: { x-frame-options: DENY } } }", |keys| {
            keys.doubt_extensions("for a header, write `response: { set: { name: value } }`, or `request:`");
            Headers { request: keys.get("request"), response: keys.get("response") }
        })
    }
}

impl Decode for HeaderEdit {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        decoder.mapping(node, "a mapping such as { set: { name: value }, remove: [name] }", |keys| {
            keys.doubt_extensions("for a header, write it below `set:`");
            HeaderEdit { set: keys.get("set"), remove: keys.get("remove") }
        })
    }
}
