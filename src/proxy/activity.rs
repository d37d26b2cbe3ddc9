//! What one connection is doing and since when, in atomics that its task writes and the worker's sweep reads.
//! It promises that every way of being slow has a named end: the decision is [`verdict`], pure and tested.
//! It holds no timer: one sweep per worker replaces a timer per request.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::checked::Limits;
use crate::runtime::backend::BackendId;
use crate::units::Moment;

/// A connection that rests for so long gives back everything but its socket.
///
/// Measured over 5,000 connections (`benches/peers`, `idle`): 1.2 KiB of resident memory each instead of 16.
const PARK_AFTER: Duration = Duration::from_secs(2);
/// The same where many connections hold theirs: what one gives back, the next one takes. It costs 4 % of the CPU of a request
/// that comes so late; right after their requests those 5,000 then hold 5.7 KiB each instead of 16.3.
const PARK_IN_CROWD_AFTER: Duration = Duration::from_millis(200);
/// How long a transfer is watched before its rate is judged: two TCP retransmission rounds and some.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Between requests.
    Idle,
    /// Some bytes of a head are here, not all.
    Head,
    /// A request is being served and no response has begun.
    Request,
    /// A response is on its way down.
    Response,
    /// Upgraded: bytes both ways.
    Tunnel,
}

/// What the sweep tells a connection to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// Give back the buffers, keep the socket.
    Park = 1,
    /// Close: nothing is open.
    Close,
    /// Answer 408 and close: the head did not arrive in time.
    HeadTimeout,
    /// The client sends its body too slowly.
    BodyTimeout,
    /// The client reads, or the backend sends, nothing or too little for too long.
    Stalled,
    /// The deadline of the whole request has passed.
    Deadline,
    /// The drain deadline has passed: close whatever is open.
    Now,
}

impl Order {
    fn from_u8(order: u8) -> Option<Order> {
        use Order::*;
        [Park, Close, HeadTimeout, BodyTimeout, Stalled, Deadline, Now].into_iter().find(|o| *o as u8 == order)
    }
}

/// The atomics of one connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    phase: AtomicU8,
    since: AtomicU64,
    /// Of the request that is open: a `Moment`, or zero for none.
    deadline: AtomicU64,
    /// Without a byte either way for so long, an open exchange ends. Nanoseconds.
    idle_limit: AtomicU64,
    order: AtomicU8,
    /// The backend that serves the open request: a `BackendId`, or zero.
    backend: AtomicU64,
    /// Its listener is closing: the answer at hand is the last one.
    is_last: AtomicBool,
    /// Bytes read from the client.
    pub(crate) bytes_in: Tally,
    /// Bytes of the open request's body so far.
    pub(crate) body_bytes_in: Tally,
    /// Bytes written to the client.
    pub(crate) bytes_out: Tally,
    /// Bytes read from the backend: life on the upstream side of a tunnel or a long response.
    pub(crate) bytes_upstream: Tally,
    /// The last write to the client did not go through.
    pub(crate) write_blocked: AtomicBool,
    /// The request waits for more of its body.
    pub(crate) body_wanted: AtomicBool,
    /// The bytes read so far end inside a message.
    pub(crate) mid_message: AtomicBool,
    /// Bytes seen, and when, at the last look of the sweep.
    mark: Mark,
}

/// A counter that one task writes and the sweep of its thread reads: no locked instruction is needed.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub(crate) fn add(&self, n: usize) {
        self.set(self.get().wrapping_add(n as u64));
    }
}

/// What the sweep saw when the present window began.
#[derive(Debug, Default)]
struct Mark {
    bytes: AtomicU64,
    at: AtomicU64,
}

impl Activity {
    pub(crate) fn phase(&self) -> Phase {
        use Phase::*;
        [Idle, Head, Request, Response, Tunnel][usize::from(self.phase.load(Relaxed)).min(4)]
    }

    pub(crate) fn enter(&self, phase: Phase, now: Moment) {
        self.phase.store(phase as u8, Relaxed);
        self.since.store(now.0, Relaxed);
    }

