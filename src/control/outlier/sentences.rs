//! Why each ejected backend is out, and until when, for people who ask.
//! Promises to hold one sentence per ejected backend, and none of those that are back or gone. Nobody decides by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::runtime::backend::BackendId;
use crate::units::Moment;

/// The present ejections. Written by the sweep, read by whoever shows the state of the process.
#[derive(Debug, Default)]
pub struct Sentences {
    present: Mutex<HashMap<BackendId, (Arc<str>, Moment)>>,
}

impl Sentences {
    /// `5 failures in a row, back in 14 s`; `None` for a backend that is not ejected.
    pub fn of(&self, id: BackendId, now: Moment) -> Option<String> {
        let (because, until) = self.lock().get(&id).cloned()?;
        Some(format!("{because}, back in {}", seconds(until.since(now))))
    }

    pub(super) fn note(&self, id: BackendId, because: &str, until: Moment) {
        self.lock().insert(id, (because.into(), until));
    }

    pub(super) fn retain(&self, mut is_out: impl FnMut(BackendId) -> bool) {
        self.lock().retain(|id, _| is_out(*id));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BackendId, (Arc<str>, Moment)>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole seconds, rounded up: `0 s` would be over.
fn seconds(left: Duration) -> String {
    let secs = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    if secs < 120 { format!("{secs} s") } else { format!("{} min", secs.div_ceil(60)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ejection_says_why_and_for_how_long() {
        let (sentences, id) = (Sentences::default(), BackendId(7));
        let at = |millis: u64| Moment(millis * 1_000_000);
        sentences.note(id, "5 failures in a row", at(20_000));
        assert_eq!(sentences.of(id, at(6_500)).unwrap(), "5 failures in a row, back in 14 s");
        assert_eq!(sentences.of(id, at(21_000)).unwrap(), "5 failures in a row, back in 0 s");
        sentences.note(id, "its trial failed", at(300_000));
        assert_eq!(sentences.of(id, at(0)).unwrap(), "its trial failed, back in 5 min");
        sentences.retain(|_| false);
        assert_eq!(sentences.of(id, at(0)), None);
    }
}
