//! The replicas of a service in a few words: one cell of a table, and the lines below it when they fail to start.
//! Promises the same words on every surface of the terminal. It knows no table.

use std::fmt::Write as _;

use super::{age, escaped};
use crate::admin::{BackendState, ReplicaStatus, ServiceStatus, SourceKind};

/// `3 (1–10)`, `1→3 (0–10), 2 held`, `pinned 2`, `0 (0–10), idle 2 h`; `–` where Portway has no say.
pub(in crate::cli) fn cell(service: &ServiceStatus) -> String {
    let Some(replicas) = &service.replicas else { return "–".to_owned() };
    let ReplicaStatus { desired, ready, held, min, max, pinned, last_decision, failure, .. } = replicas;
    // What a person has just said may not have been decided yet.
    let target = pinned.as_ref().unwrap_or(desired);
    let number = if ready == target { target.to_string() } else { format!("{ready}→{target}") };
    let mut text = match pinned {
        Some(_) => format!("pinned {number}"),
        None if min == max => number,
        None => format!("{number} ({min}–{max})"),
    };
    let went_cold = last_decision.as_ref().filter(|decision| decision.to == 0 && pinned.is_none());
    if let (0, 0, Some(decision)) = (desired, ready, went_cold) {
        text += &format!(", idle {}", age(decision.age_s));
    }
    if *held > 0 {
        text += &format!(", {held} held");
    }
    if failure.is_some() {
        text += ", failing";
    }
    text
}

/// `2/3 ready, 1 unhealthy`; where there is none, what that means.
pub(in crate::cli) fn backends(service: &ServiceStatus) -> String {
    if service.backends.is_empty() {
        return match (&service.replicas, service.source.kind) {
            (Some(replicas), _) => none_of(replicas),
            (None, SourceKind::Backends) => "–".to_owned(), // it redirects
            (None, _) => "none found".to_owned(),
        };
    }
    let n_in = |state| service.backends.iter().filter(|backend| backend.state == state).count();
    let mut text = format!("{}/{} ready", n_in(BackendState::Ready), service.backends.len());
    for state in BackendState::ALL.into_iter().filter(|state| *state != BackendState::Ready) {
        let n = n_in(state);
        if n > 0 {
            write!(text, ", {n} {state}").expect("writing to a String cannot fail");
        }
    }
    if let Some(n @ 1..) = service.replicas.as_ref().map(|replicas| replicas.starting) {
        write!(text, ", {n} starting").expect("writing to a String cannot fail");
    }
    text
}

fn none_of(replicas: &ReplicaStatus) -> String {
    let word = match replicas {
        ReplicaStatus { desired: 0, .. } => "cold",
        ReplicaStatus { failure: Some(_), .. } => "none starts",
        ReplicaStatus { starting: 1.., .. } => "starting",
        _ => "none yet",
    };
    word.to_owned()
}

/// What keeps replicas from starting, with the container's last words; empty if nothing does.
pub(in crate::cli) fn failure(service: &ServiceStatus) -> String {
    let Some(failure) = service.replicas.as_ref().and_then(|replicas| replicas.failure.as_ref()) else {
        return String::new();
    };
    let what = match failure.times {
        0 | 1 => "the last start has failed,".to_owned(),
        n => format!("{n} starts in a row have failed, the last"),
    };
    let mut text = format!("{}: {what} {} ago:\n", service.name, age(failure.age_s));
    for line in failure.words.lines() {
        writeln!(text, "  {}", escaped(line)).expect("writing to a String cannot fail");
    }
    text
}

/// `12 s ago from 1 to 2: 14.2 in flight on average, 6 wanted`; `None` if nothing was decided yet.
pub(in crate::cli) fn decision(replicas: &ReplicaStatus) -> Option<String> {
    let decision = replicas.last_decision.as_ref()?;
    let (age, because) = (age(decision.age_s), escaped(&decision.because));
    Some(format!("{age} ago from {} to {}: {because}", decision.from, decision.to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ReplicaFailure;
    use crate::admin::tests::{sample_cold, sample_scaled, sample_status};
    use crate::admin::{ProcessState, SourceStatus};

    fn with(change: impl FnOnce(&mut ReplicaStatus)) -> ServiceStatus {
        let mut service = sample_scaled();
        change(service.replicas.as_mut().unwrap());
        service
    }

    #[test]
    fn replicas_are_told_in_a_few_words() {
        let plain = sample_status(ProcessState::Ready).services.swap_remove(0);
        for (service, expected) in [
            (plain, "–"),
            (sample_scaled(), "1→2 (0–10)"),
            (with(|replicas| replicas.ready = 2), "2 (0–10)"),
            (with(|replicas| (replicas.ready, replicas.pinned) = (2, Some(2))), "pinned 2"),
            (with(|replicas| replicas.pinned = Some(2)), "pinned 1→2"),
            (with(|replicas| replicas.pinned = Some(3)), "pinned 1→3"),
            (with(|replicas| (replicas.ready, replicas.min, replicas.max) = (2, 2, 2)), "2"),
            (with(|replicas| (replicas.ready, replicas.held) = (0, 3)), "0→2 (0–10), 3 held"),
            (sample_cold(), "0 (0–10), idle 2 h"),
        ] {
            assert_eq!(cell(&service), expected);
        }
    }

    #[test]
    fn a_service_without_a_backend_says_what_that_means() {
        let none = |desired, starting, words: Option<&str>| {
            let mut service = sample_cold();
            let replicas = service.replicas.as_mut().unwrap();
            (replicas.desired, replicas.starting) = (desired, starting);
            replicas.failure = words.map(|words| ReplicaFailure { age_s: 12, times: 3, words: words.to_owned() });
            service
        };
        assert_eq!(backends(&none(0, 0, None)), "cold");
        assert_eq!(backends(&none(1, 1, None)), "starting");
        assert_eq!(backends(&none(1, 0, None)), "none yet");
        assert_eq!(backends(&none(1, 1, Some("x"))), "none starts");
        assert_eq!(cell(&none(1, 0, Some("x"))), "0→1 (0–10), failing");
        let mut found = none(0, 0, None);
        found.replicas = None;
        assert_eq!(backends(&found), "none found");
        found.source = SourceStatus::default();
        assert_eq!(backends(&found), "–");
    }

    #[test]
    fn a_failure_has_the_last_words_of_the_container() {
        let words = "exit code 1 after 80ms\nModuleNotFoundError: No module named 'flsk'\u{1b}[2J".to_owned();
        let service = with(|replicas| replicas.failure = Some(ReplicaFailure { age_s: 12, times: 3, words }));
        let expected = "\
thumbs: 3 starts in a row have failed, the last 12 s ago:
  exit code 1 after 80ms
  ModuleNotFoundError: No module named 'flsk'\\u{1b}[2J
";
        assert_eq!(failure(&service), expected);
        assert_eq!(failure(&sample_scaled()), "");
    }
}
