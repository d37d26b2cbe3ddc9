//! What differs between two configurations, by name: services with their routes, backends and policies, listeners, settings.
//! Pure. It promises to be empty for configurations that do the same, whatever their order, and to name what differs and
//! nothing else. It applies nothing.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::checked::{Config, Listener, Route, Service};
use super::quantity::spell_duration;

mod below;
mod containers;
mod policies;

/// Names that one line of a log holds; more are counted.
const NAMES_MAX: usize = 8;

/// What became of something between two configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Both have it, and it differs.
    Changed,
}

impl Kind {
    /// As a line begins.
    pub fn sign(self) -> char {
        match self {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        }
    }
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// How.
    pub kind: Kind,
    /// What: the name of a service, the address of a listener, a key.
    pub name: String,
    /// The parts of it that differ, if both have it.
    #[serde(default)]
    pub parts: Vec<Part>,
}

/// A part of something that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// How.
    pub kind: Kind,
    /// `backend`, `route`, or the key of a policy.
    pub key: String,
    /// Which one, or from what to what; may be empty.
    pub what: String,
}

/// All that differs between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// By name.
    pub services: Vec<Entry>,
    /// By address.
    pub listeners: Vec<Entry>,
    /// Keys at the top of the file.
    pub settings: Vec<Entry>,
}

impl Diff {
    /// From `before` to `after`.
    pub fn between(before: &Config, after: &Config) -> Self {
        Self {
            services: services(before, after),
            listeners: listeners(&before.listeners, &after.listeners),
            settings: settings(before, after),
        }
    }

    /// Whether both do the same.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.listeners.is_empty() && self.settings.is_empty()
    }

    /// Names of what was added, removed or changed, for one field of a log line; `None` if there is nothing of the kind.
    pub fn names(&self, kind: Kind) -> Option<String> {
        let of_kind = |entry: &&Entry| entry.kind == kind;
        let services = self.services.iter().filter(of_kind).map(Entry::brief);
        let listeners = self.listeners.iter().filter(of_kind).map(|entry| format!("listener:{}", entry.brief()));
        let settings = self.settings.iter().filter(of_kind).map(Entry::brief);
        let all: Vec<String> = services.chain(listeners).chain(settings).collect();
        let more = all.len().saturating_sub(NAMES_MAX);
        let shown = all[..all.len() - more].join(",");
        match (all.len(), more) {
            (0, _) => None,
            (_, 0) => Some(shown),
            (_, more) => Some(format!("{shown} and {more} more")),
        }
    }
}

impl fmt::Display for Diff {
    /// A line for each thing, with `+`, `-` or `~` before it; its parts are indented.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [("service ", &self.services), ("listener ", &self.listeners), ("", &self.settings)];
        for (noun, entry) in named.into_iter().flat_map(|(noun, entries)| entries.iter().map(move |e| (noun, e))) {
            writeln!(f, "{} {noun}{}", entry.kind.sign(), entry.name)?;
            for part in &entry.parts {
                writeln!(f, "    {} {part}", part.kind.sign())?;
            }
        }
        Ok(())
    }
}

impl Entry {
    fn of(kind: Kind, name: impl ToString) -> Self {
        Self { kind, name: name.to_string(), parts: Vec::new() }
    }

    /// `orders(retries,backend)`.
    fn brief(&self) -> String {
        let mut keys: Vec<&str> = self.parts.iter().map(|part| part.key.as_str()).collect();
        keys.dedup();
        match keys.is_empty() || self.kind != Kind::Changed {
            true => self.name.clone(),
            false => format!("{}({})", self.name, keys.join(",")),
        }
    }
}

impl Part {
    fn of(kind: Kind, key: &str, what: impl ToString) -> Self {
        Self { kind, key: key.to_owned(), what: what.to_string() }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what.is_empty() {
            true => f.write_str(&self.key),
            false => write!(f, "{} {}", self.key, self.what),
        }
    }
}

/// Something before and after.
type Pair<'a, T> = (Option<&'a T>, Option<&'a T>);

/// Pairs things of two lists by a key. Of several with one key, the first goes with the first.
fn paired<'a, T, K: Hash + Eq>(before: &'a [T], after: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<Pair<'a, T>> {
    let mut known: HashMap<K, Vec<usize>> = HashMap::new();
    for (idx, item) in before.iter().enumerate().rev() {
        known.entry(key(item)).or_default().push(idx);
    }
    let mut pairs = Vec::with_capacity(after.len());
    for item in after {
        let old = known.get_mut(&key(item)).and_then(Vec::pop);
        pairs.push((old.map(|idx| &before[idx]), Some(item)));
    }
    let mut gone: Vec<usize> = known.into_values().flatten().collect();
    gone.sort_unstable();
    pairs.extend(gone.into_iter().map(|idx| (Some(&before[idx]), None)));
    pairs
}

