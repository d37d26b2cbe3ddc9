//! Every metric by name: handles that are resolved once, and the page that Prometheus reads.
//! Promises that a request costs a few additions to memory of its own worker, that labels come from closed sets (never a
//! path or a client), and that the last counts of a removed backend are still printed once. It does not decide what happened.
//!
//! What is few and lives as long as the process (local replies, limits, listeners, reloads) is registered with the
//! `metrics` facade and printed by its Prometheus exporter. What each request touches, or what comes and goes with
//! backends, is kept here: an exporter counter costs two additions to memory that all workers share, and is never removed.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

pub use self::handles::{BackendMetrics, BackendReading, ListenerMetrics, ServiceMetrics, ServiceReading};
pub use self::words::{EjectionCause, Gauge, Limit, Outcome, ProbeResult, RetryCause};

use self::handles::CODE_CLASSES;
use super::exposition::{Family, Kind};
use crate::error::FailureKind;
use crate::units::ServiceName;

mod handles;
mod words;

/// The `service` label of requests that no route took. A [`ServiceName`] never starts with `-`.
const UNROUTED: &str = "-";
const METADATA: Metadata<'static> = Metadata::new("portway", Level::INFO, None);

/// All metrics of one process, or of one test: nothing here is global.
pub struct Metrics {
    workers: NonZeroUsize,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    local_replies: [Counter; FailureKind::COUNT],
    limits: [Counter; Limit::ALL.len()],
    access_log_dropped: Counter,
    config: ConfigGauges,
    unrouted: Arc<ServiceMetrics>,
    services: Mutex<Registered<ServiceName, Arc<ServiceMetrics>>>,
    backends: Mutex<Registered<BackendKey, Arc<BackendMetrics>>>,
    watched: Mutex<Registered<WatchKey, Box<ReadGauge>>>,
}

/// Service and address.
type BackendKey = (ServiceName, Box<str>);
type WatchKey = (Gauge, Vec<String>);
type ReadGauge = dyn Fn() -> Option<f64> + Send + Sync;

struct ConfigGauges {
    generation: metrics::Gauge,
    last_reload_success: metrics::Gauge,
    last_reload_timestamp_seconds: metrics::Gauge,
    /// A configuration has taken effect when its replicas have: what is shown is both.
    was_accepted: AtomicBool,
    replacements_failed: AtomicU32,
}

impl ConfigGauges {
    fn show_success(&self) {
        let is_success = self.was_accepted.load(SeqCst) && self.replacements_failed.load(SeqCst) == 0;
        self.last_reload_success.set(f64::from(u8::from(is_success)));
    }
}

impl Metrics {
    /// Metrics with one copy of the hot counters: for tests and tools.
    pub fn new() -> Arc<Self> {
        Self::with_workers(NonZeroUsize::MIN)
    }

