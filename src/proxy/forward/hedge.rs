//! A second attempt beside a slow first one: the first good answer wins.
//! It promises that the loser's connection ends with it and that its place is given back, that a hedge goes to another
//! backend or nowhere, and that it is paid for like a retry. A service that does not hedge does not come here.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use http::Request;

use super::{Course, Followed, Occasion};
use crate::config::checked::Hedge;
use crate::http::signature::Signature;
use crate::lifecycle::clock;
use crate::proxy::attempt::Attempt;
use crate::proxy::delivery::{Errand, Sent, Way};
use crate::proxy::outbound::Upgrade;
use crate::proxy::place;
use crate::proxy::request_body::{self, RequestBody};
use crate::proxy::retry::LEFT_MIN;
use crate::runtime::group::Wish;
use crate::telemetry::metrics::Outcome;

/// Which of two attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    First,
    Second,
}

/// How a race ended.
#[derive(Debug, PartialEq, Eq)]
struct Finish<T> {
    winner: Which,
    sent: T,
    /// How the other went, if it ended too.
    other: Option<T>,
}

impl Course<'_> {
    /// How long the first attempt of a request has before a second one joins it; `None` for one that must not be sent twice.
    pub(super) fn hedge_delay(&self, request: &Request<RequestBody>) -> Option<Duration> {
        let hedge = self.service.policy.hedge?;
        let is_streamed = matches!(request.body(), RequestBody::Streaming(_));
        if self.exchange.attempts > 1 || !self.method.is_idempotent() || is_streamed || self.upgrade != Upgrade::No {
            return None;
        }
        match hedge {
            Hedge::AfterP95 => self.service.group.tempo.p95(),
            Hedge::After(delay) => Some(delay),
        }
    }

    /// Sends `request` as `first`, and once more elsewhere if there is no answer after `delay`. The winner becomes `first`.
    pub(super) async fn race(
        &mut self,
        first: &mut Attempt,
        request: &mut Request<RequestBody>,
        delay: Duration,
    ) -> Sent {
        let (connection, request_id, trace) =
            (self.exchange.connection.clone(), self.exchange.request_id, self.exchange.trace);
        let signature = Signature {
            peer: connection.peer_headers(),
            via: &connection.worker.via,
            version: self.exchange.version,
            request_id: &request_id,
            trace: &trace,
        };
        let errand = Errand { connection: &connection, signature, deadline: self.exchange.deadline, tell: self.tell() };
        let mut copy = request_body::copy(request);
        let mut second = None;
        let finish = {
            let mut primary = pin!(errand.run(first, Way::Pooled, request));
            let early = tokio::select! {
                biased;
                sent = &mut primary => Some(sent),
                () = tokio::time::sleep(delay) => None,
            };
            match (early, &mut copy) {
                (Some(sent), _) => Finish { winner: Which::First, sent, other: None },
                (None, Some(copy)) if self.begin_hedge(first, &mut second) => {
                    let attempt = second.as_ref().expect("it has begun");
                    let hedge = pin!(errand.run(attempt, Way::Pooled, copy));
                    first_good(primary, hedge, worth).await
                }
                (None, _) => Finish { winner: Which::First, sent: primary.await, other: None },
            }
        };
        match second {
            None => finish.sent,
            Some(second) => self.conclude(first, second, finish),
        }
    }

    /// Takes a place for the second attempt, if there is one elsewhere and the budget allows it.
    fn begin_hedge(&mut self, first: &Attempt, second: &mut Option<Attempt>) -> bool {
        let now = clock::now();
        let tried = [first.backend().id];
        if !self.service.group.has_other(&tried) || self.exchange.deadline.since(now) < LEFT_MIN {
            return false;
        }
        let wish = Wish { now, key: self.key, tried: &tried, stake: self.stake };
        let Ok(lease) = place::take_now(&self.service, &wish) else { return false };
        if tried.contains(&lease.backend.id) {
            return false;
        }
        let Some(reservation) = self.reserve(now) else { return false };
        reservation.spend(now);
        self.service.metrics.hedged();
        self.exchange.attempts += 1;
        *second = Some(Attempt::begin(lease, now));
        true
    }

    /// Records the loser; the winner takes the place of `first`.
    fn conclude(&mut self, first: &mut Attempt, second: Attempt, finish: Finish<Sent>) -> Sent {
        let mut hedged = Occasion::of("hedge", Duration::ZERO);
        if self.exchange.is_logged() {
            hedged.pass_by(&self.service, &[first.backend().id]);
        }
        let of_first = std::mem::take(&mut self.trail.occasion);
        let (loser, of_winner, of_loser) = match finish.winner {
            Which::First => (second, of_first, hedged),
            Which::Second => {
                self.service.metrics.hedge_won();
                (std::mem::replace(first, second), hedged, of_first)
            }
        };
        self.trail.tried.push(loser.backend().id);
        self.trail.occasion = of_loser;
        self.record_loser(loser, finish.other);
        self.trail.occasion = of_winner;
        self.exchange.connection.activity.enter_backend(first.backend().id);
        if self.exchange.is_logged() {
            self.exchange.backend = Some(first.backend().clone());
        }
        finish.sent
    }

    fn record_loser(&mut self, mut loser: Attempt, sent: Option<Sent>) {
        let now = clock::now();
        self.exchange.waits.connect = sent.as_ref().and_then(|sent| sent.connect);
        match sent.map(|sent| sent.outcome) {
            None => {
                self.list(&loser, Outcome::Superseded, now, Followed::Yes);
                loser.supersede(now);
            }
            Some(Err(lost)) => {
                self.list(&loser, Outcome::Failure(lost.error.kind), now, Followed::Yes);
                loser.fail(lost.error.kind);
            }
            Some(Ok(answer)) => {
                let status = answer.response.status();
                self.exchange.upstream_status = Some(status);
                self.list(&loser, Outcome::of(status), now, Followed::Yes);
                self.exchange.upstream_status = None;
                loser.head_arrived(status, answer.response.headers(), now);
                loser.complete(status, now);
                answer.discard(&self.exchange.connection, now);
            }
        }
    }
}