fn services(before: &Config, after: &Config) -> Vec<Entry> {
    let pairs = paired(&before.services, &after.services, |service| &service.name);
    let entry = |pair: Pair<'_, Service>| match pair {
        (None, Some(new)) => {
            let mut parts = route_parts(&[], &new.routes);
            parts.extend(containers::source_parts(None, &new.source));
            parts.extend(containers::autoscale_parts(None, new));
            Some(Entry { parts, ..Entry::of(Kind::Added, &new.name) })
        }
        (Some(old), None) => Some(Entry::of(Kind::Removed, &old.name)),
        (Some(old), Some(new)) if old != new => {
            let parts = parts(old, new);
            let differs = !parts.is_empty();
            differs.then(|| Entry { parts, ..Entry::of(Kind::Changed, &new.name) })
        }
        _ => None,
    };
    pairs.into_iter().filter_map(entry).collect()
}

/// Takes a service apart by name, so that a policy which is added one day cannot be forgotten here.
fn parts(old: &Service, new: &Service) -> Vec<Part> {
    let Service {
        name: _,
        routes,
        source,
        autoscale: _,
        balance,
        timeout,
        timeouts,
        max_in_flight,
        queue,
        keepalive,
        buffer,
        max_body,
        filters,
        health,
        ejection,
        slow_start,
        retries,
        hedge,
        drain,
    } = new;
    let mut parts = route_parts(&old.routes, routes);
    parts.extend(containers::source_parts(Some(&old.source), source));
    parts.extend(containers::autoscale_parts(Some(old), new));
    parts.extend(policies::balance(&old.balance, balance));
    parts.extend(policies::timeouts(&old.timeouts, timeouts));
    parts.extend(policies::queue(&old.queue, queue));
    parts.extend(policies::keepalive(&old.keepalive, keepalive));
    parts.extend(policies::buffer(&old.buffer, buffer));
    parts.extend(policies::health(old.health.as_ref(), health.as_ref()));
    parts.extend(policies::ejection(old.ejection.as_ref(), ejection.as_ref()));
    parts.extend(policies::retries(&old.retries, retries));
    parts.extend(policies::hedge(old.hedge, *hedge));
    let mut note = |differs: bool, key: &str, what: String| {
        if differs {
            parts.push(Part::of(Kind::Changed, key, what));
        }
    };
    let from_to = |from: String, to: String| format!("from {from} to {to}");
    let times = |from: Duration, to: Duration| from_to(spell_duration(from), spell_duration(to));
    let cap = |cap: Option<std::num::NonZeroU32>| cap.map_or("unlimited".to_owned(), |cap| cap.to_string());
    note(old.timeout != *timeout, "timeout", times(old.timeout, *timeout));
    note(old.max_in_flight != *max_in_flight, "max_in_flight", from_to(cap(old.max_in_flight), cap(*max_in_flight)));
    note(old.max_body != *max_body, "max_body", from_to(old.max_body.to_string(), max_body.to_string()));
    note(old.filters.cors != filters.cors, "cors", String::new());
    note(old.filters.compression != filters.compression, "compression", String::new());
    note(old.filters.headers != filters.headers, "headers", String::new());
    note(old.slow_start != *slow_start, "slow_start", times(old.slow_start, *slow_start));
    note(old.drain != *drain, "drain", times(old.drain, *drain));
    parts
}

fn route_parts(old: &[Route], new: &[Route]) -> Vec<Part> {
    parts_of("route", paired(old, new, |route| &route.display), |route| route.display.clone())
}

fn parts_of<T: PartialEq>(key: &str, pairs: Vec<Pair<'_, T>>, name: impl Fn(&T) -> String) -> Vec<Part> {
    let part = |pair: Pair<'_, T>| match pair {
        (None, Some(new)) => Some(Part::of(Kind::Added, key, name(new))),
        (Some(old), None) => Some(Part::of(Kind::Removed, key, name(old))),
        (Some(old), Some(new)) if old != new => Some(Part::of(Kind::Changed, key, name(new))),
        _ => None,
    };
    pairs.into_iter().filter_map(part).collect()
}

fn listeners(old: &[Listener], new: &[Listener]) -> Vec<Entry> {
    let entry = |pair: Pair<'_, Listener>| match pair {
        (None, Some(new)) => Some(Entry::of(Kind::Added, &new.address)),
        (Some(old), None) => Some(Entry::of(Kind::Removed, &old.address)),
        (Some(old), Some(new)) if old != new => {
            let parts = vec![Part::of(Kind::Changed, "max_connections", "")];
            Some(Entry { parts, ..Entry::of(Kind::Changed, &new.address) })
        }
        _ => None,
    };
    paired(old, new, |listener| &listener.address).into_iter().filter_map(entry).collect()
}

