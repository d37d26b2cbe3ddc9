//! What the suites stand on: the real binary, raw clients, origins that misbehave on command, real gunicorn, load.
//! It promises that nothing outlives its test: every process, socket and file goes with its value, and every wait has
//! a deadline that names what was waited for. It asserts no behaviour of Portway beyond "it started".

#![allow(dead_code, reason = "a suite uses what it needs; the harness is whole all the same")]
#![allow(unused_imports, reason = "re-exports for suites that come later")]

mod client;
mod docker;
mod flask;
mod idle_closer;
mod load;
mod metrics;
mod origin;
mod pair;
mod portway;
mod process;
mod race;
mod wire;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) use self::wire::Reader;

pub(crate) use client::{Client, Ending, exchange, get};
pub(crate) use docker::{Container, Docker, Engine, LABEL_TEST, Manner, PORT, Page, wait_backends};
pub(crate) use flask::{Flask, Fleet, Worker};
pub(crate) use idle_closer::{IdleCloser, Manners};
pub(crate) use load::{Load, Report};
pub(crate) use metrics::Metrics;
pub(crate) use origin::{Act, Origin, Received, response};
pub(crate) use pair::{Answer, Pair, Yaml, read_and_answer};
pub(crate) use portway::{Launch, Portway, binary};
pub(crate) use process::{
    Guarded, Scratch, cpu_time, limit_files, n_half_closed, n_lingering, open_files, raise_files_limit, resident_bytes,
};
pub(crate) use race::{Race, Tally};
pub(crate) use wire::{Body, Head, Response};

/// Longest wait of the harness for something that ought to happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `future` to its end, or fails the test with `what` after `limit`.
pub(crate) async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}

/// Waits until `condition` holds, or fails the test with `what` after `limit`.
pub(crate) async fn eventually<F, C>(limit: Duration, what: &str, mut condition: C)
where
    F: Future<Output = bool>,
    C: FnMut() -> F,
{
    let deadline = tokio::time::Instant::now() + limit;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A loopback address that nothing listens on, for a process that must be told its port.
///
/// Taken from below the kernel's range for outgoing connections (32768 and up), so that no client socket of a
/// neighbouring test can be in the way, and never given out twice by one test program.
pub(crate) fn free_address() -> SocketAddr {
    static STEP: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 18_000;
    const COUNT: u16 = 14_000;
    let offset = u16::try_from(std::process::id() % u32::from(COUNT)).expect("the remainder is below COUNT");
    for _ in 0..COUNT {
        let step = STEP.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (offset + step % COUNT) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port from {FIRST} on");
}

static TURN: RwLock<()> = RwLock::const_new(());

/// Held by a test that loads the whole machine, so that such tests run one after another and not in each other's way.
pub(crate) async fn whole_machine() -> RwLockWriteGuard<'static, ()> {
    TURN.write().await
}

/// Held by a test that loads a part of the machine, beside others of its kind and not beside one that loads all of it.
pub(crate) async fn part_of_the_machine() -> RwLockReadGuard<'static, ()> {
    TURN.read().await
}

/// The real part `name`, or `None` with a visible line that says why the test checks nothing.
///
/// A real part that is missing fails the test where `PORTWAY_REQUIRE` names it: `PORTWAY_REQUIRE=flask,docker`, or `all`.
pub(crate) fn require<T>(name: &str, part: Result<T, String>) -> Option<T> {
    let reason = match part {
        Ok(part) => return Some(part),
        Err(reason) => reason,
    };
    let required = std::env::var("PORTWAY_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|word| word.trim() == name || word.trim() == "all");
    assert!(!is_required, "{name} is required by PORTWAY_REQUIRE={required}, but {reason}");
    // Not `eprintln!`, which the test runner swallows when the test passes.
    let line = format!("\nSKIPPED for want of {name}: {reason}\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).ok();
    None
}
