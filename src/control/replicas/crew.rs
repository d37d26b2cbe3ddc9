//! What is known of the containers of one service from look to look: who is ready since when, who retires, what ended.
//! Takes the present as an argument and does nothing itself. Promises that what we do is seen at once, before the engine
//! tells it, and that an end is noticed once. It decides nothing: [`plan`](super::plan) does, from what it shows.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::brake::{Brake, STEADY};
use super::plan::{Phase, Replica, Told, Vintage, Weight};
use crate::control::docker::facts::{ContainerFacts, ContainerState, LABEL_TEMPLATE};
use crate::runtime::backend::Backend;
use crate::units::Moment;

/// A container that we made and that the engine's list does not show by now was taken away by somebody.
const SHOWN_WITHIN: Duration = Duration::from_secs(15);
/// What an engine could not do is asked of it again after so long.
const AGAIN: Duration = Duration::from_secs(2);

/// The containers of one service.
#[derive(Debug, Default)]
pub struct Crew {
    known: HashMap<Arc<str>, Known>,
    /// By the name that we gave.
    coming: HashMap<Arc<str>, Coming>,
    /// What the last starts came to.
    pub brake: Brake,
    /// Counts up, so that of two that were made in one second the younger is known.
    n_seen: u64,
}

#[derive(Debug)]
struct Coming {
    mark: Arc<str>,
    began: Moment,
    born: u64,
}

#[derive(Debug)]
struct Known {
    name: Arc<str>,
    mark: Arc<str>,
    /// The image that it was made from; empty until the engine shows it.
    image: Arc<str>,
    born: u64,
    /// When its start began, or when it was first seen.
    began: Moment,
    origin: Origin,
    unready_since: Moment,
    ready_since: Option<Moment>,
    was_ready: bool,
    /// It has served for a good while, or somebody asked it to end: its end is no failed start.
    may_end: bool,
    backend: Weak<Backend>,
    retired: Option<Retired>,
    ended: Option<Ended>,
    work: Work,
}

/// How we came to know of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// We made it, and the engine's list has not shown it yet.
    Made,
    /// It is in the list.
    Listed,
}

#[derive(Debug)]
struct Retired {
    at: Moment,
    quiet_since: Option<Moment>,
}

#[derive(Debug)]
struct Ended {
    at: Moment,
    told: Told,
}

/// What we are doing with a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Nothing.
    None,
    /// A task is at it.
    UnderWay,
    /// The task could not do it; to be tried again then.
    Failed(Moment),
    /// It is removed; the engine's list still shows it.
    Removed,
}

/// What there is to see at one moment.
#[derive(Debug)]
pub struct Sight<'a> {
    /// The containers of the service.
    pub containers: &'a [&'a ContainerFacts],
    /// The members of the service that are containers.
    pub members: &'a HashMap<Arc<str>, Arc<Backend>>,
    /// What replicas are made from now; `None` if the service is gone.
    pub mark: Option<&'a Arc<str>>,
    /// What the name of their image means now; `None` if nobody knows.
    pub image: Option<&'a Arc<str>>,
    /// The ramp of new replicas.
    pub slow_start: Duration,
    /// The present.
    pub now: Moment,
    /// Chance.
    pub random: u64,
}

/// What became of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Its id.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What.
    pub what: What,
}

/// What became of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was there before we were.
    Adopted,
    /// It takes requests, so long after its start began.
    Ready(Duration),
    /// It ended by itself. Its words are to follow.
    Ended,
}

/// How a replica that ended by itself is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOf {
    /// It had run well.
    Steady,
    /// A start, by the template that holds.
    Start,
    /// It had ended before we came, or it is of no template that matters.
    Leftover,
}

/// What there is, for the plan, and what is new.
#[derive(Debug, Default)]
pub struct Seen {
    /// Every container that still counts.
    pub replicas: Vec<Replica>,
    /// In no certain order.
    pub news: Vec<News>,
}

