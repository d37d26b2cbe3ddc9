//! From a request to an answer: what can be asked for, with which method, and what comes back.
//! Promises that every refusal is JSON `{ status, reason, message }` that says what to do. It knows no sockets.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde::{Deserialize, Serialize};

use super::guard::{Guard, Refusal};
use super::reloading::ReloadAnswer;
use super::status::ProcessState;
use super::{Handled, NotThere, Resources, ScaleTo, Unscalable, page};
use crate::lifecycle::drain::Reason;
use crate::telemetry::exposition;

pub(super) type Answer = Response<Full<Bytes>>;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target<'a> {
    Dashboard,
    Healthz,
    Readyz,
    Metrics,
    Status,
    Config,
    Services,
    Service(&'a str),
    Events,
    Drain,
    Undrain,
    Reload,
    Rollback,
    History,
    Scale,
}

impl<'a> Target<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/" => Target::Dashboard,
            "/healthz" => Target::Healthz,
            "/readyz" => Target::Readyz,
            "/metrics" => Target::Metrics,
            "/api/v1/status" => Target::Status,
            "/api/v1/config" => Target::Config,
            "/api/v1/services" => Target::Services,
            "/api/v1/events" => Target::Events,
            "/api/v1/drain" => Target::Drain,
            "/api/v1/undrain" => Target::Undrain,
            "/api/v1/reload" => Target::Reload,
            "/api/v1/rollback" => Target::Rollback,
            "/api/v1/history" => Target::History,
            "/api/v1/scale" => Target::Scale,
            _ => Target::Service(path.strip_prefix("/api/v1/services/").filter(|name| !name.contains('/'))?),
        })
    }

    const fn allow(self) -> &'static str {
        match self {
            Target::Drain | Target::Undrain | Target::Reload | Target::Rollback | Target::Scale => "POST",
            _ => "GET, HEAD",
        }
    }

    fn takes(self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }

    /// Probes tell one word, and the page has no data in it: a load balancer cannot send a token with its probes, nor a
    /// browser with its first request. The page asks for the token and sends it with what it fetches.
    const fn is_public(self) -> bool {
        matches!(self, Target::Healthz | Target::Readyz | Target::Dashboard)
    }
}

/// Answers one request whose body was read already.
pub(super) async fn answer(resources: &Resources, guard: &Guard, parts: &Parts, body: &[u8]) -> Answer {
    route(resources, guard, parts, body).await.unwrap_or_else(|problem| problem.into_answer())
}

async fn route(resources: &Resources, guard: &Guard, parts: &Parts, body: &[u8]) -> Result<Answer, Problem> {
    guard.check_site(parts)?;
    let target = Target::of(parts.uri.path());
    if !target.is_some_and(Target::is_public) {
        guard.check_token(parts)?;
    }
    let target = target.ok_or_else(|| Problem::not_found(parts.uri.path()))?;
    if !target.takes(&parts.method) {
        return Err(Problem::wrong_method(&parts.method, target.allow()));
    }
    match target {
        Target::Dashboard => Ok(page::answer()),
        Target::Healthz => Ok(text(StatusCode::OK, "ok\n")),
        Target::Readyz => Ok(readyz(resources)),
        Target::Metrics => Ok(body_of(StatusCode::OK, exposition::CONTENT_TYPE, resources.metrics.render())),
        Target::Status => Ok(json(StatusCode::OK, &resources.source.status(resources.state()))),
        Target::Config => Ok(body_of(StatusCode::OK, "application/yaml", resources.source.config_yaml())),
        Target::Services => Ok(json(StatusCode::OK, &resources.source.status(resources.state()).services)),
        Target::Service(name) => service(resources, name),
        Target::Events => Ok(json(StatusCode::OK, &resources.events.all())),
        Target::Drain => drain(resources, body),
        Target::Undrain => undrain(resources, body),
        Target::Reload => Ok(reload_answer(&resources.reloading.reload().await)),
        Target::Rollback => {
            let generation = rollback_request(body)?.generation;
            Ok(reload_answer(&resources.reloading.rollback(generation).await))
        }
        Target::History => Ok(json(StatusCode::OK, &resources.reloading.history())),
        Target::Scale => scale(resources, body),
    }
}

fn readyz(resources: &Resources) -> Answer {
    match resources.state() {
        ProcessState::Ready => text(StatusCode::OK, "ready\n"),
        ProcessState::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        ProcessState::Starting => {
            let waiting_for = resources.readiness.pending().join(", ");
            text(StatusCode::SERVICE_UNAVAILABLE, format!("starting: waiting for {waiting_for}\n"))
        }
    }
}

fn service(resources: &Resources, name: &str) -> Result<Answer, Problem> {
    let services = resources.source.status(resources.state()).services;
    match services.iter().find(|service| service.name == name) {
        Some(service) => Ok(json(StatusCode::OK, service)),
        None => {
            let names: Vec<_> = services.iter().map(|service| service.name.as_str()).collect();
            let message = format!("there is no service `{name}`; there are: {}", names.join(", "));
            Err(Problem::new(StatusCode::NOT_FOUND, "not_found", message))
        }
    }
}

/// What a drain is asked of. Nothing named is the whole process.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainRequest {
    service: Option<String>,
    backend: Option<String>,
}

