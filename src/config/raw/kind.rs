//! What each scalar of the language should look like, for messages and for the JSON Schema.
//! Promises that every word listed here is one that `validate` takes. Parses nothing.

use crate::config::scalar::{Json, Kind};

/// Any text.
pub enum Text {}

/// Where something listens: `host:port` and its relatives.
pub enum Address {}

/// An address or a network.
pub enum Network {}

/// A path.
pub enum Path {}

/// The short form of a route.
pub enum Route {}

/// A method.
pub enum Method {}

/// A time span with its unit.
pub enum Duration {}

/// A number of bytes with its unit.
pub enum Size {}

/// A number of bytes with its unit, or `off`.
pub enum SizeOrOff {}

/// A whole number.
pub enum Count {}

/// How many workers.
pub enum Workers {}

/// A whole number, or `unlimited`.
pub enum Cap {}

/// A whole number, or `off`.
pub enum CountOrOff {}

/// A share with its `%`.
pub enum Percent {}

/// A share with its `%`, or `off`.
pub enum PercentOrOff {}

/// A status, or a range of them.
pub enum Statuses {}

/// What is worth another attempt.
pub enum Outcome {}

/// Whether a retry must go elsewhere.
pub enum OtherBackend {}

/// What a gRPC probe asks for.
pub enum Grpc {}

/// What a backend is before its first probe.
pub enum Initial {}

/// When a second attempt starts.
pub enum HedgeAfter {}

/// Yes or no.
pub enum Flag {}

/// How connections find a worker.
pub enum Accept {}

/// An HTTP version.
pub enum Protocol {}

/// A log format.
pub enum LogFormat {}

/// Which requests are logged.
pub enum LogFilter {}

/// Of which requests the attempts are listed.
pub enum AttemptsInLog {}

/// A balancing algorithm.
pub enum Balance {}

/// A part of the request that needs no name.
pub enum HashWord {}

/// A condition on the labels of a container.
pub enum Label {}

/// A port of a container.
pub enum Port {}

/// At which of its addresses a container is reached.
pub enum AddressFrom {}

/// Where an engine listens.
pub enum Endpoint {}

/// What a container is made from.
pub enum Image {}

/// What is mounted into a container.
pub enum Volume {}

/// A number of bytes with its unit, or `unlimited`.
pub enum SizeOrUnlimited {}

/// A number of cores, or `unlimited`.
pub enum Cpus {}

/// When an image is fetched.
pub enum Pull {}

/// A number with or without a fraction.
pub enum Number {}

/// Whether browsers see a page while they wait.
pub enum Page {}

/// A plain HTTP URL.
pub enum Url {}

impl Kind for Text {
    const EXPECTED: &'static str = "text";
}

impl Kind for Address {
    const EXPECTED: &'static str = "an address such as 127.0.0.1:8080";
}

impl Kind for Network {
    const EXPECTED: &'static str = "an address or a network such as 10.0.0.0/8";
}

impl Kind for Path {
    const EXPECTED: &'static str = "a path such as /api";
    const PATTERN: &'static str = r"^/";
}

impl Kind for Route {
    const EXPECTED: &'static str = "a route such as shop.example.com/api";
    const PATTERN: &'static str = r"/";
}

impl Kind for Method {
    const EXPECTED: &'static str = "a method such as GET";
    const PATTERN: &'static str = r"^[A-Za-z-]+$";
}

impl Kind for Duration {
    const EXPECTED: &'static str = "a duration such as 2s";
    const PATTERN: &'static str = r"^([0-9.]+ *(d|h|m|s|ms|us|ns))+$|^0$";
}

impl Kind for Size {
    const EXPECTED: &'static str = "a size such as 64KiB";
    const PATTERN: &'static str = r"^[0-9.]+ *([KMG]iB?|[kMG]B?|B)$|^0$";
}

impl Kind for SizeOrOff {
    const EXPECTED: &'static str = "a size such as 240B, or off";
    const PATTERN: &'static str = r"^[0-9.]+ *([KMG]iB?|[kMG]B?|B)$|^0$|^off$";
    const JSON: Json = Json::StringOrFalse;
}

impl Kind for Count {
    const EXPECTED: &'static str = "a whole number";
    const JSON: Json = Json::Number;
}

impl Kind for Workers {
    const EXPECTED: &'static str = "a whole number, or auto";
    const WORDS: &'static [&'static str] = &["auto"];
    const JSON: Json = Json::Number;
}

impl Kind for Cap {
    const EXPECTED: &'static str = "a whole number, or unlimited";
    const WORDS: &'static [&'static str] = &["unlimited"];
    const JSON: Json = Json::Number;
}

impl Kind for CountOrOff {
    const EXPECTED: &'static str = "a whole number, or off";
    const WORDS: &'static [&'static str] = &["off"];
    const JSON: Json = Json::NumberOrFalse;
}

impl Kind for Percent {
    const EXPECTED: &'static str = "a share such as 20%";
    const PATTERN: &'static str = r"^[0-9]+ *%$";
}

