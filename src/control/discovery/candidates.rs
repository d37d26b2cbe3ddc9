//! The containers of all services and how far each has come: to be asked, asked, a member. Pure: time is an argument.
//! It promises that a container whose process, address or fate has changed is asked anew, and that an answer to an older
//! question counts for nothing. It asks nobody: discovery does, and tells what came back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::finding::{Finding, Standing};
use super::readiness::Answer;
use super::{Found, Services};
use crate::runtime::backend::{Instance, Located};
use crate::units::{Moment, ServiceName};

/// Between two questions at first; a cold start is over so soon after the container answers.
const PAUSE_FIRST: Duration = Duration::from_millis(25);
/// Between two questions to one that takes its time.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The pause grows to this part of the time that was waited so far.
const PAUSE_PART: u32 = 20;
/// A question without an answer for so long met a bug of ours.
const OVERDUE: Duration = Duration::from_secs(120);
/// A container that does not answer for so long is worth a word.
const SLOW: Duration = Duration::from_secs(10);
/// One that cannot be reached for so long is not just being wired.
const UNREACHED: Duration = Duration::from_secs(1);

/// The containers of all services.
#[derive(Debug, Default)]
pub struct Candidates {
    services: HashMap<ServiceName, Group>,
    due: BTreeSet<(Moment, ServiceName, Arc<str>)>,
    /// Services whose members are others than they were.
    changed: HashSet<ServiceName>,
    news: Vec<News>,
    n_candidates: u64,
}

#[derive(Debug, Default)]
struct Group {
    candidates: BTreeMap<Arc<str>, Candidate>,
    unreached: BTreeMap<Arc<str>, Unreached>,
    /// Names of those that may not take requests as they are, each with why: paused, or told to end.
    set_aside: Vec<(String, String)>,
}

/// A container that may take requests as far as its engine knows.
#[derive(Debug)]
struct Candidate {
    /// Never reused.
    number: u64,
    name: Arc<str>,
    address: SocketAddr,
    way: Way,
    life: u64,
    created_unix: u64,
    since: Moment,
    stage: Stage,
    was_asked: bool,
    /// Accepting and closing took at most so long.
    slowest_close: Duration,
    last_why: Option<String>,
    is_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is to be asked then.
    Waiting(Moment),
    /// It was asked, and is asked again then if that came to nothing.
    Asked(Moment),
    /// It is a member.
    Ready,
}

/// Who accepts connections at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The container itself.
    Direct,
    /// Perhaps somebody on its behalf: a port of the host.
    Published,
}

/// A container that cannot be reached.
#[derive(Debug)]
struct Unreached {
    name: Arc<str>,
    why: String,
    since: Moment,
    is_told: bool,
}

/// A question to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) service: ServiceName,
    pub(super) container: Arc<str>,
    pub(super) address: SocketAddr,
    pub(super) way: Way,
    pub(super) slowest_close: Duration,
    number: u64,
}

/// Something that an operator wants to know, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) service: ServiceName,
    /// As people call it.
    pub(super) container: Arc<str>,
    pub(super) what: What,
}

/// What became of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It answered, and is a member.
    Ready { address: SocketAddr, after: Duration },
    /// It is none any more.
    Left { address: SocketAddr, why: String },
    /// It runs and cannot be reached.
    Unreachable { why: String },
    /// It runs and does not answer.
    Slow { since: Duration, why: String },
}

