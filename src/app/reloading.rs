//! The reload task as the admin API sees it: what came of an ask becomes an answer for people and programs.
//! It promises the statuses of the contract: 200 for what is in effect, 422 with what `check` says for what is wrong. It
//! decides nothing.

use std::time::Duration;

use serde_json::Value;

use crate::admin::{Answering, KeptGeneration, ReloadAnswer, ReloadResult, Reloading};
use crate::config::diagnostic::Diagnostics;
use crate::config::render::{self, Color};
use crate::control::history::Origin;
use crate::control::reload::{Change, Handle, Outcome, Refusal};

/// Asks the task and tells.
pub(super) struct Answers(pub(super) Handle);

impl Reloading for Answers {
    fn reload(&self) -> Answering {
        let handle = self.0.clone();
        Box::pin(async move { answer(handle.reload().await) })
    }

    fn rollback(&self, generation: Option<u64>) -> Answering {
        let handle = self.0.clone();
        Box::pin(async move { answer(handle.rollback(generation).await) })
    }

    fn history(&self) -> Vec<KeptGeneration> {
        let told = self.0.told();
        let active = told.history.active().generation;
        let kept = told.history.entries().map(|entry| KeptGeneration {
            generation: entry.generation,
            applied: rfc_3339(entry.at_unix),
            rollback_to: match entry.origin {
                Origin::File => None,
                Origin::Rollback(to) => Some(to),
            },
            is_active: entry.generation == active,
            services: entry.config.services.len(),
        });
        kept.collect()
    }
}

fn rfc_3339(since_1970: Duration) -> String {
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |timestamp| timestamp.to_string())
}

fn answer(outcome: Option<Outcome>) -> ReloadAnswer {
    match outcome {
        Some(Outcome::Applied(change)) => applied(change),
        Some(Outcome::Unchanged { generation }) => {
            let message = format!("unchanged: generation {generation} says the same");
            ReloadAnswer { generation, message, ..nothing(200, ReloadResult::Unchanged) }
        }
        Some(Outcome::Refused { generation, refusal }) => refused(generation, &refusal),
        None => {
            let message = Refusal::Draining.to_string();
            ReloadAnswer { message, ..nothing(503, ReloadResult::Refused) }
        }
    }
}

fn nothing(status: u16, result: ReloadResult) -> ReloadAnswer {
    ReloadAnswer {
        status,
        result,
        generation: 0,
        message: String::new(),
        changes: Default::default(),
        took_ms: 0.0,
        needs_restart: Vec::new(),
        replacing: Vec::new(),
        diagnostics: Value::Array(Vec::new()),
        text: String::new(),
    }
}

fn applied(change: Change) -> ReloadAnswer {
    let generation = change.generation;
    let took_ms = change.took.as_secs_f64() * 1e3;
    let message = match change.origin {
        Origin::File => format!("applied generation {generation} in {took_ms:.0} ms"),
        Origin::Rollback(to) => format!("returned to generation {to}, as generation {generation}, in {took_ms:.0} ms"),
    };
    let replacing = change.replacing;
    let message = match &replacing[..] {
        [] => message,
        names => {
            format!("{message}; replacing the replicas of {}: `portway status` shows how it goes", names.join(", "))
        }
    };
    ReloadAnswer {
        generation,
        message,
        replacing,
        changes: change.diff,
        took_ms,
        needs_restart: change.needs_restart.into_iter().map(str::to_owned).collect(),
        diagnostics: change.warnings.to_json(),
        text: drawn(&change.warnings),
        ..nothing(200, ReloadResult::Applied)
    }
}

fn refused(generation: u64, refusal: &Refusal) -> ReloadAnswer {
    let message = refusal.to_string();
    let (status, result) = match refusal {
        Refusal::Invalid(_) => (422, ReloadResult::Invalid),
        Refusal::Edge { .. } => (422, ReloadResult::Refused),
        Refusal::NoFile => (409, ReloadResult::Refused),
        Refusal::NoGeneration { .. } => (404, ReloadResult::Refused),
        Refusal::Draining => (503, ReloadResult::Refused),
    };
    let told = nothing(status, result);
    match refusal {
        Refusal::Invalid(diagnostics) | Refusal::Edge { shown: Some(diagnostics), .. } => {
            let (text, diagnostics) = (drawn(diagnostics), diagnostics.to_json());
            ReloadAnswer { generation, message, text, diagnostics, ..told }
        }
        _ => ReloadAnswer { generation, message, ..told },
    }
}

/// As `check` draws them; nothing for none.
fn drawn(diagnostics: &Diagnostics) -> String {
    if diagnostics.is_empty() { String::new() } else { render::render(diagnostics, Color::Never) }
}
