//! What a person does by hand, as the API asks for it and answers it: backends out and back, a number of replicas.
//! Promises that the admin listener changes nothing itself: whoever is asked does. It knows no backends.

use serde::{Deserialize, Serialize};

use super::replicas::ReplicaStatus;
use super::status::BackendStatus;

/// Whoever does what people ask for. Called on the control thread, so it may take its time, but must not wait.
pub trait ByHand: Send + Sync {
    /// Takes one out, by its address or the name in the configuration.
    fn drain(&self, service: &str, backend: &str) -> Result<Handled, NotThere>;

    /// Puts it back.
    fn undrain(&self, service: &str, backend: &str) -> Result<Handled, NotThere>;

    /// Pins the number of replicas of a service, or leaves it to the formula again.
    fn scale(&self, service: &str, to: ScaleTo) -> Result<Scaled, Unscalable>;
}

/// How many replicas a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleTo {
    /// So many, until told otherwise.
    Pinned(u32),
    /// As many as the load needs.
    Auto,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    /// Whose replicas.
    pub service: String,
    /// What is known of them now; they change after the answer.
    pub replicas: ReplicaStatus,
}

/// Why a number of replicas cannot be had. The message is for people and says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unscalable {
    /// There is no such service.
    NotThere(String),
    /// The configuration of the service does not allow it.
    NotPossible(String),
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
