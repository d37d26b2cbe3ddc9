//! What the API says about reloads and rollbacks, as values that become JSON, and whoever carries them out.
//! Promises that an answer is given after the fact: what it says is in effect when it is read. It changes nothing itself.

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::diff::Diff;

/// Whoever owns the active configuration.
pub trait Reloading: Send + Sync {
    /// Reads the file again and applies what is in it.
    fn reload(&self) -> Answering;

    /// Returns to a generation that is kept; `None` is the one before the active one.
    fn rollback(&self, generation: Option<u64>) -> Answering;

    /// The generations that are kept, oldest first.
    fn history(&self) -> Vec<KeptGeneration>;
}

/// An answer on its way.
pub type Answering = Pin<Box<dyn Future<Output = ReloadAnswer> + Send>>;

/// What came of a reload or a rollback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// The status of the HTTP response.
    pub status: u16,
    /// In a word.
    pub result: ReloadResult,
    /// In effect now.
    pub generation: u64,
    /// In a line, for people.
    pub message: String,
    /// From the generation before, if anything was applied.
    #[serde(default)]
    pub changes: Diff,
    /// From the request to the last effect, in milliseconds.
    #[serde(default)]
    pub took_ms: f64,
    /// Keys that were changed and take effect at the next start only.
    #[serde(default)]
    pub needs_restart: Vec<String>,
    /// Services whose replicas are being replaced from here on. It may fail: `portway_config_last_reload_success` and the
    /// service's status say so then.
    #[serde(default)]
    pub replacing: Vec<String>,
    /// As `check --json` prints them: mistakes, or warnings of what was applied.
    #[serde(default)]
    pub diagnostics: Value,
    /// The same as `check` draws them.
    #[serde(default)]
    pub text: String,
}

/// What came of it, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadResult {
    /// Another configuration is in effect.
    Applied,
    /// What was read does what is in effect already.
    Unchanged,
    /// The file is wrong; nothing has changed.
    Invalid,
    /// The file is right, and something stands in the way; nothing has changed.
    Refused,
}

/// A configuration that can be returned to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptGeneration {
    /// Its number.
    pub generation: u64,
    /// When it took effect: RFC 3339, UTC.
    pub applied: String,
    /// The generation that it returned to, if it was a rollback.
    pub rollback_to: Option<u64>,
    /// Whether it is in effect.
    pub is_active: bool,
    /// How many services it has.
    pub services: usize,
}