    /// Begins a request: its deadline is not known before its route is.
    pub(crate) fn begin_request(&self, now: Moment) {
        self.enter(Phase::Request, now);
        self.deadline.store(0, Relaxed);
        self.idle_limit.store(0, Relaxed);
        self.leave_backend();
        self.body_bytes_in.set(0);
    }

    /// The limits that the route of the open request sets.
    pub(crate) fn limit_request(&self, deadline: Moment, idle: Duration) {
        self.deadline.store(deadline.0, Relaxed);
        self.limit_silence(idle);
    }

    /// Without a byte either way for `idle`, what is open ends.
    pub(crate) fn limit_silence(&self, idle: Duration) {
        self.idle_limit.store(u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// An upgraded connection has no deadline, only its idle limit. Neither side's silence alone ends it.
    pub(crate) fn enter_tunnel(&self, now: Moment) {
        self.deadline.store(0, Relaxed);
        self.body_wanted.store(false, Relaxed);
        self.write_blocked.store(false, Relaxed);
        self.enter(Phase::Tunnel, now);
    }

    /// When the first byte came of a head that is not complete.
    pub(crate) fn head_began(&self) -> Option<Moment> {
        (self.phase() == Phase::Head).then(|| Moment(self.since.load(Relaxed)))
    }

    /// How long the connection has been between requests; `None` if it is not.
    pub(crate) fn rested(&self, now: Moment) -> Option<Duration> {
        let resting = self.phase() == Phase::Idle && !self.mid_message.load(Relaxed);
        resting.then(|| now.since(Moment(self.since.load(Relaxed))))
    }

    /// A backend took the open request.
    pub(crate) fn enter_backend(&self, id: BackendId) {
        self.backend.store(id.0, Relaxed);
    }

    /// No backend is needed any more.
    pub(crate) fn leave_backend(&self) {
        self.backend.store(0, Relaxed);
    }

    /// Whether one of `backends` serves the open request.
    pub(crate) fn is_at_any(&self, backends: &[BackendId]) -> bool {
        !backends.is_empty() && backends.contains(&BackendId(self.backend.load(Relaxed)))
    }

    /// Whether the connection takes no further request.
    pub(crate) fn is_last(&self) -> bool {
        self.is_last.load(Relaxed)
    }

    /// The next answer is the last one.
    pub(crate) fn note_last(&self) {
        self.is_last.store(true, Relaxed);
    }

    /// Takes the order that was given, if any.
    pub(crate) fn take_order(&self) -> Option<Order> {
        if self.order.load(Relaxed) == 0 {
            return None;
        }
        Order::from_u8(self.order.swap(0, Relaxed))
    }

    pub(crate) fn give_order(&self, order: Order) {
        self.order.store(order as u8, Relaxed);
    }

    /// Looks at the connection, one of those `awake`, and decides. Called by one sweep at a time.
    pub(crate) fn look(&self, limits: &Limits, awake: Awake, now: Moment) -> Option<Order> {
        let bytes_in = self.bytes_in.get();
        let bytes_out = self.bytes_out.get();
        let transferred = bytes_in.wrapping_add(bytes_out).wrapping_add(self.bytes_upstream.get());
        let phase = self.phase();
        let body_wanted = phase == Phase::Request && self.body_wanted.load(Relaxed);
        let client_owes = match (body_wanted, self.write_blocked.load(Relaxed)) {
            (true, _) => Owes::Body,
            (false, true) => Owes::Room,
            (false, false) => Owes::Nothing,
        };
        let since = Moment(self.since.load(Relaxed));
        let mark = Moment(self.mark.at.load(Relaxed)).max(since);
        let progress = transferred.wrapping_sub(self.mark.bytes.load(Relaxed));
        let sight = Sight {
            phase,
            in_phase: now.since(since),
            past_deadline: Some(self.deadline.load(Relaxed)).filter(|d| *d != 0).is_some_and(|d| now.0 > d),
            client_owes,
            mid_message: self.mid_message.load(Relaxed),
            awake,
            window: now.since(mark),
            progress,
            idle_limit: Some(self.idle_limit.load(Relaxed)).filter(|l| *l != 0).map(Duration::from_nanos),
        };
        // A window ends when it was long enough to judge a rate by, or when anything moved while nobody owes anything.
        let judged = client_owes != Owes::Nothing && sight.window >= RATE_WINDOW;
        if judged || (client_owes == Owes::Nothing && progress > 0) || mark == since {
            self.mark.bytes.store(transferred, Relaxed);
            self.mark.at.store(now.0, Relaxed);
        }
        verdict(&sight, limits)
    }
}

/// What a client owes us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owes {
    Nothing,
    /// More of its request body.
    Body,
    /// Room in its receive window.
    Room,
}

/// How many connections of the worker hold their buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awake {
    Few,
    /// So many that their memory counts.
    Crowd,
}