fn settings(before: &Config, after: &Config) -> Vec<Entry> {
    let Config { listeners: _, admin, workers, accept, trusted_proxies, limits, access_log, shutdown, services: _ } =
        after;
    let differing = [
        (before.admin != *admin, "admin"),
        (before.workers != *workers, "workers"),
        (before.accept != *accept, "accept"),
        (before.trusted_proxies != *trusted_proxies, "trusted_proxies"),
        (before.limits != *limits, "limits"),
        (before.access_log != *access_log, "access_log"),
        (before.shutdown != *shutdown, "shutdown"),
    ];
    let differing = differing.into_iter().filter(|(differs, _)| *differs);
    differing.map(|(_, key)| Entry::of(Kind::Changed, key)).collect()
}

/// Keys of `wanted` that a process which was started with `running` cannot take over: threads are not made anew.
pub fn needing_restart(running: &Config, wanted: &Config) -> Vec<&'static str> {
    let workers = (running.workers != wanted.workers).then_some("workers");
    let accept = (running.accept != wanted.accept).then_some("accept");
    [workers, accept].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::expand::ProcessEnvironment;
    use crate::config::load;
    use proptest::prelude::*;

    fn config(text: &str) -> Config {
        load::parse(text, "portway.yaml", &ProcessEnvironment).unwrap_or_else(|d| panic!("{d}\n{text}")).config
    }

    #[track_caller]
    fn check(before: &str, after: &str, lines: &str) {
        let (before, after) = (config(before), config(after));
        assert_eq!(Diff::between(&before, &after).to_string(), lines);
        let back = Diff::between(&after, &before);
        assert_eq!(back.is_empty(), lines.is_empty());
    }

    const TWO: &str = "
