//! Probes, ejection, retries and hedging as users write them: each form, each mistake, what is inherited.
//! Promises the exact words of every message about them. What the values do is tested where they are used.

use std::num::NonZeroU32;

use http::HeaderValue;

use super::*;
use crate::config::raw::Switch;
use crate::units::Percent;

fn health(keys: &str) -> Health {
    service(keys).health.expect("probes were asked for")
}

fn percent(number: u8) -> Percent {
    Percent::new(number).expect("the test writes at most 100")
}

#[test]
fn short_and_long_forms_mean_the_same() {
    let pairs = [
        ("health: /p", "health: { path: /p }"),
        ("health: off", "health: false"),
        ("health: off", "timeout: 60s"),
        ("health: { path: /p }", "health: { path: /p, tcp: false, grpc: false }"),
        (
            "health: /p",
            "health: { path: /p, every: 2s, timeout: 1s, healthy_after: 2, unhealthy_after: 3, expect: 200-399, initial: up }",
        ),
        ("health: { path: /p, expect: 2xx }", "health: { path: /p, expect: [200-299] }"),
        ("health: { path: /p, expect: 204 }", "health: { path: /p, expect: [\"204 - 204\"] }"),
        ("health: { path: /p, every: 500ms }", "health: { path: /p, every: 500ms, timeout: 500ms }"),
        ("route: a.example/\nhealth: /p", "route: a.example/\nhealth: { path: /p, host: a.example }"),
        ("ejection: true", "ejection: {}"),
        ("ejection: false", "ejection: off"),
        ("ejection: {}", "ejection: { consecutive: 5, success_rate: 50%, base: 10s, max: 5m, max_ejected: 50% }"),
        ("retries: 2", "retries: { attempts: 2 }"),
        ("retries: off", "retries: 0"),
        ("retries: false", "retries: { attempts: 0 }"),
        (
            "retries: {}",
            "retries: { attempts: 1, when: connection, budget: { ratio: 20%, per_second: 3 }, backoff: { base: 25ms, max: 250ms }, other_backend: preferred }",
        ),
        ("retries: { budget: 30% }", "retries: { budget: { ratio: 30 %, per_second: 3 } }"),
        ("retries: { backoff: 1s }", "retries: { backoff: { base: 1s, max: 10s } }"),
        ("retries: { when: 5XX }", "retries: { when: [500-599] }"),
        ("hedge: p95", "hedge: { after: p95 }"),
        ("hedge: true", "hedge: {}"),
        ("hedge: {}", "hedge: p95"),
        ("hedge: 100ms", "hedge: { after: 100ms }"),
        ("hedge: off", "timeout: 60s"),
        ("slow_start: 0s\ndrain: 30s", "timeout: 60s"),
    ];
    for (short, long) in pairs {
        assert_eq!(format!("{:?}", service(short)), format!("{:?}", service(long)), "{short} / {long}");
    }
}

