//! One try of one request at one backend, from the place it takes to the outcome it leaves.
//! It promises exactly one outcome per attempt, recorded when it is dropped. It sends nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};

use crate::balance::peak_ewma;
use crate::error::FailureKind;
use crate::http::patience;
use crate::lifecycle::clock;
use crate::runtime::backend::Backend;
use crate::runtime::conduct::{Grade, Trial};
use crate::runtime::service::{Lease, Service};
use crate::telemetry::metrics::Outcome;
use crate::units::Moment;

/// An attempt in progress: the place at its backend, and what is known of its outcome.
pub(crate) struct Attempt {
    lease: Lease,
    pub(crate) began: Moment,
    outcome: Outcome,
    /// What its end says; until then, what it says if its client goes away.
    grade: Grade,
    /// What the head says, if the rest follows.
    answer: Grade,
    awaits: Awaits,
    /// When, if that is known before it is dropped.
    ended: Option<Moment>,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    /// The backend's: it has the request.
    Head,
    /// Perhaps the client's: its body is still on its way.
    RequestBody,
    /// The head has come.
    Nothing,
}

impl Attempt {
    /// Begins at `now`. If nothing else is said, the client went away.
    pub(crate) fn begin(lease: Lease, now: Moment) -> Self {
        let outcome = Outcome::Failure(FailureKind::ClientClosed);
        let (grade, answer) = (Grade::Neutral, Grade::Neutral);
        Self { lease, began: now, outcome, grade, answer, awaits: Awaits::Head, ended: None }
    }

    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.lease.backend
    }

    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.lease.service
    }

    /// The backend waits for the client's body, so that the time it takes is not its own.
    pub(crate) fn streams_body(&mut self) {
        self.awaits = Awaits::RequestBody;
    }

    /// The response head is here.
    pub(crate) fn head_arrived(&mut self, status: StatusCode, headers: &HeaderMap, now: Moment) {
        self.awaits = Awaits::Nothing;
        self.answer = Grade::of_status(status);
        let backend = &self.lease.backend;
        match self.answer {
            Grade::Good | Grade::Neutral => backend.latency.observe(now.since(self.began), now),
            Grade::Throttled | Grade::Bad => penalize(backend, status, headers, now),
        }
        if self.lease.on_trial && self.answer == Grade::Good {
            self.end_trial(Trial::Passed);
        }
    }

    /// The answer is no failure, whatever its status: the backend says that it leaves.
    pub(crate) fn excuse(&mut self) {
        self.answer = Grade::Neutral;
    }

    /// The response is complete.
    pub(crate) fn complete(mut self, status: StatusCode, now: Moment) {
        self.outcome = Outcome::of(status);
        self.grade = self.answer;
        self.ended = Some(now);
    }

    /// Another attempt of the same request answered first.
    pub(crate) fn supersede(mut self, now: Moment) {
        self.outcome = Outcome::Superseded;
        self.ended = Some(now);
    }

    /// The attempt failed.
    pub(crate) fn fail(mut self, kind: FailureKind) {
        self.outcome = Outcome::Failure(kind);
        self.grade = Grade::of_failure(kind);
    }

    /// It ends without a response head: what that says of the backend, which may be more than its kind does.
    #[cold]
    fn end_without_head(&mut self, duration: Duration, now: Moment) {
        let timeout = self.service().policy.timeout;
        if self.outcome == Outcome::Failure(FailureKind::Deadline)
            && self.awaits == Awaits::Head
            && duration >= timeout / 2
        {
            // The deadline is the service's, but this backend used most of it.
            self.grade = Grade::Bad;
        }
        match self.grade {
            Grade::Bad => self.lease.backend.latency.penalize(peak_ewma::penalty(None).max(duration), now),
            _ => self.lease.backend.latency.observe_at_least(duration, now),
        }
    }

    /// The place stays taken until the verdict is in effect, so that no second request is on trial meanwhile.
    #[cold]
    fn end_trial(&mut self, trial: Trial) {
        self.lease.on_trial = false;
        self.lease.backend.trial_ended(trial);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let now = self.ended.unwrap_or_else(clock::now);
        let duration = now.since(self.began);
        self.lease.backend.metrics.attempt_ended(self.outcome, duration);
        if self.awaits != Awaits::Nothing {
            self.end_without_head(duration, now);
        }
        if self.lease.on_trial && matches!(self.grade, Grade::Bad | Grade::Throttled) {
            self.end_trial(Trial::Failed);
        }
        self.lease.backend.attempt_ended(self.grade, self.began, self.service().policy.ejection.as_ref());
    }
}

