//! From a checked configuration to one that is in effect.
//! It promises the order that makes it all or nothing: names, then sockets, then the snapshot, and only then the first
//! effect; after it nothing can fail. What is heavy runs on a thread of its own.

use std::sync::Arc;
use std::time::Duration;

use super::edge_spans::EdgeSpans;
use super::{Change, Commit, Outcome, Refusal, Reloads};
use crate::config::checked::Config;
use crate::config::diagnostic::Diagnostics;
use crate::config::diff::{Diff, needing_restart};
use crate::control::history::{Applied, Origin, Text};
use crate::control::resolve;
use crate::lifecycle::{clock, drain};
use crate::runtime::snapshot::{Build, Prepared, Snapshot};
use crate::telemetry::metrics::{Gauge, Metrics};
use crate::units::Moment;

/// How long a reload waits for the addresses of names that are new. What has none by then follows when it has.
const NAMES_PATIENCE: Duration = Duration::from_secs(1);
/// A snapshot that nobody needs any more is taken apart here after so long, and not by a worker between two requests.
const LINGER: Duration = Duration::from_secs(1);

/// A configuration that might be applied.
pub(super) struct Candidate {
    pub(super) config: Arc<Config>,
    pub(super) text: Arc<Text>,
    pub(super) spans: EdgeSpans,
    pub(super) warnings: Arc<Diagnostics>,
    pub(super) origin: Origin,
    pub(super) began: Moment,
}

impl<S: Clone + Send + Sync + 'static> Reloads<S> {
    pub(super) async fn apply(&mut self, candidate: Candidate) -> Outcome {
        if self.parts.drain.phase() != drain::Phase::Running {
            return self.refuse(Refusal::Draining);
        }
        let before = self.parts.store.load_full();
        let (diff, prepared, before) = {
            let next = candidate.config.clone();
            let compare = move || (Diff::between(&before.config, &next), before);
            let (diff, before) = heavy(compare).await;
            if diff.is_empty() {
                return self.unchanged(candidate.text);
            }
            resolve::learn_new(&candidate.config, &self.parts.registry, NAMES_PATIENCE).await;
            let commit = match self.parts.edges.prepare(&candidate.config) {
                Ok(commit) => commit,
                Err(error) => {
                    let shown = candidate.spans.show(&error, &candidate.warnings);
                    return self.refuse(Refusal::Edge { message: error.message.into(), shown });
                }
            };
            let snapshot = self.build(candidate.config.clone(), before.clone()).await;
            (diff, (snapshot, commit), before)
        };
        let replacing = super::replaced(&before, &candidate.config);
        let generation = self.publish(prepared, &before);
        drop(before);
        let needs_restart = needing_restart(&self.handle.told().started_with, &candidate.config);
        let is_new = |key: &&str| diff.settings.iter().any(|entry| entry.name == *key);
        let needs_restart = needs_restart.into_iter().filter(is_new).collect();
        let change = Change {
            generation,
            diff,
            took: clock::now().since(candidate.began),
            origin: candidate.origin,
            needs_restart,
            warnings: candidate.warnings,
            replacing,
        };
        self.applied(candidate.config, candidate.text, &change);
        Outcome::Applied(change)
    }

    /// Builds without an effect.
    async fn build(&self, config: Arc<Config>, before: Arc<Snapshot<S>>) -> Prepared<S> {
        let (registry, metrics) = (self.parts.registry.clone(), self.parts.metrics.clone());
        let stack = self.parts.stack;
        heavy(move || {
            let (generation, previous) = (before.generation + 1, Some(&*before));
            Snapshot::prepare(
                config,
                &Build { generation, registry: &registry, metrics: &metrics, stack: &stack, previous },
            )
        })
        .await
    }

    /// The effects, without a pause between them.
    fn publish(&self, (prepared, commit): (Prepared<S>, Commit), before: &Snapshot<S>) -> u64 {
        let parts = &self.parts;
        let snapshot = prepared.install(&parts.registry);
        let generation = snapshot.generation;
        watch_queues(&snapshot, Some(before), &parts.metrics);
        let gone: Vec<_> = before.services.iter().filter(|service| snapshot.service(&service.name).is_none()).collect();
        let old = parts.store.publish(snapshot);
        for service in gone {
            parts.registry.retain(&service.name, &[], service.policy.drain);
            service.group.disown();
        }
        parts.registry.retain_names(&resolve::names(&parts.store.load().config));
        commit();
        // Names without an address are looked for at once, not when it is their turn.
        parts.store.want_resolution();
        parts.metrics.config_applied(generation, clock::unix_now());
        tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            drop(old);
        });
        generation
    }

    fn applied(&self, config: Arc<Config>, text: Arc<Text>, change: &Change) {
        let applied =
            Applied { generation: change.generation, at_unix: clock::unix_now(), origin: change.origin, config, text };
        {
            let mut told = self.handle.told();
            told.history.push(applied);
            told.applied_at = clock::now();
            told.refused = None;
        }
        self.report_applied(change);
    }

    fn unchanged(&self, text: Arc<Text>) -> Outcome {
        let generation = self.parts.store.load().generation;
        self.parts.metrics.config_applied(generation, clock::unix_now());
        let was_refused = {
            let mut told = self.handle.told();
            told.history.respell(text);
            told.refused.take().is_some()
        };
        if was_refused {
            self.report_mended(generation);
        }
        self.report_unchanged(generation);
        Outcome::Unchanged { generation }
    }
}

/// Runs `work` on a thread of its own, so that probes, the admin listener and the others go on meanwhile.
async fn heavy<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("comparing and building panic on no configuration")
}

/// Shows the length of every queue that `before` did not have, for as long as its service is there, and how many requests
/// wait for a replica, for as long as its number is decided here.
pub(super) fn watch_queues<S: Clone>(snapshot: &Snapshot<S>, before: Option<&Snapshot<S>>, metrics: &Metrics) {
    for service in &snapshot.services {
        let known = before.and_then(|before| before.service(&service.name));
        let known = known.filter(|known| Arc::ptr_eq(&known.group, &service.group));
        if known.is_none() {
            let group = Arc::downgrade(&service.group);
            let read = move || group.upgrade().map(|group| f64::from(group.queue.len()));
            metrics.watch(Gauge::QueueLength, &[service.name.as_str()], read);
        }
        if service.policy.hold.is_some() && known.is_none_or(|known| known.policy.hold.is_none()) {
            let group = Arc::downgrade(&service.group);
            let read = move || {
                let group = group.upgrade()?;
                group.newest()?.policy.hold?;
                Some(f64::from(group.scale.held()))
            };
            metrics.watch(Gauge::HeldRequests, &[service.name.as_str()], read);
        }
    }
}