#[test]
fn each_key_reaches_the_configuration() {
    let typed = health(
        "health: { path: \"/up?deep=1\", host: \"a.example:81\", headers: { X-Probe: 1 }, every: 3s, timeout: 2s, healthy_after: 4, \
         unhealthy_after: 5, expect: [200, 301-302, 4xx], initial: down }",
    );
    assert_eq!(typed.probe, Probe::Http("/up?deep=1".to_owned()));
    assert_eq!(typed.host, Some(HeaderValue::from_static("a.example:81")));
    assert_eq!(typed.headers[0].0.as_str(), "x-probe");
    assert_eq!((typed.every, typed.timeout), (Duration::from_secs(3), Duration::from_secs(2)));
    assert_eq!((typed.healthy_after.get(), typed.unhealthy_after.get()), (4, 5));
    assert_eq!(typed.expect, [200..=200, 301..=302, 400..=499]);
    assert_eq!(typed.initial, Initial::Down);

    let web = service(
        "ejection: { consecutive: off, success_rate: 80%, base: 1s, max: 2s, max_ejected: 30% }\nslow_start: 20s\n\
         retries: { attempts: 3, when: [timeout, invalid_response, 503, 5xx], budget: { ratio: 0%, per_second: 7 }, \
         backoff: { base: 0, max: 1s }, other_backend: required }\nhedge: 50ms\ndrain: 0s\nbackends: [\"a:1\", \"b:1\"]",
    );
    let ejection = Ejection {
        consecutive: None,
        success_rate: Some(percent(80)),
        base: Duration::from_secs(1),
        max: Duration::from_secs(2),
        max_ejected: percent(30),
    };
    assert_eq!(web.ejection, Some(ejection));
    let retries = Retries {
        attempts: 3,
        when: RetryWhen {
            connection: false,
            timeout: true,
            invalid_response: true,
            statuses: vec![503..=503, 500..=599],
        },
        budget: RetryBudget { ratio: percent(0), per_second: 7 },
        backoff: Backoff { base: Duration::ZERO, max: Duration::from_secs(1) },
        other_backend: OtherBackend::Required,
    };
    assert_eq!(web.retries, retries);
    assert_eq!(web.hedge, Some(Hedge::After(Duration::from_millis(50))));
    assert_eq!((web.slow_start, web.drain), (Duration::from_secs(20), Duration::ZERO));
}

#[test]
fn a_service_without_these_keys_has_the_defaults() {
    let web = service("");
    assert_eq!(
        (web.health, web.ejection, web.retries, web.hedge),
        (None, Some(Ejection::default()), Retries::default(), None)
    );
    assert_eq!((web.slow_start, web.drain), (defaults::SLOW_START, defaults::DRAIN));
    let health = health("health: /p");
    assert_eq!((health.every, health.timeout), (defaults::HEALTH_EVERY, defaults::HEALTH_TIMEOUT));
    assert_eq!(health.expect, [defaults::HEALTH_EXPECT]);
    assert_eq!((health.initial, health.host), (Initial::Up, None));
}

#[test]
fn a_probe_asks_by_path_by_connection_or_by_grpc() {
    assert_eq!(health("health: { tcp: true }").probe, Probe::Tcp);
    assert_eq!(health("health: { grpc: true }").probe, Probe::Grpc(String::new()));
    assert_eq!(health("health: { grpc: shop.v1.Orders }").probe, Probe::Grpc("shop.v1.Orders".to_owned()));
}

#[test]
fn a_probe_names_the_host_of_the_first_route_that_has_one() {
    let host = |keys: &str| health(keys).host.map(|host| host.to_str().expect("hosts are ASCII").to_owned());
    assert_eq!(host("route: [/a, \"*.b.example/\", c.example/, d.example/]\nhealth: /p").as_deref(), Some("c.example"));
    assert_eq!(host("route: c.example/\nhealth: { path: /p, host: e.example }").as_deref(), Some("e.example"));
    assert_eq!(host("route: c.example/\nhealth: { tcp: true }"), None);
    assert_eq!(host("route: /\nhealth: /p"), None);
}

/// Two services below `defaults`: `a` says nothing, `b` says `own`.
fn inherited(defaults: &str, own: &str) -> [Service; 2] {
    let text = format!(
        "defaults: {{ {defaults} }}\nservices:\n  a: {{ route: /a, backends: [\"a:1\"] }}\n  b: {{ route: /b, backends: [\"b:1\"], {own} }}"
    );
    load(&text).config.services.try_into().expect("two services")
}