/// A failure costs more than a slow answer, but one alone may be the bug of one page: only a backend that asks to be spared,
/// or that failed before, is avoided for it. Were each error to count, one in a hundred on each of two backends would
/// send everything to whichever failed less lately.
#[cold]
fn penalize(backend: &Backend, status: StatusCode, headers: &HeaderMap, now: Moment) {
    let asks = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if asks || backend.conduct.failures_in_a_row() > 0 {
        let asked = patience::retry_after(headers, SystemTime::now());
        backend.latency.penalize(peak_ewma::penalty(asked), now);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use http::HeaderValue;
    use http::header::RETRY_AFTER;

    use super::*;
    use crate::config::checked::Ejection;
    use crate::config::expand::ProcessEnvironment;
    use crate::config::load;
    use crate::runtime::group::{Stake, Wish};
    use crate::runtime::registry::Registry;
    use crate::runtime::snapshot::{Build, Snapshot};
    use crate::telemetry::metrics::Metrics;

    fn service() -> Arc<Service> {
        let yaml = "services: { web: { backends: [\"127.0.0.1:1\"], timeout: 10s } }";
        let mut config = load::parse(yaml, "test.yaml", &ProcessEnvironment).expect("a valid file").config;
        config.services[0].ejection = Some(Ejection { consecutive: NonZeroU32::new(2), ..Ejection::default() });
        let metrics = Metrics::new();
        let registry = Registry::new(metrics.clone());
        let build =
            Build::<()> { generation: 1, registry: &registry, metrics: &metrics, stack: &|_| None, previous: None };
        Snapshot::build(config, &build).services[0].clone()
    }

    /// An attempt that began so long ago.
    fn attempt(service: &Arc<Service>, age: Duration) -> Attempt {
        let wish = Wish { now: clock::now(), key: None, tried: &[], stake: Stake::Repeatable };
        let lease = service.acquire(&wish).expect("the backend takes everything");
        Attempt::begin(lease, Moment(clock::now().0.saturating_sub(age.as_nanos() as u64)))
    }

    fn backend(service: &Service) -> Arc<Backend> {
        service.members().members[0].backend.clone()
    }

    fn failures_in_a_row(service: &Service) -> u32 {
        backend(service).conduct.failures_in_a_row()
    }

    fn answer(service: &Arc<Service>, status: StatusCode, headers: &HeaderMap) {
        let mut attempt = attempt(service, Duration::ZERO);
        attempt.head_arrived(status, headers, clock::now());
        attempt.complete(status, clock::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_the_fault_of_a_backend_that_used_most_of_it() {
        tokio::time::advance(Duration::from_secs(60)).await;
        for (age, streams, expected) in [(9, false, 1), (1, false, 0), (9, true, 0)] {
            let service = service();
            let mut attempt = attempt(&service, Duration::from_secs(age));
            if streams {
                attempt.streams_body();
            }
            attempt.fail(FailureKind::Deadline);
            assert_eq!(failures_in_a_row(&service), expected, "{age} s of 10 s, streaming: {streams}");
        }
        let service = service();
        let mut attempt = attempt(&service, Duration::from_secs(9));
        attempt.head_arrived(StatusCode::OK, &HeaderMap::new(), clock::now());
        attempt.fail(FailureKind::Deadline);
        assert_eq!(failures_in_a_row(&service), 0, "its body may be long, and its client slow");
    }

    #[tokio::test(start_paused = true)]
    async fn one_error_alone_is_no_reason_to_avoid_a_backend_and_the_next_is() {
        let service = service();
        let latency = || backend(&service).latency.value(clock::now());
        answer(&service, StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new());
        assert_eq!(latency(), None, "nor is it a fast answer");
        answer(&service, StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new());
        assert!(latency() >= Some(Duration::from_secs(4)), "{:?}", latency());
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_asks_to_be_spared_is() {
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
            let service = service();
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("60"));
            answer(&service, status, &headers);
            assert!(backend(&service).latency.value(clock::now()) >= Some(Duration::from_secs(59)));
            let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(120));
            headers.insert(RETRY_AFTER, HeaderValue::from_str(&date).unwrap());
            answer(&service, status, &headers);
            assert!(backend(&service).latency.value(clock::now()) >= Some(Duration::from_secs(110)), "{date}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_hangs_looks_slow_although_its_clients_give_up() {
        tokio::time::advance(Duration::from_secs(60)).await;
        let service = service();
        drop(attempt(&service, Duration::from_secs(3)));
        assert!(backend(&service).latency.value(clock::now()) >= Some(Duration::from_millis(2_900)));
        assert_eq!(failures_in_a_row(&service), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_passes_with_its_head_and_fails_with_anything_but_success() {
        let service = service();
        let conduct = &backend(&service).conduct;
        let trial = || {
            let mut attempt = attempt(&service, Duration::ZERO);
            attempt.lease.on_trial = true;
            attempt
        };
        let mut stream = trial();
        stream.head_arrived(StatusCode::OK, &HeaderMap::new(), clock::now());
        assert_eq!(conduct.take_trial(), Some(Trial::Passed));
        stream.fail(FailureKind::UpstreamReset);
        assert_eq!(conduct.take_trial(), None, "its body counts as any other");
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::BAD_GATEWAY] {
            let mut attempt = trial();
            attempt.head_arrived(status, &HeaderMap::new(), clock::now());
            attempt.complete(status, clock::now());
            assert_eq!(conduct.take_trial(), Some(Trial::Failed), "{status}");
        }
        trial().fail(FailureKind::ConnectRefused);
        assert_eq!(conduct.take_trial(), Some(Trial::Failed));
        drop(trial());
        assert_eq!(conduct.take_trial(), None, "its client went away: somebody else may try");
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_says_it_leaves_has_not_failed() {
        let service = service();
        let mut attempt = attempt(&service, Duration::ZERO);
        attempt.head_arrived(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new(), clock::now());
        attempt.excuse();
        attempt.complete(StatusCode::SERVICE_UNAVAILABLE, clock::now());
        assert_eq!(failures_in_a_row(&service), 0);
    }
}
