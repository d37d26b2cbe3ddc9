//! How many replicas there should be: bounds, one target, windows that fit each other, and exactly one writer of the number.
//! Promises a word about each number that could never have an effect. It decides nothing and tells nobody.

use std::num::NonZeroU32;
use std::time::Duration;

use http::Uri;

use super::check::{Check, Zero};
use super::command;
use super::containers::REPLICAS_MAX;
use crate::config::checked::{Autoscale, Hold, Hook, HookWay, Target, WaitingPage};
use crate::config::defaults;
use crate::config::quantity::spell_duration;
use crate::config::raw::{self, Switch, kind};
use crate::config::scalar::Scalar;
use crate::config::source::Span;

/// Shortest window of ordinary decisions: one answer of a slow service.
const STABLE_MIN: Duration = Duration::from_secs(1);
/// Longest: Knative's. A longer one remembers a night.
const STABLE_MAX: Duration = Duration::from_secs(3600);
/// Shortest window of bursts: a tenth of the shortest other one.
const PANIC_MIN: Duration = Duration::from_millis(100);

/// What the number of replicas depends on besides `autoscale`.
pub(super) struct Around<'r> {
    /// The name of the service, for messages.
    pub(super) name: &'r str,
    /// What was typed, `defaults` included.
    pub(super) raw: &'r raw::Service,
}

/// Who can change the number of replicas.
enum Scaler {
    /// Portway; the place says which replicas these are.
    Own(Option<Span>),
    /// Whoever the hook tells.
    Hook,
    /// The source could not be read, which was reported.
    Unknown,
}

/// How many replicas a service should have; `None` leaves that to others.
pub(super) fn autoscale(around: &Around<'_>, check: &mut Check<'_>) -> Option<Autoscale> {
    let Some(Switch::On(raw)) = &around.raw.autoscale else { return None };
    let at = raw.place.at.unwrap_or(Span::NONE);
    if let (Some(container), true) = (&around.raw.container, raw.place.at.is_some())
        && let Some(replicas) = &container.replicas
    {
        let message = "two decide the number of replicas: `replicas` and `autoscale`";
        check.error(replicas.span(), message, "remove it, or write `autoscale: off`").also(at, "the other");
    }
    if !raw.place.has_max {
        let message = format!("`autoscale` of service `{}` has no `max`", around.name);
        check.error(at, message, "add `max:`, the most replicas there may be");
    }
    let stable = stable(&raw.stable, check);
    let target = target(raw, around, check);
    let autoscale = Autoscale {
        min: check.count(&raw.min, defaults::AUTOSCALE_MIN, 0..=REPLICAS_MAX),
        max: NonZeroU32::new(check.count(&raw.max, 10, 1..=REPLICAS_MAX)).unwrap_or(NonZeroU32::MIN),
        stable,
        panic: panic(raw, stable, check),
        up_at_once: factor(&raw.up_at_once, defaults::AUTOSCALE_UP_AT_ONCE, check),
        down_at_once: factor(&raw.down_at_once, defaults::AUTOSCALE_DOWN_AT_ONCE, check),
        idle: check.duration(&raw.idle, defaults::AUTOSCALE_IDLE, Zero::Rejected),
        hold: hold(raw.hold.as_ref(), check),
        hook: writer(raw, around, check),
        target: target?,
    };
    reject_crossed_bounds(raw, &autoscale, check);
    warn_of_patience_beyond_the_deadline(raw, &autoscale.hold, around, check);
    Some(autoscale)
}

fn reject_crossed_bounds(raw: &raw::Autoscale, autoscale: &Autoscale, check: &mut Check<'_>) {
    if let (Some(min), Some(max), true) = (&raw.min, &raw.max, autoscale.min > autoscale.max.get()) {
        let message = format!("`min` is more than `max`, which is {}", max.shown());
        check.error(min.span(), message, "make it at most as much").also(max.span(), "`max` is this");
    }
}

/// The deadline of a request holds while it waits, too.
fn warn_of_patience_beyond_the_deadline(raw: &raw::Autoscale, hold: &Hold, around: &Around<'_>, check: &mut Check<'_>) {
    // A mistake in it is reported once, where it stands.
    let deadline = check.duration(&around.raw.timeout, defaults::TIMEOUT, Zero::Rejected);
    let typed = raw.hold.as_ref().and_then(|hold| hold.timeout.as_ref());
    if let (Some(scalar), true) = (typed, hold.timeout > deadline) {
        let message = format!("no request waits so long: its `timeout` ends after {}", spell_duration(deadline));
        let at = around.raw.timeout.as_ref().map_or(Span::NONE, Scalar::span);
        check
            .report
            .warning(scalar.span(), message, "make `timeout` longer, or this shorter")
            .also(at, "`timeout` is this");
    }
}

