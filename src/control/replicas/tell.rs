//! What people are told of replicas: the log, the events, and the words that requests get which waited for a start.
//! Promises one line and one event for each turn, with what was known when it was decided. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use super::act::{Hope, Refusal};
use crate::runtime::scale::StartFailure;
use crate::runtime::service::Service;
use crate::telemetry::events::Events;
use crate::units::Moment;

/// Tells of the replicas of all services.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    pub(super) events: Arc<Events>,
}

/// Why there are to be so many.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    pub(super) wanted: u32,
    pub(super) because: Arc<str>,
}

/// How a replica ended.
#[derive(Clone, Debug)]
pub(super) struct Death {
    pub(super) replica: Arc<str>,
    pub(super) exit_code: Option<i64>,
    pub(super) last_words: Vec<String>,
}

impl Teller {
    pub(super) fn adopted(&self, service: &str, replica: &str) {
        tracing::info!(service, replica, "replica adopted");
        self.events.push("replica_adopted", "replica adopted", &[("service", &service), ("replica", &replica)]);
    }

    pub(super) fn started(&self, service: &str, replica: &str, took: Duration, aim: Option<&Aim>) {
        let took_ms = millis(took);
        let (wanted, because) = aim.map_or((0, "not wanted any more"), |aim| (aim.wanted, &*aim.because));
        tracing::info!(service, replica, took_ms, wanted, because, "replica started");
        self.events.push(
            "replica_started",
            "replica started",
            &[
                ("service", &service),
                ("replica", &replica),
                ("took_ms", &took_ms),
                ("wanted", &wanted),
                ("because", &because),
            ],
        );
    }

    pub(super) fn ready(&self, service: &str, replica: &str, took: Duration) {
        let took_ms = millis(took);
        tracing::debug!(service, replica, took_ms, "replica ready"); // discovery has said it to operators
        let fields: [(&str, &dyn std::fmt::Display); 3] =
            [("service", &service), ("replica", &replica), ("took_ms", &took_ms)];
        self.events.push("replica_ready", "replica ready", &fields);
    }

    pub(super) fn retired(&self, service: &str, replica: &str, because: &str, in_flight: u32) {
        tracing::info!(service, replica, because, in_flight, "replica retired");
        let fields: [(&str, &dyn std::fmt::Display); 4] =
            [("service", &service), ("replica", &replica), ("because", &because), ("in_flight", &in_flight)];
        self.events.push("replica_retired", "replica retired", &fields);
    }

    pub(super) fn taken_back(&self, service: &str, replica: &str) {
        tracing::info!(service, replica, "replica taken back");
        let fields: [(&str, &dyn std::fmt::Display); 2] = [("service", &service), ("replica", &replica)];
        self.events.push("replica_taken_back", "replica taken back: it is needed after all", &fields);
    }

    pub(super) fn cut(&self, service: &str, replica: &str, in_flight: u32) {
        tracing::warn!(service, replica, in_flight, "replica not drained in time: what is still open is cut");
    }

    pub(super) fn removed(&self, service: &str, replica: &str) {
        tracing::info!(service, replica, "replica removed");
        let fields: [(&str, &dyn std::fmt::Display); 2] = [("service", &service), ("replica", &replica)];
        self.events.push("replica_removed", "replica removed", &fields);
    }

    /// What was there before we came, or ended after we asked it to.
    pub(super) fn leftover(&self, service: &str, death: &Death) {
        let (replica, words) = (&*death.replica, death.words());
        tracing::info!(service, replica, how = words, "ended container removed");
    }

    /// A replica that had run well has ended by itself, or somebody ended it.
    pub(super) fn ended(&self, service: &str, death: &Death) {
        let (replica, words) = (&*death.replica, death.words());
        tracing::warn!(service, replica, how = words, "replica ended");
        let fields: [(&str, &dyn std::fmt::Display); 3] =
            [("service", &service), ("replica", &replica), ("how", &words)];
        self.events.push("replica_ended", "replica ended", &fields);
    }

    /// A start has failed for the `n`th time in a row.
    pub(super) fn failed(&self, service: &str, replica: &str, words: &str, n: u32) {
        tracing::warn!(service, replica, n_in_a_row = n, why = words, "replica failed to start");
        let fields: [(&str, &dyn std::fmt::Display); 4] =
            [("service", &service), ("replica", &replica), ("n_in_a_row", &n), ("why", &words)];
        self.events.push("replica_failed", "replica failed to start", &fields);
    }

    pub(super) fn replacement_began(&self, service: &str, image: &str, n_old: usize) {
        tracing::info!(service, image, n_old, "replacing replicas");
        let fields: [(&str, &dyn std::fmt::Display); 3] = [("service", &service), ("image", &image), ("n_old", &n_old)];
        self.events.push("replacement_began", "replacing replicas", &fields);
    }

    pub(super) fn replacement_finished(&self, service: &str, image: &str) {
        tracing::info!(service, image, "replicas replaced");
        let fields: [(&str, &dyn std::fmt::Display); 2] = [("service", &service), ("image", &image)];
        self.events.push("replacement_finished", "replicas replaced", &fields);
    }

    pub(super) fn replacement_failed(&self, service: &str, image: &str, why: &str) {
        tracing::warn!(service, image, why, "replicas not replaced: the old ones stay");
        let fields: [(&str, &dyn std::fmt::Display); 3] = [("service", &service), ("image", &image), ("why", &why)];
        self.events.push("replacement_failed", "replicas not replaced: the old ones stay", &fields);
    }

    /// Nobody waits for it yet.
    pub(super) fn image_missing(&self, service: &str, why: &str) {
        tracing::warn!(service, why, "image of the service not fetched");
        let fields: [(&str, &dyn std::fmt::Display); 2] = [("service", &service), ("why", &why)];
        self.events.push("image_missing", "image of the service not fetched", &fields);
    }
}

impl Death {
    /// For people: `exit code 1, last words: "…" / "…"`.
    pub(super) fn words(&self) -> String {
        let code = match self.exit_code {
            Some(137) => "killed (exit code 137: out of memory, or by SIGKILL)".to_owned(),
            Some(code) => format!("ended with exit code {code}"),
            None => "ended".to_owned(),
        };
        format!("{code}, {}", quoted(&self.last_words))
    }
}

/// `last words: "…" / "…"`.
pub(super) fn quoted(lines: &[String]) -> String {
    match lines {
        [] => "and printed nothing".to_owned(),
        lines => {
            let quoted: Vec<String> = lines.iter().map(|line| format!("\"{line}\"")).collect();
            format!("last words: {}", quoted.join(" / "))
        }
    }
}

/// Lets people and waiting requests know that a start has failed for the `n`th time in a row.
pub(super) fn note_failure(service: &Service, refusal: &Refusal, n: u32, now: Moment) {
    // What no further try can mend counts twice: whoever waits need not see it again.
    let n_in_a_row = if refusal.hope == Hope::None { n.max(1) + 1 } else { n };
    service.group.scale.state().failure =
        Some(StartFailure { at: now, n_in_a_row, words: refusal.words.as_str().into() });
    service.group.queue.notify();
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_says_its_code_and_its_last_words() {
        let death = |exit_code, lines: &[&str]| {
            let last_words = lines.iter().map(|line| (*line).to_owned()).collect();
            Death { replica: "a".into(), exit_code, last_words }.words()
        };
        assert_eq!(death(Some(1), &["a", "b"]), "ended with exit code 1, last words: \"a\" / \"b\"");
        assert_eq!(death(None, &[]), "ended, and printed nothing");
        assert!(death(Some(137), &[]).contains("out of memory"));
    }
}