#[test]
fn health_ejection_and_retries_are_inherited_key_by_key() {
    let [a, b] = inherited(
        "health: { path: /p, every: 5s, unhealthy_after: 7 }, ejection: { base: 1s, max: 9s }, retries: { attempts: 3, when: [503] }",
        "health: { every: 3s }, ejection: { max: 8s }, retries: { when: [502] }",
    );
    let [health_a, health_b] = [&a, &b].map(|service| service.health.clone().expect("probes are inherited"));
    assert_eq!((health_a.every, health_b.every), (Duration::from_secs(5), Duration::from_secs(3)));
    assert_eq!((health_a.probe, health_b.unhealthy_after.get()), (health_b.probe, 7));
    let ejection = b.ejection.expect("ejection is inherited");
    assert_eq!((ejection.base, ejection.max), (Duration::from_secs(1), Duration::from_secs(8)));
    assert_eq!((a.retries.attempts, b.retries.attempts), (3, 3));
    assert_eq!((&a.retries.when.statuses[..], &b.retries.when.statuses[..]), (&[503..=503][..], &[502..=502][..]));
}

#[test]
fn budget_backoff_and_hedge_are_inherited_as_a_whole() {
    let [a, b] = inherited(
        "hedge: 1s, retries: { budget: { per_second: 9 }, backoff: { base: 1ms, max: 2ms } }",
        "hedge: {}, retries: { budget: 30%, backoff: 1s }",
    );
    assert_eq!((a.hedge, b.hedge), (Some(Hedge::After(Duration::from_secs(1))), Some(Hedge::AfterP95)));
    assert_eq!((a.retries.budget.per_second, b.retries.budget.per_second), (9, defaults::RETRY_BUDGET_PER_SECOND));
    assert_eq!(a.retries.backoff.max, Duration::from_millis(2));
    assert_eq!(b.retries.backoff, Backoff { base: Duration::from_secs(1), max: Duration::from_secs(10) });
}

#[test]
fn what_a_service_turns_off_stays_off() {
    let [a, b] = inherited(
        "health: /p, ejection: { consecutive: 2 }, retries: { attempts: 3, when: [timeout] }, hedge: p95, slow_start: 5s, drain: 5s",
        "health: off, ejection: off, retries: off, hedge: off, slow_start: 0s, drain: 0s",
    );
    assert!(a.health.is_some() && b.health.is_none());
    assert_eq!(a.ejection.map(|ejection| ejection.consecutive), Some(NonZeroU32::new(2)));
    assert_eq!((b.ejection, b.hedge), (None, None));
    assert_eq!((a.retries.attempts, b.retries), (3, Retries { attempts: 0, ..Retries::default() }));
    assert_eq!((a.drain, b.drain, b.slow_start), (Duration::from_secs(5), Duration::ZERO, Duration::ZERO));
    let [_, on] = inherited("health: off, ejection: off, retries: off", "health: /p, ejection: true, retries: {}");
    assert!(on.health.is_some());
    assert_eq!((on.ejection, on.retries), (Some(Ejection::default()), Retries::default()));
}

#[test]
fn a_service_that_asks_another_question_does_not_take_the_inherited_one() {
    let of_http = "health: { path: /p, host: h.example, headers: { x-a: b }, expect: 200, every: 7s }";
    let [_, tcp] = inherited(of_http, "health: { tcp: true }");
    let tcp = tcp.health.expect("it is probed");
    assert_eq!((tcp.probe, tcp.host, tcp.headers.len(), tcp.every), (Probe::Tcp, None, 0, Duration::from_secs(7)));
    let [_, grpc] = inherited(of_http, "health: { grpc: true }");
    let grpc = grpc.health.expect("it is probed");
    assert_eq!((grpc.probe, grpc.headers.len()), (Probe::Grpc(String::new()), 1));
    assert_eq!(grpc.expect, [defaults::HEALTH_EXPECT]);
    let [_, http] = inherited("health: { tcp: true, every: 7s }", "health: /p");
    assert_eq!(http.health.expect("it is probed").probe, Probe::Http("/p".to_owned()));
    for text in [of_http, "health: { tcp: true }"] {
        let [a, _] = inherited(text, "");
        assert!(a.health.is_some());
    }
}

