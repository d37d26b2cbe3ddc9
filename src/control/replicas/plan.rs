//! Which replicas of a service are created, retired, stopped and removed next.
//! Pure: what is there, what is wanted and the present are arguments. It promises that a replica which takes requests is
//! retired only while more of them do than are wanted, and that whatever is asked of it ends after finitely many steps.
//! It knows no engine, and containers that are not of this service are not shown to it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::units::Moment;

/// Containers of one service that are made at the same time. An engine makes them one after the other anyway, and each
/// costs it about half a second of a core.
pub const STARTS_AT_ONCE: u32 = 4;
/// How often requests in flight at a retiring replica are counted.
pub const COUNT_EVERY: Duration = Duration::from_millis(50);
/// A replica has to be without requests for so long before it is stopped: a worker that picked it just before it left
/// may still be on its way to it.
pub const QUIET: Duration = Duration::from_millis(100);
/// What has ended stays for so long: `docker restart` ends a container too, and starts it again at once.
pub const LINGER: Duration = Duration::from_secs(1);

/// What is known of one service at one moment.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Its containers, those that are being made included.
    pub replicas: &'a [Replica],
    /// So many are to take requests; `None` while nobody has said so: then nothing is made, and nothing that runs is
    /// retired.
    pub wanted: Option<u32>,
    /// What failures allow.
    pub pace: Pace,
    /// What the configuration and the house rules give.
    pub terms: Terms,
    /// The present.
    pub now: Moment,
}

/// How fast replicas may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As many as are wanted.
    Free,
    /// The last starts failed: one at a time, and none before this moment.
    OneFrom(Moment),
    /// None: the image is being fetched.
    Halted,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// A retired replica may finish for so long.
    pub drain: Duration,
    /// A replica that runs and takes no requests for so long has failed.
    pub ready_within: Duration,
}

/// A container of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The engine's name for it; while it is being made, ours.
    pub id: Arc<str>,
    /// What it was made from.
    pub vintage: Vintage,
    /// What it does.
    pub phase: Phase,
    /// Larger is younger.
    pub born: u64,
}

/// What a replica was made from, compared with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vintage {
    /// Something else than the file says now.
    Old,
    /// What the file says.
    Current,
}

/// What a replica does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The engine is asked to make it.
    Coming,
    /// It runs and takes no requests: not yet, or not any more.
    Starting {
        /// For how long.
        since: Moment,
    },
    /// A person has frozen it: it counts, and it is left alone.
    Frozen,
    /// It takes requests.
    Ready(Weight),
    /// It is to take no more, and may finish what it has.
    Retiring {
        /// Since when.
        since: Moment,
        /// Since when it is no member and has no request.
        quiet_since: Option<Moment>,
    },
    /// Somebody has told it to end, or it is being removed.
    Going,
    /// Nothing of it runs.
    Ended {
        /// Since when.
        since: Moment,
        /// Whether its end was told.
        told: Told,
    },
}

/// How much a replica that takes requests carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Less than its share: it is on its ramp.
    Growing,
    /// Its share.
    Whole,
}

/// Whether people know of the end of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Its last words are to be read.
    No,
    /// They were, or nobody needs them.
    Yes,
}

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make one and start it.
    Create,
    /// It was retired and is needed after all.
    TakeBack(Arc<str>),
    /// It is to take no more requests.
    Retire(Arc<str>, Why),
    /// End it and remove it.
    Stop(Arc<str>, Rest),
    /// Read its last words.
    Report(Arc<str>),
    /// Remove what is left of it.
    Remove(Arc<str>),
    /// It did not get ready in time: read its words, end it, remove it.
    GiveUp(Arc<str>),
}

/// Why a replica is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There are more than are wanted.
    Surplus,
    /// Another one, made from what the file says now, stands for it.
    Replaced,
}

impl Why {
    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Why::Surplus => "more than are wanted",
            Why::Replaced => "replaced",
        }
    }
}

/// What a replica has left when it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Finished,
    /// Requests that took longer than they may.
    Overdue,
}

