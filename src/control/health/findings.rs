//! What the last probe of each backend found, for people who ask why.
//! Promises to hold one finding per backend that is probed, and none of those that are gone. Nobody decides by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::probe::{self, Outcome};
use super::target::Target;
use crate::runtime::backend::BackendId;

/// The last findings. Written by the control loop, read by whoever shows the state of the process.
#[derive(Debug, Default)]
pub struct Findings {
    last: Mutex<HashMap<BackendId, (Arc<Target>, Outcome)>>,
}

impl Findings {
    /// What the last probe of a backend found, as `GET /healthz: 500`; `None` without a probe that ended.
    pub fn of(&self, id: BackendId) -> Option<String> {
        self.lock().get(&id).map(|(target, outcome)| probe::describe(target, outcome))
    }

    pub(super) fn note(&self, id: BackendId, target: &Arc<Target>, outcome: Outcome) {
        self.lock().insert(id, (target.clone(), outcome));
    }

    pub(super) fn forget(&self, id: BackendId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BackendId, (Arc<Target>, Outcome)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
