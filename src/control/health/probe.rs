//! One probe of one backend, from the connection it opens to what it found.
//! Promises an end within `timeout`, a connection of its own that no request shares, and bounded memory whatever comes
//! back. It judges one answer; what a row of them means is [`verdict`](super::verdict)'s business.

mod grpc;
mod http;

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use ::http::StatusCode;
use tokio::time::{Instant, timeout_at};

use super::target::Target;
use crate::config::checked::Probe;
use crate::config::quantity::spell_duration;
use crate::error::{FailureKind, ProxyError};
use crate::net::dial::dial;
use crate::telemetry::metrics::ProbeResult;

/// Says to the backend's log who asks.
const USER_AGENT: &str = concat!("portway-health/", env!("CARGO_PKG_VERSION"));

/// What made a probe pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// An expected status.
    Status(StatusCode),
    /// A connection.
    Connected,
    /// `SERVING`.
    Serving,
}

/// Why a probe did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Miss {
    /// Another status than expected.
    #[error("{}", .0.as_u16())]
    Status(StatusCode),
    /// It says that it leaves: see [`leaving`](crate::http::leaving).
    #[error("503 with x-portway-drain")]
    Leaving,
    /// Another answer than `SERVING`.
    #[error("{}", grpc::serving_word(*.0))]
    NotServing(u64),
    /// A status of gRPC itself other than `OK`.
    #[error("grpc-status {}", grpc::status_word(*.0))]
    Grpc(u32),
    /// The connection could not be opened.
    #[error("{0}")]
    Connect(io::ErrorKind),
    /// Nothing, or not all of it, in time.
    #[error("timeout after {}", spell_duration(*.0))]
    Timeout(Duration),
    /// The connection ended before an answer.
    #[error("connection closed before an answer")]
    Closed,
    /// An answer that is none.
    #[error("not an answer of this protocol")]
    Protocol,
    /// We have no descriptor or port for it, which says nothing about the backend.
    #[error("not asked: Portway is out of descriptors or ports")]
    Ours,
}

/// What a probe found.
pub type Outcome = Result<Pass, Miss>;

/// The word of the `result` label.
pub fn result_word(outcome: &Outcome) -> ProbeResult {
    match outcome {
        Ok(_) => ProbeResult::Passed,
        Err(Miss::Status(_) | Miss::Leaving | Miss::NotServing(_) | Miss::Grpc(_)) => ProbeResult::WrongAnswer,
        Err(Miss::Connect(_)) => ProbeResult::Refused,
        Err(Miss::Timeout(_)) => ProbeResult::Timeout,
        Err(Miss::Closed | Miss::Protocol) => ProbeResult::Broken,
        Err(Miss::Ours) => ProbeResult::Skipped,
    }
}

/// For people: `GET /healthz: 500`, `connection refused`, `timeout after 1s`.
pub fn describe(target: &Target, outcome: &Outcome) -> String {
    match outcome {
        Ok(Pass::Status(status)) => format!("{target}: {}", status.as_u16()),
        Ok(Pass::Connected) => format!("{target}: connected"),
        Ok(Pass::Serving) => format!("{target}: SERVING"),
        Err(miss @ (Miss::Connect(_) | Miss::Timeout(_) | Miss::Ours)) => miss.to_string(),
        Err(miss) => format!("{target}: {miss}"),
    }
}

/// Asks the backend at `address` once.
pub async fn run(target: &Target, address: SocketAddr) -> Outcome {
    let limit = target.health.timeout;
    let deadline = Instant::now() + limit;
    let stream = dial(address, limit).await.map_err(|error| unopened(&error, limit))?;
    match &target.health.probe {
        Probe::Http(path) => http::ask(stream, target, http::request(target, address, path)?, deadline).await,
        Probe::Tcp => Ok(Pass::Connected),
        Probe::Grpc(name) => {
            let asked = grpc::ask(stream, grpc::request(target, address)?, name);
            timeout_at(deadline, asked).await.unwrap_or(Err(Miss::Timeout(limit)))
        }
    }
}

fn unopened(error: &ProxyError, limit: Duration) -> Miss {
    match error.kind {
        FailureKind::Overloaded => Miss::Ours,
        FailureKind::ConnectTimeout => Miss::Timeout(limit),
        _ => {
            let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
            Miss::Connect(cause.map_or(io::ErrorKind::ConnectionRefused, io::Error::kind))
        }
    }
}

/// Runs `work` to its end, and lets `connection` move beside it: it is what `work` waits for.
async fn beside<T>(connection: impl Future, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        value = &mut work => value,
        _ = connection => work.await,
    }
}

#[cfg(test)]
mod tests;
