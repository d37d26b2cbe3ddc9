//! Who is on an engine: what was listed, corrected by what was heard since and by looks at single containers. Pure.
//! It promises that what is heard counts at once and that an answer which is older than an event never undoes it. It asks
//! nobody: it says whom to look at.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::facts::{ContainerFacts, ContainerHealth, ContainerState};
use super::reading::{Event, Inspected, What};
use crate::units::Moment;

/// A container that was told to end and still runs after so long has its own idea of the signal: it counts again.
const TOLD_PATIENCE: Duration = Duration::from_secs(60);
/// SIGINT, SIGQUIT, SIGKILL, SIGTERM: with any of them a process ends unless it was written not to.
const ENDING_SIGNALS: [i32; 4] = [2, 3, 9, 15];

/// The containers of one engine, as far as known.
#[derive(Debug, Default)]
pub(super) struct Roll {
    entries: HashMap<Arc<str>, Entry>,
    /// Ends of processes, by container.
    ends: HashMap<Arc<str>, u64>,
    /// Counts the events.
    heard: u64,
    /// The last event about each container, for answers that are on their way.
    last_heard: HashMap<Arc<str>, u64>,
}

#[derive(Debug)]
struct Entry {
    /// As the engine says.
    said: ContainerFacts,
    /// The same with what we know better.
    shown: Arc<ContainerFacts>,
    /// Since when it should end.
    told_at: Option<Moment>,
    /// What it is stopped with; the outer one is `None` before the first look at it.
    stop_signal: Option<Option<i32>>,
    /// When the process began that runs now; `None` before the first look at that one.
    started: Option<String>,
    /// A list or a look showed the process that runs now before an event told of its start.
    is_foreseen: bool,
    /// It was sent this one, and nobody knows yet whether that ends it.
    doubtful: Option<i32>,
}

/// What follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// Whether something else is shown.
    pub(super) is_news: bool,
    /// Whether the container has to be looked at.
    pub(super) look: bool,
}

impl Roll {
    /// So many events were heard: to be noted when something is asked.
    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// What is known now, by age.
    pub(super) fn containers(&self) -> Vec<Arc<ContainerFacts>> {
        let mut all: Vec<_> = self.entries.values().map(|entry| entry.shown.clone()).collect();
        all.sort_unstable_by(|a, b| (a.created_unix, &a.id).cmp(&(b.created_unix, &b.id)));
        all
    }

    /// Ends of processes, by container.
    pub(super) fn ends(&self) -> HashMap<Arc<str>, u64> {
        self.ends.clone()
    }

    /// Takes in an event.
    pub(super) fn hear(&mut self, event: &Event, now: Moment) -> Effect {
        self.heard += 1;
        self.last_heard.insert(event.container.clone(), self.heard);
        if event.what == What::Gone {
            self.ends.remove(&event.container);
            return Effect { is_news: self.entries.remove(&event.container).is_some(), look: false };
        }
        let Some(entry) = self.entries.get_mut(&event.container) else {
            return Effect { is_news: false, look: true };
        };
        let mut look = false;
        match &event.what {
            What::Changed => look = true,
            What::Started => {
                // Its end was not heard of, unless a list was faster than this event; so may a look have been: the next one
                // tells then.
                let is_foreseen = std::mem::take(&mut entry.is_foreseen);
                if entry.said.state == ContainerState::Running && entry.started.is_none() && !is_foreseen {
                    *self.ends.entry(event.container.clone()).or_default() += 1;
                }
                entry.spare();
                look = true;
            }
            What::Signalled(signal) => look = entry.signalled(*signal, now),
            // Of the process before, if an answer has shown the next one already.
            What::Stopped if entry.is_foreseen => {}
            What::Stopped => entry.tell_to_end(now),
            What::Paused => entry.said.state = ContainerState::Paused,
            What::Unpaused => entry.said.state = ContainerState::Running,
            What::Ended(exit_code) => {
                *self.ends.entry(event.container.clone()).or_default() += 1;
                entry.spare();
                (entry.started, entry.is_foreseen) = (None, false);
                entry.said.state = ContainerState::Exited;
                entry.said.exit_code = *exit_code;
                entry.said.health = ContainerHealth::None;
            }
            What::Health(health) => entry.said.health = *health,
            What::Disconnected(network) => {
                entry.said.networks.remove(network);
                // Its ports may have gone with it.
                look = entry.said.state == ContainerState::Running;
            }
            What::Gone => {}
        }
        Effect { is_news: entry.show(), look }
    }

    /// Takes in a look at the container called `id`, asked for when `asked_at` events had been heard; `None`: it is not there.
    pub(super) fn looked(&mut self, id: &Arc<str>, found: Option<Inspected>, asked_at: u64, now: Moment) -> Effect {
        if self.last_heard.get(id).is_some_and(|heard| *heard > asked_at) {
            // What came meanwhile may be in it or not.
            let is_known = self.entries.contains_key(id) || found.is_some();
            return Effect { is_news: false, look: is_known };
        }
        let Some(Inspected { facts, stop_signal, started }) = found else {
            self.ends.remove(id);
            return Effect { is_news: self.entries.remove(id).is_some(), look: false };
        };
        let Some(entry) = self.entries.get_mut(id) else {
            let entry = Entry { stop_signal: Some(stop_signal), started, ..Entry::new(facts) };
            self.entries.insert(id.clone(), entry);
            return Effect { is_news: true, look: false };
        };
        let had_process = matches!(entry.said.state, ContainerState::Running | ContainerState::Paused);
        entry.said = facts;
        entry.is_foreseen |= !had_process && entry.said.state == ContainerState::Running;
        entry.stop_signal = Some(stop_signal);
        let is_another = entry.started.is_some() && started.is_some() && entry.started != started;
        if is_another {
            // Neither its end nor its start was heard of: it restarted while nobody listened.
            *self.ends.entry(id.clone()).or_default() += 1;
            entry.spare();
        }
        entry.started = started;
        if entry.said.state != ContainerState::Running {
            entry.spare();
        } else if let Some(signal) = entry.doubtful.take() {
            entry.signalled(Some(signal), now);
        }
        Effect { is_news: entry.show() | is_another, look: false }
    }