/// What is due now, and when to look again if nothing happens before.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are begun.
    pub steps: Vec<Step>,
    /// `None`: when something happens.
    pub next: Option<Moment>,
}

/// So many more than wanted may run while a template is replaced: a quarter, as Kubernetes has it.
pub fn surge(wanted: u32) -> u32 {
    wanted.div_ceil(4).max(1)
}

/// Decides.
pub fn plan(scene: &Scene<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut taken_back = Vec::new();
    if let Some(wanted) = scene.wanted {
        let mut tally = Tally::of(scene.replicas);
        plan.retire(scene.replicas, &mut tally, wanted);
        taken_back = plan.take_back(scene.replicas, &mut tally, wanted);
        plan.create(scene, &tally, wanted);
    }
    for replica in scene.replicas.iter().filter(|replica| !taken_back.contains(&replica.id)) {
        plan.attend(scene, replica);
    }
    plan
}

/// What counts, and what will when the steps so far are done. Retired ones do not: they may take long to finish.
#[derive(Debug)]
struct Tally {
    present: u32,
    current: u32,
    /// Take requests, on their ramp or not.
    ready: u32,
    /// Carry a whole share: of an old template all that are ready, of the current one those beyond their ramp.
    whole: u32,
    coming: u32,
    /// Current ones that are being made or have not answered.
    unproven: u32,
}

impl Tally {
    fn of(replicas: &[Replica]) -> Self {
        let count = |fits: &dyn Fn(&Replica) -> bool| {
            u32::try_from(replicas.iter().filter(|replica| fits(replica)).count()).unwrap_or(u32::MAX)
        };
        let is_current = |replica: &Replica| replica.vintage == Vintage::Current;
        Self {
            present: count(&Replica::is_present),
            current: count(&|replica| replica.is_present() && is_current(replica)),
            ready: count(&Replica::is_ready),
            whole: count(&Replica::is_whole),
            coming: count(&|replica| replica.phase == Phase::Coming),
            unproven: count(&|replica| is_current(replica) && replica.is_unproven()),
        }
    }

    /// One fewer.
    fn without(&mut self, replica: &Replica) {
        self.present -= 1;
        self.current -= u32::from(replica.vintage == Vintage::Current);
        self.ready -= u32::from(replica.is_ready());
        self.whole -= u32::from(replica.is_whole());
        self.unproven -= u32::from(replica.vintage == Vintage::Current && replica.is_unproven());
    }

    /// Whether `replica` is one too many.
    ///
    /// An old one that is ready goes when the others carry whole shares for as many as are wanted; one that is not ready
    /// goes as soon as there is another in its place that has answered: just adopted, it may be ready in a moment, and the
    /// new one never.
    fn can_spare(&self, replica: &Replica, wanted: u32) -> bool {
        match (replica.vintage, replica.is_ready()) {
            (Vintage::Old, true) => self.whole > wanted,
            (Vintage::Old, false) => self.present - self.unproven > wanted,
            (Vintage::Current, true) => self.current > wanted && self.ready > wanted,
            (Vintage::Current, false) => self.current > wanted,
        }
    }
}

impl Replica {
    /// Whether it takes requests or is expected to.
    pub fn is_present(&self) -> bool {
        matches!(self.phase, Phase::Coming | Phase::Starting { .. } | Phase::Frozen | Phase::Ready(_))
    }

    /// Whether it takes requests.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready(_))
    }

    fn is_whole(&self) -> bool {
        match self.vintage {
            Vintage::Old => self.is_ready(),
            Vintage::Current => self.phase == Phase::Ready(Weight::Whole),
        }
    }

    fn is_unproven(&self) -> bool {
        matches!(self.phase, Phase::Coming | Phase::Starting { .. })
    }

    /// What is retired first: what takes no requests, then what is old, then what is on its ramp, then what is young. The
    /// longer one runs, the warmer are its caches; how many requests each has at the moment says little about the next
    /// minute. Whoever carries a whole share may be the one for which an old replica has just been let go.
    fn turn(&self) -> (bool, Vintage, bool, Reverse<u64>) {
        (self.is_ready(), self.vintage, self.is_whole(), Reverse(self.born))
    }
}

