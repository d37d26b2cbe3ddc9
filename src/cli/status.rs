//! `portway status`: what the running process is doing, as a table for people or as the API's JSON.
//! Promises to say which address it asked when nothing answers. It changes nothing.

use std::io::Write as _;
use std::process::ExitCode;

use super::StatusArgs;
use super::admin_client::{self, Answer};
use crate::admin::{BackendStatus, ServiceStatus, Status, Traffic};
use crate::config::checked::Admin;

pub(super) mod replicas;
pub(super) mod service;

/// How the status is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// For people.
    Table,
    /// As the API gives it.
    Json,
}

/// 0 with the status on standard output, else 1 with the reason on standard error.
pub(super) fn run(args: &StatusArgs) -> ExitCode {
    let output = if args.json { Output::Json } else { Output::Table };
    finish(args.instance.admin().and_then(|admin| match &args.service {
        None => ask(&admin, output),
        Some(service) => ask_one(&admin, service, output),
    }))
}

/// Prints what came of it; the exit code.
pub(super) fn finish(result: Result<String, String>) -> ExitCode {
    match result {
        Ok(text) => {
            // A reader that has seen enough (`| head`) is no error.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(message) => {
            complain(message.strip_prefix("error: ").unwrap_or(&message));
            ExitCode::FAILURE
        }
    }
}

/// One error on standard error, which may be closed.
pub(super) fn complain(message: &str) {
    complain_of(&format!("error: {message}"));
}

