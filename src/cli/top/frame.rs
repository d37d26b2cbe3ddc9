//! What `portway top` draws: totals, services, the backends of one of them, the latest events.
//! Promises no more lines than the terminal has, whatever there is to show, and no control character of anybody else's.
//! It asks nobody and writes nowhere.

use super::screen::{Line, Style, table};
use crate::admin::{BackendState, BackendStatus, ServiceStatus, Status};
use crate::cli::events;
use crate::cli::status::{self, age, because, count, escaped, millis, percent, replicas, service};
use crate::telemetry::events::Event;

/// Events that are shown where there is room for more: the services matter most.
const EVENTS_WANTED: usize = 8;
/// Lines of a container's last words.
const WORDS_LINES_MAX: usize = 4;

/// What there is to show.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Where it was asked.
    pub(super) address: String,
    /// The last answer.
    pub(super) status: Status,
    /// Oldest first.
    pub(super) events: Vec<Event>,
    /// The service whose backends are shown.
    pub(super) selected: Option<String>,
    /// Why the last answer is old.
    pub(super) problem: Option<String>,
}

/// A terminal's, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl View {
    /// Moves the choice by `step` services, not beyond the ends.
    pub(super) fn choose(&mut self, step: isize) {
        let last = self.status.services.len().saturating_sub(1);
        let idx = self.selected_idx().unwrap_or(0).saturating_add_signed(step).min(last);
        self.selected = self.status.services.get(idx).map(|service| service.name.clone());
    }

    fn selected_idx(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.status.services.iter().position(|service| service.name == *selected)
    }

    /// At most `rows` lines.
    pub(super) fn lines(&self, rows: usize) -> Vec<Line> {
        let mut lines = self.heading();
        let mut services = self.services();
        let details = self.details();
        let events = self.events();
        let n_services = services.len();
        // An empty line before each of the two others.
        let spaced = |lines: &[Line]| if lines.is_empty() { 0 } else { lines.len() + 1 };
        let room = rows.saturating_sub(lines.len());
        let [for_services, for_details, for_events] = fair(room, [n_services, spaced(&details), spaced(&events)]);
        if for_services < n_services {
            services = window(services, self.selected_idx().unwrap_or(0), for_services);
        }
        lines.extend(services);
        lines.extend(section(details, for_details));
        lines.extend(section(events, for_events));
        lines.truncate(rows);
        lines
    }

    fn heading(&self) -> Vec<Line> {
        let Status { version, state, uptime_s, generation, workers, traffic, .. } = &self.status;
        let plural = if *workers == 1 { "" } else { "s" };
        let state_style = if state.to_string() == "ready" { Style::Good } else { Style::Warn };
        let rest = format!("   up {}   generation {generation}   {workers} worker{plural}   ", age(*uptime_s));
        let first = Line::of(Style::Bold, format!("portway {version}   "))
            .with(state_style, state.to_string())
            .with(Style::Plain, rest)
            .with(Style::Soft, escaped(&self.address));
        let sum = |of: fn(&ServiceStatus) -> u64| self.status.services.iter().map(of).sum::<u64>() as f64;
        let connections: u64 = self.status.listeners.iter().map(|listener| listener.connections).sum();
        let held = sum(|service| service.replicas.as_ref().map_or(0, |replicas| replicas.held.into()));
        let second = format!(
            "{}   {} in flight   {} queued   {} held   {} connection{}",
            status::traffic(traffic),
            count(sum(|service| service.in_flight)),
            count(sum(|service| service.queue)),
            count(held),
            count(connections as f64),
            if connections == 1 { "" } else { "s" },
        );
        let trouble = match (&self.problem, &self.status.refused_config) {
            (Some(problem), _) => Line::of(Style::Bad, escaped(problem)),
            (None, Some(refused)) => {
                let keeping = format!("config rejected, keeping generation {generation}: {}", escaped(&refused.error));
                Line::of(Style::Warn, keeping)
            }
            (None, None) => Line::default(),
        };
        vec![first, Line::of(Style::Plain, second), trouble]
    }

    /// A heading and a row for each.
    fn services(&self) -> Vec<Line> {
        let services = &self.status.services;
        let has_replicas = services.iter().any(|service| service.replicas.is_some());
        let mut words = vec!["  SERVICE", "BACKENDS", "REQ/S", "P50", "P99", "IN FLIGHT", "QUEUE", "ERRORS"];
        if has_replicas {
            words.extend(["HELD", "REPLICAS"]);
        }
        let heading = words.into_iter().map(|word| (Style::Soft, word.to_owned())).collect();
        let selected_idx = self.selected_idx();
        let rows = services.iter().enumerate().map(|(idx, service)| {
            let mut row = row(service, if selected_idx == Some(idx) { '>' } else { ' ' });
            if has_replicas {
                let known = service.replicas.as_ref();
                let held = known.map_or(0, |replicas| replicas.held);
                let is_failing = known.is_some_and(|replicas| replicas.failure.is_some());
                row.push((if held > 0 { Style::Warn } else { Style::Plain }, held.to_string()));
                row.push((if is_failing { Style::Bad } else { Style::Plain }, replicas::cell(service)));
            }
            row
        });
        let mut lines = table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>());
        if let Some(idx) = selected_idx {
            let line = std::mem::take(&mut lines[idx + 1]);
            lines[idx + 1] = line.entirely(Style::Selected);
        }
        lines
    }

    /// The chosen service; nothing if none is.
    fn details(&self) -> Vec<Line> {
        let Some(service) = self.selected_idx().map(|idx| &self.status.services[idx]) else { return Vec::new() };
        let about = format!("   {}   {}", service::source(service), service.routes.join(", "));
        let mut lines = vec![Line::of(Style::Bold, service.name.clone()).with(Style::Plain, about)];
        if let Some(decision) = service.replicas.as_ref().and_then(replicas::decision) {
            lines.push(Line::of(Style::Plain, format!("  scaled {decision}")));
        }
        let failure = replicas::failure(service);
        lines.extend(failure.lines().take(1 + WORDS_LINES_MAX).map(|line| Line::of(Style::Bad, format!("  {line}"))));
        if !service.backends.is_empty() {
            lines.extend(backends(&service.backends));
        }
        let outside = service::outside(service);
        lines.extend(outside.lines().map(|line| Line::of(Style::Warn, format!("  {line}"))));
        lines
    }

    /// A heading and the newest first.
    fn events(&self) -> Vec<Line> {
        if self.events.is_empty() {
            return Vec::new();
        }
        let newest = self.events.iter().rev().take(EVENTS_WANTED).map(|event| {
            let time = event.ts.get(11..19).unwrap_or_default();
            Line::of(Style::Soft, format!("  {}  ", escaped(time))).with(Style::Plain, events::sentence(event))
        });
        std::iter::once(Line::of(Style::Soft, "  EVENTS (UTC)")).chain(newest).collect()
    }
}

