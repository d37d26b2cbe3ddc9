//! What people should know of a service's containers and do not see in its members: who is not reached, who does not answer,
//! which engine is away.
//! It promises to be as new as the last look. It is read by whoever shows the state; nothing is decided by it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::units::ServiceName;

/// Notes of all services.
#[derive(Debug, Default)]
pub struct Notes {
    by_service: Mutex<HashMap<ServiceName, ServiceNotes>>,
}

/// Notes of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceNotes {
    /// Engines that cannot be spoken to, each with why.
    pub engines: Vec<String>,
    /// Containers that run and are no members, each with why; in the order of their names.
    pub containers: Vec<(String, String)>,
}

impl Notes {
    /// Those of a service; none if all is well.
    pub fn of(&self, service: &ServiceName) -> ServiceNotes {
        self.lock().get(service).cloned().unwrap_or_default()
    }

    pub(super) fn note(&self, service: &ServiceName, engines: Vec<String>, containers: Vec<(String, String)>) {
        let notes = ServiceNotes { engines, containers };
        let mut all = self.lock();
        match notes == ServiceNotes::default() {
            true => all.remove(service),
            false => all.insert(service.clone(), notes),
        };
    }

    pub(super) fn retain(&self, services: &HashSet<ServiceName>) {
        self.lock().retain(|service, _| services.contains(service));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceName, ServiceNotes>> {
        self.by_service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
