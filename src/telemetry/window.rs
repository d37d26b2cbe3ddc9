//! Readings of the recent past, so that totals become "per second" and "lately".
//! Promises a baseline between one and two steps old once there were two ticks. It takes no readings itself.

use std::time::Duration;

use crate::units::Moment;

/// How often [`Window::tick`] takes a new reading: `status` shows the last 10 to 20 seconds.
pub const STEP: Duration = Duration::from_secs(10);

/// The two latest readings of something that only grows.
#[derive(Clone, Debug)]
pub struct Window<T> {
    older: (Moment, T),
    newer: (Moment, T),
}

impl<T: Clone> Window<T> {
    /// A window that begins now.
    pub fn new(now: Moment, reading: T) -> Self {
        Self { older: (now, reading.clone()), newer: (now, reading) }
    }

    /// Keeps a reading if the last one is [`STEP`] old. Call it from a regular tick.
    pub fn tick(&mut self, now: Moment, read: impl FnOnce() -> T) {
        if now.since(self.newer.0) >= STEP {
            self.older = std::mem::replace(&mut self.newer, (now, read()));
        }
    }

    /// The reading to subtract from a present one, and the time in between, which is never zero.
    pub fn baseline(&self, now: Moment) -> (&T, Duration) {
        (&self.older.1, now.since(self.older.0).max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_is_between_one_and_two_steps_old() {
        let start = Moment(1);
        let mut window = Window::new(start, 0);
        for second in 1..100 {
            let now = start.after(Duration::from_secs(second));
            window.tick(now, || second);
            let (reading, time) = window.baseline(now);
            assert_eq!(second - reading, time.as_secs());
            if second >= 20 {
                assert!((10..20).contains(&time.as_secs()), "{time:?}");
            }
        }
    }

    #[test]
    fn a_rate_right_at_the_start_divides_by_something() {
        assert!(Window::new(Moment(5), 0).baseline(Moment(5)).1 > Duration::ZERO);
    }
}