impl Crew {
    /// Looks at what there is.
    pub fn look(&mut self, sight: &Sight<'_>) -> Seen {
        let mut seen = Seen::default();
        let listed: HashMap<&str, &ContainerFacts> =
            sight.containers.iter().map(|container| (&*container.id, *container)).collect();
        self.forget_gone(&listed, sight.now);
        for container in sight.containers {
            // One that is being made is known by its name; its id is not known before the engine's answer.
            if self.coming.contains_key(&container.name) {
                continue;
            }
            self.note(container, sight, &mut seen);
        }
        for (id, known) in &self.known {
            let phase = match known.work {
                Work::Removed => continue,
                Work::UnderWay => Phase::Going,
                Work::Failed(until) if sight.now < until => Phase::Going,
                Work::None | Work::Failed(_) => known.phase(listed.get(&**id).map(|container| container.state), sight),
            };
            seen.replicas.push(Replica { id: id.clone(), vintage: known.vintage(sight), phase, born: known.born });
        }
        let coming = self.coming.iter().map(|(name, coming)| Replica {
            id: name.clone(),
            vintage: vintage(&coming.mark, sight.mark),
            phase: Phase::Coming,
            born: coming.born,
        });
        seen.replicas.extend(coming);
        seen.replicas.sort_by(|a, b| (a.born, &a.id).cmp(&(b.born, &b.id)));
        for known in self.known.values().filter(|known| Some(&known.mark) == sight.mark) {
            if let Some(ready_since) = known.ready_since {
                self.brake.runs(ready_since, sight.now);
            }
        }
        seen
    }

    fn forget_gone(&mut self, listed: &HashMap<&str, &ContainerFacts>, now: Moment) {
        self.known.retain(|id, known| {
            let is_awaited = known.origin == Origin::Made && now.since(known.began) < SHOWN_WITHIN;
            listed.contains_key(&**id) || (is_awaited && known.work != Work::Removed) || known.work == Work::UnderWay
        });
    }

    fn note(&mut self, container: &ContainerFacts, sight: &Sight<'_>, seen: &mut Seen) {
        let born = self.next_born(container.created_unix);
        let known = self.known.entry(container.id.clone()).or_insert_with(|| {
            if container.state == ContainerState::Running {
                seen.news.push(News { id: container.id.clone(), name: container.name.clone(), what: What::Adopted });
            }
            let mark = container.labels.get(LABEL_TEMPLATE).map_or("", String::as_str);
            let mut known = Known::new(container.name.clone(), mark.into(), born, sight.now);
            if !matches!(container.state, ContainerState::Running | ContainerState::Paused) {
                // Its end is not ours to judge; its words are told once all the same.
                known.retired = Some(Retired { at: sight.now, quiet_since: None });
            }
            known
        });
        known.origin = Origin::Listed;
        if *known.image != *container.image_id {
            known.image = container.image_id.as_str().into();
        }
        if let Some(member) = sight.members.get(&container.id) {
            known.backend = Arc::downgrade(member);
        }
        let is_member = sight.members.contains_key(&container.id);
        known.count(is_member, sight.now);
        if matches!(known.work, Work::UnderWay | Work::Removed) {
            return;
        }
        match container.state {
            ContainerState::Exited | ContainerState::Dead => {
                if known.ended.is_none() {
                    known.end(sight.now);
                    let what = What::Ended;
                    seen.news.push(News { id: container.id.clone(), name: known.name.clone(), what });
                    let is_start = known.end_of(sight.mark, sight.now) == EndOf::Start;
                    if is_start {
                        self.brake.failed(known.began, sight.now, sight.random);
                    }
                }
            }
            ContainerState::Stopping => known.may_end = true,
            _ => {
                // It runs again: this is another life.
                let was_ended = known.ended.take().is_some();
                known.may_end &= !was_ended;
            }
        }
        if is_member && known.ready_since.is_none() && known.retired.is_none() {
            known.ready_since = Some(sight.now);
            if !known.was_ready {
                known.was_ready = true;
                let what = What::Ready(sight.now.since(known.began));
                seen.news.push(News { id: container.id.clone(), name: known.name.clone(), what });
            }
        }
        if !is_member && let Some(since) = known.ready_since.take() {
            known.unready_since = sight.now;
            known.may_end |= sight.now.since(since) >= STEADY;
        }
    }