fn stable(field: &Option<Scalar<kind::Duration>>, check: &mut Check<'_>) -> Duration {
    let stable = check.duration(field, defaults::AUTOSCALE_STABLE, Zero::Rejected);
    if let (Some(scalar), false) = (field, (STABLE_MIN..=STABLE_MAX).contains(&stable)) {
        let message = format!("\"{}\" is not between 1s and 1h", scalar.shown());
        check.error(scalar.span(), message, "most services take 30s to 5m");
        return defaults::AUTOSCALE_STABLE;
    }
    stable
}

fn panic(raw: &raw::Autoscale, stable: Duration, check: &mut Check<'_>) -> Duration {
    let default = stable / defaults::AUTOSCALE_STABLE_PER_PANIC;
    let panic = check.duration(&raw.panic, default, Zero::Rejected);
    let Some(scalar) = &raw.panic else { return panic };
    if panic >= stable {
        let message =
            format!("the window of bursts is not shorter than the other, which is {}", spell_duration(stable));
        let at = raw.stable.as_ref().map_or(Span::NONE, Scalar::span);
        check.error(scalar.span(), message, "a tenth of it is usual").also(at, "`stable` is this");
        return default;
    }
    if panic < PANIC_MIN {
        let message = format!("\"{}\" is less than {}", scalar.shown(), spell_duration(PANIC_MIN));
        check.error(scalar.span(), message, "a tenth of `stable` is usual");
        return default;
    }
    panic
}

/// How much a step may change.
fn factor(field: &Option<Scalar<kind::Number>>, default: f64, check: &mut Check<'_>) -> f64 {
    let factor = check.decimal(field, default);
    if let (Some(scalar), true) = (field, factor <= 1.0) {
        let message = format!("\"{}\" is not more than 1: times so many, nothing ever changes", scalar.shown());
        check.error(scalar.span(), message, format!("leave it out for {default}"));
        return default;
    }
    factor
}

/// `None` if there are two, which was reported.
fn target(raw: &raw::Autoscale, around: &Around<'_>, check: &mut Check<'_>) -> Option<Target> {
    let span = |key, span: Option<Span>| span.map(|span| (span, key));
    let typed = [
        span("target_in_flight", raw.target_in_flight.as_ref().map(Scalar::span)),
        span("target_rps", raw.target_rps.as_ref().map(Scalar::span)),
        span("target_latency", raw.target_latency.as_ref().map(Scalar::span)),
    ];
    let mut typed: Vec<_> = typed.into_iter().flatten().collect();
    typed.sort_unstable();
    if let [(first_span, first), (second_span, second), ..] = typed[..] {
        let message = format!("replicas are counted by one target: this has `{first}` and `{second}`");
        check.error(second_span, message, "again here; keep one of them").also(first_span, "first here");
        return None;
    }
    // The cap is checked where it is typed; a mistake in it is reported once.
    let cap = check.cap(&around.raw.max_in_flight);
    if raw.target_rps.is_some() {
        return Some(Target::Rps(check.decimal(&raw.target_rps, defaults::AUTOSCALE_TARGET_IN_FLIGHT)));
    }
    if raw.target_latency.is_some() {
        return Some(Target::Latency(check.duration(&raw.target_latency, defaults::TIMEOUT_CONNECT, Zero::Rejected)));
    }
    let default = cap.map_or(defaults::AUTOSCALE_TARGET_IN_FLIGHT, usual_share);
    let in_flight = check.decimal(&raw.target_in_flight, default);
    if let (Some(scalar), Some(cap)) = (&raw.target_in_flight, cap)
        && in_flight > f64::from(cap.get())
    {
        let message = format!("no replica ever carries so many: `max_in_flight` is {cap}, the others wait");
        let at = around.raw.max_in_flight.as_ref().map_or(Span::NONE, Scalar::span);
        let help = format!("make it less than that; {default} is usual");
        check.report.warning(scalar.span(), message, help).also(at, "`max_in_flight` is this");
    }
    Some(Target::InFlight(in_flight))
}

/// The exact figure that people would write: 70 % of 3 is 2.1, not 2.0999999999999996.
fn usual_share(cap: NonZeroU32) -> f64 {
    f64::from(cap.get()) * f64::from(defaults::AUTOSCALE_UTILISATION.get()) / 100.0
}

