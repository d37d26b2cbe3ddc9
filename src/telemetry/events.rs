//! What happened lately, for people who look after the fact: reloads, drains, ejections, as `GET /api/v1/events` shows them.
//! Promises bounded memory: old events make room for new ones, and long texts are cut. It is no log: the operator's log says the same on stderr.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Events that are kept: a busy day of a small installation.
const EVENTS_MAX: usize = 256;
/// Characters of a message or of one field's value.
const CHARS_MAX: usize = 512;
/// Fields of one event.
const FIELDS_MAX: usize = 16;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 1 without gaps, so that a reader notices what it missed.
    pub seq: u64,
    /// RFC 3339, UTC, milliseconds.
    pub ts: String,
    /// A word for programs: `config_applied`.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
    /// Names and values, in the order given.
    pub fields: Vec<(String, String)>,
}

/// The latest events.
#[derive(Debug, Default)]
pub struct Events {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    last_seq: u64,
}

impl Events {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event that happened now.
    pub fn push(&self, kind: &'static str, message: impl Display, fields: &[(&str, &dyn Display)]) {
        let text = |value: &dyn Display| value.to_string().chars().take(CHARS_MAX).collect::<String>();
        let fields = fields.iter().take(FIELDS_MAX).map(|(name, value)| ((*name).to_owned(), text(value)));
        let (fields, message) = (fields.collect(), text(&message));
        let ts = format!("{:.3}", jiff::Timestamp::now());
        let mut ring = self.lock();
        ring.last_seq += 1;
        let event = Event { seq: ring.last_seq, ts, kind: kind.to_owned(), message, fields };
        if ring.events.len() == EVENTS_MAX {
            ring.events.pop_front();
        }
        ring.events.push_back(event);
    }

    /// Those that are still kept, oldest first.
    pub fn all(&self) -> Vec<Event> {
        self.lock().events.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_time_a_kind_and_its_fields() {
        let events = Events::new();
        events.push("config_applied", "config applied", &[("generation", &42), ("file", &"portway.yaml")]);
        let [event] = &events.all()[..] else { panic!("one event") };
        assert_eq!((event.seq, event.kind.as_str()), (1, "config_applied"));
        assert_eq!(event.fields[0], ("generation".to_owned(), "42".to_owned()));
        assert_eq!(event.ts.len(), "2026-01-02T03:04:05.678Z".len(), "{}", event.ts);
    }

    #[test]
    fn old_events_make_room_for_new_ones() {
        let events = Events::new();
        (0..1_000).for_each(|n| events.push("n", n, &[]));
        let all = events.all();
        assert_eq!(all.len(), EVENTS_MAX);
        assert_eq!((all[0].seq, all.last().unwrap().seq), (745, 1_000));
        assert_eq!(all.last().unwrap().message, "999");
    }

    #[test]
    fn long_texts_are_cut() {
        let events = Events::new();
        let long = "é".repeat(10_000);
        let fields: Vec<(&str, &dyn Display)> = (0..100).map(|_| ("k", &long as &dyn Display)).collect();
        events.push("n", &long, &fields);
        let event = &events.all()[0];
        assert_eq!(event.message.chars().count(), CHARS_MAX);
        assert_eq!(event.fields.len(), FIELDS_MAX);
        assert_eq!(event.fields[0].1.chars().count(), CHARS_MAX);
    }
}