impl Plan {
    fn retire(&mut self, replicas: &[Replica], tally: &mut Tally, wanted: u32) {
        let can_be_retired = |replica: &&Replica| replica.is_present() && replica.phase != Phase::Coming;
        let mut candidates: Vec<_> = replicas.iter().filter(can_be_retired).collect();
        candidates.sort_by_key(|replica| replica.turn());
        for replica in candidates {
            if tally.can_spare(replica, wanted) {
                let why = match replica.vintage {
                    Vintage::Old if wanted > 0 => Why::Replaced,
                    _ => Why::Surplus,
                };
                self.steps.push(Step::Retire(replica.id.clone(), why));
                tally.without(replica);
            }
        }
    }

    /// Those that were retired and still run are the fastest to have, the oldest of them first.
    fn take_back(&mut self, replicas: &[Replica], tally: &mut Tally, wanted: u32) -> Vec<Arc<str>> {
        let can_return =
            |replica: &&Replica| replica.vintage == Vintage::Current && matches!(replica.phase, Phase::Retiring { .. });
        let mut candidates: Vec<_> = replicas.iter().filter(can_return).collect();
        candidates.sort_by_key(|replica| replica.born);
        let n_short = wanted.saturating_sub(tally.current);
        let ids: Vec<_> = candidates.iter().take(n_short as usize).map(|replica| replica.id.clone()).collect();
        let n = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        (tally.present, tally.current) = (tally.present + n, tally.current + n);
        self.steps.extend(ids.iter().cloned().map(Step::TakeBack));
        ids
    }

    fn create(&mut self, scene: &Scene<'_>, tally: &Tally, wanted: u32) {
        let is_replacing = tally.present > tally.current;
        let most = if is_replacing { wanted.saturating_add(surge(wanted)) } else { wanted };
        let n_short = wanted.saturating_sub(tally.current).min(most.saturating_sub(tally.present));
        if n_short == 0 {
            return;
        }
        let n = match scene.pace {
            Pace::Free => n_short.min(STARTS_AT_ONCE.saturating_sub(tally.coming)),
            Pace::OneFrom(_) if tally.unproven > 0 => 0,
            Pace::OneFrom(at) if at > scene.now => {
                self.look_at(at);
                0
            }
            Pace::OneFrom(_) => 1,
            Pace::Halted => 0,
        };
        self.steps.extend((0..n).map(|_| Step::Create));
    }

    /// What one replica needs whatever is wanted.
    fn attend(&mut self, scene: &Scene<'_>, replica: &Replica) {
        let Scene { terms, now, .. } = *scene;
        let id = || replica.id.clone();
        match replica.phase {
            Phase::Ended { told: Told::No, .. } => self.steps.push(Step::Report(id())),
            Phase::Ended { since, .. } => self.once(since.after(LINGER), now, || Step::Remove(id())),
            Phase::Starting { since } => {
                let is_retired = self.steps.iter().any(|step| matches!(step, Step::Retire(of, _) if *of == replica.id));
                if !is_retired {
                    self.once(since.after(terms.ready_within), now, || Step::GiveUp(id()));
                }
            }
            Phase::Retiring { since, quiet_since } => {
                let overdue = since.after(terms.drain);
                match quiet_since.map(|at| at.after(QUIET)) {
                    Some(at) if at <= overdue => self.once(at, now, || Step::Stop(id(), Rest::Finished)),
                    _ => {
                        self.once(overdue, now, || Step::Stop(id(), Rest::Overdue));
                        self.look_at(now.after(COUNT_EVERY));
                    }
                }
            }
            Phase::Coming | Phase::Frozen | Phase::Ready(_) | Phase::Going => {}
        }
    }

    fn once(&mut self, at: Moment, now: Moment, step: impl FnOnce() -> Step) {
        match at <= now {
            true => self.steps.push(step()),
            false => self.look_at(at),
        }
    }

    fn look_at(&mut self, at: Moment) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

#[cfg(test)]
mod tests;
