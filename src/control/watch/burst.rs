//! The events of one save, and when it is over.
//! Promises that an event about something else wakes nobody, and that a file which is being written is given time.
//! It reads nothing.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, Event, EventKind, ModifyKind};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::targets::Targets;
use super::{PATIENCE, QUIET};

/// A writer that has the file open is given so long after its last write,
const WRITER_QUIET: Duration = Duration::from_secs(1);
/// and so long in all.
const WRITER_PATIENCE: Duration = Duration::from_secs(10);
/// Open writers that are remembered: there are as many as there are files at most.
const WRITERS_MAX: usize = 1_000;

/// What the thread that reads events tells whoever waits for a change.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    state: Mutex<State>,
    woken: Notify,
}

#[derive(Debug, Default)]
struct State {
    targets: Targets,
    burst: Option<Burst>,
}

/// Events that belong together.
#[derive(Clone, Debug)]
struct Burst {
    first: Instant,
    last: Instant,
    /// Files that were written and not closed.
    writers: HashSet<PathBuf>,
}

impl Burst {
    /// When it is over, if nothing else happens.
    fn due(&self) -> Instant {
        let (quiet, patience) =
            if self.writers.is_empty() { (QUIET, PATIENCE) } else { (WRITER_QUIET, WRITER_PATIENCE) };
        (self.last + quiet).min(self.first + patience)
    }

    fn add(&mut self, event: &Event, now: Instant) {
        self.last = now;
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) if self.writers.len() < WRITERS_MAX => {
                self.writers.extend(event.paths.iter().cloned());
            }
            EventKind::Access(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                for path in &event.paths {
                    self.writers.remove(path);
                }
            }
            _ => {}
        }
    }
}

impl State {
    fn add(&mut self, event: &Event) {
        let now = Instant::now();
        let begin = || Burst { first: now, last: now, writers: HashSet::new() };
        self.burst.get_or_insert_with(begin).add(event, now);
    }
}

/// Whether something may have been written. Our own reading is an event as well: it opens and closes.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

impl Sightings {
    /// What is of interest from now on.
    pub(super) fn watch_for(&self, targets: Targets) {
        self.lock().targets = targets;
    }

    /// An event, or the news that some were lost.
    pub(super) fn note(&self, event: notify::Result<Event>) {
        let mut state = self.lock();
        // Lost events can have been about anything: look.
        let event = event.unwrap_or_default();
        let is_lost = event.paths.is_empty() || event.need_rescan();
        let is_ours = is_change(&event) && event.paths.iter().any(|path| state.targets.concerns(path));
        if is_lost || is_ours {
            state.add(&event);
            self.woken.notify_one();
        }
    }

    /// Something may have changed that was no event.
    pub(super) fn nudge(&self) {
        self.lock().add(&Event::default());
        self.woken.notify_one();
    }

    /// Waits for the end of a burst, or for `poll_at`. Cancel-safe.
    pub(super) async fn settled(&self, poll_at: Instant) {
        loop {
            let due = self.lock().burst.as_ref().map(Burst::due);
            if due.is_some_and(|due| due <= Instant::now()) {
                break;
            }
            tokio::select! {
                () = self.woken.notified() => {}
                () = tokio::time::sleep_until(due.unwrap_or(poll_at)) => break,
            }
        }
        self.lock().burst = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{DataChange, MetadataKind};

    fn written(path: &str) -> Event {
        Event::new(EventKind::Modify(ModifyKind::Data(DataChange::Any))).add_path(path.into())
    }

    fn closed(path: &str) -> Event {
        Event::new(EventKind::Access(AccessKind::Close(AccessMode::Write))).add_path(path.into())
    }

    #[test]
    fn a_save_is_over_when_it_has_been_quiet_and_never_takes_for_ever() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut burst = Burst { first: start, last: start, writers: HashSet::new() };
        burst.add(&closed("/a"), at(50));
        assert_eq!(burst.due(), at(150));
        burst.add(&closed("/a"), at(980));
        assert_eq!(burst.due(), at(1_000));
    }

    #[test]
    fn a_writer_that_has_not_closed_its_file_is_waited_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut burst = Burst { first: start, last: start, writers: HashSet::new() };
        burst.add(&written("/a"), at(2_900));
        assert_eq!(burst.due(), at(3_900));
        burst.add(&closed("/a"), at(3_000));
        assert!(burst.due() <= at(3_100));
        burst.add(&written("/a"), at(9_900));
        assert_eq!(burst.due(), at(10_000));
    }

    #[test]
    fn reading_is_no_change_and_permissions_are() {
        let opened = Event::new(EventKind::Access(AccessKind::Open(AccessMode::Any)));
        assert!(!is_change(&opened));
        let mode = Event::new(EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)));
        assert!(is_change(&mode));
    }
}
