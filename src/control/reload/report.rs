//! What people are told of a reload: the log, the events, the gauges.
//! Promises one line for each outcome, the place and the caret of the first mistake below it, and nothing that is not true
//! any more in the status.

use super::{Change, Outcome, Refusal, Refused, Reloads};
use crate::config::diagnostic::{Diagnostics, Severity};
use crate::config::diff::Kind;
use crate::config::render::{self, Color};
use crate::control::history::Origin;
use crate::lifecycle::clock;
use crate::telemetry::logging::Format;

/// Lines of the drawing of a mistake that the log shows.
const LINES_MAX: usize = 12;

impl<S: Clone + Send + Sync + 'static> Reloads<S> {
    /// Nothing changes; says why.
    pub(super) fn refuse(&self, refusal: Refusal) -> Outcome {
        let generation = self.parts.store.load().generation;
        let error = refusal.to_string();
        let is_configuration_wrong = matches!(refusal, Refusal::Invalid(_) | Refusal::Edge { .. });
        if is_configuration_wrong {
            self.parts.metrics.config_rejected(clock::unix_now());
            let refused = Refused { at_unix: clock::unix_now(), at: clock::now(), error: error.clone() };
            self.handle.told().refused = Some(refused);
            self.parts.events.push(
                "config_rejected",
                format_args!("configuration rejected, generation {generation} stays"),
                &[("generation", &generation), ("error", &error)],
            );
        }
        let message = if is_configuration_wrong { "config rejected" } else { "nothing to apply" };
        tracing::warn!(keeping = generation, %error, "{message}");
        if let Refusal::Invalid(diagnostics) | Refusal::Edge { shown: Some(diagnostics), .. } = &refusal {
            draw(diagnostics);
        }
        Outcome::Refused { generation, refusal }
    }

    pub(super) fn report_applied(&self, change: &Change) {
        let Change { generation, diff, took, origin, needs_restart, warnings, replacing: _ } = change;
        let [added, removed, changed] = [Kind::Added, Kind::Removed, Kind::Changed].map(|kind| diff.names(kind));
        let (kind, message) = match origin {
            Origin::File => ("config_applied", "config applied"),
            Origin::Rollback(_) => ("config_rolled_back", "config rolled back"),
        };
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let to = match origin {
            Origin::File => None,
            Origin::Rollback(to) => Some(*to),
        };
        tracing::info!(generation, to, added, removed, changed, took_ms, "{message}");
        let text = |names: Option<String>| names.unwrap_or_default();
        let (added, removed, changed) = (text(added), text(removed), text(changed));
        let mut fields: Vec<(&str, &dyn std::fmt::Display)> = vec![("generation", generation), ("took_ms", &took_ms)];
        let named = [("added", &added), ("removed", &removed), ("changed", &changed)];
        fields.extend(named.iter().filter(|(_, names)| !names.is_empty()).map(|(key, names)| (*key, *names as _)));
        self.parts.events.push(kind, message, &fields);
        if to.is_some() {
            tracing::warn!("the file differs from what is in effect: its next change or a reload applies it again");
        }
        if !needs_restart.is_empty() {
            let keys = needs_restart.join(",");
            tracing::warn!(%keys, "takes effect at the next start: threads are not made anew");
        }
        if !warnings.is_empty() {
            tracing::warn!(warning = %**warnings, "config has warnings");
        }
    }

    /// The file differs in what does not matter, or somebody asked for nothing.
    pub(super) fn report_unchanged(&self, generation: u64) {
        tracing::info!(generation, "config unchanged");
    }

    /// The file was wrong before.
    pub(super) fn report_mended(&self, generation: u64) {
        let message = "configuration is whole again and says what is in effect";
        self.parts.events.push("config_unchanged", message, &[("generation", &generation)]);
    }
}

/// The first mistake with its caret, for people; a collector of JSON has the line above.
fn draw(diagnostics: &Diagnostics) {
    if Format::from_environment() == Format::Json {
        return;
    }
    let first = diagnostics.list.iter().find(|found| found.severity == Severity::Error);
    let alone = Diagnostics {
        list: first.into_iter().cloned().collect(),
        sources: diagnostics.sources.clone(),
        file_name: diagnostics.file_name.clone(),
    };
    let drawn = render::render(&alone, Color::Never);
    // The last line counts mistakes, and here there is one by choice.
    let lines: Vec<&str> = drawn.lines().filter(|line| *line != alone.summary()).take(LINES_MAX).collect();
    for line in lines {
        tracing::warn!("{line}");
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Invalid(diagnostics) => diagnostics.fmt(f),
            Refusal::Edge { shown: Some(diagnostics), .. } => diagnostics.fmt(f),
            Refusal::Edge { message, shown: None } => f.write_str(message),
            Refusal::NoFile => f.write_str("this instance was started without a file"),
            Refusal::Draining => f.write_str("the process is draining: it takes no configuration any more"),
            Refusal::NoGeneration { wanted, known } => {
                let known = known.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
                match wanted {
                    Some(wanted) => {
                        write!(f, "generation {wanted} is not kept any more, or never was; there are: {known}")
                    }
                    None => f.write_str("there is no configuration before this one"),
                }
            }
        }
    }
}
