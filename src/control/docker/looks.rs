//! Which containers are to be looked at, and when: each as soon as something happened to it, but not again and again.
//! It promises that a container which starts and ends in a loop costs one look per second. It looks at none itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::units::Moment;

/// Looks on their way: a host that comes up starts all its containers at once.
const LOOKS_MAX: usize = 8;
/// So many looks at one container are free of waiting: making one, joining it to networks and starting it are several.
const BURST: u32 = 8;
/// A container at which nobody looked for so long has its burst back.
const CALM: Duration = Duration::from_secs(10);
/// Between two looks at one that has used up its burst.
const PAUSE: Duration = Duration::from_secs(1);

/// Who is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Looks {
    due: HashMap<Arc<str>, Moment>,
    recent: HashMap<Arc<str>, Recent>,
    on_their_way: usize,
}

#[derive(Debug)]
struct Recent {
    last: Moment,
    n: u32,
    is_on_its_way: bool,
}

impl Looks {
    /// Something happened to the container called `id`.
    pub(super) fn want(&mut self, id: Arc<str>, now: Moment) {
        let at = match self.recent.get(&id) {
            Some(recent) if recent.n >= BURST && now.since(recent.last) < CALM => recent.last.after(PAUSE).max(now),
            _ => now,
        };
        self.want_at(id, at);
    }

    /// The container called `id` is to be looked at then, or earlier if something happens to it.
    pub(super) fn want_at(&mut self, id: Arc<str>, at: Moment) {
        let due = self.due.entry(id).or_insert(at);
        *due = at.min(*due);
    }

    /// The next one to look at by `now`, if there is one.
    pub(super) fn start(&mut self, now: Moment) -> Option<Arc<str>> {
        if self.on_their_way >= LOOKS_MAX {
            return None;
        }
        let (id, _) = self.ready().filter(|(_, at)| **at <= now).min_by_key(|(_, at)| **at)?;
        let id = id.clone();
        self.due.remove(&id);
        self.recent.retain(|_, recent| recent.is_on_its_way || now.since(recent.last) < CALM);
        let recent = self.recent.entry(id.clone()).or_insert(Recent { last: now, n: 0, is_on_its_way: false });
        *recent = Recent { last: now, n: recent.n + 1, is_on_its_way: true };
        self.on_their_way += 1;
        Some(id)
    }

    /// The look at it is over.
    pub(super) fn finish(&mut self, id: &str) {
        if let Some(recent) = self.recent.get_mut(id).filter(|recent| recent.is_on_its_way) {
            recent.is_on_its_way = false;
            self.on_their_way -= 1;
        }
    }

    /// When the next one can begin.
    pub(super) fn next(&self) -> Option<Moment> {
        (self.on_their_way < LOOKS_MAX).then(|| self.ready().map(|(_, at)| *at).min()).flatten()
    }

    /// Those that are not being looked at already.
    fn ready(&self) -> impl Iterator<Item = (&Arc<str>, &Moment)> {
        let is_free = |id: &str| self.recent.get(id).is_none_or(|recent| !recent.is_on_its_way);
        self.due.iter().filter(move |(id, _)| is_free(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_in_a_crash_loop_is_looked_at_once_a_second_and_others_at_once() {
        let mut looks = Looks::default();
        let mut now = Moment(1_000_000_000);
        let mut n = 0;
        for _ in 0..1_000 {
            looks.want("loop".into(), now);
            while let Some(id) = looks.start(now) {
                looks.finish(&id);
                n += 1;
            }
            now = now.after(Duration::from_millis(10));
        }
        assert!((BURST..=BURST + 10).contains(&n), "{n} looks in 10 s");
        looks.want("calm".into(), now);
        assert_eq!(looks.start(now).as_deref(), Some("calm"));
    }

    #[test]
    fn nobody_is_looked_at_twice_at_the_same_time_and_few_at_all() {
        let mut looks = Looks::default();
        let now = Moment(1);
        looks.want("a".into(), now);
        assert!(looks.start(now).is_some());
        looks.want("a".into(), now);
        assert_eq!((looks.start(now), looks.next()), (None, None));
        looks.finish("a");
        assert!(looks.start(now).is_some(), "what happened meanwhile is looked at");
        looks.finish("a");
        for id in 0..20 {
            looks.want(format!("{id}").into(), now);
        }
        let begun = std::iter::from_fn(|| looks.start(now)).count();
        assert_eq!(begun, LOOKS_MAX);
    }
}