fn row(service: &ServiceStatus, mark: char) -> Vec<(Style, String)> {
    let traffic = &service.traffic;
    let warn_if = |is_odd: bool| if is_odd { Style::Warn } else { Style::Plain };
    vec![
        (Style::Bold, format!("{mark} {}", service.name)),
        (health(service), replicas::backends(service)),
        (Style::Plain, count(traffic.req_per_s)),
        (Style::Plain, millis(traffic.p50_ms)),
        (Style::Plain, millis(traffic.p99_ms)),
        (Style::Plain, count(service.in_flight as f64)),
        (warn_if(service.queue > 0), count(service.queue as f64)),
        (if traffic.error_ratio > 0.0 { Style::Bad } else { Style::Plain }, percent(traffic.error_ratio)),
    ]
}

fn health(service: &ServiceStatus) -> Style {
    let n_ready = service.backends.iter().filter(|backend| backend.state == BackendState::Ready).count();
    let is_failing = service.replicas.as_ref().is_some_and(|replicas| replicas.failure.is_some());
    match (n_ready, service.backends.len()) {
        (_, 0) if is_failing => Style::Bad,
        (_, 0) => Style::Soft,
        (n, all) if n == all => Style::Good,
        (0, _) => Style::Bad,
        _ => Style::Warn,
    }
}

fn style_of(state: BackendState) -> Style {
    match state {
        BackendState::Ready => Style::Good,
        state if state.is_doubtful() || state == BackendState::Unresolved => Style::Bad,
        _ => Style::Warn,
    }
}

fn backends(backends: &[BackendStatus]) -> Vec<Line> {
    let has_containers = backends.iter().any(|backend| backend.container.is_some());
    let words = ["  CONTAINER", "BACKEND", "STATE", "IN FLIGHT", "REQUESTS", "ERRORS", "P50", "P99", ""];
    let heading = words.map(|word| (Style::Soft, word.to_owned())).to_vec();
    let row = |backend: &BackendStatus| {
        let name = backend.container.as_ref().map_or_else(|| "–".to_owned(), |container| escaped(&container.name));
        vec![
            (Style::Plain, format!("  {name}")),
            (Style::Plain, backend.address.clone()),
            (style_of(backend.state), backend.state.to_string()),
            (Style::Plain, count(backend.in_flight as f64)),
            (Style::Plain, count(backend.requests as f64)),
            (if backend.errors > 0 { Style::Warn } else { Style::Plain }, count(backend.errors as f64)),
            (Style::Plain, millis(backend.p50_ms)),
            (Style::Plain, millis(backend.p99_ms)),
            (Style::Soft, because(backend)),
        ]
    };
    let mut rows: Vec<_> = std::iter::once(heading).chain(backends.iter().map(row)).collect();
    if !has_containers {
        for row in &mut rows {
            row.remove(0);
            row[0].1.insert_str(0, "  ");
        }
    }
    table(&rows)
}

/// Cuts `total` lines into shares: who wants less than an equal part gets it, the others divide the rest.
fn fair<const N: usize>(total: usize, wants: [usize; N]) -> [usize; N] {
    let mut shares = [0; N];
    let (mut left, mut hungry) = (total, N);
    let mut order: [usize; N] = std::array::from_fn(|idx| idx);
    order.sort_by_key(|idx| wants[*idx]);
    for idx in order {
        shares[idx] = wants[idx].min(left / hungry);
        left -= shares[idx];
        hungry -= 1;
    }
    shares
}

/// An empty line and the first lines, with a word about those that have no room.
fn section(mut lines: Vec<Line>, room: usize) -> Vec<Line> {
    if room < 2 || lines.is_empty() {
        return Vec::new();
    }
    let room = room - 1;
    if lines.len() > room {
        let n_left_out = lines.len() - (room - 1);
        lines.truncate(room - 1);
        lines.push(Line::of(Style::Soft, format!("  … and {n_left_out} more")));
    }
    lines.insert(0, Line::default());
    lines
}

/// The heading and the rows around the chosen one.
fn window(mut lines: Vec<Line>, selected_idx: usize, room: usize) -> Vec<Line> {
    let n_rows = room.saturating_sub(1);
    if n_rows == 0 {
        lines.truncate(room);
        return lines;
    }
    let n_services = lines.len() - 1;
    let first = selected_idx.saturating_sub(n_rows / 2).min(n_services.saturating_sub(n_rows));
    lines.drain(1..=first);
    lines.truncate(room);
    lines
}

#[cfg(test)]
mod tests;