#[test]
fn defaults_may_say_how_to_probe_and_leave_what_to_ask_to_each_service() {
    let [a, b] = inherited("health: { every: 7s }", "health: /p");
    assert_eq!((a.health, b.health.map(|health| health.every)), (None, Some(Duration::from_secs(7))));
    let text = "defaults: { health: { every: 7s } }\nservices: { a: { backends: \"a:1\", health: { timeout: 2s } } }";
    let want = "2:43 this does not say what to ask (add `path: /healthz`, `tcp: true` or `grpc: true`)";
    assert_eq!(complaints(text), [want]);
}

/// The keys of a service, and what is said about them. Its first line is line 3, its first column 5.
const CASES: [(&str, &str); 66] = [
    ("healthcheck: /p", "3:5 unknown key `healthcheck` in service `web` (did you mean `health`?)"),
    ("retry: 2", "3:5 unknown key `retry` in service `web` (did you mean `retries`?)"),
    (
        "health: { path: /p, interval: 2s }",
        "3:25 unknown key `interval` in `health` of service `web` (did you mean `every`?)",
    ),
    (
        "health: { path: /p, rise: 2 }",
        "3:25 unknown key `rise` in `health` of service `web` (did you mean `healthy_after`?)",
    ),
    ("health: { pth: /p }", "3:15 unknown key `pth` in `health` of service `web` (did you mean `path`?)"),
    ("health: {}", "3:13 this does not say what to ask (add `path: /healthz`, `tcp: true` or `grpc: true`)"),
    ("health: { every: 1s }", "3:13 this does not say what to ask (add `path: /healthz`, `tcp: true` or `grpc: true`)"),
    (
        "health: { tcp: false }",
        "3:20 this does not say what to ask (add `path: /healthz`, `tcp: true` or `grpc: true`)",
    ),
    (
        "health: { grpc: false }",
        "3:21 this does not say what to ask (add `path: /healthz`, `tcp: true` or `grpc: true`)",
    ),
    (
        "health: { path: [/p] }",
        "3:21 `path` of `health` of service `web` must be a path such as /api, not a list (write a path such as /api)",
    ),
    (
        "health: [/p]",
        "3:13 `health` of service `web` must be a path such as /healthz, { tcp: true }, { grpc: true }, or off, not a list (write a path such as /healthz, { tcp: true }, { grpc: true }, or off)",
    ),
    (
        "health: { path: /p, tcp: true }",
        "3:30 a probe asks one thing: this has `path` and `tcp` (again here; keep one of them)",
    ),
    (
        "health: { grpc: true, tcp: true }",
        "3:32 a probe asks one thing: this has `grpc` and `tcp` (again here; keep one of them)",
    ),
    ("health: true", "3:13 \"true\" does not say what to ask (write a path such as /healthz)"),
    ("health: tcp", "3:13 \"tcp\" is not the path of a probe (write { tcp: true })"),
    ("health: healthz", "3:13 \"healthz\" does not begin with a slash (write it as /healthz)"),
    ("health: http://a/p", "3:13 \"http://a/p\" has a scheme (write the path alone, and `host:` beside it)"),
    ("health: /p#a", "3:13 \"/p#a\" has a fragment (no request has one; leave it out)"),
    (
        "health: /a b",
        "3:13 \"/a b\" has characters that a request cannot (percent-encode them, such as %20 for a space)",
    ),
    ("health: { tcp: maybe }", "3:20 \"maybe\" is neither true nor false (write true or false)"),
    (
        "health: { grpc: \"a b\" }",
        "3:21 \"a b\" is not the name of a gRPC service (write one such as shop.v1.Orders, or true for the server as a whole)",
    ),
    (
        "health: { path: /p, host: http://a/ }",
        "3:31 \"http://a/\" is not a host (write one such as shop.example.com or shop.example.com:8080)",
    ),
    (
        "health: { path: /p, host: \"a:0\" }",
        "3:31 \"a:0\" is not a host (write one such as shop.example.com or shop.example.com:8080)",
    ),
    (
        "health: { path: /p, headers: { host: a } }",
        "3:36 the host of a probe has a key of its own (write `host:` beside `headers:`)",
    ),
    (
        "health: { path: /p, headers: { content-length: 1 } }",
        "3:36 `content-length` belongs to the connection, not to the message (remove it: Portway writes it anew on either side)",
    ),
    ("health: { path: /p, every: 5 }", "3:32 \"5\" needs a unit, e.g. 5s (units are ms, s, m, h and d)"),
    (
        "health: { path: /p, every: 1ms }",
        "3:32 \"1ms\" is less than 10ms (probes so close together are load; most services take 1s to 10s)",
    ),
    (
        "health: { path: /p, every: 2s, timeout: 3s }",
        "3:45 this probe may take longer than the 2s to the next one (make `timeout` at most `every`)",
    ),
    (
        "health: { path: /p, timeout: 0s }",
        "3:34 \"0s\" leaves no time at all (leave it out for 1s, or write a long time such as 24h to mean \"never\")",
    ),
    ("health: { path: /p, healthy_after: 0 }", "3:40 \"0\" is less than 1 (write a number such as 2)"),
    ("health: { path: /p, expect: [] }", "3:25 no status would pass (leave it out for 200-399, or list statuses)"),
    (
        "health: { path: /p, expect: 20 }",
        "3:33 \"20\" is not a status (write one such as 200, or a range such as 200-399 or 2xx)",
    ),
    (
        "health: { path: /p, expect: [200, 6xx] }",
        "3:39 \"6xx\" is not a status (write one such as 200, or a range such as 200-399 or 2xx)",
    ),
    ("health: { path: /p, expect: 299-200 }", "3:33 \"299-200\" runs backwards (write it as 200-299)"),
    ("health: { path: /p, initial: upp }", "3:34 \"upp\" is not one of the words here (did you mean `up`?)"),
    (
        "health: { tcp: true, host: a }",
        "warning 3:32 a TCP probe has no use for `host` (remove it, or ask for a `path`)",
    ),
    (
        "health: { grpc: true, expect: 200 }",
        "warning 3:35 a gRPC probe has no use for `expect` (remove it, or ask for a `path`)",
    ),
    (
        "ejection: 5",
        "3:15 `ejection` of service `web` must be a mapping such as { consecutive: 5, base: 10s }, or off, not text (write a mapping such as { consecutive: 5, base: 10s }, or off)",
    ),
    ("ejection: { consecutive: 0 }", "3:30 no failure at all is no reason (write `off` to count none, or at least 1)"),
    ("ejection: { consecutive: few }", "3:30 \"few\" is not a whole number (write a number such as 5)"),
    ("ejection: { success_rate: 80 }", "3:31 \"80\" needs a %, e.g. 80% (a share is written in whole percent)"),
    ("ejection: { success_rate: 0.8 }", "3:31 \"0.8\" needs a %, e.g. 80% (a share is written in whole percent)"),
    ("ejection: { success_rate: 0% }", "3:31 \"0%\" is not between 1% and 100% (write a share such as 50%)"),
    ("ejection: { success_rate: 99.5% }", "3:31 \"99.5%\" is not whole percent (write a whole number and a %: 20%)"),
    ("ejection: { max_ejected: 0% }", "3:30 \"0%\" is not between 1% and 100% (write a share such as 50%)"),
    ("ejection: { max_ejected: 110% }", "3:30 \"110%\" is more than all (the largest share is 100%)"),
    ("ejection: { base: 10s, max: 5s }", "3:33 `max` is shorter than `base`, which is 10s (make it at least as long)"),
    ("ejection: { base: 10m }", "3:23 `base` is longer than `max`, which is 5m (write a longer `max` beside it)"),
    (
        "ejection: { consecutive: off, success_rate: off }",
        "warning 3:30 nothing takes a backend out: neither `consecutive` nor `success_rate` is set (set one of them, or write `ejection: off`)",
    ),
    ("slow_start: 20", "3:17 \"20\" needs a unit, e.g. 20s (units are ms, s, m, h and d)"),
    ("retries: 11", "3:14 \"11\" is not between 0 and 10 (write a number such as 1)"),
    ("retries: twice", "3:14 \"twice\" is not a whole number (write a number such as 1)"),
    ("retries: { when: conection }", "3:22 \"conection\" is not one of the words here (did you mean `connection`?)"),
    (
        "retries: { when: [reset, gateway-error] }",
        "3:23 \"reset\" is not one of the words here (did you mean `connection`?)\n3:30 \"gateway-error\" is not one of the words here (did you mean `502-504`?)",
    ),
    (
        "retries: { when: always }",
        "3:22 \"always\" is not one of the words here (write connection, timeout, invalid_response, or statuses such as 503, 5xx or 502-504)",
    ),
    (
        "retries: { when: [200] }",
        "3:23 \"200\" holds statuses below 400, and a success is not retried (write failures, such as 503, 5xx or 502-504)",
    ),
    (
        "retries: { when: 300-599 }",
        "3:22 \"300-599\" holds statuses below 400, and a success is not retried (write failures, such as 503, 5xx or 502-504)",
    ),
    (
        "retries: { when: [] }",
        "warning 3:16 no request is ever retried: this names no outcome (leave it out for failed connections, or write `retries: off`)",
    ),
    ("retries: { budget: 20 }", "3:24 \"20\" needs a %, e.g. 20% (a share is written in whole percent)"),
    (
        "retries: { budget: { ratio: 0%, per_second: 0 } }",
        "warning 3:33 this budget allows no retry at all (write `retries: off`)",
    ),
    (
        "retries: { backoff: { base: 2s, max: 1s } }",
        "3:42 `max` is shorter than `base`, which is 2s (make it at least as long)",
    ),
    (
        "retries: { when: [connection, timeout] }\ntimeout: 30s",
        "warning 3:35 no time is left for a retry after a timeout: the first attempt may take all of it (make `timeouts.response` shorter than `timeout`)",
    ),
    (
        "retries: { other_backend: required }\ncontainer: { image: a, port: 1 }",
        "warning 3:31 no request is ever retried: this service has one backend (write `preferred`, or add a backend)",
    ),
    (
        "retries: { other_backend: required }",
        "warning 3:31 no request is ever retried: this service has one backend (write `preferred`, or add a backend)",
    ),
    ("hedge: p99", "3:12 \"p99\" is neither p95 nor a duration (write p95, or a duration such as 100ms)"),
    ("hedge: 0s", "3:12 \"0s\" would send every request twice at once (write p95, or a duration such as 100ms)"),
];

