//! How failed starts slow down the next ones.
//! Pure: the present and chance are arguments. It promises that a template which cannot run costs one try a minute in the
//! end, and that replicas which fail together count as one failure. It does not know why a start failed.

use std::time::Duration;

use super::plan::Pace;
use crate::units::Moment;

/// The pause after the first failure; each further one doubles it.
pub const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A replica that took requests for so long has started well, whatever becomes of it later.
pub const STEADY: Duration = Duration::from_secs(10);

/// What the last starts of one template came to.
#[derive(Debug, Default)]
pub struct Brake {
    n_in_a_row: u32,
    last: Moment,
    not_before: Moment,
}

impl Brake {
    /// A start that began at `began` has failed. Returns how many have by now, one after the other.
    pub fn failed(&mut self, began: Moment, now: Moment, random: u64) -> u32 {
        if self.n_in_a_row == 0 || began >= self.last {
            self.n_in_a_row = self.n_in_a_row.saturating_add(1);
            self.last = now;
            self.not_before = now.after(pause(self.n_in_a_row, random));
        }
        self.n_in_a_row
    }

    /// A replica takes requests since `ready_since`.
    pub fn runs(&mut self, ready_since: Moment, now: Moment) {
        // One that was there before the failures says nothing about them.
        if self.n_in_a_row > 0 && ready_since > self.last && now.since(ready_since) >= STEADY {
            *self = Self::default();
        }
    }

    /// How many starts have failed in a row.
    pub fn n_in_a_row(&self) -> u32 {
        self.n_in_a_row
    }

    /// What it allows.
    pub fn pace(&self) -> Pace {
        match self.n_in_a_row {
            0 => Pace::Free,
            _ => Pace::OneFrom(self.not_before),
        }
    }
}

/// Between half of it and all of it, so that services that failed for one reason do not come back at one moment.
fn pause(n_in_a_row: u32, random: u64) -> Duration {
    let doublings = n_in_a_row.saturating_sub(1).min(16);
    let whole = PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_MAX);
    let share = u32::try_from(random % 1024).expect("below 1024");
    whole / 2 + whole / 2 * share / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment(0).after(Duration::from_millis(millis))
    }

    #[test]
    fn each_failure_in_a_row_doubles_the_pause_up_to_a_minute() {
        let mut brake = Brake::default();
        assert_eq!(brake.pace(), Pace::Free);
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            brake.failed(now, now, 0);
            let Pace::OneFrom(next) = brake.pace() else { panic!("it has failed") };
            pauses.push(next.since(now).as_millis());
            now = next;
        }
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(pause(99, 1023).as_secs(), 59);
    }

    #[test]
    fn replicas_that_were_started_together_fail_once() {
        let mut brake = Brake::default();
        assert_eq!(brake.failed(at(0), at(1_000), 0), 1);
        assert_eq!(brake.failed(at(0), at(1_001), 0), 1);
        assert_eq!(brake.failed(at(1_500), at(2_000), 0), 2);
    }

    #[test]
    fn only_a_replica_that_came_after_the_failures_and_stayed_ends_them() {
        let mut brake = Brake::default();
        brake.failed(at(1_000), at(1_000), 0);
        brake.runs(at(500), at(60_000));
        brake.runs(at(2_000), at(3_000));
        assert_eq!(brake.n_in_a_row(), 1);
        brake.runs(at(2_000), at(12_000));
        assert_eq!(brake.pace(), Pace::Free);
    }
}
