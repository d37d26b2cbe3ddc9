//! Containers that are about to be removed: who removes them says so first, and discovery lets their requests end.
//! It promises that a bell rings for every change. It stops nothing and knows no service.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The containers that take no new requests because they are to go.
#[derive(Debug, Default)]
pub struct Retiring {
    ids: Mutex<HashSet<Arc<str>>>,
    changed: watch::Sender<()>,
}

impl Retiring {
    /// The container called `id` is to go: it is no member of its service from now on.
    pub fn retire(&self, id: Arc<str>) {
        if self.lock().insert(id) {
            self.changed.send_replace(());
        }
    }

    /// Whether it is to go.
    pub fn is_retiring(&self, id: &str) -> bool {
        self.lock().contains(id)
    }

    /// It is gone, or stays after all.
    pub fn forget(&self, id: &str) {
        if self.lock().remove(id) {
            self.changed.send_replace(());
        }
    }

    /// Wakes its holder after each change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Arc<str>>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_go_is_known_until_it_is_forgotten_and_each_change_rings() {
        let retiring = Retiring::default();
        let mut changes = retiring.changes();
        retiring.retire("a".into());
        assert!(retiring.is_retiring("a"));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        retiring.retire("a".into());
        assert!(!changes.has_changed().unwrap(), "said again");
        retiring.forget("a");
        assert!(!retiring.is_retiring("a"));
        assert!(changes.has_changed().unwrap());
    }
}
