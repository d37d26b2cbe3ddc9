//! Every default of the language, a named constant with its reason; nowhere else in the crate is there one.
//! `portway config show --defaults` and `config/reference.yaml` print these.

use std::time::Duration;

use crate::units::{ByteSize, Percent};

/// Where a file without `listen` listens: the port that needs no privileges and that people try first.
pub const LISTEN: &str = ":8080";
/// The admin listener: loopback only, since it can drain the process.
pub const ADMIN: &str = "127.0.0.1:9900";
/// A service without `route` takes everything.
pub const ROUTE: &str = "/";

/// A redirect without `status` is temporary: a browser remembers a permanent one long after the mistake is undone.
pub const REDIRECT_STATUS: u16 = 302;

/// Open downstream connections: well below the usual hard limit of 1,048,576 descriptors, two per request.
pub const LIMIT_CONNECTIONS: u32 = 100_000;
/// Request line and headers: four times what browsers and their cookies reach.
pub const LIMIT_HEADER_BYTES: ByteSize = ByteSize::kib(32);
/// Header fields: hyper parses up to 100 without a heap allocation.
pub const LIMIT_HEADER_COUNT: u32 = 100;
/// From the first byte to the end of the header block: generous on a bad radio link, short for a slow-header attack.
pub const LIMIT_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle client connections: nginx's figure, above the 60 s of common cloud balancers in front.
pub const LIMIT_KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Slowest body: below any radio link, above a slow-body attack's byte per second.
pub const LIMIT_MIN_BODY_RATE: ByteSize = ByteSize(240);

/// SIGTERM closes the listeners at once; an orchestrator that needs time to notice sets a delay.
pub const SHUTDOWN_DELAY: Duration = Duration::ZERO;
/// Open requests may finish: equal to the default of `drain` and to gunicorn's `graceful_timeout`.
pub const SHUTDOWN_DRAIN: Duration = Duration::from_secs(30);

/// Whole request: what browsers and the usual balancers in front tolerate.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// A TCP handshake inside a data centre takes a millisecond; a lost SYN is sent again after one second.
pub const TIMEOUT_CONNECT: Duration = Duration::from_secs(1);
/// To the response head: gunicorn kills a sync worker after the same 30 s.
pub const TIMEOUT_RESPONSE: Duration = Duration::from_secs(30);
/// No byte either way, WebSockets included.
pub const TIMEOUT_IDLE: Duration = Duration::from_secs(300);

/// Waiting requests per service: a second's worth for a small service.
pub const QUEUE_SIZE: u32 = 100;
/// A request that waited a second for a worker is better told to come back.
pub const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Below gunicorn's keep-alive of 2 s, so that its close does not meet our next request.
pub const KEEPALIVE_IDLE: Duration = Duration::from_millis(1500);
/// Old connections are replaced, so that a moved name is noticed.
pub const KEEPALIVE_MAX_AGE: Duration = Duration::from_secs(300);

/// Read before a backend is taken: the forms and JSON of ordinary requests.
pub const BUFFER_REQUEST: ByteSize = ByteSize::mib(1);
/// Read ahead of a slow client: an ordinary page.
pub const BUFFER_RESPONSE: ByteSize = ByteSize::kib(256);
/// Larger requests get 413.
pub const MAX_BODY: ByteSize = ByteSize::mib(100);

/// Smaller responses cost more to compress than they save.
pub const COMPRESSION_MIN_SIZE: ByteSize = ByteSize::kib(1);
/// How long a browser remembers a CORS preflight: Chrome's own cap is 2 h, Firefox's 24 h.
pub const CORS_MAX_AGE: Duration = Duration::from_secs(600);

/// Between two probes: HAProxy's `inter`.
pub const HEALTH_EVERY: Duration = Duration::from_secs(2);
/// One probe: half of the rhythm, so that probes of one backend never overlap.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// HAProxy's `rise`.
pub const HEALTH_HEALTHY_AFTER: u32 = 2;
/// HAProxy's `fall`.
pub const HEALTH_UNHEALTHY_AFTER: u32 = 3;
/// Statuses that pass: a redirect to a login page is a sign of life.
pub const HEALTH_EXPECT: std::ops::RangeInclusive<u16> = 200..=399;

