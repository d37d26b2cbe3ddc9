//! Containers on a real Docker engine: found, run, replaced, scaled, to zero and back, under load with books of it.
//! Needs an engine with the image of docker/local-base.sh; where it is missing the suite says so and checks nothing.
//! `PORTWAY_FULL=1` plays the long form: as many rounds and as much load as the issue asks for.

mod alone;
mod daemon;
mod endpoints;
mod faults;
mod first_run;
mod fixture;
mod many;
mod moved_tag;
mod own_daemon;
mod packaged;
mod redeploy;
mod replicas;
mod scale;
mod stage;
mod zero;

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{Docker, Launch, Portway};
use stage::ledger::{self, Contract, Ending, Executed, Failure, Method, Sent, Verdict, Violation};
use stage::load::{Load, Running};

/// GETs and POSTs in equal parts, 200 each second.
const ORDINARY: Load = Load { rate: 200, posts_percent: 50, ..Load::ORDINARY };

/// The short form or the long one.
fn pick<T>(short: T, full: T) -> T {
    match std::env::var_os("PORTWAY_FULL") {
        Some(_) => full,
        None => short,
    }
}

/// Whether the long form is played; if not, a visible line says what is left out.
fn is_long_form(what: &str) -> bool {
    let is_long = std::env::var_os("PORTWAY_FULL").is_some();
    if !is_long {
        let line = format!("\nSKIPPED without PORTWAY_FULL: {what}\n");
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).ok();
    }
    is_long
}

/// Load under way, whose books will be compared with those of the containers.
struct Books<'a> {
    docker: &'a Docker,
    running: Running,
}

impl<'a> Books<'a> {
    fn open(docker: &'a Docker, address: SocketAddr, load: Load) -> Self {
        Self { docker, running: load.start(address, fastrand::u64(..)) }
    }

    /// Waits until so many requests more have had their outcome.
    async fn wait_more(&self, n: usize) {
        let begin = self.running.n_ended();
        let passed = || async { self.running.n_ended() >= begin + n };
        crate::support::eventually(Duration::from_secs(60), &format!("{n} more requests"), passed).await;
    }

    /// Ends the load and compares.
    async fn close(self, contract: &Contract) -> (Vec<Sent>, Verdict) {
        let sent = self.running.stop().await;
        let verdict = ledger::check(&sent, &executed(self.docker), contract);
        (sent, verdict)
    }

    /// Ends the load; every request had to be served, once.
    async fn close_clean(self, portway: &Portway) {
        let (sent, verdict) = self.close(&Contract::STRICT).await;
        assert_clean(&verdict, portway);
        assert!(sent.len() > 100, "{} requests are no load", sent.len());
        println!("{} requests, 0 failed", sent.len());
    }
}

fn assert_clean(verdict: &Verdict, portway: &Portway) {
    assert!(
        verdict.is_clean(),
        "of {} requests {}:\n  {}\nthe log of portway:\n{}",
        verdict.n_sent,
        verdict.in_words(),
        verdict.explained(),
        portway.stderr()
    );
}

/// What all containers of the test executed.
fn executed(docker: &Docker) -> Vec<Executed> {
    let pages = docker.books().into_values().enumerate();
    let of_page = |(backend, page): (usize, crate::support::Page)| {
        let executed = move |(id, at_us, body)| Executed { id, backend, connection: 0, at_us, body };
        page.ran.into_iter().map(executed)
    };
    pages.flat_map(of_page).collect()
}

/// From the order to end a container until Portway has heard of it. dockerd 20.10 tells of a signal up to some ten
/// milliseconds after the process has it: what is sent to the container in between cannot know.
#[derive(Clone, Copy, Debug)]
struct Gap {
    from_us: u64,
    to_us: u64,
}

impl Gap {
    /// Of containers that were ordered to end at these times, one after the other; `portway` logs JSON.
    fn all(begun_us: &[u64], portway: &Portway) -> Vec<Self> {
        let log = portway.stderr();
        let left_us = times_of("container left", &log);
        assert_eq!(left_us.len(), begun_us.len(), "each left once: {log}");
        begun_us.iter().zip(left_us).map(|(from_us, to_us)| Gap { from_us: *from_us, to_us }).collect()
    }

    fn has_under_way(self, sent: &Sent) -> bool {
        sent.due_us <= self.to_us && sent.ended_us >= self.from_us
    }
}

/// When a log in JSON says `message`, in microseconds of the wall clock.
fn times_of(message: &str, log: &str) -> Vec<u64> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let at_us = |line: serde_json::Value| {
        let at = line["timestamp"].as_str().expect("every line has one").parse::<jiff::Timestamp>();
        u64::try_from(at.expect("RFC 3339").as_microsecond()).expect("after 1970")
    };
    lines.filter(|line| line["message"] == message).map(at_us).collect()
}

/// What a [`Gap`] needs.
async fn portway_with_times(yaml: &str) -> Portway {
    Portway::launch(Launch { yaml, env: vec![("PORTWAY_LOG_FORMAT", "json")], ..Launch::default() }).await
}

/// Nothing was executed twice, and only such requests were lost as were under way when a container got its signal and cannot
/// be repeated: POSTs, and answers of which a part had gone to the client already; how many.
fn assert_only_lost_in(gaps: &[Gap], (sent, verdict): &(Vec<Sent>, Verdict), portway: &Portway) -> usize {
    let others = Violation::ALL.into_iter().filter(|violation| *violation != Violation::Lost);
    let n_others: usize = others.map(|violation| verdict.n(violation)).sum();
    assert_eq!(n_others, 0, "{}:\n  {}\n{}", verdict.in_words(), verdict.explained(), portway.stderr());
    let lost = || sent.iter().filter(|sent| sent.status() != Some(200));
    let is_final = |sent: &Sent| sent.method == Method::Post || sent.ending == Ending::Failed(Failure::Truncated);
    let is_excused = |sent: &Sent| is_final(sent) && gaps.iter().any(|gap| gap.has_under_way(sent));
    let others: Vec<&Sent> = lost().filter(|sent| !is_excused(sent)).collect();
    assert!(others.is_empty(), "{others:#?}\n{gaps:?}\n{}", portway.stderr());
    lost().count()
}