    fn next_born(&mut self, created_unix: u64) -> u64 {
        self.n_seen += 1;
        (created_unix << 20) | (self.n_seen & 0xf_ffff)
    }

    /// The engine is asked to make one.
    pub fn making(&mut self, name: Arc<str>, mark: Arc<str>, now: Moment, created_unix: u64) {
        let born = self.next_born(created_unix);
        self.coming.insert(name, Coming { mark, began: now, born });
    }

    /// What the one is made from that is called `name` and is being made.
    pub fn mark_of_coming(&self, name: &str) -> Option<Arc<str>> {
        self.coming.get(name).map(|coming| coming.mark.clone())
    }

    /// It is made, and runs.
    pub fn made(&mut self, name: &Arc<str>, id: Arc<str>, now: Moment) {
        let Some(coming) = self.coming.remove(name) else { return };
        let mut known = Known::new(name.clone(), coming.mark, coming.born, coming.began);
        (known.origin, known.unready_since) = (Origin::Made, now);
        self.known.insert(id, known);
    }

    /// It could not be made. Returns how many starts have failed in a row, if it was by the template that holds.
    pub fn not_made(&mut self, name: &str, mark: Option<&Arc<str>>, now: Moment, random: u64) -> Option<u32> {
        let coming = self.coming.remove(name)?;
        (Some(&coming.mark) == mark).then(|| self.brake.failed(coming.began, now, random))
    }

    /// It is to take no more requests.
    pub fn retired(&mut self, id: &str, now: Moment) {
        if let Some(known) = self.known.get_mut(id) {
            known.retired = Some(Retired { at: now, quiet_since: None });
            known.ready_since = None;
        }
    }

    /// It is needed after all.
    pub fn taken_back(&mut self, id: &str, now: Moment) {
        if let Some(known) = self.known.get_mut(id) {
            known.retired = None;
            known.unready_since = now;
        }
    }

    /// A task is at it.
    pub fn at_work(&mut self, id: &str) {
        self.set_work(id, Work::UnderWay);
    }

    /// The task is done, and the container is still there.
    pub fn work_done(&mut self, id: &str) {
        self.set_work(id, Work::None);
    }

    /// The engine did not do it.
    pub fn work_failed(&mut self, id: &str, now: Moment) {
        self.set_work(id, Work::Failed(now.after(AGAIN)));
    }

    /// The task has removed it.
    pub fn removed(&mut self, id: &str) {
        self.set_work(id, Work::Removed);
    }

    fn set_work(&mut self, id: &str, work: Work) {
        if let Some(known) = self.known.get_mut(id) {
            known.work = work;
        }
    }

    /// Its last words were read.
    pub fn told(&mut self, id: &str) {
        if let Some(ended) = self.known.get_mut(id).and_then(|known| known.ended.as_mut()) {
            ended.told = Told::Yes;
        }
    }

    /// It did not get ready in time: a start has failed, if it is by the template that holds.
    pub fn gave_up(&mut self, id: &str, mark: Option<&Arc<str>>, now: Moment, random: u64) {
        let Some(known) = self.known.get(id) else { return };
        if Some(&known.mark) == mark {
            self.brake.failed(known.began, now, random);
        }
    }

    /// What its end means.
    pub fn end_of(&self, id: &str, mark: Option<&Arc<str>>, now: Moment) -> EndOf {
        self.known.get(id).map_or(EndOf::Leftover, |known| known.end_of(mark, now))
    }

