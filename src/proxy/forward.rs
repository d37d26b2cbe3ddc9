//! The core: one request becomes attempts at backends until one answers.
//! It promises that a backend is taken only when the request is ready for it, and given back on every way out.
//! It chooses no backend ([`balance`](crate::balance)), decides no retry ([`retry`]), writes no log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, Request, Response, request};
use hyper::body::Incoming;

use crate::config::checked::OtherBackend;
use crate::error::{FailureKind, ProxyError};
use crate::http::{leaving, patience};
use crate::lifecycle::clock;
use crate::proxy::arrived::Arrived;
use crate::proxy::attempt::Attempt;
use crate::proxy::body::ProxyBody;
use crate::proxy::delivery::{Answer, Errand, Keep, Lost, Sent, Tell, Way};
use crate::proxy::exchange::Exchange;
use crate::proxy::handler::ActiveRoute;
use crate::proxy::outbound::{self, Outbound, Upgrade};
use crate::proxy::place;
use crate::proxy::request_body::RequestBody;
use crate::proxy::retry::{self, Elsewhere, End, Ended, Exposure, Replay, Verdict};
use crate::runtime::backend::BackendId;
use crate::runtime::budget::{Reading, Reservation};
use crate::runtime::group::{Stake, Wish};
use crate::runtime::service::{Lease, Service};
use crate::runtime::standing::Reason;
use crate::telemetry::access_log::AttemptRecord;
use crate::telemetry::metrics::{Limit, Outcome, RetryCause};
use crate::units::Moment;

mod hedge;

/// Backends that the log names as passed by, per attempt.
const SKIPPED_MAX: usize = 8;

/// Forwards a request to its service and returns the head of the response; the body follows through the connection.
pub(crate) async fn run(
    exchange: &mut Exchange,
    route: &ActiveRoute,
    head: request::Parts,
    body: Incoming,
) -> Result<Response<ProxyBody>, ProxyError> {
    // Read ahead first, take a backend second: a slow client must not hold a worker of the backend.
    let outbound = outbound::prepare(exchange, route, head, body).await?;
    let (service, stake) = (&route.service, outbound.stake());
    let Outbound { mut request, upgrade, key } = outbound;
    let method = request.method().clone();
    let mut course = Course { exchange, service, method, upgrade, key, stake, trail: Trail::default() };
    loop {
        let attempt = course.begin().await?;
        let (attempt, sent) = course.send(attempt, request).await;
        request = match course.settle(attempt, sent).await {
            Settled::Ends(answer) => return answer,
            Settled::Again(same_request) => *same_request,
        };
    }
}

/// One request on its way: what holds for all of its attempts.
struct Course<'a> {
    exchange: &'a mut Exchange,
    service: &'a Arc<Service>,
    method: Method,
    upgrade: Upgrade,
    key: Option<u64>,
    stake: Stake,
    trail: Trail,
}

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

/// A retry that was granted.
struct Due {
    reservation: Reservation,
    cause: RetryCause,
    pause: Duration,
    elsewhere: Elsewhere,
}

/// Why there is an attempt, and which backends it did not go to.
#[derive(Default)]
struct Occasion {
    because: Option<&'static str>,
    pause: Duration,
    skipped: Vec<(Arc<str>, &'static str)>,
}

/// What follows an attempt.
enum Settled {
    /// Nothing: this is the answer.
    Ends(Result<Response<ProxyBody>, ProxyError>),
    /// Another one.
    Again(Box<Request<RequestBody>>),
}

/// Whether another attempt follows one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Followed {
    Yes,
    No,
}

/// Whether a retry is granted.
enum Grant {
    Retry(Due),
    /// The verdict is against it.
    No,
    /// The verdict is for it, the budget is not.
    OverBudget,
}

