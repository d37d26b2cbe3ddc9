//! Whether replicas are being replaced because the file says something else than they were made from, and what came of it.
//! Pure. It promises one beginning and one end for each template, and that a failure is said once. It replaces nothing.

use std::sync::Arc;

use super::plan::{Replica, Vintage};

/// A start may fail so often before its replacement counts as failed: once may be chance.
pub const TRIES: u32 = 3;

/// The replacement of one service.
#[derive(Debug, Default)]
pub struct Replacement {
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    template: Arc<str>,
    has_failed: bool,
}

/// What is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There are replicas of another template.
    Began,
    /// There are none any more, and as many as wanted take requests.
    Finished,
    /// New ones cannot be started, or do not get ready. It is tried again, more and more rarely.
    Failed,
}

/// What the starts of the present template came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starts {
    /// So many have failed in a row.
    pub n_failed: u32,
    /// Whether one of them ran all its time without taking requests.
    pub timed_out: bool,
}

impl Replacement {
    /// Looks at what is there.
    pub fn look(&mut self, template: &Arc<str>, replicas: &[Replica], wanted: u32, starts: Starts) -> Option<Turn> {
        let has_old = replicas.iter().any(|replica| replica.vintage == Vintage::Old && replica.is_present());
        let Some(now) = self.under_way.as_mut().filter(|now| now.template == *template) else {
            let began = has_old && wanted > 0;
            // A replacement by yet another template takes the place of the one before.
            self.under_way = began.then(|| UnderWay { template: template.clone(), has_failed: false });
            return began.then_some(Turn::Began);
        };
        let is_ready = |replica: &&Replica| replica.vintage == Vintage::Current && replica.is_ready();
        if !has_old && replicas.iter().filter(is_ready).count() >= wanted as usize {
            self.under_way = None;
            return Some(Turn::Finished);
        }
        let fails = starts.n_failed >= TRIES || (starts.n_failed > 0 && starts.timed_out);
        if fails && !now.has_failed {
            now.has_failed = true;
            return Some(Turn::Failed);
        }
        None
    }

    /// Whether the replacement that is under way has failed so far.
    pub fn has_failed(&self) -> bool {
        self.under_way.as_ref().is_some_and(|now| now.has_failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::replicas::plan::{Phase, Weight};
    use crate::units::Moment;

    const FINE: Starts = Starts { n_failed: 0, timed_out: false };
    const READY: Phase = Phase::Ready(Weight::Whole);

    fn replica(vintage: Vintage, phase: Phase) -> Replica {
        Replica { id: "a".into(), vintage, phase, born: 0 }
    }

    #[test]
    fn a_replacement_begins_with_old_replicas_and_ends_with_new_ones_alone() {
        let (mut replacement, template) = (Replacement::default(), Arc::from("t2"));
        let mut look = |replicas: &[Replica]| replacement.look(&template, replicas, 1, FINE);
        let (old, new) = (replica(Vintage::Old, READY), replica(Vintage::Current, READY));
        let retiring = replica(Vintage::Old, Phase::Retiring { since: Moment(0), quiet_since: None });
        assert_eq!(look(std::slice::from_ref(&new)), None);
        assert_eq!(look(std::slice::from_ref(&old)), Some(Turn::Began));
        assert_eq!(look(&[old, new.clone()]), None);
        assert_eq!(look(&[retiring, new.clone()]), Some(Turn::Finished));
        assert_eq!(look(&[new]), None);
    }

    #[test]
    fn a_failure_is_said_once_and_another_template_is_another_replacement() {
        let (mut replacement, second, third) = (Replacement::default(), Arc::from("t2"), Arc::from("t3"));
        let old = [replica(Vintage::Old, READY)];
        let failed = |n_failed| Starts { n_failed, timed_out: false };
        assert_eq!(replacement.look(&second, &old, 1, FINE), Some(Turn::Began));
        assert_eq!(replacement.look(&second, &old, 1, failed(2)), None);
        assert_eq!(replacement.look(&second, &old, 1, failed(3)), Some(Turn::Failed));
        assert_eq!(replacement.look(&second, &old, 1, failed(4)), None);
        assert!(replacement.has_failed());
        assert_eq!(replacement.look(&third, &old, 1, FINE), Some(Turn::Began));
        assert!(!replacement.has_failed());
        let timed_out = Starts { n_failed: 1, timed_out: true };
        assert_eq!(replacement.look(&third, &old, 1, timed_out), Some(Turn::Failed));
        // Back to what runs.
        assert_eq!(replacement.look(&Arc::from("t1"), &[replica(Vintage::Current, READY)], 1, FINE), None);
        assert!(!replacement.has_failed());
    }
}