    /// Metrics with a copy of the hot counters for each of `workers`; see [`super::shards::enter_worker`].
    pub fn with_workers(workers: NonZeroUsize) -> Arc<Self> {
        let recorder = PrometheusBuilder::new().build_recorder();
        describe(&recorder);
        let gauge = |name: &'static str| recorder.register_gauge(&Key::from_name(name), &METADATA);
        let config = ConfigGauges {
            generation: gauge("portway_config_generation"),
            last_reload_success: gauge("portway_config_last_reload_success"),
            last_reload_timestamp_seconds: gauge("portway_config_last_reload_timestamp_seconds"),
            was_accepted: AtomicBool::new(false),
            replacements_failed: AtomicU32::new(0),
        };
        let build = Key::from_parts("portway_build_info", vec![Label::new("version", env!("CARGO_PKG_VERSION"))]);
        recorder.register_gauge(&build, &METADATA).set(1.0);
        let counter = |name: &'static str, label: Option<(&'static str, &'static str)>| {
            let labels = label.map(|(key, value)| Label::from_static_parts(key, value));
            recorder.register_counter(&Key::from_parts(name, labels.into_iter().collect::<Vec<_>>()), &METADATA)
        };
        let kinds: Vec<FailureKind> = FailureKind::all().collect();
        Arc::new(Self {
            workers,
            handle: recorder.handle(),
            local_replies: std::array::from_fn(|idx| {
                counter("portway_local_replies_total", Some(("reason", kinds[idx].reason())))
            }),
            limits: Limit::ALL.map(|limit| counter("portway_limit_hits_total", Some(("limit", limit.word())))),
            access_log_dropped: counter("portway_access_log_dropped_lines_total", None),
            config,
            unrouted: Arc::new(ServiceMetrics::new(workers)),
            services: Mutex::default(),
            backends: Mutex::default(),
            watched: Mutex::default(),
            recorder,
        })
    }

    /// The handles of a service: the same ones for as long as somebody holds them, so that a reload does not reset them.
    pub fn service(&self, name: &ServiceName) -> Arc<ServiceMetrics> {
        let mut services = lock(&self.services);
        services.get_or_insert(name.clone(), is_held, || Arc::new(ServiceMetrics::new(self.workers)))
    }

    /// The handles of requests that no route took, with `-` for a service.
    pub fn unrouted(&self) -> Arc<ServiceMetrics> {
        self.unrouted.clone()
    }

    /// The handles of a backend, by the address that is dialled.
    pub fn backend(&self, service: &ServiceName, address: &str) -> Arc<BackendMetrics> {
        let mut backends = lock(&self.backends);
        let key = (service.clone(), address.into());
        backends.get_or_insert(key, is_held, || Arc::new(BackendMetrics::new(self.workers)))
    }

    /// The handles of a listener, by its address as configured.
    pub fn listener(&self, address: &str) -> ListenerMetrics {
        let counter = |name: &'static str| {
            let key = Key::from_parts(name, vec![Label::new("listener", address.to_owned())]);
            self.recorder.register_counter(&key, &METADATA)
        };
        ListenerMetrics {
            accepted: counter("portway_connections_accepted_total"),
            refused: counter("portway_connections_refused_total"),
        }
    }

    /// Counts a response that we made ourselves, or a request that we gave up on.
    pub fn local_reply(&self, kind: FailureKind) {
        self.local_replies[kind.index()].increment(1);
    }

    /// Counts one occasion on which a limit held something back.
    pub fn limit_hit(&self, limit: Limit) {
        self.limits[limit as usize].increment(1);
    }

    /// Where the access log counts the lines that it could not write.
    pub fn access_log_dropped(&self) -> Counter {
        self.access_log_dropped.clone()
    }

    /// A configuration took effect.
    pub fn config_applied(&self, generation: u64, at_unix: Duration) {
        self.config.generation.set(generation as f64);
        self.config.was_accepted.store(true, SeqCst);
        self.config.show_success();
        self.config.last_reload_timestamp_seconds.set(at_unix.as_secs() as f64);
    }

    /// A configuration was refused; the one before it stays.
    pub fn config_rejected(&self, at_unix: Duration) {
        self.config.was_accepted.store(false, SeqCst);
        self.config.show_success();
        self.config.last_reload_timestamp_seconds.set(at_unix.as_secs() as f64);
    }

    /// So many services cannot be given the replicas that the configuration in effect asks for: it counts as one that
    /// failed until they can.
    pub fn replacements_failed(&self, n: u32) {
        if self.config.replacements_failed.swap(n, SeqCst) != n {
            self.config.show_success();
        }
    }

    /// Prints a number that somebody else keeps, read when the page is rendered. `label_values` are those of
    /// [`Gauge::labels`], in that order. The series ends when `read` answers `None`, so let it hold a `Weak`; the same
    /// labels again replace it. `read` must not call back into `Metrics`.
    pub fn watch(&self, gauge: Gauge, label_values: &[&str], read: impl Fn() -> Option<f64> + Send + Sync + 'static) {
        debug_assert_eq!(label_values.len(), gauge.labels().len(), "{gauge:?}");
        let key = (gauge, label_values.iter().map(|value| (*value).to_owned()).collect());
        lock(&self.watched).replace(key, |read| read().is_some(), Box::new(read));
    }

    /// The page of `GET /metrics`: families sorted by name, the same order each time.
    pub fn render(&self) -> String {
        let mut families: Vec<String> = self.handle.render().split_terminator("\n\n").map(sorted_samples).collect();
        families.extend(self.service_families().into_iter().filter_map(Family::finish));
        families.extend(self.backend_families().into_iter().filter_map(Family::finish));
        families.extend(self.watched_families().into_iter().filter_map(Family::finish));
        families.sort_unstable();
        families.concat()
    }

    fn service_families(&self) -> [Family; 10] {
        let mut requests =
            Family::new(Kind::Counter, "portway_requests_total", "Requests that ended, by status class.");
        let mut duration = Family::new(
            Kind::Histogram,
            "portway_request_duration_seconds",
            "From the request head to the last byte of the response, queueing and attempts included.",
        );
        let mut retries =
            Family::new(Kind::Counter, "portway_retries_total", "Further attempts, by what ended the last.");
        let mut overflow =
            Family::new(Kind::Counter, "portway_queue_overflow_total", "Requests that found or left the queue full.");
        let mut probes = Family::new(Kind::Counter, "portway_probes_total", "Health probes that ended, by result.");
        let mut ejections =
            Family::new(Kind::Counter, "portway_ejections_total", "Backends taken out because of their answers.");
        let mut hedges = Family::new(Kind::Counter, "portway_hedges_total", "Second attempts beside a slow first.");
        let mut won =
            Family::new(Kind::Counter, "portway_hedges_won_total", "Second attempts that answered before the first.");
        let mut scaler =
            Family::new(Kind::Counter, "portway_scaler_errors_total", "Changes of the number of replicas that failed.");
        let mut cold = Family::new(
            Kind::Histogram,
            "portway_cold_start_seconds",
            "From the first request that was held to the first replica that was ready.",
        );
        let mut services = lock(&self.services);
        let named = services.map.iter().map(|(name, service)| (name.as_str(), service));
        for (name, service) in named.chain([(UNROUTED, &self.unrouted)]) {
            let read = service.read();
            for (class, n) in CODE_CLASSES.iter().zip(read.by_class) {
                requests.sample(&[("service", name), ("code_class", class)], n);
            }
            duration.histogram(&[("service", name)], &read.duration);
            let cold_starts = service.cold_starts();
            if cold_starts.count() > 0 {
                cold.histogram(&[("service", name)], &cold_starts);
            }
            overflow.sample(&[("service", name), ("reason", FailureKind::QueueFull.reason())], read.queue_full);
            overflow.sample(&[("service", name), ("reason", FailureKind::QueueTimeout.reason())], read.queue_timeout);
            for (cause, n) in RetryCause::all().zip(read.retries).filter(|(_, n)| *n > 0) {
                retries.sample(&[("service", name), ("reason", cause.word())], n);
            }
            let rare = [(&mut hedges, read.hedges), (&mut won, read.hedges_won), (&mut scaler, read.scaler_errors)];
            for (family, n) in rare {
                if n > 0 {
                    family.sample(&[("service", name)], n);
                }
            }
            for (result, n) in ProbeResult::ALL.iter().zip(read.probes).filter(|(_, n)| *n > 0) {
                probes.sample(&[("service", name), ("result", result.word())], n);
            }
            for (cause, n) in EjectionCause::ALL.iter().zip(read.ejections).filter(|_| name != UNROUTED) {
                ejections.sample(&[("service", name), ("cause", cause.word())], n);
            }
        }
        services.forget_unless(is_held);
        [requests, duration, retries, overflow, probes, ejections, hedges, won, scaler, cold]
    }

    fn backend_families(&self) -> [Family; 2] {
        let mut requests =
            Family::new(Kind::Counter, "portway_backend_requests_total", "Attempts that ended, by outcome.");
        let mut duration = Family::new(
            Kind::Histogram,
            "portway_backend_duration_seconds",
            "Of one attempt: from the backend's turn to its last byte.",
        );
        let mut backends = lock(&self.backends);
        for ((service, address), backend) in &backends.map {
            let read = backend.read();
            for outcome in Outcome::all() {
                let n = read.outcome(outcome);
                if n > 0 || outcome.is_expected() {
                    let labels = [("service", service.as_str()), ("backend", address), ("outcome", outcome.word())];
                    requests.sample(&labels, n);
                }
            }
            duration.histogram(&[("service", service.as_str()), ("backend", address)], &read.duration);
        }
        backends.forget_unless(is_held);
        [requests, duration]
    }

    fn watched_families(&self) -> Vec<Family> {
        let mut families = Gauge::ALL.map(|gauge| Family::new(Kind::Gauge, gauge.name(), gauge.help()));
        lock(&self.watched).map.retain(|(gauge, values), read| {
            let Some(value) = read() else { return false };
            let labels: Vec<_> = gauge.labels().iter().copied().zip(values.iter().map(String::as_str)).collect();
            families[*gauge as usize].sample(&labels, value);
            true
        });
        families.into()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("workers", &self.workers).finish_non_exhaustive()
    }
}

