//! Containers on a real Docker engine: found, run, replaced, scaled, to zero and back, under load with books of it.
//! Needs an engine with the image of docker/local-base.sh; where it is missing the suite says so and checks nothing.
//! `PORTWAY_FULL=1` plays the long form: as many rounds and as much load as the issue asks for.

mod daemon;
mod faults;
mod first_run;
mod fixture;
mod own_daemon;
mod packaged;
mod redeploy;
mod replicas;
mod scale;
mod stage;
mod zero;

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{Docker, Portway};
use stage::ledger::{self, Contract, Executed, Sent, Verdict, Violation};
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

/// No request was answered but by a container, none executed twice; how many were lost is the caller's affair.
fn assert_only_lost(verdict: &Verdict, n_lost_max: usize, portway: &Portway) {
    let others = Violation::ALL.into_iter().filter(|violation| *violation != Violation::Lost);
    let n_others: usize = others.map(|violation| verdict.n(violation)).sum();
    let is_kept = n_others == 0 && verdict.n(Violation::Lost) <= n_lost_max;
    assert!(is_kept, "{}:\n  {}\n{}", verdict.in_words(), verdict.explained(), portway.stderr());
}