/// Failures in a row that take a backend out: Envoy's figure.
pub const EJECTION_CONSECUTIVE: u32 = 5;
/// A backend that fails every second request may never fail five times in a row. Whoever fails so often is not worth its
/// requests, however small the service; what all backends of it do alike ejects none of them.
pub const EJECTION_SUCCESS_RATE: Percent = Percent::new_const(50);
/// The first ejection: long enough for a container to restart.
pub const EJECTION_BASE: Duration = Duration::from_secs(10);
/// The longest.
pub const EJECTION_MAX: Duration = Duration::from_secs(300);
/// At most half; with two or three backends that is one.
pub const EJECTION_MAX_EJECTED: Percent = Percent::new_const(50);

/// New backends take their full share at once unless the user says otherwise.
pub const SLOW_START: Duration = Duration::ZERO;

/// Attempts after the first.
pub const RETRY_ATTEMPTS: u32 = 1;
/// Linkerd's and Finagle's ratio.
pub const RETRY_BUDGET: Percent = Percent::new_const(20);
/// So that the first failures of a quiet service are retried.
pub const RETRY_BUDGET_PER_SECOND: u32 = 3;
/// Envoy's base interval.
pub const RETRY_BACKOFF: Duration = Duration::from_millis(25);
/// The longest pause is so many times the base, as Envoy has it.
pub const RETRY_BACKOFF_MAX_PER_BASE: u32 = 10;
/// The longest pause where no base was typed.
pub const RETRY_BACKOFF_MAX: Duration = RETRY_BACKOFF.saturating_mul(RETRY_BACKOFF_MAX_PER_BASE);

/// A removed or drained backend may finish for so long: the same as `shutdown.drain`.
pub const DRAIN: Duration = Duration::from_secs(30);

/// Replicas of a `container` without `autoscale`: what Compose starts.
pub const CONTAINER_REPLICAS: u32 = 1;
/// From SIGTERM to SIGKILL: the grace period of `docker stop` and of Compose.
pub const CONTAINER_STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The endpoint that a source has which names none.
pub const ENDPOINT: &str = "default";

/// Never fewer: scaling to zero costs somebody a cold start, so it is asked for. The HPA's figure.
pub const AUTOSCALE_MIN: u32 = 1;
/// Share of `max_in_flight` that one replica should carry: Knative's utilisation. The rest is for the time that a further
/// replica takes to start.
pub const AUTOSCALE_UTILISATION: Percent = Percent::new_const(70);
/// What one replica should carry if nothing tells what it can: that share of ten requests, a small gunicorn. Knative's hundred
/// is made for servers without a worker per request.
pub const AUTOSCALE_TARGET_IN_FLIGHT: f64 = 7.0;
/// The window of ordinary decisions: Knative's.
pub const AUTOSCALE_STABLE: Duration = Duration::from_secs(60);
/// The window of bursts is a tenth of the other, as Knative has it: 6 s.
pub const AUTOSCALE_STABLE_PER_PANIC: u32 = 10;
/// At most times so many per step up, which is no limit but for runaways: Knative's.
pub const AUTOSCALE_UP_AT_ONCE: f64 = 1000.0;
/// At most halved per step down: Knative's.
pub const AUTOSCALE_DOWN_AT_ONCE: f64 = 2.0;
/// Without a request for so long: KEDA's cooldown. A container that is needed every few minutes had better stay.
pub const AUTOSCALE_IDLE: Duration = Duration::from_secs(300);
/// A request waits for its cold start as long as for its answer: the same as `timeout`.
pub const HOLD_TIMEOUT: Duration = TIMEOUT;
/// Requests that wait for a cold start: a tenth of Knative's activator, for machines a tenth the size.
pub const HOLD_MAX: u32 = 1_000;
/// One try of a hook: what Kubernetes gives its webhooks.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(10);
