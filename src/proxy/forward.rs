//! The core: one request becomes attempts at backends until one answers.
//! It promises that a backend is taken only when the request is ready for it, and given back on every way out.
//! It chooses no backend ([`balance`](crate::balance)), decides no retry ([`retry`](crate::proxy::retry)), writes no log.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;

use crate::error::{FailureKind, ProxyError};
use crate::lifecycle::clock;
use crate::proxy::arrived::{Arrived, Undelivered};
use crate::proxy::attempt::Attempt;
use crate::proxy::body::ProxyBody;
use crate::proxy::delivery::{Answer, Errand, Sent, Tell, Way};
use crate::proxy::exchange::Exchange;
use crate::proxy::handler::ActiveRoute;
use crate::proxy::outbound::{self, Outbound, Upgrade};
use crate::proxy::place;
use crate::proxy::request_body::RequestBody;
use crate::proxy::retry::{End, Exposure, Replay};
use crate::proxy::upstream::Lost;
use crate::runtime::backend::BackendId;
use crate::runtime::group::{Stake, Wish};
use crate::runtime::service::{Lease, Service};
use crate::telemetry::metrics::{Limit, Outcome};
use crate::units::Moment;

mod further;
mod hedge;
mod listing;
mod standing_by;

use further::{Due, Grant};
use listing::{Followed, Occasion};

/// Forwards a request to its service and returns the head of the response; the body follows through the connection.
pub(crate) async fn run(
    exchange: &mut Exchange,
    route: &ActiveRoute,
    head: request::Parts,
    body: Incoming,
) -> Result<Response<ProxyBody>, ProxyError> {
    // Read ahead first, take a backend second: a slow client must not hold a worker of the backend.
    let outbound = outbound::prepare(exchange, route, head, body).await?;
    let (service, stake) = (Cow::Borrowed(&route.service), outbound.stake());
    let Outbound { mut request, upgrade, key } = outbound;
    let method = request.method().clone();
    let mut course = Course { exchange, service, method, upgrade, key, stake, trail: Trail::default() };
    let mut attempt = course.begin(&request).await?;
    loop {
        let sent = course.send(&mut attempt, &mut request).await;
        attempt = match course.settle(attempt, sent, request.body().replay()) {
            Settled::Ends(answer) => return answer,
            Settled::Switches(arrived) => return arrived.switch(course.exchange),
            Settled::Again(due) => {
                course.pause(due).await;
                course.begin(&request).await?
            }
            Settled::Held => Box::pin(course.begin_held(&request)).await?,
        }
    }
}

/// One request on its way: what holds for all of its attempts.
struct Course<'a> {
    exchange: &'a mut Exchange,
    /// Of its route; of a newer configuration once it was held.
    service: Cow<'a, Arc<Service>>,
    method: Method,
    upgrade: Upgrade,
    key: Option<u64>,
    stake: Stake,
    trail: Trail,
}

/// Why there is an attempt after one that found nobody at its backend.
const HELD: &str = "held";

/// What a request has met so far.
#[derive(Default)]
struct Trail {
    /// Backends that have failed it.
    tried: Vec<BackendId>,
    /// Attempts so far that followed a failure, without those that followed a stale connection.
    retries: u32,
    stale: u32,
    /// The retry that is about to begin.
    due: Option<Due>,
    /// What the last attempt failed with: the answer, if there will be no other.
    failure: Option<ProxyError>,
    /// What the log will say about the present attempt.
    occasion: Occasion,
}

/// What follows an attempt.
enum Settled {
    /// Nothing: this is the answer.
    Ends(Result<Response<ProxyBody>, ProxyError>),
    /// Nothing either: the connection becomes something else.
    Switches(Box<Arrived>),
    /// Another one.
    Again(Due),
    /// Another one, as soon as somebody listens.
    Held,
}

