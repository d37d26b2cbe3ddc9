//! The changes below one key of a service, collected in the order of the questions.
//! Promises one spelling for all of them. What is a secret stays unsaid because its asker uses [`Below::named`].

use super::{Kind, Part, paired, parts_of};

/// Collects what changed below one key.
pub(super) struct Below {
    key: &'static str,
    /// One for each thing that changed.
    pub(super) parts: Vec<Part>,
}

impl Below {
    /// Nothing so far.
    pub(super) fn new(key: &'static str) -> Self {
        Self { key, parts: Vec::new() }
    }

    /// `container image from a:1 to a:2`; without a name, the key itself has moved.
    pub(super) fn moved<T: PartialEq>(&mut self, name: &str, old: &T, new: &T, spell: impl Fn(&T) -> String) {
        if old != new {
            let name = if name.is_empty() { String::new() } else { format!("{name} ") };
            let what = format!("{name}from {} to {}", spell(old), spell(new));
            self.parts.push(Part::of(Kind::Changed, self.key, what));
        }
    }

    /// `container command`: what it was and is stays unsaid.
    pub(super) fn named<T: PartialEq>(&mut self, name: &str, old: &T, new: &T) {
        if old != new {
            self.parts.push(Part::of(Kind::Changed, self.key, name));
        }
    }

    /// `container environment LOG_LEVEL` for each that was added, removed or changed.
    pub(super) fn each<T: PartialEq>(&mut self, name: &str, old: &[T], new: &[T], spell: impl Fn(&T) -> String) {
        let parts = parts_of(self.key, paired(old, new, &spell), |item| format!("{name} {}", spell(item)));
        let n_parts = parts.len();
        self.parts.extend(parts);
        // The same in another order, where order means something.
        if n_parts == 0 && old != new {
            self.parts.push(Part::of(Kind::Changed, self.key, format!("{name} in another order")));
        }
    }
}