services:
  shop: { route: shop.example.com/, backends: [\"10.0.0.1:1\", \"10.0.0.2:1\"] }
  orders: { route: /orders, backends: [\"10.0.0.3:1\"] }
";

    #[test]
    fn the_order_of_services_makes_no_difference() {
        let other = "
services:
  orders: { route: /orders, backends: [\"10.0.0.3:1\"] }
  shop: { route: shop.example.com/, backends: [\"10.0.0.2:1\", \"10.0.0.1:1\"] }
";
        check(TWO, other, "");
    }

    #[test]
    fn services_come_go_and_change_by_name() {
        let after = "
services:
  shop: { route: shop.example.com/, timeout: 3s, backends: [\"10.0.0.1:1\", { address: \"10.0.0.4:1\", weight: 2 }] }
  thumbs: { route: /thumbs, backends: [\"10.0.0.5:1\"] }
";
        let lines = "\
~ service shop
    + backend 10.0.0.4:1
    - backend 10.0.0.2:1
    ~ timeout from 60s to 3s
+ service thumbs
    + route /thumbs
    + backend 10.0.0.5:1
- service orders
";
        let before = config(TWO);
        let default = spell_duration(before.services[0].timeout);
        check(TWO, after, &lines.replace("60s", &default));
        let diff = Diff::between(&before, &config(after));
        assert_eq!(diff.names(Kind::Changed).as_deref(), Some("shop(backend,timeout)"));
        assert_eq!(diff.names(Kind::Removed).as_deref(), Some("orders"));
        assert_eq!(Diff::default().names(Kind::Added), None);
    }

    /// `portway diff` reads the running configuration back from its long form.
    #[test]
    fn the_long_form_of_every_example_says_the_same() {
        for text in [
            include_str!("../../config/minimal.yaml"),
            include_str!("../../config/front-door.yaml"),
            include_str!("../../config/reference.yaml"),
            include_str!("../../config/containers.yaml"),
        ] {
            let loaded = load::parse(text, "portway.yaml", &ProcessEnvironment).unwrap();
            let long = load::to_yaml(&crate::config::show::with_defaults(&loaded.raw, &loaded.config));
            assert_eq!(Diff::between(&loaded.config, &config(&long)).to_string(), "");
        }
    }

    #[test]
    fn listeners_and_settings_are_named() {
        let before = format!("listen: [\":8080\", \"127.0.0.1:9000\"]\n{TWO}");
        let after = format!(
            "listen: [{{ address: \":8080\", max_connections: 5 }}, \":8081\"]\nlimits: {{ connections: 9 }}\nworkers: 7\n{TWO}"
        );
        let lines = "\
~ listener :8080
    ~ max_connections
+ listener :8081
- listener 127.0.0.1:9000
~ workers
~ limits
";
        check(&before, &after, lines);
        assert_eq!(needing_restart(&config(&before), &config(&after)), ["workers"]);
    }

    #[test]
    fn every_policy_that_can_be_typed_is_found_by_its_key() {
        for (key, value) in [
            ("balance", "random"),
            ("timeout", "7s"),
            ("timeouts", "{ connect: 7s }"),
            ("max_in_flight", "7"),
            ("queue", "{ size: 7 }"),
            ("keepalive", "{ idle: 777ms }"),
            ("buffer", "{ request: 7KiB }"),
            ("max_body", "7KiB"),
            ("cors", "{}"),
            ("compression", "{ min_size: 7KiB }"),
            ("headers", "{ request: { remove: [x-a] } }"),
            ("health", "/healthz"),
            ("ejection", "off"),
            ("slow_start", "7s"),
            ("autoscale", "{ max: 7, hook: \"http://scaler/\" }"),
            ("retries", "7"),
            ("hedge", "p95"),
            ("drain", "7s"),
        ] {
            let with = format!("services: {{ web: {{ backends: [\"a:1\"], {key}: {value} }} }}");
            let diff = Diff::between(&config("services: { web: { backends: [\"a:1\"] } }"), &config(&with));
            let keys: Vec<_> = diff.services.iter().flat_map(|s| &s.parts).map(|part| part.key.as_str()).collect();
            assert_eq!(keys, [key]);
        }
    }

    #[test]
    fn a_policy_is_named_with_what_it_was_and_is() {
        let before = "services: { web: { backends: [\"a:1\"], health: /healthz } }";
        let after = "services: { web: { backends: [{ address: \"a:1\", weight: 3, zone: b }], balance: { hash: { header: x-user } }, \
                     timeouts: { connect: 7s }, queue: { size: 7 }, keepalive: { max_requests: 9 }, buffer: { request: 7KiB }, \
                     health: { path: \"/ready?key=secret\", every: 7s, expect: [200, 300-399], headers: { x-key: secret } }, \
                     ejection: off, retries: { attempts: 7, when: [connection, 503] }, hedge: p95 } }";
        let lines = "\
~ service web
    ~ backend a:1 weight from 1 to 3
    ~ backend a:1 zone from none to b
    ~ balance from least_requests to hash of header x-user
    ~ timeouts connect from 1s to 7s
    ~ queue size from 100 to 7
    ~ keepalive max_requests from unlimited to 9
    ~ buffer request from 1MiB to 7KiB
    ~ health from /healthz to /ready?…
    ~ health headers
    ~ health every from 2s to 7s
    ~ health expect from 200-399 to 200, 300-399
    - ejection
    ~ retries attempts from 1 to 7
    ~ retries when from connection to connection, 503
    ~ hedge from off to p95
";
        let text = Diff::between(&config(before), &config(after)).to_string();
        assert_eq!(text, lines);
    }

    /// A configuration of some services out of a few, each in one of a few states.
    fn yaml_of(services: &[(usize, usize)]) -> String {
        let lines = services.iter().map(|(name, state)| {
            format!(
                "  s{name}: {{ route: /s{name}, timeout: {}s, backends: [\"10.0.0.{}:1\"] }}\n",
                state + 1,
                state % 2
            )
        });
        format!("services:\n{}", lines.collect::<String>())
    }

    proptest! {
        #[test]
        fn what_differs_is_named_and_nothing_else(
            before in proptest::collection::btree_map(0_usize..8, 0_usize..3, 1..6),
            after in proptest::collection::btree_map(0_usize..8, 0_usize..3, 1..6),
        ) {
            let typed = |map: &std::collections::BTreeMap<usize, usize>| yaml_of(&map.iter().map(|(a, b)| (*a, *b)).collect::<Vec<_>>());
            let (old, new) = (config(&typed(&before)), config(&typed(&after)));
            prop_assert!(Diff::between(&old, &old).is_empty());
            let diff = Diff::between(&old, &new);
            for name in 0..8 {
                let wanted = match (before.get(&name), after.get(&name)) {
                    (None, Some(_)) => Some(Kind::Added),
                    (Some(_), None) => Some(Kind::Removed),
                    (Some(a), Some(b)) if a != b => Some(Kind::Changed),
                    _ => None,
                };
                let word = format!("s{name}");
                let found: Vec<_> = diff.services.iter().filter(|entry| entry.name == word).collect();
                prop_assert_eq!(found.iter().map(|e| e.kind).collect::<Vec<_>>(), wanted.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
