//! Backends that a person takes out and puts back: what the API asks for, and what it answers.
//! Promises that the admin listener changes nothing itself: whoever is asked does. It knows no backends.

use serde::{Deserialize, Serialize};

use super::status::BackendStatus;

/// Whoever takes backends out and puts them back. Called on the control thread, so it may take its time, but must not wait.
pub trait ByHand: Send + Sync {
    /// Takes one out, by its address or the name in the configuration.
    fn drain(&self, service: &str, backend: &str) -> Result<Handled, NotThere>;

    /// Puts it back.
    fn undrain(&self, service: &str, backend: &str) -> Result<Handled, NotThere>;
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handled {
    /// Whose backends.
    pub service: String,
    /// One, or each that a name stands for; none of those that are absent at the moment.
    pub backends: Vec<BackendStatus>,
    /// Backends of the service that take requests now.
    pub ready: usize,
}

/// There is no such service or backend. The message is for people and names what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotThere(pub String);