/// One look at a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    pub(crate) phase: Phase,
    pub(crate) in_phase: Duration,
    pub(crate) past_deadline: bool,
    pub(crate) client_owes: Owes,
    pub(crate) mid_message: bool,
    pub(crate) awake: Awake,
    /// How long the present window of observation is.
    pub(crate) window: Duration,
    /// Bytes that moved within it, in any direction.
    pub(crate) progress: u64,
    /// `timeouts.idle` of the service, once it is known.
    pub(crate) idle_limit: Option<Duration>,
}

/// What to do about a connection that looks like this; `None` to leave it alone.
pub(crate) fn verdict(sight: &Sight, limits: &Limits) -> Option<Order> {
    match sight.phase {
        // The exchange is over for us, but the client has not taken all of it.
        Phase::Idle | Phase::Head if sight.client_owes == Owes::Room => {
            too_slow(sight, limits).then_some(Order::Stalled)
        }
        Phase::Idle if sight.in_phase >= limits.keep_alive => Some(Order::Close),
        Phase::Idle if sight.mid_message => None,
        Phase::Idle => (sight.in_phase >= park_after(sight.awake)).then_some(Order::Park),
        Phase::Head => (sight.in_phase >= limits.header_timeout).then_some(Order::HeadTimeout),
        Phase::Request | Phase::Response if sight.past_deadline => Some(Order::Deadline),
        Phase::Request | Phase::Response if too_slow(sight, limits) => match sight.client_owes {
            Owes::Body => Some(Order::BodyTimeout),
            Owes::Room | Owes::Nothing => Some(Order::Stalled),
        },
        // Before the response head, the timeouts of the attempt hold; there is nothing that could be idle.
        Phase::Request => None,
        Phase::Response | Phase::Tunnel => is_silent(sight).then_some(Order::Stalled),
    }
}

fn park_after(awake: Awake) -> Duration {
    match awake {
        Awake::Few => PARK_AFTER,
        Awake::Crowd => PARK_IN_CROWD_AFTER,
    }
}

fn is_silent(sight: &Sight) -> bool {
    sight.progress == 0 && sight.idle_limit.is_some_and(|limit| sight.window >= limit)
}