impl Candidates {
    /// Takes in what is known of the containers of `service` by now.
    pub(super) fn update(&mut self, service: &ServiceName, found: Found, now: Moment) {
        let group = self.services.entry(service.clone()).or_default();
        let (due, changed, news) = (&mut self.due, &mut self.changed, &mut self.news);
        group.candidates.retain(|id, candidate| {
            let Some(why) = candidate.why_out(found.get(id)) else { return true };
            if let Stage::Waiting(at) | Stage::Asked(at) = candidate.stage {
                due.remove(&(at, service.clone(), id.clone()));
            } else {
                changed.insert(service.clone());
                let what = What::Left { address: candidate.address, why };
                news.push(News { service: service.clone(), container: candidate.name.clone(), what });
            }
            false
        });
        let set_aside = found
            .values()
            .filter_map(|finding| Some((finding.container.name.to_string(), finding.set_aside()?.to_owned())));
        group.set_aside = set_aside.collect();
        group
            .unreached
            .retain(|id, _| matches!(found.get(id), Some(Finding { standing: Standing::Unreachable(_), .. })));
        for (id, finding) in found {
            match &finding.standing {
                Standing::At(address) => {
                    let candidate = group.candidates.entry(id.clone()).or_insert_with(|| {
                        self.n_candidates += 1;
                        due.insert((now, service.clone(), id));
                        Candidate::new(self.n_candidates, &finding, *address, now)
                    });
                    if candidate.name != finding.container.name {
                        candidate.name = finding.container.name.clone();
                        changed.insert(service.clone());
                    }
                }
                Standing::Unreachable(why) => {
                    let unreached = group.unreached.entry(id).or_insert_with(|| Unreached::new(&finding, now));
                    unreached.why = why.to_string();
                    if !unreached.is_told && now.since(unreached.since) >= UNREACHED {
                        unreached.is_told = true;
                        let (container, what) = (unreached.name.clone(), What::Unreachable { why: why.to_string() });
                        news.push(News { service: service.clone(), container, what });
                    }
                }
                Standing::Out(_) => {}
            }
        }
    }

    /// Forgets all services but these.
    pub(super) fn retain(&mut self, services: &Services) {
        self.services.retain(|service, _| services.contains(service));
        self.due.retain(|(_, service, _)| services.contains(service));
        self.changed.retain(|service| services.contains(service));
    }

    /// Whether `service` was ever taken in.
    pub(super) fn knows(&self, service: &ServiceName) -> bool {
        self.services.contains_key(service)
    }

    /// The next question that is due by `now`, if there is one.
    pub(super) fn start(&mut self, now: Moment) -> Option<Job> {
        let (at, _, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        let (_, service, id) = self.due.pop_first().expect("just seen");
        let candidate = self.services.get_mut(&service).and_then(|group| group.candidates.get_mut(&id));
        let candidate = candidate.expect("who is due is a candidate");
        let overdue = now.after(OVERDUE);
        candidate.stage = Stage::Asked(overdue);
        let Candidate { address, way, number, slowest_close, .. } = *candidate;
        self.due.insert((overdue, service.clone(), id.clone()));
        Some(Job { service, container: id, address, way, slowest_close, number })
    }

    /// Takes in what came back.
    pub(super) fn answered(&mut self, job: &Job, answer: &Answer, now: Moment) {
        let group = self.services.get_mut(&job.service);
        let candidate = group.and_then(|group| group.candidates.get_mut(&job.container));
        let Some(candidate) = candidate.filter(|candidate| candidate.number == job.number) else { return };
        let Stage::Asked(overdue) = candidate.stage else { return };
        self.due.remove(&(overdue, job.service.clone(), job.container.clone()));
        candidate.was_asked = true;
        let waited = now.since(candidate.since);
        let mut tell = |what| {
            self.news.push(News { service: job.service.clone(), container: candidate.name.clone(), what });
        };
        match answer {
            Answer::Ready => {
                candidate.stage = Stage::Ready;
                candidate.last_why = None;
                self.changed.insert(job.service.clone());
                tell(What::Ready { address: candidate.address, after: waited });
            }
            Answer::NotYet { why, closed_after } => {
                candidate.slowest_close = candidate.slowest_close.max(closed_after.unwrap_or_default());
                if waited >= SLOW && !candidate.is_told {
                    candidate.is_told = true;
                    tell(What::Slow { since: waited, why: why.clone() });
                }
                candidate.last_why = Some(why.clone());
                let next = now.after((waited / PAUSE_PART).clamp(PAUSE_FIRST, PAUSE_MAX));
                candidate.stage = Stage::Waiting(next);
                self.due.insert((next, job.service.clone(), job.container.clone()));
            }
        }
    }

    /// When the next question is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.due.first().map(|(at, _, _)| *at)
    }

