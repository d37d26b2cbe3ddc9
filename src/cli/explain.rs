//! `portway explain`: which route takes a request, why the others do not, and where it would go.
//! Promises to judge with the code that judges real requests: exit code 0 if a route takes it, 1 if none does. It sends
//! nothing to a backend; a running instance is asked only for the state of its backends.

use std::fmt::Write as _;
use std::process::ExitCode;

use http::request::Parts;

use super::ExplainArgs;
use super::status::replicas;
use crate::admin::{BackendState, BackendStatus, Status};
use crate::config::checked::{Config, Filters, Retries, Rewrite, Route, RouteAction, Service};
use crate::config::quantity::spell_duration;
use crate::error::FailureKind;
use crate::http::authority::{self, Onward};
use crate::routing::explain::{Candidate, Explanation, Unmet, Verdict};
use crate::routing::table::{Inquiry, Table};
use crate::routing::{path, redirect, rewrite};

mod found;
mod request;

/// Routes that are named although they do not take the request: enough to see a mistake, few enough to read.
const OTHERS_MAX: usize = 5;

/// What a table keeps for people: the route with its service.
type Named<'a> = (&'a Service, &'a Route);

/// Runs the command.
pub(crate) fn run(args: &ExplainArgs) -> ExitCode {
    let parts = match request::parts(&args.method, &args.url, &args.headers) {
        Ok(parts) => parts,
        Err(message) => {
            super::complain(&message);
            return ExitCode::from(super::USAGE);
        }
    };
    let (config, running) = match args.live {
        // Both are asked for before anything is said: half an answer would be of one configuration and no state.
        true => match args.instance.admin().and_then(|admin| super::diff::active(&admin)) {
            Ok(config) => (config, running(args)),
            Err(message) => return super::complain(&message),
        },
        false => match args.instance.file.load() {
            Ok(loaded) => (loaded.config, running(args)),
            Err(code) => return code,
        },
    };
    if let (true, Err(message)) = (args.live, &running) {
        return super::complain(&format!("error: {message}"));
    }
    let answer = explain(&config, parts, || running);
    let printed = super::print(&answer.text);
    match answer.taken {
        Taken::Yes => printed,
        Taken::No => ExitCode::FAILURE,
    }
}

/// The status of the running instance, and where it was asked; or why there is none.
fn running(args: &ExplainArgs) -> Result<(Status, String), String> {
    let first_line = |message: String| message.lines().next().unwrap_or_default().replacen("error: ", "", 1);
    let admin = args.instance.admin().map_err(first_line)?;
    let (status, _) = super::status::fetch(&admin).map_err(first_line)?;
    Ok((status, super::admin_client::describe(&admin)))
}

/// Whether a route takes the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}

struct Answer {
    text: String,
    taken: Taken,
}

fn refused(so_far: String, kind: FailureKind) -> Answer {
    let text = format!("{so_far}refused    {}\n           before a route is looked for\n", refusal(kind));
    Answer { text, taken: Taken::No }
}

/// The whole answer. `running` is asked only if a backend is needed.
fn explain(config: &Config, mut parts: Parts, running: impl FnOnce() -> Result<(Status, String), String>) -> Answer {
    let listeners: Vec<String> =
        config.listeners.iter().map(|listener| format!("{} (http)", listener.address)).collect();
    let mut text = format!("listener   {}\n", listeners.join(", "));
    let onward = match authority::settle(&mut parts) {
        Ok(onward) if !path::is_ambiguous(parts.uri.path()) => onward,
        Ok(_) => return refused(text, FailureKind::BadRequest),
        Err(kind) => return refused(text, kind),
    };
    let routes = config.services.iter().flat_map(|service| service.routes.iter().map(move |route| (service, route)));
    let table = Table::build(routes.map(|(service, route)| (route.matcher.clone(), (service, route))));
    let host = authority::routing_host(&parts.headers);
    let inquiry = Inquiry {
        host: &host,
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
    };
    let explanation = table.explain(&inquiry);
    let Some(chosen) = explanation.chosen() else {
        text += &no_route(&explanation);
        return Answer { text, taken: Taken::No };
    };
    let (service, route) = *chosen.value;
    text += &format!("route      {}  →  service `{}`\n", route.display, service.name);
    text += &format!("           because: {}\n", chosen.verdict);
    text += &others(&explanation);
    let action = match (onward, &route.action) {
        (Onward::AnswerHere, _) => {
            Action::Answered("answer     200 with `allow`, by Portway itself: max-forwards is 0\n".into())
        }
        (Onward::Forward, RouteAction::Redirect(to)) => {
            let parts = redirect::Parts { scheme: "http", host: &host, path: inquiry.path, query: inquiry.query };
            Action::Answered(format!("redirect   {} to {}\n", to.status.as_u16(), redirect::location(to, &parts)))
        }
        (Onward::Forward, RouteAction::Forward(rewrite)) => forwarded(&parts, service, rewrite),
    };
    match action {
        Action::Answered(line) => text += &line,
        Action::Refused(line) => return Answer { text: text + &line, taken: Taken::No },
        Action::Forwarded(line) => {
            text += &line;
            text += &backends(service, running());
        }
    }
    Answer { text, taken: Taken::Yes }
}