impl Course<'_> {
    fn is_first(&self) -> bool {
        self.exchange.attempts == 0 && self.trail.retries == 0
    }

    /// Takes a place at a backend for the next attempt.
    async fn begin(&mut self, request: &Request<RequestBody>) -> Result<Attempt, ProxyError> {
        let lease = loop {
            match self.take_place(request).await {
                Ok(lease) => break lease,
                Err(error) => self.wait_for_backend(error).await?,
            }
        };
        self.begin_at(lease)
    }

    fn begin_at(&mut self, lease: Lease) -> Result<Attempt, ProxyError> {
        // Without a wait since the head, now is still then: reading the clock costs as much as choosing the backend.
        let waited = self.exchange.has_waited() || !self.is_first();
        let began = if waited { clock::now() } else { self.exchange.started };
        if began >= self.exchange.deadline {
            return Err(self.give_up(FailureKind::Deadline.into()));
        }
        let due = self.trail.due.take();
        if due.as_ref().is_some_and(|due| self.is_ruled_out(&lease, due)) {
            return Err(self.give_up(FailureKind::NoHealthyBackend.into()));
        }
        self.note_begin(&lease, due, began);
        Ok(Attempt::begin(lease, began))
    }

    async fn take_place(&mut self, request: &Request<RequestBody>) -> Result<Lease, ProxyError> {
        let now = if self.is_first() { self.exchange.started } else { clock::now() };
        let wish = Wish { now, key: self.key, tried: &self.trail.tried, stake: self.stake };
        match place::take_now(&self.service, &wish) {
            Ok(lease) => Ok(lease),
            Err(because) => Box::pin(self.stand_in_line(because, request)).await, // boxed: few wait, all would carry it
        }
    }

    /// No further attempt can begin: what the last one failed with is the answer.
    fn give_up(&mut self, error: ProxyError) -> ProxyError {
        if error.kind == FailureKind::Deadline && self.exchange.attempts == 0 {
            self.exchange.connection.worker.metrics.limit_hit(Limit::Deadline);
        }
        match error.kind {
            // What the request waits for tells more than what it met before.
            FailureKind::Starting
            | FailureKind::ColdStartFailed
            | FailureKind::ColdStartTimeout
            | FailureKind::ServiceRemoved
            | FailureKind::HoldFull => error,
            _ => self.trail.failure.take().unwrap_or(error),
        }
    }

    /// Counted when it is sent, and not before.
    fn note_begin(&mut self, lease: &Lease, due: Option<Due>, now: Moment) {
        let exchange = &mut *self.exchange;
        match due {
            None if exchange.attempts == 0 => self.service.metrics.request_sent(),
            None => self.trail.occasion = Occasion::of(HELD, Duration::ZERO),
            Some(Due { reservation, cause, pause, .. }) => {
                reservation.spend(now);
                self.service.metrics.retried(cause);
                self.trail.occasion = Occasion::of(cause.word(), pause);
            }
        }
        exchange.attempts += 1;
        exchange.connection.activity.enter_backend(lease.backend.id);
        exchange.upstream_status = None;
        if exchange.is_logged() {
            exchange.backend = Some(lease.backend.clone());
            if exchange.attempts > 1 || exchange.lists_all_attempts() {
                self.trail.occasion.pass_by(&self.service, &self.trail.tried);
            }
        }
    }

    /// Sends `request` as `attempt`. Both are lent: what is moved through nested futures is copied each time.
    async fn send(&mut self, attempt: &mut Attempt, request: &mut Request<RequestBody>) -> Sent {
        if let Some(delay) = self.hedge_delay(request) {
            return Box::pin(self.race(attempt, request, delay)).await;
        }
        if matches!(request.body(), RequestBody::Streaming(_)) {
            attempt.streams_body();
        }
        let way = if self.exchange.attempts > 1 { Way::Fresh } else { Way::Pooled };
        self.errand().run(attempt, way, request).await
    }

    fn errand(&self) -> Errand<'_> {
        let Exchange { connection, deadline, .. } = &*self.exchange;
        Errand { connection, deadline: *deadline, tell: self.tell(), signature: self.exchange.signature() }
    }

    fn tell(&self) -> Tell {
        if self.exchange.tells_deadline() { Tell::Deadline } else { Tell::Nothing }
    }

    /// Records how an attempt went, and says what follows. `replay` tells whether the request is all there still.
    fn settle(&mut self, attempt: Attempt, sent: Sent, replay: Replay) -> Settled {
        self.exchange.waits.connect = sent.connect;
        match sent.outcome {
            Ok(answer) => self.answered(attempt, answer, replay),
            Err(lost) => self.lost(attempt, lost, replay),
        }
    }

    fn answered(&mut self, mut attempt: Attempt, mut answer: Answer, replay: Replay) -> Settled {
        let (status, now) = (answer.response.status(), answer.at);
        attempt.head_arrived(status, answer.response.headers(), now);
        self.exchange.upstream_status = Some(status);
        self.exchange.waits.ttfb = Some(now.since(self.exchange.started));
        let Some(end) = self.end_of(&mut attempt, &mut answer) else {
            return self.hand_on(attempt, answer, replay);
        };
        let exposure = if end == End::Leaving { Exposure::Unsent } else { Exposure::Sent };
        match self.ask(&attempt, end, exposure, replay) {
            Grant::Retry(due) => {
                self.list(&attempt, Outcome::of(status), now, Followed::Yes);
                attempt.complete(status, now);
                answer.discard(&self.exchange.connection, now);
                Settled::Again(due)
            }
            Grant::OverBudget => {
                self.exchange.fail(FailureKind::RetryBudgetExhausted);
                self.hand_on(attempt, answer, replay)
            }
            Grant::No => self.hand_on(attempt, answer, replay),
        }
    }

    fn hand_on(&mut self, attempt: Attempt, answer: Answer, replay: Replay) -> Settled {
        let (status, now) = (answer.response.status(), answer.at);
        self.list(&attempt, Outcome::of(status), now, Followed::No);
        let arrived = Arrived { attempt, answer, upgrade: self.upgrade };
        match status {
            StatusCode::SWITCHING_PROTOCOLS => Settled::Switches(Box::new(arrived)),
            _ => match arrived.hand_on(self.exchange, &self.method) {
                Ok(response) => Settled::Ends(Ok(response)),
                Err(Undelivered::Unfit(error)) => Settled::Ends(Err(error)),
                Err(Undelivered::Broken(broken)) => {
                    let (attempt, error) = *broken;
                    self.unlist(&attempt);
                    self.lost(attempt, Lost { error, exposure: Exposure::Sent }, replay)
                }
            },
        }
    }

    #[cold]
    fn lost(&mut self, attempt: Attempt, lost: Lost, replay: Replay) -> Settled {
        let Lost { error, exposure } = lost;
        let is_held = replay == Replay::Possible && self.is_held_for(error.kind, exposure);
        let grant = match is_held && self.is_the_only(&attempt) {
            true => Grant::No, // a second refusal by the same one would tell nothing new
            false => self.ask(&attempt, End::Failure(error.kind), exposure, replay),
        };
        let followed = if is_held || matches!(grant, Grant::Retry(_)) { Followed::Yes } else { Followed::No };
        self.list(&attempt, Outcome::Failure(error.kind), clock::now(), followed);
        attempt.fail(error.kind);
        match grant {
            Grant::Retry(due) => {
                self.trail.failure = Some(error);
                Settled::Again(due)
            }
            _ if is_held => {
                self.trail.failure = Some(error);
                Settled::Held
            }
            Grant::OverBudget => Settled::Ends(Err(ProxyError::new(FailureKind::RetryBudgetExhausted, error))),
            Grant::No => Settled::Ends(Err(error)),
        }
    }

    /// Waits until the next attempt may begin.
    async fn pause(&mut self, due: Due) {
        self.exchange.connection.activity.leave_backend();
        if !due.pause.is_zero() {
            tokio::time::sleep(due.pause).await;
        }
        self.trail.due = Some(due);
    }
}
