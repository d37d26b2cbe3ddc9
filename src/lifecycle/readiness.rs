//! Whether the process may take work: ready when nobody blocks it any more.
//! Promises that a block ends when it is dropped, whatever became of the part that held it.
//! It does not know about draining: `/readyz` asks both.

use std::sync::{Arc, Mutex, PoisonError};

/// What still keeps the process from being ready. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    blocks: Arc<Mutex<Vec<&'static str>>>,
}

impl Readiness {
    /// Ready, until somebody blocks it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready until the returned block is dropped. `what` is for people: `listeners`.
    pub fn block(&self, what: &'static str) -> Block {
        self.with_blocks(|blocks| blocks.push(what));
        Block { readiness: self.clone(), what }
    }

    /// Whether nothing blocks.
    pub fn is_ready(&self) -> bool {
        self.with_blocks(|blocks| blocks.is_empty())
    }

    /// What blocks, in the order in which it began to.
    pub fn pending(&self) -> Vec<&'static str> {
        self.with_blocks(|blocks| blocks.clone())
    }

    fn with_blocks<T>(&self, f: impl FnOnce(&mut Vec<&'static str>) -> T) -> T {
        f(&mut self.blocks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Keeps the process from being ready until it is dropped.
#[derive(Debug)]
#[must_use = "the block ends when it is dropped"]
pub struct Block {
    readiness: Readiness,
    what: &'static str,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.readiness.with_blocks(|blocks| {
            if let Some(idx) = blocks.iter().position(|what| *what == self.what) {
                blocks.remove(idx);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_block_is_dropped() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let listeners = readiness.block("listeners");
        let second = readiness.block("listeners");
        let config = readiness.clone().block("configuration");
        assert_eq!(readiness.pending(), ["listeners", "listeners", "configuration"]);
        drop(listeners);
        drop(config);
        assert!(!readiness.is_ready());
        drop(second);
        assert!(readiness.is_ready());
    }
}