/// What happens to a request that has a route.
enum Action {
    Forwarded(String),
    Answered(String),
    Refused(String),
}

fn forwarded(parts: &Parts, service: &Service, rewrite: &Rewrite) -> Action {
    let target = match rewrite::apply(rewrite, parts.uri.path(), parts.uri.query()) {
        // Without a rewrite the result may lack the query, which goes on as it came.
        Ok(_) if matches!(rewrite, Rewrite::None) => parts.uri.to_string(),
        Ok(target) => target.into_owned(),
        Err(error) => {
            return Action::Refused(format!("refused    {}\n           {error}\n", refusal(FailureKind::BadRequest)));
        }
    };
    let how = match rewrite {
        Rewrite::None => "",
        Rewrite::StripPrefix(_) => "   (strip_prefix)",
        Rewrite::ReplacePrefix { .. } | Rewrite::Regex { .. } => "   (rewrite)",
    };
    let timeout = spell_duration(service.timeout);
    let retries = retries(&service.retries);
    let mut text = format!("request    {} {target}{how}   timeout {timeout}   {retries}\n", parts.method);
    let filters = filters(&service.filters);
    if !filters.is_empty() {
        text += &format!("filters    {filters}\n");
    }
    Action::Forwarded(text)
}

/// `retries 1 (connection)`, `no retries`.
fn retries(retries: &Retries) -> String {
    let Retries { attempts: attempts @ 1.., when, .. } = retries else { return "no retries".to_owned() };
    let words =
        [("connection", when.connection), ("timeout", when.timeout), ("invalid_response", when.invalid_response)];
    let words = words.into_iter().filter(|(_, wanted)| *wanted).map(|(word, _)| word.to_owned());
    let statuses = when.statuses.iter().map(|range| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    });
    format!("retries {attempts} ({})", words.chain(statuses).collect::<Vec<_>>().join(", "))
}