#[test]
fn each_mistake_has_its_message() {
    for (keys, want) in CASES {
        assert_eq!(complaints(&with_service(keys)).join("\n"), want, "{keys}");
    }
}

#[test]
fn a_hedge_that_never_happens_is_said_to_be_that() {
    let off = "this hedge never happens: a second attempt is paid from the budget of retries, which are off (turn retries on, or write `hedge: off`)";
    for (keys, want) in [
        ("hedge: p95\nretries: 0", format!("warning 3:12 {off}")),
        ("hedge: true\nretries: off", format!("warning 3:12 {off}")),
        (
            "hedge: { after: 30s }",
            "warning 3:12 this hedge never happens: by then `timeouts.response` (30s) is over (make it shorter than `timeouts.response`)".to_owned(),
        ),
        (
            "hedge: 6s\ntimeout: 5s",
            "warning 3:12 this hedge never happens: by then `timeout` (5s) is over (make it shorter than `timeout`)".to_owned(),
        ),
    ] {
        assert_eq!(complaints(&with_service(keys)), [want], "{keys}");
    }
    assert!(complaints(&with_service("hedge: 29s")).is_empty());
    let text = with_service("retries: 0\nhedge: p95");
    let loaded = load(&text);
    let also = loaded.warnings.list[0].also.as_ref().expect("the other place is named");
    assert_eq!((also.text.as_str(), loaded.warnings.sources.place(also.span).line), ("retries are off here", 3));
}

