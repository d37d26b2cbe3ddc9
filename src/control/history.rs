//! The last good configurations, each whole: what a rollback returns to.
//! Promises that they are few and that the active one is among them. In memory: they end with the process, as the next one
//! starts with what is in the file.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::checked::Config;
use crate::config::load::to_yaml;
use crate::config::{raw, show};

/// Configurations that are kept, the active one among them.
pub const KEPT_MAX: usize = 10;

/// Where an applied configuration came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its file, or what the process was started with.
    File,
    /// A rollback to this generation.
    Rollback(u64),
}

/// A configuration that was or is in effect.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its number.
    pub generation: u64,
    /// When it took effect, since 1970-01-01 UTC.
    pub at_unix: Duration,
    /// Where it came from.
    pub origin: Origin,
    /// What was checked, included files among it, variables replaced.
    pub config: Arc<Config>,
    /// Its long form, without secrets.
    pub text: Arc<Text>,
}

/// The long form of a configuration, written when somebody first asks: of a large one it takes as long as reading it.
#[derive(Debug)]
pub struct Text {
    typed: Option<Box<raw::Config>>,
    written: OnceLock<String>,
}

impl Text {
    /// The long form of what was typed.
    pub fn of(typed: raw::Config) -> Self {
        Self { typed: Some(Box::new(typed)), written: OnceLock::new() }
    }

    /// A long form that is there.
    pub fn written(text: String) -> Self {
        Self { typed: None, written: OnceLock::from(text) }
    }

    /// The text, with what is in force by `config`.
    pub fn read(&self, config: &Config) -> &str {
        let write =
            || self.typed.as_ref().map_or_else(String::new, |typed| to_yaml(&show::with_defaults(typed, config)));
        self.written.get_or_init(write)
    }
}

/// The last good configurations, oldest first.
#[derive(Clone, Debug)]
pub struct History {
    entries: VecDeque<Applied>,
}

impl History {
    /// Begins with the first.
    pub fn new(first: Applied) -> Self {
        Self { entries: VecDeque::from([first]) }
    }

    /// A further one took effect; beyond [`KEPT_MAX`] the oldest is forgotten.
    pub fn push(&mut self, applied: Applied) {
        debug_assert!(applied.generation > self.active().generation);
        self.entries.push_back(applied);
        while self.entries.len() > KEPT_MAX {
            self.entries.pop_front();
        }
    }

    /// The one in effect.
    pub fn active(&self) -> &Applied {
        self.entries.back().expect("it begins with one and always keeps the last")
    }

    /// The text of the active one was written anew and means the same.
    pub fn respell(&mut self, text: Arc<Text>) {
        if let Some(active) = self.entries.back_mut() {
            active.text = text;
        }
    }

    /// The one with this number, or the one before the active one.
    pub fn find(&self, generation: Option<u64>) -> Option<&Applied> {
        match generation {
            Some(wanted) => self.entries.iter().find(|entry| entry.generation == wanted),
            None => self.entries.iter().rev().nth(1),
        }
    }

    /// All of them, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Applied> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::expand::ProcessEnvironment;
    use crate::config::load;

    fn applied(generation: u64) -> Applied {
        let yaml = "services: { web: { backends: [\"127.0.0.1:1\"] } }";
        let loaded = load::parse(yaml, "portway.yaml", &ProcessEnvironment).unwrap();
        let (config, text) = (loaded.config.into(), Text::of(loaded.raw).into());
        Applied { generation, at_unix: Duration::ZERO, origin: Origin::File, config, text }
    }

    #[test]
    fn the_long_form_is_written_when_it_is_read() {
        let first = applied(1);
        let text = first.text.read(&first.config);
        assert!(text.contains("listen:") && text.contains("127.0.0.1:1"), "{text}");
    }

    #[test]
    fn ten_are_kept_and_the_one_before_the_active_one_is_the_usual_choice() {
        let mut history = History::new(applied(1));
        assert!(history.find(None).is_none());
        for generation in 2..=15 {
            history.push(applied(generation));
        }
        let kept: Vec<_> = history.entries().map(|entry| entry.generation).collect();
        assert_eq!(kept, (6..=15).collect::<Vec<_>>());
        assert_eq!(history.active().generation, 15);
        assert_eq!(history.find(None).map(|entry| entry.generation), Some(14));
        assert_eq!(history.find(Some(6)).map(|entry| entry.generation), Some(6));
        assert!(history.find(Some(5)).is_none());
    }
}
