//! From what was typed to the configuration that cannot be wrong.
//! Promises that every mistake is reported before it gives up. Opens nothing and resolves no name.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use self::check::{Check, Zero};
use super::diagnostic::Report;
use super::raw::{self, Switch, kind};
use super::scalar::Scalar;
use super::{checked, defaults};

mod address;
mod autoscale;
mod backends;
mod check;
mod command;
mod containers;
mod filters;
mod image;
mod inherit;
mod listeners;
mod path;
mod resilience;
mod routes;
mod services;

pub(crate) use command::{below, is_relative, words};
pub(crate) use inherit::inherit;
pub(crate) use routes::split_short;

/// Most workers: one per core of the largest machines there are.
const WORKERS_MAX: u32 = 1_024;

/// Checks a whole configuration. `None` if the report has an error.
pub fn validate(raw: &raw::Config, report: &mut Report) -> Option<checked::Config> {
    let mut check = Check { report };
    let listeners = listeners::listeners(raw.listen.as_deref(), &mut check);
    let admin = listeners::admin(raw.admin.as_ref(), &mut check);
    listeners::reject_overlaps(&listeners, admin.as_ref(), &mut check);
    let config = checked::Config {
        listeners: listeners.into_iter().map(|(listener, _)| listener).collect(),
        admin: admin.map(|(admin, _)| admin),
        workers: workers(&raw.workers, &mut check),
        accept: check
            .word(&raw.accept, &[("kernel", checked::Accept::Kernel), ("balanced", checked::Accept::Balanced)]),
        trusted_proxies: raw.trusted_proxies.iter().flatten().filter_map(|net| network(net, &mut check)).collect(),
        limits: limits(raw.limits.as_ref(), &mut check),
        access_log: access_log(raw.access_log.as_ref(), &mut check),
        shutdown: shutdown(raw.shutdown.as_ref(), &mut check),
        services: services::services(raw, &mut check),
    };
    (!report.has_errors()).then_some(config)
}

/// The admin listener alone, if what is said of it is right; whatever else is wrong.
pub(crate) fn admin(raw: Option<&Switch<raw::Admin>>) -> Option<checked::Admin> {
    let mut report = Report::default();
    let (admin, _) = listeners::admin(raw, &mut Check { report: &mut report })?;
    (!report.has_errors()).then_some(admin)
}

fn workers(field: &Option<Scalar<kind::Workers>>, check: &mut Check<'_>) -> NonZeroUsize {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let cores = u32::try_from(cores.get()).unwrap_or(WORKERS_MAX).min(WORKERS_MAX);
    let n_workers = match field {
        Some(scalar) if scalar.value() == "auto" => cores,
        field => check.count(field, cores, 1..=WORKERS_MAX),
    };
    usize::try_from(n_workers).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

fn network(scalar: &Scalar<kind::Network>, check: &mut Check<'_>) -> Option<IpNet> {
    let text = scalar.value();
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    match network {
        Some(network) if network.trunc() != network => {
            let message = format!("\"{}\" is an address inside of a network", scalar.shown());
            let help = match scalar.has_variables() {
                true => "write the network's first address".to_owned(),
                false => format!("the network is {}, the address alone {}", network.trunc(), network.addr()),
            };
            check.error(scalar.span(), message, help);
            None
        }
        Some(network) => Some(network),
        None => {
            let message = format!("\"{}\" is neither an address nor a network", scalar.shown());
            check.error(scalar.span(), message, "write one such as 10.0.0.0/8 or 192.0.2.7");
            None
        }
    }
}

fn limits(raw: Option<&raw::Limits>, check: &mut Check<'_>) -> checked::Limits {
    /// hyper's smallest buffer; a request line with a long path and one cookie fill less.
    const HEADER_BYTES_MIN: u64 = 8 * 1024;
    /// What a client may make us hold before its request is even routed.
    const HEADER_BYTES_MAX: u64 = 1024 * 1024;
    let none = raw::Limits::default();
    let raw = raw.unwrap_or(&none);
    let mut header_bytes = check.size(&raw.header_bytes, defaults::LIMIT_HEADER_BYTES, Zero::Rejected);
    if let (Some(scalar), false) = (&raw.header_bytes, (HEADER_BYTES_MIN..=HEADER_BYTES_MAX).contains(&header_bytes.0))
    {
        let message = format!("\"{}\" is not between 8KiB and 1MiB", scalar.shown());
        check.error(scalar.span(), message, "most servers take 8KiB to 64KiB");
        header_bytes = defaults::LIMIT_HEADER_BYTES;
    }
    let min_body_rate = match check::is_off(&raw.min_body_rate) {
        true => None,
        false => Some(check.size(&raw.min_body_rate, defaults::LIMIT_MIN_BODY_RATE, Zero::Rejected)),
    };
    checked::Limits {
        connections: check.positive(&raw.connections, defaults::LIMIT_CONNECTIONS),
        header_bytes,
        header_count: check.positive(&raw.header_count, defaults::LIMIT_HEADER_COUNT),
        header_timeout: check.duration(&raw.header_timeout, defaults::LIMIT_HEADER_TIMEOUT, Zero::Rejected),
        keep_alive: check.duration(&raw.keep_alive, defaults::LIMIT_KEEP_ALIVE, Zero::Rejected),
        min_body_rate,
    }
}

fn access_log(raw: Option<&Switch<raw::AccessLog>>, check: &mut Check<'_>) -> Option<checked::AccessLog> {
    let none = raw::AccessLog::default();
    let raw = match raw {
        None => &none,
        Some(Switch::On(raw)) => raw,
        Some(Switch::Off) => return None,
    };
    let formats = [("json", checked::LogFormat::Json), ("combined", checked::LogFormat::Combined)];
    let filters = [("all", checked::LogFilter::All), ("errors", checked::LogFilter::Errors)];
    let attempts = [("repeated", checked::AttemptsInLog::Repeated), ("all", checked::AttemptsInLog::All)];
    if let Some(path) = raw.path.as_ref().filter(|path| path.value().is_empty()) {
        check.error(path.span(), "the path of the access log is empty", "write a file, or stdout");
    }
    Some(checked::AccessLog {
        path: raw.path.as_ref().map(Scalar::value).filter(|path| *path != "stdout").map(PathBuf::from),
        only: check.word(&raw.only, &filters),
        query: match check.flag(&raw.query) {
            true => checked::QueryInLog::Written,
            false => checked::QueryInLog::Omitted,
        },
        attempts: check.word(&raw.attempts, &attempts),
        format: check.word(&raw.format, &formats),
    })
}

fn shutdown(raw: Option<&raw::Shutdown>, check: &mut Check<'_>) -> checked::Shutdown {
    let none = raw::Shutdown::default();
    let raw = raw.unwrap_or(&none);
    let mut at_least_zero = |field, default: Duration| check.duration(field, default, Zero::Allowed);
    checked::Shutdown {
        delay: at_least_zero(&raw.delay, defaults::SHUTDOWN_DELAY),
        drain: at_least_zero(&raw.drain, defaults::SHUTDOWN_DRAIN),
    }
}