fn hold(raw: Option<&raw::Hold>, check: &mut Check<'_>) -> Hold {
    let Some(raw) = raw else { return Hold::default() };
    if let Some(scalar) = raw.max.as_ref().filter(|max| max.value() == "0") {
        let message = "no request could wait: each that comes while there is no replica would be refused";
        check.error(scalar.span(), message, "write at least 1; `min: 1` keeps a replica");
    }
    let pages =
        [("off", WaitingPage::Off), ("false", WaitingPage::Off), ("true", WaitingPage::On), ("on", WaitingPage::On)];
    Hold {
        timeout: check.duration(&raw.timeout, defaults::HOLD_TIMEOUT, Zero::Rejected),
        max: check.count(&raw.max, defaults::HOLD_MAX, 0..=u32::MAX),
        page: check.word(&raw.page, &pages),
    }
}

/// Exactly one thing writes the number of replicas: the hook, or Portway where it can.
fn writer(raw: &raw::Autoscale, around: &Around<'_>, check: &mut Check<'_>) -> Option<Hook> {
    match (scaler(around.raw), &raw.hook) {
        (Scaler::Own(place), Some(hook)) => {
            let message = "two write the number of replicas: this hook, and Portway itself";
            check
                .error(hook.at.unwrap_or(Span::NONE), message, "remove it: Portway starts and stops these replicas")
                .also(place.unwrap_or(Span::NONE), "these replicas");
            None
        }
        (_, Some(hook)) => self::hook(hook, check),
        (Scaler::Hook, None) if !raw.place.has_hook => {
            let message = format!("nobody changes the number of replicas of service `{}`", around.name);
            let help = "add `hook: http://…` or `hook: { command: […] }`, or let Portway run them: `container:`";
            check.error(raw.place.at.unwrap_or(Span::NONE), message, help);
            None
        }
        (_, None) => None,
    }
}

fn scaler(raw: &raw::Service) -> Scaler {
    match (&raw.container, &raw.swarm, &raw.backends) {
        (Some(container), ..) => Scaler::Own(container.at),
        (_, Some(swarm), _) => Scaler::Own(swarm.at),
        (.., Some(backends)) if backends.iter().all(|backend| backend.address.is_none()) => Scaler::Unknown,
        _ => Scaler::Hook,
    }
}

fn hook(raw: &raw::Hook, check: &mut Check<'_>) -> Option<Hook> {
    let timeout = check.duration(&raw.timeout, defaults::HOOK_TIMEOUT, Zero::Rejected);
    let way = match (&raw.url, &raw.command) {
        (Some(url), Some(command)) => {
            let (url, command) = (url.span(), command.span());
            let (first, second) = (url.min(command), url.max(command));
            let message = "a hook tells one: this has `url` and `command`";
            check.error(second, message, "again here; keep one of them").also(first, "first here");
            return None;
        }
        (Some(url), None) => HookWay::Url(self::url(url, check)?),
        (None, Some(typed)) => {
            let mut words = command::command(typed, "write a program such as ./scale.sh", check)?;
            if words[0].contains('/') {
                words[0] = command::below(&raw.folder, &words[0]);
            }
            HookWay::Command(words)
        }
        (None, None) => return None,
    };
    Some(Hook { way, timeout })
}

fn url(scalar: &Scalar<kind::Url>, check: &mut Check<'_>) -> Option<Uri> {
    let text = scalar.value();
    let uri = text.parse::<Uri>().ok();
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let is_whole = uri.as_ref().is_some_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    let has_user = uri.as_ref().and_then(Uri::authority).is_some_and(|authority| authority.as_str().contains('@'));
    let (message, help) = match scheme {
        Some("https") => (
            "needs TLS, which hooks do not have in this version of Portway yet",
            "use http:// inside of a private network, or a `command` such as curl".to_owned(),
        ),
        Some("http") if has_user => {
            ("has a user and a password, which hooks do not send", "put a secret into the path or the query".to_owned())
        }
        Some("http") if is_whole => return uri,
        None if text.starts_with(['/', '.']) || !text.contains([':', '/']) => {
            ("is not a URL", format!("for a program write {{ command: [{text}] }}"))
        }
        None if text.contains(char::is_whitespace) => ("is not a URL", "for a program write { command: … }".to_owned()),
        None => ("has no scheme", format!("write it as http://{text}")),
        Some(_) => ("is not a URL that a hook can have", "write one such as http://scaler/scale".to_owned()),
    };
    let help = if scalar.has_variables() { "write one such as http://scaler/scale".to_owned() } else { help };
    check.error(scalar.span(), format!("\"{}\" {message}", scalar.shown()), help);
    None
}
