//! A place at a backend: taken at once, or waited for in line if every backend is at its limit.
//! It promises that nobody overtakes the line, and that waiting ends with the queue's timeout or the request's deadline,
//! whichever is earlier. It chooses no backend and sends nothing.

use std::sync::Arc;

use tokio::time::Instant;

use crate::error::{FailureKind, ProxyError};
use crate::lifecycle::clock;
use crate::runtime::group::{Unavailable, Wish};
use crate::runtime::service::{Lease, Service};
use crate::units::Moment;

/// Takes a place without waiting; `None` if there is none at the moment.
pub(crate) fn take_now(service: &Arc<Service>, wish: &Wish<'_>) -> Result<Option<Lease>, ProxyError> {
    if !service.group.queue.is_empty() {
        return Ok(None);
    }
    match service.acquire(wish) {
        Ok(lease) => Ok(Some(lease)),
        Err(Unavailable::Full) => Ok(None),
        Err(Unavailable::Empty) => Err(FailureKind::NoHealthyBackend.into()),
    }
}

/// Waits in line for a place.
pub(crate) async fn wait_in_line(
    service: &Arc<Service>,
    wish: &Wish<'_>,
    deadline: Moment,
) -> Result<Lease, ProxyError> {
    let Some(waiter) = service.group.queue.enter(service.policy.queue.size) else {
        service.metrics.queue_was_full();
        return Err(FailureKind::QueueFull.into());
    };
    let turn = async {
        let first = waiter.first().await;
        loop {
            match service.acquire(wish) {
                Ok(lease) => return Ok(lease),
                Err(Unavailable::Empty) => return Err(FailureKind::NoHealthyBackend.into()),
                Err(Unavailable::Full) => first.freed().await,
            }
        }
    };
    let deadline = clock::instant_at(deadline);
    let patience = Instant::now() + service.policy.queue.timeout;
    match tokio::time::timeout_at(patience.min(deadline), turn).await {
        Ok(lease) => lease,
        Err(_) if deadline <= patience => Err(FailureKind::Deadline.into()),
        Err(_) => {
            service.metrics.queue_timed_out();
            Err(FailureKind::QueueTimeout.into())
        }
    }
}