fn describe(recorder: &PrometheusRecorder) {
    for (name, help) in [
        ("portway_local_replies_total", "Requests that Portway answered or gave up on itself, by reason."),
        ("portway_limit_hits_total", "Occasions on which a limit held something back."),
        ("portway_access_log_dropped_lines_total", "Access-log lines that could not be written."),
        ("portway_connections_accepted_total", "Connections that a listener accepted."),
        ("portway_connections_refused_total", "Connections closed at once because a connection limit was reached."),
    ] {
        recorder.describe_counter(name.into(), None, help.into());
    }
    for (name, help) in [
        ("portway_build_info", "Always 1; the version is in the label."),
        ("portway_config_generation", "Number of the configuration in effect."),
        (
            "portway_config_last_reload_success",
            "1 if the last configuration that was read took effect, replicas included, else 0.",
        ),
        ("portway_config_last_reload_timestamp_seconds", "When a configuration was last read, accepted or not."),
    ] {
        recorder.describe_gauge(name.into(), None, help.into());
    }
}

/// A family of the exporter with its samples in order; the exporter prints them in the order of a hash.
fn sorted_samples(family: &str) -> String {
    let (mut heading, mut samples): (Vec<_>, Vec<_>) = family.lines().partition(|line| line.starts_with('#'));
    samples.sort_unstable();
    heading.append(&mut samples);
    heading.push("");
    heading.join("\n")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a reader of a gauge leaves the map whole; metrics must go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_held<T>(handle: &Arc<T>) -> bool {
    Arc::strong_count(handle) > 1
}

/// What is known under a key, until nobody holds it and it was printed a last time.
struct Registered<K, V> {
    map: BTreeMap<K, V>,
    /// When it grows to so many without being read, what nobody holds is dropped: nobody may ever scrape.
    clean_at: usize,
}

impl<K, V> Default for Registered<K, V> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), clean_at: Self::CLEAN_AT_LEAST }
    }
}