#[test]
fn settings_that_can_have_an_effect_are_not_warned_of() {
    for keys in [
        "retries: { when: [timeout] }",
        "retries: { attempts: 0, when: [] }",
        "retries: { other_backend: required }\nbackends: [\"web:80\"]",
        "retries: { other_backend: required }\nbackends: [\"127.0.0.1:80\", \"127.0.0.1:81\"]",
        "retries: { other_backend: required }\ncontainer: { image: a, port: 1, replicas: 2 }",
        "retries: { other_backend: required }\ndocker: { label: a, port: 1 }",
        "retries: { budget: { ratio: 0% } }",
        "retries: { budget: { per_second: 0 } }",
        "ejection: { consecutive: off, success_rate: 1% }",
        "ejection: { consecutive: off }",
        "health: { grpc: true, host: a, headers: { x-a: b } }",
        "health: { path: /p, every: 10ms }",
    ] {
        assert_eq!(complaints(&with_service(keys)), [""; 0], "{keys}");
    }
}

#[test]
fn a_secret_in_a_probe_is_never_printed() {
    let text = "services: { web: { route: \"${ROUTE}\", health: { path: /p, headers: { authorization: \"Bearer ${SECRET}\" } }, backends: \"a:1\" } }";
    let loaded = load(text);
    let health = loaded.config.services[0].health.as_ref().expect("it is probed");
    assert_eq!(health.headers[0].1.to_str().ok(), Some("Bearer hunter2"));
    assert_eq!(health.host, Some(HeaderValue::from_static("shop.example.com")));
    assert!(!format!("{:?}", loaded.config.services[0].health).contains("hunter2"));
    for shown in [show::as_typed(&loaded.raw), show::with_defaults(&loaded.raw, &loaded.config)] {
        let text = load::to_yaml(&shown);
        assert!(text.contains("Bearer ${SECRET}") && !text.contains("hunter2"), "{text}");
        assert!(!text.contains("shop.example.com"), "the host came from a variable too: {text}");
    }
}