    /// Takes in the whole list, asked for when `asked_at` events had been heard; whether it is news, and whom to look at.
    pub(super) fn listed(&mut self, all: Vec<ContainerFacts>, asked_at: u64) -> (bool, Vec<Arc<str>>) {
        let (mut is_news, mut looks) = (false, Vec::new());
        let is_later = |heard: &HashMap<Arc<str>, u64>, id: &str| heard.get(id).is_some_and(|at| *at > asked_at);
        let present: std::collections::HashSet<_> = all.iter().map(|facts| facts.id.clone()).collect();
        for facts in all {
            if is_later(&self.last_heard, &facts.id) {
                looks.push(facts.id);
                continue;
            }
            is_news |= self.note_listed(facts);
        }
        let before = self.entries.len();
        let last_heard = &self.last_heard;
        self.entries.retain(|id, _| present.contains(id) || is_later(last_heard, id));
        is_news |= self.entries.len() != before;
        self.ends.retain(|id, _| self.entries.contains_key(id));
        self.last_heard.retain(|_, at| *at > asked_at);
        (is_news, looks)
    }

    fn note_listed(&mut self, facts: ContainerFacts) -> bool {
        let Some(entry) = self.entries.get_mut(&facts.id) else {
            self.entries.insert(facts.id.clone(), Entry::new(facts));
            return true;
        };
        // The list forgets what an image was called once the name has moved on.
        let image = std::mem::take(&mut entry.said.image);
        let was_running = entry.said.state == ContainerState::Running;
        let had_process = was_running || entry.said.state == ContainerState::Paused;
        entry.said = facts;
        entry.is_foreseen |= !had_process && entry.said.state == ContainerState::Running;
        if entry.stop_signal.is_some() {
            entry.said.image = image;
        }
        if entry.said.state != ContainerState::Running {
            if was_running && entry.said.state != ContainerState::Paused {
                *self.ends.entry(entry.said.id.clone()).or_default() += 1;
                entry.started = None;
            }
            entry.spare();
        }
        entry.show()
    }

    /// Those that run: first those of whose process it is known when it began, then the others.
    pub(super) fn running(&self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let running = self.entries.iter().filter(|(_, entry)| entry.said.state == ContainerState::Running);
        let (known, unknown): (Vec<_>, Vec<_>) = running.partition(|(_, entry)| entry.started.is_some());
        let ids = |found: Vec<(&Arc<str>, &Entry)>| found.into_iter().map(|(id, _)| id.clone()).collect();
        (ids(known), ids(unknown))
    }

    /// Lets those count again that were told to end long ago and run; whether it is news.
    pub(super) fn spare_stubborn(&mut self, now: Moment) -> bool {
        let mut is_news = false;
        for entry in self.entries.values_mut() {
            if entry.told_at.is_some_and(|at| now.since(at) >= TOLD_PATIENCE) {
                entry.spare();
                is_news |= entry.show();
            }
        }
        is_news
    }
}

impl Entry {
    fn new(facts: ContainerFacts) -> Self {
        let shown = Arc::new(facts.clone());
        Self { shown, said: facts, told_at: None, stop_signal: None, started: None, is_foreseen: false, doubtful: None }
    }

    /// It was sent a signal; whether it has to be looked at to know what that means.
    fn signalled(&mut self, signal: Option<i32>, now: Moment) -> bool {
        let ends =
            signal.is_none_or(|signal| ENDING_SIGNALS.contains(&signal) || self.stop_signal == Some(Some(signal)));
        if ends {
            self.tell_to_end(now);
            return false;
        }
        self.doubtful = signal.filter(|_| self.stop_signal.is_none());
        self.doubtful.is_some()
    }

    fn tell_to_end(&mut self, now: Moment) {
        if self.said.state == ContainerState::Running {
            self.told_at = Some(now);
        }
    }

    fn spare(&mut self) {
        self.told_at = None;
        self.doubtful = None;
    }

    /// Shows what is known by now; whether that is news.
    fn show(&mut self) -> bool {
        let state = match self.said.state {
            ContainerState::Running if self.told_at.is_some() => ContainerState::Stopping,
            state => state,
        };
        let is_same = |shown: &ContainerFacts, said: &ContainerFacts| {
            shown.state == state
                && shown.health == said.health
                && shown.exit_code == said.exit_code
                && shown.name == said.name
                && shown.networks == said.networks
                && shown.published == said.published
                && shown.labels == said.labels
                && shown.image == said.image
        };
        if is_same(&self.shown, &self.said) {
            return false;
        }
        self.shown = Arc::new(ContainerFacts { state, ..self.said.clone() });
        true
    }
}

#[cfg(test)]
mod tests;