fn too_slow(sight: &Sight, limits: &Limits) -> bool {
    let Some(rate) = limits.min_body_rate else { return false };
    let owed = sight.client_owes != Owes::Nothing && sight.window >= RATE_WINDOW;
    owed && (sight.progress as f64) < rate.0 as f64 * sight.window.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::defaults;
    use crate::units::ByteSize;
    use std::num::NonZeroU32;

    fn limits() -> Limits {
        Limits {
            connections: NonZeroU32::new(10).unwrap(),
            header_bytes: defaults::LIMIT_HEADER_BYTES,
            header_count: NonZeroU32::new(100).unwrap(),
            header_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            min_body_rate: Some(ByteSize(240)),
        }
    }

    fn secs(n: u64) -> Moment {
        Moment(n * 1_000_000_000)
    }

    fn resting(seconds: u64) -> Sight {
        Sight {
            phase: Phase::Idle,
            in_phase: Duration::from_secs(seconds),
            past_deadline: false,
            client_owes: Owes::Nothing,
            mid_message: false,
            awake: Awake::Few,
            window: Duration::from_secs(seconds),
            progress: 0,
            idle_limit: Some(Duration::from_secs(300)),
        }
    }

    #[test]
    fn an_idle_connection_is_parked_and_then_closed() {
        assert_eq!(verdict(&resting(1), &limits()), None);
        assert_eq!(verdict(&resting(2), &limits()), Some(Order::Park));
        assert_eq!(verdict(&resting(75), &limits()), Some(Order::Close));
        assert_eq!(verdict(&Sight { mid_message: true, ..resting(3) }, &limits()), None);
    }

    #[test]
    fn a_crowd_is_parked_early_but_for_who_has_not_taken_its_answer() {
        let in_crowd = |ms| Sight { awake: Awake::Crowd, in_phase: Duration::from_millis(ms), ..resting(0) };
        assert_eq!(verdict(&in_crowd(199), &limits()), None);
        assert_eq!(verdict(&in_crowd(200), &limits()), Some(Order::Park));
        assert_eq!(verdict(&Sight { client_owes: Owes::Room, ..in_crowd(500) }, &limits()), None);
        assert_eq!(verdict(&Sight { mid_message: true, ..in_crowd(500) }, &limits()), None);
    }

    #[test]
    fn a_head_has_its_own_timeout() {
        let head = |seconds| Sight { phase: Phase::Head, ..resting(seconds) };
        assert_eq!(verdict(&head(9), &limits()), None);
        assert_eq!(verdict(&head(10), &limits()), Some(Order::HeadTimeout));
    }

    #[test]
    fn a_body_below_the_minimum_rate_ends_and_one_above_it_goes_on() {
        let body = |progress| Sight { phase: Phase::Request, client_owes: Owes::Body, progress, ..resting(5) };
        assert_eq!(verdict(&body(1_199), &limits()), Some(Order::BodyTimeout));
        assert_eq!(verdict(&body(1_200), &limits()), None);
    }

    #[test]
    fn a_client_that_does_not_read_is_stalled_even_while_the_backend_could_send() {
        let response = Sight { phase: Phase::Response, client_owes: Owes::Room, ..resting(5) };
        assert_eq!(verdict(&response, &limits()), Some(Order::Stalled));
    }

    #[test]
    fn a_silent_backend_has_until_the_idle_timeout() {
        let response = |seconds| Sight { phase: Phase::Response, ..resting(seconds) };
        assert_eq!(verdict(&response(299), &limits()), None);
        assert_eq!(verdict(&response(300), &limits()), Some(Order::Stalled));
    }

    #[test]
    fn a_tunnel_has_no_deadline_but_its_idle_limit() {
        let activity = Activity::default();
        activity.begin_request(secs(1));
        activity.limit_request(secs(2), Duration::from_secs(60));
        activity.enter_tunnel(secs(2));
        assert_eq!(activity.look(&limits(), Awake::Few, secs(10)), None);
        activity.bytes_out.add(1);
        assert_eq!(activity.look(&limits(), Awake::Few, secs(40)), None);
        assert_eq!(activity.look(&limits(), Awake::Few, secs(99)), None);
        assert_eq!(activity.look(&limits(), Awake::Few, secs(100)), Some(Order::Stalled));
    }

    #[test]
    fn a_deadline_ends_an_open_request() {
        let activity = Activity::default();
        activity.begin_request(secs(1));
        activity.limit_request(secs(6), Duration::from_secs(60));
        assert_eq!(activity.look(&limits(), Awake::Few, secs(5)), None);
        assert_eq!(activity.look(&limits(), Awake::Few, secs(7)), Some(Order::Deadline));
    }

    #[test]
    fn a_dripping_body_is_judged_window_by_window() {
        let activity = Activity::default();
        activity.begin_request(secs(1));
        activity.body_wanted.store(true, Relaxed);
        let mut ended_at = None;
        for second in 1..60 {
            activity.bytes_in.add(1);
            if activity.look(&limits(), Awake::Few, secs(second)) == Some(Order::BodyTimeout) {
                ended_at = Some(second);
                break;
            }
        }
        assert_eq!(ended_at, Some(7)); // the window began with the first look after the start
    }

    #[test]
    fn an_order_is_taken_once() {
        let activity = Activity::default();
        activity.give_order(Order::Stalled);
        assert_eq!(activity.take_order(), Some(Order::Stalled));
        assert_eq!(activity.take_order(), None);
    }
}
