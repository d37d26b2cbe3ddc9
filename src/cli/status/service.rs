//! `portway status SERVICE`: one service with each of its backends, containers by name.
//! Promises nothing that the API does not say. It asks nobody.

use super::replicas;
use super::{aligned, because, count, escaped, millis, percent, traffic};
use crate::admin::{BackendStatus, ServiceStatus, SourceKind};

/// Digits of a container's id that tell it from others; `docker ps` shows as many.
const ID_CHARS: usize = 12;

/// One service, for people.
pub(super) fn page(service: &ServiceStatus) -> String {
    let mut text = format!("{}   {}   {}\n", service.name, source(service), service.routes.join(", "));
    text += &format!(
        "{}   {} in flight   {} of {} queued   retries {}\n",
        traffic(&service.traffic),
        service.in_flight,
        service.queue,
        service.queue_limit,
        percent(service.retry_ratio),
    );
    text += &scaling(service);
    text += &replicas::failure(service);
    text.push('\n');
    match service.backends.is_empty() {
        true => text += &format!("backends: {}\n", replicas::backends(service)),
        false => text += &backends(&service.backends),
    }
    text + &outside(service)
}

/// What is not among the backends, and why.
pub(in crate::cli) fn outside(service: &ServiceStatus) -> String {
    let containers = service.passed_over.iter().map(|one| format!("{} is not ready: {}\n", one.container, one.why));
    let engines = service.engines_away.iter().map(|why| format!("an engine is away, what was known stays: {why}\n"));
    containers.chain(engines).map(|line| escaped(line.trim_end()) + "\n").collect()
}

/// `container: image acme/thumbs:1.4`.
pub(in crate::cli) fn source(service: &ServiceStatus) -> String {
    match service.source.kind {
        SourceKind::Backends => "backends as written".to_owned(),
        kind => format!("{kind}: {}", escaped(&service.source.description)),
    }
}

fn scaling(service: &ServiceStatus) -> String {
    let Some(known) = &service.replicas else { return String::new() };
    let (starting, draining, held) = (known.starting, known.draining, known.held);
    let plural = if held == 1 { "" } else { "s" };
    let mut text = format!(
        "replicas {}   {starting} starting, {draining} draining   {held} request{plural} held\n",
        replicas::cell(service)
    );
    if let Some(decision) = replicas::decision(known) {
        text += &format!("scaled {decision}\n");
    }
    if let Some(took) = known.last_cold_start_ms {
        text += &format!("last cold start took {}\n", millis(Some(took)));
    }
    if known.pinned.is_some() {
        text += &format!("pinned by hand: `portway scale {}=auto` releases it\n", service.name);
    }
    text
}

fn backends(backends: &[BackendStatus]) -> String {
    let has_containers = backends.iter().any(|backend| backend.container.is_some());
    let heading = ["CONTAINER", "ID", "BACKEND", "STATE", "IN FLIGHT", "REQUESTS", "ERRORS", "P50", "P99", ""];
    let heading = heading.map(str::to_owned);
    let rows = backends.iter().map(|backend| {
        let container = backend.container.as_ref();
        let name = container.map_or_else(|| "–".to_owned(), |container| escaped(&container.name));
        let id = container.map_or_else(|| "–".to_owned(), |container| container.id.chars().take(ID_CHARS).collect());
        [
            name,
            id,
            backend.address.clone(),
            backend.state.to_string(),
            backend.in_flight.to_string(),
            count(backend.requests as f64),
            count(backend.errors as f64),
            millis(backend.p50_ms),
            millis(backend.p99_ms),
            because(backend),
        ]
    });
    let rows: Vec<[String; 10]> = std::iter::once(heading).chain(rows).collect();
    let n_skipped = if has_containers { 0 } else { 2 };
    aligned(&rows.iter().map(|row| &row[n_skipped..]).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{sample_cold, sample_scaled, sample_status};
    use crate::admin::{PassedOver, ProcessState};

    #[test]
    fn a_service_of_containers_names_them_and_says_why_there_are_so_many() {
        let expected = "\
thumbs   container: image acme/thumbs:1.4   /thumbs
812 req/s   p50 3 ms   p99 22 ms   errors 0 %   9 in flight   0 of 100 queued   retries 0.1 %
replicas 1→2 (0–10)   1 starting, 0 draining   0 requests held
scaled 12 s ago from 1 to 2: 14.2 in flight on average, 6 wanted
last cold start took 840 ms

CONTAINER  ID            BACKEND         STATE  IN FLIGHT  REQUESTS  ERRORS  P50   P99
thumbs-1   3f2a9c3f2a9c  10.0.0.11:5000  ready  4          1.0 k     2       3 ms  22 ms
";
        assert_eq!(page(&sample_scaled()), expected);
    }

    #[test]
    fn who_is_not_among_the_backends_is_named_below_them() {
        let mut service = sample_scaled();
        service.passed_over = vec![PassedOver { container: "thumbs-2".to_owned(), why: "no answer yet".to_owned() }];
        service.engines_away = vec!["unix:///x: connection refused".to_owned()];
        let below = "22 ms\nthumbs-2 is not ready: no answer yet\n\
                     an engine is away, what was known stays: unix:///x: connection refused\n";
        assert!(page(&service).ends_with(below), "{}", page(&service));
    }

    #[test]
    fn a_cold_service_says_so() {
        let text = page(&sample_cold());
        assert!(text.contains("replicas 0 (0–10), idle 2 h   0 starting, 0 draining   0 requests held\n"), "{text}");
        assert!(text.contains("\nscaled 2 h ago from 1 to 0: idle for 5m\n"), "{text}");
        assert!(text.ends_with("\n\nbackends: cold\n"), "{text}");
    }

    #[test]
    fn a_pin_says_how_to_release_it() {
        let mut service = sample_scaled();
        service.replicas.as_mut().unwrap().pinned = Some(2);
        let text = page(&service);
        assert!(text.contains("pinned by hand: `portway scale thumbs=auto` releases it\n"), "{text}");
    }

    #[test]
    fn addresses_that_somebody_wrote_have_no_containers() {
        let text = page(&sample_status(ProcessState::Ready).services[0]);
        assert!(text.starts_with("shop   backends as written   shop.example.com/\n"), "{text}");
        assert!(text.contains("\nBACKEND         STATE"), "{text}");
    }
}