impl Course<'_> {
    fn is_first(&self) -> bool {
        self.exchange.attempts == 0 && self.trail.retries == 0
    }

    /// Takes a place at a backend for the next attempt.
    async fn begin(&mut self) -> Result<Attempt, ProxyError> {
        let lease = loop {
            match self.take_place().await {
                Ok(lease) => break lease,
                Err(error) => self.wait_for_backend(error).await?,
            }
        };
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

    async fn take_place(&mut self) -> Result<Lease, ProxyError> {
        let now = if self.is_first() { self.exchange.started } else { clock::now() };
        let wish = Wish { now, key: self.key, tried: &self.trail.tried, stake: self.stake };
        if let Some(lease) = place::take_now(self.service, &wish)? {
            return Ok(lease);
        }
        let began = clock::now();
        let lease = place::wait_in_line(self.service, &wish, self.exchange.deadline).await;
        *self.exchange.waits.queue.get_or_insert_default() += clock::now().since(began);
        lease
    }

    /// Nobody takes requests at the moment; somebody may in another one.
    async fn wait_for_backend(&mut self, error: ProxyError) -> Result<(), ProxyError> {
        let ended = self.ended(End::Failure(error.kind), Exposure::Unsent, Replay::Possible);
        let policy = &self.service.policy.retries;
        let Verdict::Retry { after } = retry::verdict(&ended, &self.method, policy, fastrand::u64(..)) else {
            return Err(self.give_up(error));
        };
        self.trail.retries += 1;
        tokio::time::sleep(after).await;
        Ok(())
    }

    /// No further attempt can begin: what the last one failed with is the answer.
    fn give_up(&mut self, error: ProxyError) -> ProxyError {
        if error.kind == FailureKind::Deadline {
            self.exchange.connection.worker.metrics.limit_hit(Limit::Deadline);
        }
        self.trail.failure.take().unwrap_or(error)
    }

    /// The other backend that the retry was granted for is gone, and the same one will not do.
    fn is_ruled_out(&self, lease: &Lease, due: &Due) -> bool {
        let required = self.service.policy.retries.other_backend == OtherBackend::Required;
        required && due.elsewhere == Elsewhere::Available && self.trail.tried.contains(&lease.backend.id)
    }

    /// Counted when it is sent, and not before.
    fn note_begin(&mut self, lease: &Lease, due: Option<Due>, now: Moment) {
        let exchange = &mut *self.exchange;
        match due {
            None => self.service.metrics.request_sent(),
            Some(Due { reservation, cause, pause, .. }) => {
                reservation.spend(now);
                self.service.metrics.retried(cause);
                self.trail.occasion = Occasion { because: Some(cause.word()), pause, skipped: Vec::new() };
            }
        }
        exchange.attempts += 1;
        exchange.connection.activity.enter_backend(lease.backend.id);
        exchange.upstream_status = None;
        if exchange.is_logged() {
            exchange.backend = Some(lease.backend.clone());
            if exchange.attempts > 1 || exchange.lists_all_attempts() {
                self.trail.occasion.skipped = self.service.group.passed_by(&self.trail.tried, SKIPPED_MAX);
            }
        }
    }

    async fn send(&mut self, mut attempt: Attempt, request: Request<RequestBody>) -> (Attempt, Sent) {
        if let Some(delay) = self.hedge_delay(&request) {
            return Box::pin(self.race(attempt, request, delay)).await;
        }
        if matches!(request.body(), RequestBody::Streaming(_)) {
            attempt.streams_body();
        }
        let way = if self.exchange.attempts > 1 { Way::Fresh } else { Way::Pooled };
        let sent = self.errand().run(&attempt, way, request).await;
        (attempt, sent)
    }

    fn errand(&self) -> Errand<'_> {
        Errand {
            connection: &self.exchange.connection,
            request_id: self.exchange.request_id.as_str(),
            deadline: self.exchange.deadline,
            tell: self.tell(),
            keep: self.keep(),
        }
    }

    fn tell(&self) -> Tell {
        if self.exchange.tells_deadline() { Tell::Deadline } else { Tell::Nothing }
    }

    fn keep(&self) -> Keep {
        let retries_answers = !self.service.policy.retries.when.statuses.is_empty();
        if retries_answers && self.method.is_idempotent() { Keep::Copy } else { Keep::Nothing }
    }

    /// Records how an attempt went, and prepares the next one if there is to be one.
    async fn settle(&mut self, attempt: Attempt, sent: Sent) -> Settled {
        self.exchange.waits.connect = sent.connect;
        match sent.outcome {
            Ok(answer) => self.answered(attempt, answer).await,
            Err(lost) => self.lost(attempt, lost).await,
        }
    }

    async fn answered(&mut self, mut attempt: Attempt, mut answer: Answer) -> Settled {
        let status = answer.response.status();
        let now = clock::now();
        attempt.head_arrived(status, answer.response.headers(), now);
        self.exchange.upstream_status = Some(status);
        self.exchange.waits.ttfb = Some(now.since(self.exchange.started));
        let Some(end) = self.end_of(&mut attempt, &mut answer) else {
            return self.hand_on(attempt, answer, now).await;
        };
        let exposure = if end == End::Leaving { Exposure::Unsent } else { Exposure::Sent };
        match self.ask(&attempt, end, exposure, answer.replay()) {
            Grant::Retry(due) => {
                self.list(&attempt, Outcome::of(status), now, Followed::Yes);
                attempt.complete(status, now);
                match answer.into_request(&self.errand(), now) {
                    Some(request) => self.pause(due, request).await,
                    // Its head was too long to keep: the answer is gone, and what it said is said by us.
                    None => Settled::Ends(Err(FailureKind::NoHealthyBackend.into())),
                }
            }
            Grant::OverBudget => {
                self.exchange.fail(FailureKind::RetryBudgetExhausted);
                self.hand_on(attempt, answer, now).await
            }
            Grant::No => self.hand_on(attempt, answer, now).await,
        }
    }

    /// What an answer is to the retries; `None` for nearly every one, which simply goes down.
    fn end_of(&self, attempt: &mut Attempt, answer: &mut Answer) -> Option<End> {
        let status = answer.response.status();
        if leaving::is_leaving(status, answer.response.headers()) {
            self.leave_alone(attempt);
            answer.response.headers_mut().remove(leaving::DRAIN);
            return Some(End::Leaving);
        }
        let policy = &self.service.policy.retries;
        if policy.when.statuses.is_empty() || !retry::is_wanted(End::Answer(status, None), policy) {
            return None;
        }
        Some(End::Answer(status, patience::retry_after(answer.response.headers(), SystemTime::now())))
    }

    /// The backend asked to be left alone: it takes nothing more until control says otherwise.
    #[cold]
    fn leave_alone(&self, attempt: &mut Attempt) {
        attempt.excuse();
        if attempt.backend().standing.add(Reason::Leaving) {
            self.exchange.connection.worker.store.note_change();
        }
    }

    async fn hand_on(&mut self, attempt: Attempt, answer: Answer, now: Moment) -> Settled {
        self.list(&attempt, Outcome::of(answer.response.status()), now, Followed::No);
        let arrived = Arrived { attempt, answer, now, method: &self.method, upgrade: self.upgrade };
        Settled::Ends(arrived.hand_on(self.exchange).await)
    }

    async fn lost(&mut self, attempt: Attempt, lost: Lost) -> Settled {
        let Lost { error, exposure, request } = lost;
        let replay = if request.is_some() { Replay::Possible } else { Replay::Impossible };
        let grant = self.ask(&attempt, End::Failure(error.kind), exposure, replay);
        let followed = if matches!(grant, Grant::Retry(_)) { Followed::Yes } else { Followed::No };
        self.list(&attempt, Outcome::Failure(error.kind), clock::now(), followed);
        attempt.fail(error.kind);
        match (grant, request) {
            (Grant::Retry(due), Some(request)) => {
                self.trail.failure = Some(error);
                self.pause(due, request).await
            }
            (Grant::OverBudget, _) => Settled::Ends(Err(ProxyError::new(FailureKind::RetryBudgetExhausted, error))),
            _ => Settled::Ends(Err(error)),
        }
    }

    async fn pause(&mut self, due: Due, request: Box<Request<RequestBody>>) -> Settled {
        self.exchange.connection.activity.leave_backend();
        if !due.pause.is_zero() {
            tokio::time::sleep(due.pause).await;
        }
        self.trail.due = Some(due);
        Settled::Again(request)
    }

    /// Whether there may be another attempt: the verdict first, then the budget.
    #[cold]
    fn ask(&mut self, attempt: &Attempt, end: End, exposure: Exposure, replay: Replay) -> Grant {
        self.trail.tried.push(attempt.backend().id);
        let ended = self.ended(end, exposure, replay);
        let policy = &self.service.policy.retries;
        let Verdict::Retry { after } = retry::verdict(&ended, &self.method, policy, fastrand::u64(..)) else {
            return Grant::No;
        };
        let is_free = self.trail.stale == 0 && end == End::Failure(FailureKind::StaleConnection);
        let reservation = if is_free { Some(self.service.group.budget.grant()) } else { self.reserve(clock::now()) };
        let Some(reservation) = reservation else { return Grant::OverBudget };
        match is_free {
            true => self.trail.stale += 1,
            false => self.trail.retries += 1,
        }
        let cause = match end {
            End::Failure(kind) => RetryCause::Failure(kind),
            End::Answer(..) => RetryCause::Status,
            End::Leaving => RetryCause::Leaving,
        };
        Grant::Retry(Due { reservation, cause, pause: after, elsewhere: ended.elsewhere })
    }

    fn reserve(&self, now: Moment) -> Option<Reservation> {
        let reading = Reading { now, requests: self.service.metrics.requests_sent() };
        let reservation = self.service.group.budget.reserve(reading, &self.service.policy.retries.budget);
        if reservation.is_none() {
            self.exchange.connection.worker.metrics.limit_hit(Limit::RetryBudget);
        }
        reservation
    }

    fn ended(&self, end: End, exposure: Exposure, request: Replay) -> Ended {
        let has_other = self.service.group.has_other(&self.trail.tried);
        Ended {
            end,
            exposure,
            request,
            elsewhere: if has_other { Elsewhere::Available } else { Elsewhere::Nowhere },
            retries: self.trail.retries,
            stale: self.trail.stale,
            left: self.exchange.deadline.since(clock::now()),
        }
    }

    /// Notes an attempt for the log, if somebody wants to read of it: always where there is more than one.
    fn list(&mut self, attempt: &Attempt, outcome: Outcome, now: Moment, followed: Followed) {
        let exchange = &mut *self.exchange;
        let is_alone = followed == Followed::No && exchange.attempt_list.is_empty() && !exchange.lists_all_attempts();
        if !exchange.is_logged() || is_alone {
            return;
        }
        let Occasion { because, pause, skipped } = std::mem::take(&mut self.trail.occasion);
        exchange.attempt_list.push(AttemptRecord {
            backend: attempt.backend().name.clone(),
            because,
            pause,
            connect: exchange.waits.connect,
            duration: now.since(attempt.began),
            status: exchange.upstream_status.map(|status| status.as_u16()),
            outcome,
            skipped,
        });
    }
}