impl Kind for PercentOrOff {
    const EXPECTED: &'static str = "a share such as 80%, or off";
    const PATTERN: &'static str = r"^[0-9]+ *%$|^off$";
    const JSON: Json = Json::StringOrFalse;
}

impl Kind for Statuses {
    const EXPECTED: &'static str = "a status such as 200, or a range such as 200-399 or 2xx";
    const PATTERN: &'static str = r"^[1-5]([xX]{2}|[0-9]{2}(-[1-5][0-9]{2})?)$";
    const JSON: Json = Json::Number;
}

impl Kind for Outcome {
    const EXPECTED: &'static str = "connection, timeout, invalid_response, or statuses such as 503, 5xx or 502-504";
    const WORDS: &'static [&'static str] = &["connection", "timeout", "invalid_response"];
    const PATTERN: &'static str = r"^[45]([xX]{2}|[0-9]{2}(-[45][0-9]{2})?)$";
    const JSON: Json = Json::Number;
}

impl Kind for OtherBackend {
    const EXPECTED: &'static str = "preferred or required";
    const WORDS: &'static [&'static str] = &["preferred", "required"];
}

impl Kind for Grpc {
    const EXPECTED: &'static str = "true, or the name of a service";
    const JSON: Json = Json::StringOrBool;
}

impl Kind for Initial {
    const EXPECTED: &'static str = "up or down";
    const WORDS: &'static [&'static str] = &["up", "down"];
}

impl Kind for HedgeAfter {
    const EXPECTED: &'static str = "p95, or a duration such as 100ms";
    const WORDS: &'static [&'static str] = &["p95"];
    const PATTERN: &'static str = <Duration as Kind>::PATTERN;
}

impl Kind for Flag {
    const EXPECTED: &'static str = "true or false";
    const JSON: Json = Json::Bool;
}

impl Kind for Accept {
    const EXPECTED: &'static str = "kernel or balanced";
    const WORDS: &'static [&'static str] = &["kernel", "balanced"];
}

impl Kind for Protocol {
    const EXPECTED: &'static str = "http1 or auto";
    const WORDS: &'static [&'static str] = &["http1", "auto"];
}

impl Kind for LogFormat {
    const EXPECTED: &'static str = "json or combined";
    const WORDS: &'static [&'static str] = &["json", "combined"];
}

impl Kind for LogFilter {
    const EXPECTED: &'static str = "all or errors";
    const WORDS: &'static [&'static str] = &["all", "errors"];
}

impl Kind for AttemptsInLog {
    const EXPECTED: &'static str = "repeated or all";
    const WORDS: &'static [&'static str] = &["repeated", "all"];
}

impl Kind for Balance {
    const EXPECTED: &'static str = "least_requests, peak_ewma, round_robin, random or { hash: … }";
    const WORDS: &'static [&'static str] = &["least_requests", "peak_ewma", "round_robin", "random"];
}

impl Kind for HashWord {
    const EXPECTED: &'static str = "ip, path, or one of { header }, { cookie }, { query }";
    const WORDS: &'static [&'static str] = &["ip", "path"];
}

impl Kind for Label {
    const EXPECTED: &'static str = "a label such as app=orders, or app for any value";
}

impl Kind for Port {
    const EXPECTED: &'static str = "a port such as 5000";
    const JSON: Json = Json::Number;
}

impl Kind for AddressFrom {
    const EXPECTED: &'static str = "auto, published or network";
    const WORDS: &'static [&'static str] = &["auto", "published", "network"];
}

impl Kind for Endpoint {
    const EXPECTED: &'static str = "an engine such as unix:///var/run/docker.sock or tcp://10.0.0.7:2375";
    const PATTERN: &'static str = "^(unix|tcp):|^default$";
}

impl Kind for Image {
    const EXPECTED: &'static str = "an image such as acme/thumbs:1.4";
}

impl Kind for Volume {
    const EXPECTED: &'static str = "a volume such as data:/var/lib/app or ./files:/srv:ro";
    const PATTERN: &'static str = ":/";
}

impl Kind for SizeOrUnlimited {
    const EXPECTED: &'static str = "a size such as 256MiB, or unlimited";
    const WORDS: &'static [&'static str] = &["unlimited"];
    const PATTERN: &'static str = <Size as Kind>::PATTERN;
}

impl Kind for Cpus {
    const EXPECTED: &'static str = "a number of cores such as 0.5, or unlimited";
    const WORDS: &'static [&'static str] = &["unlimited"];
    const JSON: Json = Json::Decimal;
}

impl Kind for Pull {
    const EXPECTED: &'static str = "missing, always or never";
    const WORDS: &'static [&'static str] = &["missing", "always", "never"];
}

impl Kind for Number {
    const EXPECTED: &'static str = "a number";
    const JSON: Json = Json::Decimal;
}

impl Kind for Page {
    const EXPECTED: &'static str = "true or off";
    const WORDS: &'static [&'static str] = &["off"];
    const JSON: Json = Json::StringOrBool;
}

impl Kind for Url {
    const EXPECTED: &'static str = "a URL such as http://scaler/scale";
    const PATTERN: &'static str = "^http://";
}