impl<K, V> Registered<K, V> {
    const CLEAN_AT_LEAST: usize = 1_024;
}

impl<K: Ord, V> Registered<K, V> {
    fn forget_unless(&mut self, keep: impl Fn(&V) -> bool) {
        self.map.retain(|_, value| keep(value));
    }

    fn make_room(&mut self, keep: impl Fn(&V) -> bool) {
        if self.map.len() >= self.clean_at {
            self.forget_unless(keep);
            self.clean_at = (self.map.len() * 2).max(Self::CLEAN_AT_LEAST);
        }
    }

    fn replace(&mut self, key: K, keep: impl Fn(&V) -> bool, value: V) {
        self.make_room(keep);
        self.map.insert(key, value);
    }

    fn get_or_insert(&mut self, key: K, keep: impl Fn(&V) -> bool, make: impl FnOnce() -> V) -> V
    where
        V: Clone,
    {
        if let Some(value) = self.map.get(&key) {
            return value.clone();
        }
        self.make_room(keep);
        self.map.entry(key).or_insert_with(make).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;

    fn web() -> ServiceName {
        ServiceName::new("web").unwrap()
    }

    fn assert_line(page: &str, line: &str) {
        assert!(page.lines().any(|l| l == line), "no line {line:?} in\n{page}");
    }

    #[test]
    fn the_readme_names_every_metric() {
        let metrics = Metrics::new();
        metrics.backend(&web(), "10.0.0.1:5000");
        let page = metrics.render();
        let readme = include_str!("../../README.md");
        let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let gauges = Gauge::ALL.iter().map(|gauge| gauge.name());
        let mut n_named = 0;
        for name in families.chain(gauges) {
            assert!(readme.contains(&format!("`{name}")), "{name}");
            n_named += 1;
        }
        assert!(n_named > 20, "{n_named}");
    }

    #[test]
    fn the_names_of_the_contract_are_on_the_page() {
        let metrics = Metrics::new();
        let service = metrics.service(&web());
        service.request_ended(200, Duration::from_millis(2));
        service.request_ended(499, Duration::from_millis(2));
        service.retried(FailureKind::StaleConnection);
        service.retried(RetryCause::Status);
        service.hedged();
        service.hedge_won();
        service.queue_was_full();
        let backend = metrics.backend(&web(), "10.0.0.1:5000");
        backend.attempt_ended(Outcome::Success, Duration::from_millis(1));
        backend.attempt_ended(Outcome::Failure(FailureKind::ConnectRefused), Duration::from_millis(1));
        metrics.local_reply(FailureKind::NoRoute);
        metrics.listener(":8080").accepted.increment(1);
        metrics.config_applied(42, Duration::from_secs(1_700_000_000));
        metrics.watch(Gauge::Connections, &[":8080"], || Some(3.0));
        metrics.watch(Gauge::QueueLength, &["web"], || Some(2.0));
        metrics.watch(Gauge::BackendInFlight, &["web", "10.0.0.1:5000"], || Some(1.0));
        let page = metrics.render();
        for line in [
            "portway_requests_total{service=\"web\",code_class=\"2xx\"} 1",
            "portway_requests_total{service=\"web\",code_class=\"4xx\"} 1",
            "portway_requests_total{service=\"-\",code_class=\"2xx\"} 0",
            "portway_request_duration_seconds_count{service=\"web\"} 2",
            "portway_backend_requests_total{service=\"web\",backend=\"10.0.0.1:5000\",outcome=\"success\"} 1",
            "portway_backend_requests_total{service=\"web\",backend=\"10.0.0.1:5000\",outcome=\"connect_refused\"} 1",
            "portway_backend_requests_total{service=\"web\",backend=\"10.0.0.1:5000\",outcome=\"server_error\"} 0",
            "portway_backend_duration_seconds_count{service=\"web\",backend=\"10.0.0.1:5000\"} 2",
            "portway_backend_in_flight{service=\"web\",backend=\"10.0.0.1:5000\"} 1",
            "portway_retries_total{service=\"web\",reason=\"stale_connection\"} 1",
            "portway_retries_total{service=\"web\",reason=\"status\"} 1",
            "portway_hedges_total{service=\"web\"} 1",
            "portway_hedges_won_total{service=\"web\"} 1",
            "portway_queue_overflow_total{service=\"web\",reason=\"queue_full\"} 1",
            "portway_queue_length{service=\"web\"} 2",
            "portway_local_replies_total{reason=\"no_route\"} 1",
            "portway_local_replies_total{reason=\"internal\"} 0",
            "portway_connections{listener=\":8080\"} 3",
            "portway_connections_accepted_total{listener=\":8080\"} 1",
            "portway_config_generation 42",
            "portway_config_last_reload_success 1",
            "portway_config_last_reload_timestamp_seconds 1700000000",
            "# TYPE portway_requests_total counter",
            "# TYPE portway_request_duration_seconds histogram",
            "# TYPE portway_connections gauge",
        ] {
            assert_line(&page, line);
        }
        assert!(page.contains("portway_build_info{version=\""));
    }

    #[test]
    fn each_family_has_help_and_type_once_and_the_page_is_the_same_each_time() {
        let metrics = Metrics::new();
        let _service = metrics.service(&web());
        let page = metrics.render();
        assert_eq!(page, metrics.render());
        let names = |prefix: &str| -> Vec<String> {
            let lines = page.lines().filter_map(|line| line.strip_prefix(prefix));
            lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
        };
        let typed = names("# TYPE ");
        assert_eq!(typed, names("# HELP "));
        assert!(typed.is_sorted());
        assert!(typed.windows(2).all(|pair| pair[0] != pair[1]), "{typed:?}");
        assert!(page.lines().all(|line| !line.is_empty()));
    }

    #[test]
    fn every_failure_kind_and_limit_is_there_before_it_happens() {
        let page = Metrics::new().render();
        for kind in FailureKind::all() {
            assert_line(&page, &format!("portway_local_replies_total{{reason=\"{}\"}} 0", kind.reason()));
        }
        for limit in Limit::ALL {
            assert_line(&page, &format!("portway_limit_hits_total{{limit=\"{}\"}} 0", limit.word()));
        }
    }

    #[test]
    fn tables_are_in_the_order_of_their_enums() {
        assert!(Limit::ALL.iter().enumerate().all(|(idx, limit)| *limit as usize == idx));
        assert!(Gauge::ALL.iter().enumerate().all(|(idx, gauge)| *gauge as usize == idx));
        assert!(ProbeResult::ALL.iter().enumerate().all(|(idx, result)| *result as usize == idx));
        assert!(Outcome::all().enumerate().all(|(idx, outcome)| outcome.index() == idx));
    }

    #[test]
    fn a_service_keeps_its_counters_while_somebody_holds_them() {
        let metrics = Metrics::new();
        let before_reload = metrics.service(&web());
        before_reload.request_ended(200, Duration::ZERO);
        let after_reload = metrics.service(&web());
        drop(before_reload);
        assert_eq!(after_reload.read().requests(), 1);
        metrics.render();
        assert_eq!(metrics.service(&web()).read().requests(), 1);
    }

    #[test]
    fn a_removed_backend_is_printed_once_more_and_then_gone() {
        let metrics = Metrics::new();
        metrics.backend(&web(), "a:1").attempt_ended(Outcome::Success, Duration::ZERO);
        assert!(metrics.render().contains("a:1"));
        assert!(!metrics.render().contains("a:1"));
    }

    #[test]
    fn what_nobody_scrapes_does_not_grow_without_bound() {
        let metrics = Metrics::new();
        let held = metrics.backend(&web(), "held:1");
        for port in 0..10_000 {
            metrics.backend(&web(), &format!("a:{port}"));
            metrics.watch(Gauge::QueueLength, &[&port.to_string()], || None);
        }
        assert!(lock(&metrics.backends).map.len() <= 2 * 1_024);
        assert!(lock(&metrics.watched).map.len() <= 2 * 1_024);
        held.attempt_ended(Outcome::Success, Duration::ZERO);
        assert!(metrics.render().contains("held:1"));
    }

    #[test]
    fn a_watched_gauge_ends_when_its_owner_is_gone() {
        let metrics = Metrics::new();
        let owner = Arc::new(5.0);
        let weak = Arc::downgrade(&owner);
        metrics.watch(Gauge::QueueLength, &["web"], move || weak.upgrade().map(|value| *value));
        assert_line(&metrics.render(), "portway_queue_length{service=\"web\"} 5");
        drop(owner);
        assert!(!metrics.render().contains("portway_queue_length"));
    }

    #[test]
    fn a_reading_less_an_earlier_one_is_what_came_in_between() {
        let service = Metrics::new().service(&web());
        service.request_ended(200, Duration::from_millis(1));
        let earlier = service.read();
        service.request_ended(503, Duration::from_millis(2));
        service.retried(FailureKind::ConnectRefused);
        let between = service.read().since(&earlier);
        assert_eq!((between.requests(), between.errors(), between.retries.iter().sum()), (1, 1, 1_u64));
        assert_eq!(between.duration.sum(), Duration::from_millis(2));
    }

    #[test]
    fn a_reload_is_no_success_while_its_replicas_cannot_be_replaced() {
        let metrics = Metrics::new();
        let success = || {
            let page = metrics.render();
            let line = page.lines().find(|line| line.starts_with("portway_config_last_reload_success"));
            line.is_some_and(|line| line.ends_with(" 1"))
        };
        metrics.config_applied(1, Duration::ZERO);
        assert!(success());
        metrics.replacements_failed(1);
        assert!(!success());
        // Nor is the same file read again.
        metrics.config_applied(1, Duration::ZERO);
        assert!(!success());
        metrics.replacements_failed(0);
        assert!(success());
        metrics.config_rejected(Duration::ZERO);
        metrics.replacements_failed(1);
        metrics.replacements_failed(0);
        assert!(!success());
    }

    #[test]
    fn a_backend_is_blamed_for_its_own_failures_only() {
        let metrics = Metrics::new();
        let backend = metrics.backend(&web(), "a:1");
        for outcome in Outcome::all() {
            backend.attempt_ended(outcome, Duration::ZERO);
        }
        let read = backend.read();
        let own = FailureKind::all().filter(|kind| kind.fault() == Fault::Backend).count() as u64;
        assert_eq!(read.errors(), own + 1);
        assert_eq!(read.attempts(), Outcome::COUNT as u64);
    }
}