/// The first good answer; failing that, the better of the two, the earlier of equals.
async fn first_good<T>(
    mut first: Pin<&mut impl Future<Output = T>>,
    mut second: Pin<&mut impl Future<Output = T>>,
    worth: impl Fn(&T) -> Worth,
) -> Finish<T> {
    let (early, sent) = tokio::select! {
        biased;
        sent = &mut first => (Which::First, sent),
        sent = &mut second => (Which::Second, sent),
    };
    if worth(&sent) == Worth::Good {
        return Finish { winner: early, sent, other: None };
    }
    let (late, last) = match early {
        Which::First => (Which::Second, second.await),
        Which::Second => (Which::First, first.await),
    };
    match worth(&last) > worth(&sent) {
        true => Finish { winner: late, sent: last, other: Some(sent) },
        false => Finish { winner: early, sent, other: Some(last) },
    }
}

/// What an attempt is worth to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    Failure,
    ServerError,
    Good,
}

fn worth(sent: &Sent) -> Worth {
    match &sent.outcome {
        Err(_) => Worth::Failure,
        Ok(answer) if answer.response.status().is_server_error() => Worth::ServerError,
        Ok(_) => Worth::Good,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two attempts that end after so many milliseconds, and what they are worth.
    fn race(first: (u64, Worth), second: (u64, Worth)) -> (Finish<Worth>, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let began = clock::now();
            let after = |(millis, worth): (u64, Worth)| async move {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                worth
            };
            let finish = first_good(pin!(after(first)), pin!(after(second)), |worth| *worth).await;
            (finish, clock::now().since(began))
        })
    }

    #[test]
    fn a_good_answer_ends_the_race_at_once() {
        let (finish, took) = race((500, Worth::Good), (20, Worth::Good));
        assert_eq!(finish, Finish { winner: Which::Second, sent: Worth::Good, other: None });
        assert!(took < Duration::from_millis(100), "{took:?}");
    }

    #[test]
    fn a_bad_answer_waits_for_the_other() {
        let (finish, _) = race((500, Worth::Good), (20, Worth::ServerError));
        assert_eq!(finish, Finish { winner: Which::First, sent: Worth::Good, other: Some(Worth::ServerError) });
        let (finish, _) = race((500, Worth::Failure), (20, Worth::ServerError));
        assert_eq!((finish.winner, finish.sent), (Which::Second, Worth::ServerError));
    }

    fn any_worth() -> impl Strategy<Value = Worth> {
        proptest::sample::select(vec![Worth::Failure, Worth::ServerError, Worth::Good])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nobody_gets_less_than_the_other_attempt_had(
            first in (1_u64..50, any_worth()), second in (1_u64..50, any_worth()),
        ) {
            let (finish, took) = race(first, second);
            let (winner, loser) = if finish.winner == Which::First { (first, second) } else { (second, first) };
            prop_assert_eq!(finish.sent, winner.1);
            prop_assert!(winner.1 >= loser.1 || finish.other.is_none());
            prop_assert!(finish.other.is_some() || winner.1 == Worth::Good);
            let last = Duration::from_millis(first.0.max(second.0) + 2);
            prop_assert!(took <= last, "{took:?}");
        }
    }
}