    /// Whether every container that may take requests has answered once, or not answered.
    pub(super) fn were_all_asked(&self) -> bool {
        self.services.values().flat_map(|group| group.candidates.values()).all(|candidate| candidate.was_asked)
    }

    /// The members of a service.
    pub(super) fn ready(&self, service: &ServiceName) -> BTreeSet<Located> {
        let mut by_address: BTreeMap<SocketAddr, (&Arc<str>, &Candidate)> = BTreeMap::new();
        for (id, candidate) in self.services.get(service).into_iter().flat_map(|group| &group.candidates) {
            if candidate.stage != Stage::Ready {
                continue;
            }
            // Two at one address, as on the host's network: the younger one has it by now, if either has.
            let known = by_address.entry(candidate.address).or_insert((id, candidate));
            if (known.1.created_unix, known.0) < (candidate.created_unix, id) {
                *known = (id, candidate);
            }
        }
        let located = |(address, (id, candidate)): (SocketAddr, (&Arc<str>, &Candidate))| Located {
            address,
            instance: Some(Instance { id: id.clone(), name: candidate.name.clone() }),
        };
        by_address.into_iter().map(located).collect()
    }

    /// Containers of a service that are members, and those that run and are none yet.
    pub(super) fn count(&self, service: &ServiceName) -> (u32, u32) {
        let candidates = self.services.get(service).into_iter().flat_map(|group| group.candidates.values());
        candidates.fold((0, 0), |(ready, starting), candidate| match candidate.stage {
            Stage::Ready => (ready + 1, starting),
            Stage::Waiting(_) | Stage::Asked(_) => (ready, starting + 1),
        })
    }

    /// Containers of a service whose process is there and that are no members, each with why.
    pub(super) fn notes(&self, service: &ServiceName, now: Moment) -> Vec<(String, String)> {
        let Some(group) = self.services.get(service) else { return Vec::new() };
        let unreached = group.unreached.values().map(|container| (container.name.to_string(), container.why.clone()));
        let waiting = group.candidates.values().filter_map(|candidate| {
            let why = candidate.last_why.as_ref()?;
            let since = now.since(candidate.since).as_secs();
            Some((candidate.name.to_string(), format!("not ready for {since}s: {why}")))
        });
        let mut all: Vec<_> = unreached.chain(waiting).chain(group.set_aside.iter().cloned()).collect();
        all.sort();
        all
    }

    /// Services whose members are others than when it was last asked.
    pub(super) fn take_changed(&mut self) -> HashSet<ServiceName> {
        std::mem::take(&mut self.changed)
    }

    /// What happened since it was last asked.
    pub(super) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }
}

impl Candidate {
    fn new(number: u64, finding: &Finding, address: SocketAddr, now: Moment) -> Self {
        let is_own = finding.container.networks.values().flatten().any(|ip| *ip == address.ip());
        Self {
            number,
            name: finding.container.name.clone(),
            address,
            way: if is_own { Way::Direct } else { Way::Published },
            life: finding.life,
            created_unix: finding.container.created_unix,
            since: now,
            stage: Stage::Waiting(now),
            was_asked: false,
            slowest_close: Duration::ZERO,
            last_why: None,
            is_told: false,
        }
    }

    /// Why it is no candidate any more, if it is none.
    fn why_out(&self, finding: Option<&Finding>) -> Option<String> {
        let Some(finding) = finding else { return Some("it is gone, or its labels are others".to_owned()) };
        match &finding.standing {
            Standing::Out(why) => Some(why.clone()),
            Standing::Unreachable(why) => Some(why.to_string()),
            Standing::At(address) if *address != self.address => Some(format!("it is at {address} now")),
            Standing::At(_) if finding.life != self.life => Some("it was restarted".to_owned()),
            Standing::At(_) => None,
        }
    }
}

impl Unreached {
    fn new(finding: &Finding, now: Moment) -> Self {
        Self { name: finding.container.name.clone(), why: String::new(), since: now, is_told: false }
    }
}

#[cfg(test)]
mod tests;
