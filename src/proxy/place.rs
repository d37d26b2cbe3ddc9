//! A place at a backend: taken at once, or waited for in line, because every backend is at its limit or because there is
//! none yet and one is being started.
//! It promises that nobody overtakes the line, that waiting ends with the patience of the queue or of the hold, or with the
//! request's deadline, whichever is earlier, and that whoever was held goes on with the backends and under the
//! configuration of that moment. It chooses no backend and sends nothing.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout_at};

use crate::error::{FailureKind, ProxyError};
use crate::lifecycle::clock;
use crate::net::dial::dial;
use crate::runtime::backend::BackendId;
use crate::runtime::group::{Group, Unavailable, Wish};
use crate::runtime::queue::{First, Waiter};
use crate::runtime::scale::Held;
use crate::runtime::service::{Lease, Service};
use crate::units::Moment;

/// The first of those who are held looks so often even if nobody wakes it: for a word of a person or of a reload.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Between two rounds of knocking at backends that refused: a start is noticed well within the 100 ms that people take
/// for at once, and a refusal costs a few packets.
const KNOCK_EVERY: Duration = Duration::from_millis(50);

/// Takes a place without waiting. A line counts as full: nobody overtakes it.
#[inline]
pub(crate) fn take_now(service: &Arc<Service>, wish: &Wish<'_>) -> Result<Lease, Unavailable> {
    if !service.group.queue.is_empty() {
        return Err(Unavailable::Full);
    }
    service.acquire(wish)
}

/// What a request waits for, and until when.
pub(crate) struct Wait {
    /// Why there is no place. A backend that refuses the connection is as good as none.
    pub(crate) because: Unavailable,
    /// Of the whole request.
    pub(crate) deadline: Moment,
}

/// How a wait in line ended.
pub(crate) struct Turn {
    /// The place; its service is the newest one if the request was held.
    pub(crate) lease: Result<Lease, ProxyError>,
    /// How long it waited for a first replica, if it did.
    pub(crate) held: Option<Duration>,
}

/// Waits in line for a place.
pub(crate) async fn wait_in_line(service: &Arc<Service>, wish: &Wish<'_>, wait: Wait) -> Turn {
    let group = service.group.clone();
    let mut stay = Stay {
        service: service.clone(),
        group: &group,
        began: clock::now(),
        deadline: wait.deadline,
        held: None,
        refused: wish.tried.to_vec(),
    };
    let lease = stay.run(wish, wait.because).await;
    if let (Ok(lease), Some(_)) = (&lease, &stay.held) {
        lease.service.note_ready(clock::now());
    }
    let held = stay.held.map(|hold| clock::now().since(hold.since));
    Turn { lease, held }
}

/// Whether a replica of `service`, which has none, is not to be expected: nobody shall wait for it.
pub(crate) fn expect_replica(service: &Service, now: Moment) -> Result<(), ProxyError> {
    let Some(hold) = service.policy.hold else { return Err(FailureKind::NoHealthyBackend.into()) };
    let state = service.group.scale.state();
    if state.pinned == Some(0) {
        return Err(FailureKind::NoHealthyBackend.into());
    }
    // An old failure is no news: what was wrong may be mended by now, and only another try can tell.
    let is_recent = |at: Moment| now.since(at) < hold.timeout;
    match &state.failure {
        Some(failure) if failure.is_hopeless() && is_recent(failure.at) => {
            Err(ProxyError::new(FailureKind::ColdStartFailed, failure.words.to_string()))
        }
        _ => Ok(()),
    }
}

/// One request's stay in the line.
struct Stay<'a> {
    /// Under which it goes on.
    service: Arc<Service>,
    group: &'a Group,
    began: Moment,
    deadline: Moment,
    /// It waits for a first replica, not only for a free one.
    held: Option<Hold<'a>>,
    /// Who refused in the present round of knocking.
    refused: Vec<BackendId>,
}

struct Hold<'a> {
    since: Moment,
    /// Counts it, and keeps the bell ringing.
    _guard: Held<'a>,
}

impl<'a> Stay<'a> {
    async fn run(&mut self, wish: &Wish<'_>, because: Unavailable) -> Result<Lease, ProxyError> {
        let Some(waiter) = self.enter(because)? else { return self.take_what_is_left(wish) };
        let first = self.reach_the_head(&waiter).await?;
        loop {
            if self.held.is_some() {
                self.service = self.group.newest().ok_or(FailureKind::ServiceRemoved)?;
            }
            let wish = Wish { now: clock::now(), tried: &self.refused, ..*wish };
            match self.service.acquire(&wish) {
                Ok(lease) => match self.knock(lease).await? {
                    Some(lease) => return Ok(lease),
                    None => continue,
                },
                Err(Unavailable::Empty) => self.be_held(Unavailable::Empty)?,
                Err(Unavailable::Full) => {}
            }
            self.look_later(&first).await?;
        }
    }