#[test]
fn show_prints_short_forms_in_full() {
    let loaded = load(&with_service("health: /p\nretries: 2\nhedge: 1s\nejection: true"));
    let typed = load::to_yaml(&show::as_typed(&loaded.raw));
    for part in
        ["health:\n      path: /p\n", "retries:\n      attempts: 2\n", "hedge:\n      after: 1s\n", "ejection: {}\n"]
    {
        assert!(typed.contains(part), "{part}\n{typed}");
    }
    let long = load::to_yaml(&show::with_defaults(&loaded.raw, &loaded.config));
    for part in [
        "every: 2s\n",
        "expect:\n      - 200-399\n",
        "initial: up\n",
        "consecutive: 5\n",
        "success_rate: 50%\n",
        "max_ejected: 50%\n",
        "slow_start: 0s\n",
        "when:\n      - connection\n",
        "budget:\n        ratio: 20%\n        per_second: 3\n",
        "backoff:\n        base: 25ms\n        max: 250ms\n",
        "other_backend: preferred\n",
        "drain: 30s\n",
    ] {
        assert!(long.contains(part), "{part}\n{long}");
    }
    let off = load(&with_service("ejection: off\nretries: off"));
    assert!(matches!(off.raw.services.as_ref().map(|all| &all.0[0].value.retries), Some(Some(Switch::Off))));
    let off = load::to_yaml(&show::with_defaults(&off.raw, &off.config));
    for part in ["health: false\n", "ejection: false\n", "retries: false\n", "hedge: false\n"] {
        assert!(off.contains(part), "{part}\n{off}");
    }
}