    /// Its name, if it is known.
    pub fn name(&self, id: &str) -> Option<Arc<str>> {
        self.known.get(id).map(|known| known.name.clone())
    }

    /// Requests at it.
    pub fn in_flight(&self, id: &str) -> u32 {
        let backend = self.known.get(id).and_then(|known| known.backend.upgrade());
        backend.map_or(0, |backend| backend.in_flight())
    }

    /// Whether it has replicas, those aside that are being made.
    pub fn has_replicas(&self) -> bool {
        !self.known.is_empty()
    }

    /// Whether anything of the service is left.
    pub fn is_empty(&self) -> bool {
        self.coming.is_empty() && self.known.is_empty()
    }
}

impl Known {
    fn new(name: Arc<str>, mark: Arc<str>, born: u64, now: Moment) -> Self {
        Self {
            name,
            mark,
            image: "".into(),
            born,
            began: now,
            origin: Origin::Listed,
            unready_since: now,
            ready_since: None,
            was_ready: false,
            may_end: false,
            backend: Weak::new(),
            retired: None,
            ended: None,
            work: Work::None,
        }
    }

    /// Made from another image than its name means by now, it is as old as one of another template.
    fn vintage(&self, sight: &Sight<'_>) -> Vintage {
        let is_moved = |image: &Arc<str>| !self.image.is_empty() && *image != self.image;
        match sight.image {
            Some(image) if is_moved(image) => Vintage::Old,
            _ => vintage(&self.mark, sight.mark),
        }
    }

    /// Counts what is left at one that retires.
    fn count(&mut self, is_member: bool, now: Moment) {
        let Some(retired) = &mut self.retired else { return };
        let n_left = self.backend.upgrade().map_or(0, |backend| backend.in_flight());
        match is_member || n_left > 0 {
            true => retired.quiet_since = None,
            false => _ = retired.quiet_since.get_or_insert(now),
        }
    }

    fn end(&mut self, now: Moment) {
        // What we asked to end, and what was over before we came, has nothing to say that matters.
        self.ended = Some(Ended { at: now, told: Told::No });
    }

    fn end_of(&self, mark: Option<&Arc<str>>, now: Moment) -> EndOf {
        let is_steady = self.may_end || self.ready_since.is_some_and(|since| now.since(since) >= STEADY);
        match (&self.retired, Some(&self.mark) == mark) {
            (Some(_), _) => EndOf::Leftover,
            (None, _) if is_steady => EndOf::Steady,
            (None, true) => EndOf::Start,
            (None, false) => EndOf::Steady,
        }
    }

    /// What it does, as far as it is not our own doing. `None`: the engine's list does not show it yet.
    fn phase(&self, state: Option<ContainerState>, sight: &Sight<'_>) -> Phase {
        if let Some(Ended { at, told }) = self.ended {
            return Phase::Ended { since: at, told };
        }
        match state {
            Some(ContainerState::Stopping | ContainerState::Removing) => return Phase::Going,
            // It was never started: whoever made it did not come so far.
            Some(ContainerState::Created) if self.origin == Origin::Listed && self.retired.is_some() => {
                return Phase::Ended { since: self.began, told: Told::Yes };
            }
            _ => {}
        }
        if let Some(Retired { at, quiet_since }) = self.retired {
            return Phase::Retiring { since: at, quiet_since };
        }
        match (self.ready_since, state) {
            (_, Some(ContainerState::Paused)) => Phase::Frozen,
            (Some(since), _) if sight.now.since(since) >= sight.slow_start => Phase::Ready(Weight::Whole),
            (Some(_), _) => Phase::Ready(Weight::Growing),
            (None, _) => Phase::Starting { since: self.unready_since },
        }
    }
}

fn vintage(mark: &Arc<str>, now: Option<&Arc<str>>) -> Vintage {
    if Some(mark) == now { Vintage::Current } else { Vintage::Old }
}

#[cfg(test)]
mod tests;