    /// Its place in the line; `None` if that is full.
    fn enter(&mut self, because: Unavailable) -> Result<Option<Waiter<'a>>, ProxyError> {
        let scale = &self.group.scale;
        // Declared backends are there even if nothing runs, and full as soon as the first requests try them.
        let is_at_zero = || self.service.policy.hold.is_some() && scale.is_at_zero();
        if because == Unavailable::Empty || is_at_zero() {
            self.be_held(Unavailable::Empty)?;
        } else if self.service.policy.hold.is_some() && scale.is_backlogged(self.began) {
            self.be_held(Unavailable::Full)?;
        }
        let size = match &self.held {
            Some(_) => u32::MAX, // the hold has its own limit
            None => self.service.policy.queue.size.saturating_add(scale.n_held()),
        };
        Ok(self.group.queue.enter(size))
    }

    /// Nobody has room, and the line is full. Where most backends are thought to be ill, those left may be too few because
    /// the checks are wrong: asking one costs less than refusing.
    fn take_what_is_left(&self, wish: &Wish<'_>) -> Result<Lease, ProxyError> {
        self.service.acquire_in_need(wish).ok_or_else(|| {
            self.service.metrics.queue_was_full();
            FailureKind::QueueFull.into()
        })
    }

    async fn reach_the_head(&mut self, waiter: &Waiter<'a>) -> Result<First<'a>, ProxyError> {
        let mut turn = pin!(waiter.first());
        loop {
            match timeout_at(clock::instant_at(self.until()), &mut turn).await {
                Ok(first) => return Ok(first),
                Err(_) => self.run_out()?,
            }
        }
    }

    /// Waits until a place was freed, or somebody has news.
    async fn look_later(&mut self, first: &First<'a>) -> Result<(), ProxyError> {
        let until = self.until();
        let look = if self.held.is_some() { clock::now().after(LOOK_AGAIN).min(until) } else { until };
        let woken = timeout_at(clock::instant_at(look), first.freed()).await;
        if woken.is_err() && look == until { self.run_out() } else { Ok(()) }
    }

    /// Waits for a replica from now on, if there is one to be expected.
    fn be_held(&mut self, because: Unavailable) -> Result<(), ProxyError> {
        let now = clock::now();
        if self.held.is_none() {
            let hold = self.service.policy.hold.ok_or(FailureKind::NoHealthyBackend)?;
            let guard = self.group.scale.hold(hold.max).ok_or(FailureKind::HoldFull)?;
            self.held = Some(Hold { since: now, _guard: guard });
            if because == Unavailable::Empty {
                self.group.scale.found_cold(now, now.after(hold.timeout));
            }
        }
        if because == Unavailable::Empty { expect_replica(&self.service, now) } else { Ok(()) }
    }

    /// Makes sure that somebody listens at a backend that refused lately, without risking the request: nothing is lost if
    /// nobody does. `None` if so, after a pause.
    async fn knock(&mut self, lease: Lease) -> Result<Option<Lease>, ProxyError> {
        let backend = &lease.backend;
        if self.held.is_none() || backend.conduct.failures_in_a_row() == 0 {
            return Ok(Some(lease));
        }
        let until = self.until();
        let (id, timeout) = (backend.id, self.service.policy.timeouts.connect.min(until.since(clock::now())));
        if dial(backend.address, timeout).await.is_ok() {
            return Ok(Some(lease));
        }
        drop(lease);
        let now = clock::now();
        expect_replica(&self.service, now)?;
        if self.refused.contains(&id) {
            self.refused.clear();
            sleep(KNOCK_EVERY.min(until.since(now))).await;
        }
        self.refused.push(id);
        if clock::now() >= until {
            self.run_out()?;
        }
        Ok(None)
    }

    /// When its patience ends.
    fn until(&self) -> Moment {
        let policy = &self.service.policy;
        let patience = match (&self.held, policy.hold) {
            (Some(held), Some(hold)) => held.since.after(hold.timeout),
            _ => self.began.after(policy.queue.timeout),
        };
        patience.min(self.deadline)
    }

    /// Its patience has ended: what it is told, unless it has a reason for more.
    fn run_out(&mut self) -> Result<(), ProxyError> {
        let now = clock::now();
        let scale = &self.group.scale;
        if self.held.is_none() {
            // The last replica may have gone while it stood in line.
            return match () {
                _ if now >= self.deadline => Err(FailureKind::Deadline.into()),
                _ if self.service.policy.hold.is_some() && scale.is_backlogged(now) => self.be_held(Unavailable::Full),
                _ => {
                    self.service.metrics.queue_timed_out();
                    Err(FailureKind::QueueTimeout.into())
                }
            };
        }
        let (is_cold, failure) = {
            let state = scale.state();
            (state.cold_since.is_some(), state.failure.clone())
        };
        let since = self.held.as_ref().map(|held| held.since);
        match failure.filter(|failure| is_cold && Some(failure.at) >= since) {
            Some(failure) => Err(ProxyError::new(FailureKind::ColdStartFailed, failure.words.to_string())),
            // The deadline of the whole request says less than what used it up.
            None if is_cold => Err(FailureKind::ColdStartTimeout.into()),
            None if now >= self.deadline => Err(FailureKind::Deadline.into()),
            None => {
                self.service.metrics.queue_timed_out();
                Err(FailureKind::QueueTimeout.into())
            }
        }
    }
}

#[cfg(test)]
mod tests;