fn filters(filters: &Filters) -> String {
    let words = [
        filters.headers.is_some().then_some("headers"),
        filters.cors.is_some().then_some("cors"),
        filters.compression.is_some().then_some("compression"),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn refusal(kind: FailureKind) -> String {
    format!("{} {}", kind.status_code(), kind.reason())
}

/// Those that were beaten, then those that one condition keeps from the request.
fn others(explanation: &Explanation<'_, Named<'_>>) -> String {
    let beaten: Vec<_> = explanation.outranked().collect();
    // A route of another host is no near miss: whoever asks knows which host was meant.
    let one_short = |candidate: &&Candidate<'_, _>| match &candidate.verdict {
        Verdict::Unmet(unmet) => {
            matches!(unmet[..], [Unmet::Path(_) | Unmet::Method(_) | Unmet::Header(_) | Unmet::Query(_)])
        }
        Verdict::Chosen(_) | Verdict::Outranked(_) => false,
    };
    let near = explanation.nearest().into_iter().filter(one_short);
    let n_left_out = beaten.len().saturating_sub(OTHERS_MAX);
    let shown: Vec<_> = beaten.iter().take(OTHERS_MAX).copied().chain(near).collect();
    let mut text = listed("not:", &shown);
    if n_left_out > 0 {
        text += &format!("                    and {n_left_out} more that are less specific\n");
    }
    text
}

fn no_route(explanation: &Explanation<'_, Named<'_>>) -> String {
    let kind = FailureKind::NoRoute;
    let nearest = explanation.nearest();
    let mut text = format!("route      none: the answer is {}\n", refusal(kind));
    text += &listed("nearest:", &nearest);
    text
}

/// A route per line: service, route, what became of it; in columns.
fn listed(title: &str, candidates: &[&Candidate<'_, Named<'_>>]) -> String {
    let rows: Vec<[String; 3]> = candidates
        .iter()
        .map(|candidate| {
            let (service, route) = candidate.value;
            [format!("`{}`", service.name), route.display.clone(), candidate.verdict.to_string()]
        })
        .collect();
    let mut text = String::new();
    for (idx, line) in super::status::aligned(&rows).lines().enumerate() {
        let title = if idx == 0 { title } else { "" };
        writeln!(text, "           {title:<8} {line}").expect("writing to a String cannot fail");
    }
    text
}

/// The backends as the running instance has them, else as they are configured.
fn backends(service: &Service, running: Result<(Status, String), String>) -> String {
    let found = running.and_then(|(status, address)| {
        let same_name = |candidate: &&crate::admin::ServiceStatus| candidate.name == service.name.as_str();
        match status.services.iter().find(same_name) {
            Some(found) => Ok((found.clone(), address)),
            None => Err(format!(
                "the instance at {address} has no service `{}`: it runs another configuration",
                service.name
            )),
        }
    });
    match found {
        Ok((known, address)) => {
            let backends = &known.backends;
            let candidates = backends.iter().filter(|backend| is_candidate(backend)).count();
            let mark = if candidates == 1 { "← would be picked" } else { "← may be picked" };
            let rows: Vec<[String; 5]> = backends.iter().map(|backend| live(backend, mark)).collect();
            let listed = match backends.is_empty() {
                true => format!("backends   {}\n", found::without(service, &known)),
                false => block(&rows) + &nobody_sound(service, backends),
            };
            let of_containers = found::source(&service.source).map(|source| format!("           {source}\n"));
            let replicas = known.replicas.as_ref().map(|_| replicas::cell(&known));
            let replicas = replicas.map(|cell| format!("replicas   {cell}\n"));
            let source = of_containers.unwrap_or_default() + &replicas.unwrap_or_default();
            listed + &source + &format!("           (as the instance at {address} has them)\n")
        }
        Err(reason) => {
            let configured = service.source.declared();
            let weight = |weight: u32| if weight == 1 { String::new() } else { format!("weight {weight}") };
            let rows: Vec<[String; 2]> =
                configured.iter().map(|entry| [entry.address.to_string(), weight(entry.weight.get())]).collect();
            let source = found::source(&service.source).map(|source| format!("backends   {source}\n"));
            let replicas = found::replicas(service).map(|replicas| format!("replicas   {replicas}\n"));
            let listed = block(&rows) + &source.unwrap_or_default() + &replicas.unwrap_or_default();
            listed + &format!("           (as configured; {reason})\n")
        }
    }
}

/// Whether the picker considers it.
fn is_candidate(backend: &BackendStatus) -> bool {
    matches!(backend.state, BackendState::Ready | BackendState::Probation)
}

fn live(backend: &BackendStatus, mark: &str) -> [String; 5] {
    let latency = backend.p50_ms.map_or_else(String::new, |ms| format!("p50 {}", super::status::millis(Some(ms))));
    let in_flight = format!("in flight {}", backend.in_flight);
    let because = super::status::because(backend);
    let verdict = match (is_candidate(backend), because.is_empty()) {
        (false, _) => because,
        (true, true) => mark.to_owned(),
        (true, false) => format!("{mark}: {because}"),
    };
    let name = match &backend.container {
        Some(container) => format!("{} ({})", super::status::escaped(&container.name), backend.address),
        None => backend.address.clone(),
    };
    [name, backend.state.to_string(), in_flight, latency, verdict]
}

/// What happens to a request while nothing speaks for any backend.
fn nobody_sound(service: &Service, backends: &[BackendStatus]) -> String {
    let is = |judge: fn(BackendState) -> bool| backends.iter().any(|backend| judge(backend.state));
    let sound = is(|state| matches!(state, BackendState::Ready | BackendState::Full | BackendState::Probation));
    if sound {
        return String::new();
    }
    let what = if is(BackendState::is_doubtful) {
        "none is ready, so those that are unhealthy or ejected are tried all the same"
    } else if service.autoscale.is_some() {
        "none takes requests: the request waits for the first replica"
    } else {
        "none takes requests: the answer is 503 no_healthy_backend"
    };
    format!("           {what}\n")
}

fn block<const N: usize>(rows: &[[String; N]]) -> String {
    let mut text = String::new();
    for (idx, line) in super::status::aligned(rows).lines().enumerate() {
        let title = if idx == 0 { "backends" } else { "" };
        writeln!(text, "{title:<10} {line}").expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ProcessState;
    use crate::admin::tests::{sample_cold, sample_scaled, sample_status};
    use crate::config::expand::ProcessEnvironment;
    use crate::config::load;

    const YAML: &str = r#"
listen: ":8080"
services:
  shop: { route: shop.example.com/, backends: ["10.0.0.1:1"] }
  shop-api:
    route: { host: shop.example.com, path: /api, strip_prefix: true }
    backends: ["10.0.0.11:5000", { address: "10.0.0.12:5000", weight: 2 }]
    timeout: 15s
    compression: true
  admin: { route: { host: shop.example.com, path: /api, headers: { x-admin: } }, backends: ["10.0.0.2:1"] }
  www: { route: { host: www.example.com, redirect: "https://shop.example.com{path}{query}" } }
"#;

    fn check(method: &str, url: &str, taken: Taken, expected: &str) {
        let loaded = load::parse(YAML, "portway.yaml", &ProcessEnvironment).unwrap_or_else(|d| panic!("{:?}", d.list));
        let parts = request::parts(method, url, &[]).unwrap();
        let answer = explain(&loaded.config, parts, || Err("nothing answers at 127.0.0.1:9900".to_owned()));
        assert_eq!(answer.text, expected);
        assert_eq!(answer.taken, taken);
    }

    #[test]
    fn a_taken_request_says_why_and_where_it_goes() {
        check(
            "GET",
            "http://shop.example.com/api/items?page=2",
            Taken::Yes,
            "\
listener   :8080 (http)
route      shop.example.com/api  →  service `shop-api`
           because: host matches exactly, path prefix /api (4) beats / (1)
           not:     `shop`   shop.example.com/     shorter prefix
                    `admin`  shop.example.com/api  needs header x-admin
request    GET /items?page=2   (strip_prefix)   timeout 15s   retries 1 (connection)
filters    compression
backends   10.0.0.11:5000
           10.0.0.12:5000  weight 2
           (as configured; nothing answers at 127.0.0.1:9900)
",
        );
    }

    #[test]
    fn a_request_without_a_rewrite_keeps_its_target() {
        let loaded = load::parse("services: { web: { backends: [\"a:1\"] } }", "x", &ProcessEnvironment).unwrap();
        let parts = request::parts("GET", "/a?b=c", &[]).unwrap();
        let answer = explain(&loaded.config, parts, || Err(String::new()));
        assert!(
            answer.text.contains("request    GET /a?b=c   timeout 1m   retries 1 (connection)\n"),
            "{}",
            answer.text
        );
    }

    #[test]
    fn no_route_names_the_nearest_and_what_they_need() {
        check(
            "GET",
            "http://other.example.com/api",
            Taken::No,
            "\
listener   :8080 (http)
route      none: the answer is 404 no_route
           nearest: `shop-api`  shop.example.com/api  needs host shop.example.com
                    `shop`      shop.example.com/     needs host shop.example.com
                    `www`       www.example.com/      needs host www.example.com
",
        );
    }

    #[test]
    fn a_redirect_says_where_to() {
        check(
            "GET",
            "http://www.example.com/x?y",
            Taken::Yes,
            "\
listener   :8080 (http)
route      www.example.com/  →  service `www`
           because: host matches exactly, path prefix / (1)
redirect   302 to https://shop.example.com/x?y
",
        );
    }

    #[test]
    fn what_is_refused_before_routing_says_so() {
        check(
            "TRACE",
            "http://shop.example.com/",
            Taken::No,
            "\
listener   :8080 (http)
refused    405 method_not_allowed
           before a route is looked for
",
        );
        check(
            "GET",
            "http://shop.example.com/api//evil",
            Taken::No,
            "\
listener   :8080 (http)
route      shop.example.com/api  →  service `shop-api`
           because: host matches exactly, path prefix /api (4) beats / (1)
           not:     `shop`   shop.example.com/     shorter prefix
                    `admin`  shop.example.com/api  needs header x-admin
refused    400 bad_request
           the rewritten path starts with //, which reads as a host
",
        );
    }

    #[test]
    fn a_running_instance_tells_the_state_of_the_backends() {
        let loaded = load::parse(YAML, "portway.yaml", &ProcessEnvironment).unwrap();
        let ask = || request::parts("GET", "http://shop.example.com/", &[]).unwrap();
        let status = sample_status(ProcessState::Ready);
        let here = "127.0.0.1:9900".to_owned();
        let answer = explain(&loaded.config, ask(), || Ok((status.clone(), here.clone())));
        assert!(answer.text.contains("ready") && answer.text.contains("in flight"), "{}", answer.text);
        assert!(answer.text.ends_with("(as the instance at 127.0.0.1:9900 has them)\n"), "{}", answer.text);
        let answer =
            explain(&loaded.config, ask(), || Ok((Status { services: vec![], ..status.clone() }, here.clone())));
        assert!(answer.text.contains("has no service `shop`"), "{}", answer.text);
    }

    #[test]
    fn a_service_of_containers_says_where_its_backends_come_from() {
        let yaml = "services: { thumbs: { container: { image: a, port: 1 }, autoscale: { min: 0, max: 10 } } }";
        let loaded = load::parse(yaml, "portway.yaml", &ProcessEnvironment).unwrap();
        let ask = |running| explain(&loaded.config, request::parts("GET", "/", &[]).unwrap(), || running).text;
        let text = ask(Err("nothing answers".to_owned()));
        let wanted = "\
backends   containers of image a, port 1
replicas   0 to 10, for 7 in flight each
           (as configured; nothing answers)
";
        assert!(text.ends_with(wanted), "{text}");
        let mut status = sample_status(ProcessState::Ready);
        status.services = vec![sample_cold()];
        let text = ask(Ok((status.clone(), "here".to_owned())));
        let wanted = "\
backends   cold: the request waits for the first replica, 1m at most
           containers of image a, port 1
replicas   0 (0–10), idle 2 h
           (as the instance at here has them)
";
        assert!(text.ends_with(wanted), "{text}");
        status.services = vec![sample_scaled()];
        let text = ask(Ok((status, "here".to_owned())));
        assert!(text.contains("replicas   1→2 (0–10)\n"), "{text}");
    }

    #[test]
    fn what_keeps_backends_from_serving_is_said() {
        let loaded = load::parse(YAML, "portway.yaml", &ProcessEnvironment).unwrap();
        let mut status = sample_status(ProcessState::Ready);
        let scaled =
            YAML.replacen("backends:", "autoscale: { min: 0, max: 3, hook: \"http://scaler/\" }, backends:", 1);
        let scaled = load::parse(&scaled, "portway.yaml", &ProcessEnvironment).unwrap();
        let mut cold = status.clone();
        cold.services[0].backends.clear();
        let parts = request::parts("GET", "http://shop.example.com/", &[]).unwrap();
        let text = explain(&scaled.config, parts, || Ok((cold, "here".to_owned()))).text;
        assert!(text.contains("backends   none: the request waits for the first replica, 1m at most"), "{text}");
        let mut explained = |states: [BackendState; 2], why: &str| {
            for (backend, state) in status.services[0].backends.iter_mut().zip(states) {
                (backend.state, backend.why) = (state, Some(why.to_owned()));
            }
            let parts = request::parts("GET", "http://shop.example.com/", &[]).unwrap();
            explain(&loaded.config, parts, || Ok((status.clone(), "here".to_owned()))).text
        };
        let text = explained([BackendState::Unhealthy, BackendState::Ready], "GET /healthz: 500");
        assert!(text.contains("unhealthy  in flight 4  p50 3 ms  GET /healthz: 500\n"), "{text}");
        assert!(!text.contains("none"), "{text}");
        let text = explained([BackendState::Unhealthy, BackendState::Drained], "x");
        assert!(
            text.contains("none is ready, so those that are unhealthy or ejected are tried all the same"),
            "{text}"
        );
        let text = explained([BackendState::Leaving, BackendState::Drained], "by hand");
        assert!(text.contains("none takes requests: the answer is 503 no_healthy_backend"), "{text}");
    }
}
