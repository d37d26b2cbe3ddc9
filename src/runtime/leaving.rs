//! Backends that left their service while requests were at them: how long those may finish, and who comes back in time.
//! It promises that looking costs one load while nobody leaves. It cuts nothing: the workers' sweep does.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use crate::runtime::backend::{Backend, BackendId, Located};
use crate::units::{Moment, ServiceName};

/// The backends that are on their way out.
#[derive(Debug, Default)]
pub struct Leaving {
    gone: ArcSwap<Vec<Gone>>,
}

#[derive(Clone, Debug)]
struct Gone {
    id: BackendId,
    /// Nobody needs it any more once its last request has ended.
    backend: Weak<Backend>,
    cut_at: Moment,
}

impl Leaving {
    /// From `cut_at` on, what is still open at `backends` is cut.
    pub(super) fn add(&self, backends: &[Arc<Backend>], cut_at: Moment) {
        if backends.is_empty() {
            return;
        }
        let mut gone = self.present();
        gone.extend(backends.iter().map(|backend| Gone { id: backend.id, backend: Arc::downgrade(backend), cut_at }));
        self.gone.store(Arc::new(gone));
    }

    /// The backend of `service` at `place` if something is still open at it: it stays after all.
    pub(super) fn take_back(&self, service: &ServiceName, place: &Located) -> Option<Arc<Backend>> {
        let upgraded = |gone: &Gone| gone.backend.upgrade();
        let is_it = |backend: &Arc<Backend>| backend.service == *service && backend.stands_at(place);
        let found = self.gone.load().iter().filter_map(upgraded).find(is_it)?;
        let mut gone = self.present();
        gone.retain(|gone| gone.id != found.id);
        self.gone.store(Arc::new(gone));
        Some(found)
    }

    /// Those that somebody still holds.
    fn present(&self) -> Vec<Gone> {
        self.gone.load().iter().filter(|gone| gone.backend.strong_count() > 0).cloned().collect()
    }

    /// How many backends of `service` left and still serve requests.
    pub fn busy(&self, service: &ServiceName) -> u32 {
        let gone = self.gone.load();
        let open = gone.iter().filter_map(|gone| gone.backend.upgrade());
        let n_busy = open.filter(|backend| backend.service == *service && backend.in_flight() > 0).count();
        u32::try_from(n_busy).unwrap_or(u32::MAX)
    }

    /// Requests that are still at backends which left `service`.
    pub fn in_flight(&self, service: &ServiceName) -> u32 {
        // Allocates nothing while there is none.
        let gone = self.gone.load();
        let backends = gone.iter().filter_map(|gone| gone.backend.upgrade());
        backends.filter(|backend| backend.service == *service).map(|backend| backend.in_flight()).sum()
    }

    /// The backends at which whatever is open now has had its time.
    pub fn overdue(&self, now: Moment) -> Vec<BackendId> {
        // Allocates nothing while there is none.
        let gone = self.gone.load();
        gone.iter().filter(|gone| gone.cut_at <= now && gone.backend.strong_count() > 0).map(|gone| gone.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;
    use std::time::Duration;

    fn backend() -> Arc<Backend> {
        let name = ServiceName::new("web").unwrap();
        let metrics = Metrics::new().backend(&name, "127.0.0.1:1");
        let address: std::net::SocketAddr = "127.0.0.1:1".parse().unwrap();
        Backend::new(name, address.into(), metrics, Arc::default())
    }

    #[test]
    fn what_is_open_is_overdue_from_its_time_on_and_for_as_long_as_it_is_open() {
        let (leaving, backend) = (Leaving::default(), backend());
        let later = Moment(5).after(Duration::from_secs(1));
        leaving.add(std::slice::from_ref(&backend), later);
        assert_eq!(leaving.overdue(Moment(5)), []);
        assert_eq!(leaving.overdue(later), [backend.id]);
        drop(backend);
        assert_eq!(leaving.overdue(later), []);
    }

    #[test]
    fn who_comes_back_in_time_is_not_cut() {
        let (leaving, backend) = (Leaving::default(), backend());
        leaving.add(std::slice::from_ref(&backend), Moment(1));
        let found = leaving.take_back(&backend.service, &backend.address.into()).unwrap();
        assert_eq!(found.id, backend.id);
        assert_eq!(leaving.overdue(Moment(9)), []);
        assert!(leaving.take_back(&backend.service, &backend.address.into()).is_none());
    }
}
