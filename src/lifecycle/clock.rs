//! The two clocks: monotonic moments for durations and deadlines, wall time for people.
//! Promises that [`now`] stands still in a test with paused time and is never zero. It schedules nothing.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::units::Moment;

/// A moment is counted from a second before the clock was first read: `Moment(0)` is therefore always in the past and
/// can stand for "never", and a paused test clock that stopped just before the first reading is still after it.
const HEAD_START: Duration = Duration::from_secs(1);

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// The present moment. Costs one reading of the monotonic clock (about 25 ns): read it once per step and pass it on.
#[inline]
pub fn now() -> Moment {
    moment_at(Instant::now())
}

/// The moment that `instant` is.
pub fn moment_at(instant: Instant) -> Moment {
    let nanos = instant.saturating_duration_since(origin()).as_nanos();
    Moment(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The instant that `moment` is, for tokio's timers. Moments too far away to be an instant become a year from the origin.
pub fn instant_at(moment: Moment) -> Instant {
    const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let origin = origin();
    origin.checked_add(Duration::from_nanos(moment.0)).unwrap_or(origin + A_YEAR)
}

/// Time since 1970-01-01 UTC, as the operator's clock says. It may jump: use it for people only.
pub fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[expect(
    clippy::disallowed_types,
    reason = "the first reader may be a test whose tokio clock is far ahead of the others'"
)]
fn origin() -> Instant {
    *ORIGIN.get_or_init(|| {
        let real = std::time::Instant::now();
        Instant::from_std(real.checked_sub(HEAD_START).unwrap_or(real))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_moves_only_when_it_is_advanced() {
        let before = now();
        assert_ne!(before, Moment(0));
        assert_eq!(now(), before);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(now().since(before), Duration::from_secs(5));
    }

    #[test]
    fn moments_and_instants_convert_both_ways() {
        let moment = now();
        assert_eq!(moment_at(instant_at(moment)), moment);
        assert!(instant_at(Moment(u64::MAX)) > Instant::now());
    }

    #[test]
    fn wall_time_is_after_2020() {
        assert!(unix_now() > Duration::from_secs(1_577_836_800));
    }
}
