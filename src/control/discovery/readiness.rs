//! Asks one container whether it is ready, on the way that requests will take.
//! Promises an end within the probe's own limit. What an open port proves is not taken for more: Docker accepts connections
//! on behalf of a container that does not listen yet, and closes them a moment later.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::candidates::{Job, Way};
use crate::config::checked::{self, Probe};
use crate::control::health::probe::{self, describe};
use crate::control::health::target::Target;
use crate::net::dial::dial;
use crate::net::stream::Peeked;
use crate::runtime::service::Service;

/// For a connection to a container, which is never far.
const CONNECT: Duration = Duration::from_secs(1);
/// A connection that stays open for so long has somebody at its other end. Docker's proxy closes within a millisecond or
/// two of accepting if nobody listens behind it; on a machine that is busy it takes longer, which is measured: see [`quiet`].
const QUIET: Duration = Duration::from_millis(25);
/// The second connection has to stay open for so many times longer. One is not proof: on a machine that is short of
/// processors a close was seen to come later than 25 ms, and five POSTs went to nobody.
const SURE: u32 = 4;
/// At most so long is waited for a close that does not come.
const QUIET_MAX: Duration = Duration::from_millis(500);

/// What is asked of one container.
pub(super) struct Question {
    address: SocketAddr,
    /// The service's own probe, if it has one that asks for more than a connection.
    target: Option<Target>,
    quiet: Duration,
}

/// What it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ready,
    NotYet {
        /// For people.
        why: String,
        /// It accepted and closed after so long.
        closed_after: Option<Duration>,
    },
}

impl Question {
    /// What `job` asks.
    pub(super) fn of(declared: &checked::Service, service: &Arc<Service>, job: &Job) -> Self {
        let health = declared.health.clone().filter(|health| health.probe != Probe::Tcp);
        let target = health.map(|health| Target { service: service.clone(), health });
        let quiet = match job.way {
            Way::Direct => Duration::ZERO,
            Way::Published => quiet(job.slowest_close),
        };
        Self { address: job.address, target, quiet }
    }

    /// Asks once.
    pub(super) async fn ask(&self) -> Answer {
        let Some(target) = &self.target else { return self.connect().await };
        match probe::run(target, self.address).await {
            Ok(_) => Answer::Ready,
            outcome @ Err(_) => Answer::NotYet { why: describe(target, &outcome), closed_after: None },
        }
    }

    async fn connect(&self) -> Answer {
        match self.connect_for(self.quiet).await {
            Answer::Ready if !self.quiet.is_zero() => self.connect_for((self.quiet * SURE).min(QUIET_MAX)).await,
            answer => answer,
        }
    }

    async fn connect_for(&self, quiet: Duration) -> Answer {
        let stream = match dial(self.address, CONNECT).await {
            Ok(stream) => stream,
            Err(error) => return Answer::NotYet { why: error.kind.reason().to_owned(), closed_after: None },
        };
        if quiet.is_zero() {
            return Answer::Ready;
        }
        let began = Instant::now();
        let is_open = match timeout(quiet, stream.readable()).await {
            Err(_) => true,
            Ok(Err(_)) => false,
            // A server that speaks first is one.
            Ok(Ok(())) => stream.peek() != Peeked::End,
        };
        if is_open {
            return Answer::Ready;
        }
        let why = format!("nobody listens on its port: the connection to {} was closed at once", self.address);
        Answer::NotYet { why, closed_after: Some(began.elapsed()) }
    }
}

/// How long a connection has to stay open, after one of this container's took `slowest_close` to be closed.
fn quiet(slowest_close: Duration) -> Duration {
    (slowest_close * 4).clamp(QUIET, QUIET_MAX)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn question(address: SocketAddr) -> Question {
        Question { address, target: None, quiet: QUIET }
    }

    #[tokio::test]
    async fn a_port_that_accepts_and_closes_is_not_ready_and_one_that_stays_open_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closing = tokio::spawn(async move {
            drop(listener.accept().await);
            listener
        });
        let answer = question(address).ask().await;
        assert!(matches!(&answer, Answer::NotYet { closed_after: Some(_), .. }), "{answer:?}");
        let listener = closing.await.unwrap();
        assert_eq!(question(address).ask().await, Answer::Ready);
        drop(listener);
        let answer = question(address).ask().await;
        assert_eq!(answer, Answer::NotYet { why: "connect_refused".to_owned(), closed_after: None });
    }

    #[tokio::test]
    async fn a_close_that_comes_late_once_does_not_make_it_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow_proxy = tokio::spawn(async move {
            let late = listener.accept().await;
            drop(listener.accept().await);
            drop(late);
        });
        let answer = question(address).ask().await;
        assert!(matches!(&answer, Answer::NotYet { closed_after: Some(_), .. }), "{answer:?}");
        slow_proxy.await.unwrap();
    }

    #[test]
    fn who_closes_late_is_waited_for_longer() {
        assert_eq!(quiet(Duration::ZERO), QUIET);
        assert_eq!(quiet(Duration::from_millis(40)), Duration::from_millis(160));
        assert_eq!(quiet(Duration::from_secs(3)), QUIET_MAX);
    }
}