/// One line on standard error.
pub(super) fn complain_of(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn ask(admin: &Admin, output: Output) -> Result<String, String> {
    let (status, body) = fetch(admin)?;
    Ok(match output {
        Output::Table => table(&status),
        Output::Json => format!("{}\n", String::from_utf8_lossy(&body)),
    })
}

/// One service alone.
fn ask_one(admin: &Admin, name: &str, output: Output) -> Result<String, String> {
    let (status, body) = fetch(admin)?;
    let found = status.services.iter().position(|service| service.name == name);
    let idx = found.ok_or_else(|| no_service(&status, name))?;
    Ok(match output {
        Output::Table => service::page(&status.services[idx]),
        // As it came: an instance of a later version may say more than this one knows.
        Output::Json => {
            let whole: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            format!("{}\n", whole["services"][idx])
        }
    })
}

/// Says which services there are.
pub(super) fn no_service(status: &Status, name: &str) -> String {
    let names: Vec<&str> = status.services.iter().map(|service| service.name.as_str()).collect();
    format!("there is no service `{}`; there are: {}", escaped(name), names.join(", "))
}

/// The status of the instance, and the bytes it came as. The message is for people.
pub(super) fn fetch(admin: &Admin) -> Result<(Status, Vec<u8>), String> {
    let answer = admin_client::get(admin, "/api/v1/status").map_err(|error| error.to_string())?;
    let body = accepted(admin, answer)?;
    let address = admin_client::describe(admin);
    let unreadable =
        |error| format!("the answer of {address} cannot be read: {error}\n  is it another version of Portway?");
    let status = serde_json::from_slice(&body).map_err(unreadable)?;
    Ok((status, body))
}

/// Asks for a change; the body of the answer. A refusal that says what is wrong with what was asked is the message.
pub(super) fn post(admin: &Admin, path: &str, body: &str) -> Result<Vec<u8>, String> {
    let answer = admin_client::post(admin, path, body).map_err(|error| error.to_string())?;
    match (answer.status, answer.message()) {
        (404 | 422, Some(message)) => Err(escaped(&message)),
        _ => accepted(admin, answer),
    }
}

/// The body of an answer that is no refusal.
pub(super) fn accepted(admin: &Admin, answer: Answer) -> Result<Vec<u8>, String> {
    let address = admin_client::describe(admin);
    match answer {
        Answer { status: 200 | 202, body } => Ok(body),
        Answer { status: 401, .. } => Err(format!(
            "{address} wants another token\n  `admin: {{ token: … }}` of the configuration that runs is the one; give it with --token or PORTWAY_ADMIN_TOKEN"
        )),
        Answer { status, body } => {
            Err(format!("{address} answered {status}: {}", String::from_utf8_lossy(&body).trim().escape_debug()))
        }
    }
}

/// The status for people: the process in two lines, then a line per service.
fn table(status: &Status) -> String {
    let file = status.config_file.as_ref().map_or_else(String::new, |file| format!(", {file}"));
    let plural = if status.workers == 1 { "" } else { "s" };
    let mut text = format!(
        "portway {}   up {}   generation {} ({} ago{file})   {} worker{plural}   {}\n",
        status.version,
        age(status.uptime_s),
        status.generation,
        age(status.generation_age_s),
        status.workers,
        status.state,
    );
    let traffic = traffic(&status.traffic);
    let listeners: Vec<String> = status
        .listeners
        .iter()
        .map(|listener| {
            let n = listener.connections;
            let plural = if n == 1 { "" } else { "s" };
            format!("{} {}   {} connection{plural}", listener.address, listener.protocol, count(n as f64))
        })
        .collect();
    match &listeners[..] {
        [only] => text.push_str(&format!("{only}   {traffic}\n")),
        several => text.push_str(&format!("{}\nall together   {traffic}\n", several.join("\n"))),
    }
    text.push_str(&configuration(status));
    text.push('\n');
    text.push_str(&services(&status.services));
    text.push_str(&reasons(&status.services));
    text.push_str(&failures(&status.services));
    text
}

/// What is to be known about the configuration, if anything is.
fn configuration(status: &Status) -> String {
    let mut text = String::new();
    if let Some(refused) = &status.refused_config {
        let (generation, age, error) = (status.generation, age(refused.age_s), &refused.error);
        text += &format!("config rejected {age} ago, keeping generation {generation}: {error}\n");
    }
    if let Some(to) = status.rollback_to {
        text += &format!("rolled back to generation {to}: the file says something else\n");
    }
    if !status.needs_restart.is_empty() {
        text += &format!("takes effect at the next start: {}\n", status.needs_restart.join(", "));
    }
    text
}

pub(super) fn traffic(traffic: &Traffic) -> String {
    format!(
        "{} req/s   p50 {}   p99 {}   errors {}",
        count(traffic.req_per_s),
        millis(traffic.p50_ms),
        millis(traffic.p99_ms),
        percent(traffic.error_ratio)
    )
}

fn services(services: &[ServiceStatus]) -> String {
    let heading = ["SERVICE", "BACKENDS", "REQ/S", "P50", "P99", "IN FLIGHT", "QUEUE", "RETRIES", "REPLICAS"];
    let rows = services.iter().map(|service| {
        [
            service.name.clone(),
            replicas::backends(service),
            count(service.traffic.req_per_s),
            millis(service.traffic.p50_ms),
            millis(service.traffic.p99_ms),
            service.in_flight.to_string(),
            service.queue.to_string(),
            percent(service.retry_ratio),
            replicas::cell(service),
        ]
    });
    let rows: Vec<[String; 9]> = std::iter::once(heading.map(str::to_owned)).chain(rows).collect();
    // Where nothing is scaled, a column of dashes would say nothing.
    let n_columns = if services.iter().any(|service| service.replicas.is_some()) { 9 } else { 8 };
    aligned(&rows.iter().map(|row| &row[..n_columns]).collect::<Vec<_>>())
}

/// A paragraph for each service whose replicas do not start.
fn failures(services: &[ServiceStatus]) -> String {
    let failures: String = services.iter().map(replicas::failure).collect();
    if failures.is_empty() { failures } else { format!("\n{failures}") }
}

/// A line for each backend that says why it has less than its whole share, for each container that gets nothing, and for
/// each engine that is away; nothing where all is well.
fn reasons(services: &[ServiceStatus]) -> String {
    let rows: Vec<[String; 4]> = services.iter().flat_map(reasons_of).collect();
    if rows.is_empty() { String::new() } else { format!("\n{}", aligned(&rows)) }
}

fn reasons_of(service: &ServiceStatus) -> Vec<[String; 4]> {
    let row = |who: &str, state: &str, why: String| [service.name.clone(), escaped(who), state.to_owned(), why];
    let is_odd = |backend: &&BackendStatus| backend.why.is_some() || backend.share.is_some();
    let backends = service.backends.iter().filter(is_odd);
    let backends = backends.map(|backend| row(called(backend), &backend.state.to_string(), because(backend)));
    let passed_over = service.passed_over.iter().map(|one| row(&one.container, "not ready", escaped(&one.why)));
    let away = service.engines_away.iter().map(|why| row("engine", "away", escaped(why)));
    backends.chain(passed_over).chain(away).collect()
}

/// As people call it: the name of its container, else its address.
pub(super) fn called(backend: &BackendStatus) -> &str {
    backend.container.as_ref().map_or(&backend.address, |container| &container.name)
}

/// `GET /healthz: 500`, `42 % of its share`; empty if nothing is to be said.
pub(super) fn because(backend: &BackendStatus) -> String {
    let share = backend.share.map(|share| format!("warming up: {:.0} % of its share", share * 100.0));
    escaped(&backend.why.iter().cloned().chain(share).collect::<Vec<_>>().join(", "))
}

/// Without anything that a terminal would obey; quotes stay as they are.
pub(super) fn escaped(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Columns as wide as their widest cell, two spaces apart, nothing trailing. All rows have as many cells.
pub(super) fn aligned(rows: &[impl AsRef<[String]>]) -> String {
    let widths = widths(rows);
    let mut text = String::new();
    for row in rows {
        let cells = row.as_ref().iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The width of each column, in characters.
pub(super) fn widths(rows: &[impl AsRef<[String]>]) -> Vec<usize> {
    let mut widths = Vec::new();
    for row in rows {
        let row = row.as_ref();
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    widths
}

/// `3 d 4 h`, `12 min`, `45 s`: the two largest units, the second only if it is not 0.
pub(super) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, hours % 24, minutes % 60) {
        (0, 0, _, _) if minutes == 0 => format!("{seconds} s"),
        (0, 0, _, minutes) => format!("{minutes} min"),
        (0, hours, _, 0) => format!("{hours} h"),
        (0, hours, _, minutes) => format!("{hours} h {minutes} min"),
        (days, _, 0, _) => format!("{days} d"),
        (days, _, hours, _) => format!("{days} d {hours} h"),
    }
}

/// `812`, `1.2 k`, `3.4 M`; below 100 with a decimal where there is one.
pub(super) fn count(n: f64) -> String {
    match n {
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n if n >= 100.0 || n.fract() == 0.0 => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}

pub(super) fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms >= 1e3 => format!("{:.1} s", ms / 1e3),
        Some(ms) if ms >= 10.0 || ms.fract() == 0.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{ms:.1} ms"),
    }
}

pub(super) fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        0.0 => "0 %".to_owned(),
        percent if percent < 0.01 => "< 0.01 %".to_owned(),
        percent if percent < 0.1 => format!("{percent:.2} %"),
        percent => format!("{percent:.1} %"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::super::admin_client::tests::answering;
    use super::*;
    use crate::admin::tests::{sample_cold, sample_resources, sample_scaled, sample_status};
    use crate::admin::{BackendState, PassedOver, ProcessState, ReplicaFailure, Server};
    use crate::config::checked::ListenAddress;

    /// A real admin listener on a thread of its own, beyond loopback so that it wants its token.
    pub(crate) fn serving() -> Admin {
        let token = Some("s3cret".to_owned());
        let server = Server::bind(&Admin { address: ListenAddress::AnyTcp(0), token: token.clone() }).unwrap();
        let address = server.address();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(server.serve(Arc::new(sample_resources())))
        });
        Admin { address, token }
    }

    #[test]
    fn the_table_reads_like_the_sketch() {
        let expected = "\
portway 0.1.0   up 3 d 4 h   generation 42 (12 min ago, portway.yaml)   2 workers   ready
:8080 http   318 connections   1.2 k req/s   p50 4 ms   p99 31 ms   errors 0.02 %

SERVICE  BACKENDS                         REQ/S  P50   P99    IN FLIGHT  QUEUE  RETRIES
shop     2/2 ready                        812    3 ms  22 ms  9          0      0.1 %
orders   0/2 ready, 1 full, 1 unresolved  0      –     –      14         2      0 %
";
        assert_eq!(table(&sample_status(ProcessState::Ready)), expected);
    }

    #[test]
    fn services_that_are_scaled_have_a_column_of_replicas() {
        let mut status = sample_status(ProcessState::Ready);
        status.services.truncate(1);
        status.services.extend([sample_scaled(), sample_cold()]);
        let failure = ReplicaFailure { age_s: 3, times: 1, words: "exit code 1".to_owned() };
        status.services[1].replicas.as_mut().unwrap().failure = Some(failure);
        let expected = "
SERVICE  BACKENDS               REQ/S  P50   P99    IN FLIGHT  QUEUE  RETRIES  REPLICAS
shop     2/2 ready              812    3 ms  22 ms  9          0      0.1 %    –
thumbs   1/1 ready, 1 starting  812    3 ms  22 ms  9          0      0.1 %    1→2 (0–10), failing
thumbs   cold                   0      –     –      0          0      0.1 %    0 (0–10), idle 2 h

thumbs: the last start has failed, 3 s ago:
  exit code 1
";
        let text = table(&status);
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn one_service_is_shown_alone_or_answered_with_those_there_are() {
        let admin = serving();
        let text = ask_one(&admin, "orders", Output::Table).unwrap();
        assert!(text.starts_with("orders   backends as written   /orders\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&ask_one(&admin, "orders", Output::Json).unwrap()).unwrap();
        assert_eq!(json, serde_json::to_value(&sample_status(ProcessState::Ready).services[1]).unwrap());
        let error = ask_one(&admin, "order", Output::Table).unwrap_err();
        assert_eq!(error, "there is no service `order`; there are: shop, orders");
    }

    #[test]
    fn what_is_not_whole_says_why() {
        let mut status = sample_status(ProcessState::Ready);
        let backends = &mut status.services[0].backends;
        backends[0].state = BackendState::Unhealthy;
        backends[0].why = Some("GET /healthz: 500".to_owned());
        backends[1].share = Some(0.42);
        let text = table(&status);
        assert!(text.contains("shop     1/2 ready, 1 unhealthy "), "{text}");
        let reasons = "
shop  10.0.0.11:5000  unhealthy  GET /healthz: 500
shop  10.0.0.12:5000  ready      warming up: 42 % of its share
";
        assert!(text.ends_with(reasons), "{text}");
    }

    #[test]
    fn containers_that_get_nothing_and_engines_that_are_away_are_named() {
        let mut status = sample_status(ProcessState::Ready);
        let mut service = sample_scaled();
        service.backends[0].share = Some(0.5);
        service.passed_over = vec![PassedOver { container: "thumbs-2".to_owned(), why: "no answer yet".to_owned() }];
        service.engines_away = vec!["unix:///run/docker.sock: connection refused".to_owned()];
        status.services = vec![service];
        let reasons = "
thumbs  thumbs-1  ready      warming up: 50 % of its share
thumbs  thumbs-2  not ready  no answer yet
thumbs  engine    away       unix:///run/docker.sock: connection refused
";
        let text = table(&status);
        assert!(text.ends_with(reasons), "{text}");
    }

    #[test]
    fn several_listeners_have_a_line_each() {
        let mut status = sample_status(ProcessState::Draining);
        status.listeners.push(status.listeners[0].clone());
        status.listeners[1].connections = 1;
        let text = table(&status);
        assert!(
            text.contains(":8080 http   318 connections\n:8080 http   1 connection\nall together   1.2 k req/s"),
            "{text}"
        );
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 7.0, 7.25, 812.4, 12_345.0, 3.4e6].map(count), ["0", "7", "7.2", "812", "12.3 k", "3.4 M"]);
        assert_eq!([0.25, 3.0, 31.4, 2_500.0].map(|ms| millis(Some(ms))), ["0.2 ms", "3 ms", "31 ms", "2.5 s"]);
        assert_eq!([0.0, 0.00001, 0.0002, 0.5].map(percent), ["0 %", "< 0.01 %", "0.02 %", "50.0 %"]);
        let ages = [5, 125, 7_200, 7_260, 86_401, 273_600].map(age);
        assert_eq!(ages, ["5 s", "2 min", "2 h", "2 h 1 min", "1 d", "3 d 4 h"]);
    }

    #[test]
    fn json_is_what_the_api_says() {
        let body = serde_json::to_string(&sample_status(ProcessState::Ready)).unwrap();
        let admin = answering(format!("HTTP/1.0 200 OK\r\n\r\n{body}"));
        assert_eq!(ask(&admin, Output::Json).unwrap(), format!("{body}\n"));
    }

    #[test]
    fn a_running_admin_listener_is_understood() {
        let admin = serving();
        assert_eq!(ask(&admin, Output::Table).unwrap(), table(&sample_status(ProcessState::Ready)));
        assert_eq!(super::super::healthcheck::run(&admin), ExitCode::SUCCESS);
    }

    #[test]
    fn answers_that_are_no_status_say_what_to_do() {
        for (answer, words) in [
            ("HTTP/1.0 200 OK\r\n\r\n<html>", "another version"),
            ("HTTP/1.0 401 Unauthorized\r\n\r\n", "another token"),
            ("HTTP/1.0 500 Oh\r\n\r\nboom\u{1b}[2J", "answered 500: boom\\u{1b}[2J"),
        ] {
            let message = ask(&answering(answer.to_owned()), Output::Table).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}