impl DrainRequest {
    fn read(body: &[u8]) -> Result<Self, Problem> {
        match body.trim_ascii() {
            [] => Ok(Self::default()),
            body @ [b'{', ..] => serde_json::from_slice(body).map_err(|error| Self::misread(&error.to_string())),
            _ => Err(Self::misread("it is no JSON object")),
        }
    }

    /// A backend with its service; `None` if nothing is named.
    fn backend(&self) -> Result<Option<(&str, &str)>, Problem> {
        match (&self.service, &self.backend) {
            (None, None) => Ok(None),
            (Some(service), Some(backend)) => Ok(Some((service, backend))),
            _ => Err(Self::misread("one is named without the other")),
        }
    }

    fn misread(error: &str) -> Problem {
        let message = format!("the body is not `{{}}` or `{{ \"service\": …, \"backend\": … }}`: {error}");
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }
}

fn drain(resources: &Resources, body: &[u8]) -> Result<Answer, Problem> {
    if let Some((service, backend)) = DrainRequest::read(body)?.backend()? {
        return handled(resources.by_hand.drain(service, backend));
    }
    resources.events.push("drain_requested", "drain of the process requested by the admin API", &[]);
    resources.drain.request_once(Reason::Api);
    Ok(json(StatusCode::ACCEPTED, &serde_json::json!({ "state": ProcessState::Draining })))
}

fn undrain(resources: &Resources, body: &[u8]) -> Result<Answer, Problem> {
    let request = DrainRequest::read(body)?;
    let Some((service, backend)) = request.backend()? else {
        let message = "the body names no backend: write `{ \"service\": …, \"backend\": … }`; \
                       a process that drains goes on with it";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", message));
    };
    handled(resources.by_hand.undrain(service, backend))
}

fn handled(result: Result<Handled, NotThere>) -> Result<Answer, Problem> {
    match result {
        Ok(handled) => Ok(json(StatusCode::OK, &handled)),
        Err(NotThere(message)) => Err(Problem::new(StatusCode::NOT_FOUND, "not_found", message)),
    }
}

/// How many replicas of which service; a number or `"auto"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScaleRequest {
    service: String,
    replicas: serde_json::Value,
}

impl ScaleRequest {
    fn to(&self) -> Option<ScaleTo> {
        match &self.replicas {
            serde_json::Value::String(word) if word == "auto" => Some(ScaleTo::Auto),
            number => Some(ScaleTo::Pinned(number.as_u64()?.try_into().ok()?)),
        }
    }
}

fn scale(resources: &Resources, body: &[u8]) -> Result<Answer, Problem> {
    let misread = |error: &str| {
        let message = format!("the body is not `{{ \"service\": …, \"replicas\": N or \"auto\" }}`: {error}");
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", message)
    };
    let request: ScaleRequest = serde_json::from_slice(body).map_err(|error| misread(&error.to_string()))?;
    let to = request.to().ok_or_else(|| misread("`replicas` is neither a number nor \"auto\""))?;
    match resources.by_hand.scale(&request.service, to) {
        Ok(scaled) => Ok(json(StatusCode::OK, &scaled)),
        Err(Unscalable::NotThere(message)) => Err(Problem::new(StatusCode::NOT_FOUND, "not_found", message)),
        Err(Unscalable::NotPossible(message)) => {
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "cannot_scale", message))
        }
    }
}

/// Where a rollback goes. Nothing named is the generation before the active one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackRequest {
    generation: Option<u64>,
}

fn rollback_request(body: &[u8]) -> Result<RollbackRequest, Problem> {
    match body.trim_ascii() {
        b"" => Ok(RollbackRequest::default()),
        body => serde_json::from_slice(body).map_err(|error| {
            let message = format!("the body is not `{{}}` or `{{ \"generation\": N }}`: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "bad_request", message)
        }),
    }
}

fn reload_answer(answer: &ReloadAnswer) -> Answer {
    json(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), answer)
}

/// A refusal, for people and programs.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    status: u16,
    reason: &'static str,
    message: String,
    #[serde(skip)]
    header: Option<(http::HeaderName, &'static str)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: status.as_u16(), reason, message: message.into(), header: None }
    }

    fn not_found(path: &str) -> Self {
        let message = format!("there is nothing at {path}; try /, /healthz, /readyz, /metrics or /api/v1/status");
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    fn wrong_method(method: &Method, allow: &'static str) -> Self {
        let message = format!("{method} does not work here; use {allow}");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        Self { header: Some((ALLOW, allow)), ..problem }
    }

    pub(super) fn into_answer(self) -> Answer {
        let status = StatusCode::from_u16(self.status).expect("made from a StatusCode");
        let mut answer = json(status, &self);
        if let Some((name, value)) = self.header {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let problem = Self::new(refusal.status(), refusal.reason(), refusal.message());
        let header = (refusal == Refusal::NoToken).then_some((WWW_AUTHENTICATE, "Bearer"));
        Self { header, ..problem }
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let text = serde_json::to_string(value).expect("our own values have text keys and no failing fields");
    body_of(status, "application/json", text)
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    body_of(status, "text/plain; charset=utf-8", text)
}

/// An answer that no cache keeps and no browser takes for something else.
pub(super) fn body_of(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
