//! Autoscaling as users write it: each key, one target, one writer, what is inherited and by whom.
//! Promises the exact words of every message about it. What the numbers do is tested where they decide.

use std::num::NonZeroU32;

use super::*;
use crate::config::raw::Switch;

fn autoscale(keys: &str) -> Autoscale {
    service(keys).autoscale.expect("it was asked for")
}

fn of_container(keys: &str) -> Autoscale {
    autoscale(&format!("container: {{ image: a, port: 1 }}\n{keys}"))
}

fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("tests write no zero")
}

#[test]
fn autoscale_has_every_default() {
    assert_eq!(service("").autoscale, None);
    let want = Autoscale {
        min: 1,
        max: count(10),
        target: Target::InFlight(7.0),
        stable: Duration::from_secs(60),
        panic: Duration::from_secs(6),
        up_at_once: 1000.0,
        down_at_once: 2.0,
        idle: Duration::from_secs(300),
        hold: Hold { timeout: Duration::from_secs(60), max: 1000, page: WaitingPage::Off },
        hook: None,
    };
    assert_eq!(of_container("autoscale: { max: 10 }"), want);
    assert_eq!(Autoscale::up_to(count(10)), want);
    let written_out = "autoscale: { min: 1, max: 10, target_in_flight: 7, stable: 60s, panic: 6s, up_at_once: 1000, down_at_once: 2, idle: 5m, hold: { timeout: 60s, max: 1000, page: off } }";
    assert_eq!(of_container(written_out), want);
}

#[test]
fn each_key_reaches_the_configuration() {
    let typed = autoscale(
        "backends: \"a:1\"\nhealth: /p\nautoscale: { min: 0, max: 3, target_rps: 12.5, stable: 30s, panic: 2s, up_at_once: 4, down_at_once: 1.5, \
         idle: 1m, hold: { timeout: 5s, max: 7, page: true }, hook: { url: \"http://h:8/x?y\", timeout: 3s } }",
    );
    let want = Autoscale {
        min: 0,
        max: count(3),
        target: Target::Rps(12.5),
        stable: Duration::from_secs(30),
        panic: Duration::from_secs(2),
        up_at_once: 4.0,
        down_at_once: 1.5,
        idle: Duration::from_secs(60),
        hold: Hold { timeout: Duration::from_secs(5), max: 7, page: WaitingPage::On },
        hook: Some(Hook {
            way: HookWay::Url(http::Uri::from_static("http://h:8/x?y")),
            timeout: Duration::from_secs(3),
        }),
    };
    assert_eq!(typed, want);
    assert_eq!(
        of_container("autoscale: { max: 1, target_latency: 20ms }").target,
        Target::Latency(Duration::from_millis(20))
    );
}

#[test]
fn short_and_long_forms_mean_the_same() {
    for (short, long) in [
        ("hook: \"http://h/\"", "hook: { url: \"http://h/\", timeout: 10s }"),
        ("hook: { command: a 'b c' }", "hook: { command: [a, b c] }"),
        ("hook: \"http://h/\", hold: { page: off }", "hook: \"http://h/\", hold: { page: false }"),
        ("hook: \"http://h/\", hold: { page: on }", "hook: \"http://h/\", hold: { page: true }"),
        ("hook: \"http://h/\", stable: 20s", "hook: \"http://h/\", stable: 20s, panic: 2s"),
    ] {
        let [short, long] = [short, long].map(|keys| autoscale(&format!("autoscale: {{ max: 2, {keys} }}")));
        assert_eq!(short, long);
    }
    let off = [service("autoscale: off"), service("autoscale: false"), service("timeout: 60s")];
    assert!(off.iter().all(|service| *service == off[0]));
}

#[test]
fn a_target_that_nobody_names_is_a_share_of_what_a_replica_may_carry() {
    let target = |keys: &str| of_container(&format!("autoscale: {{ max: 2 }}\n{keys}")).target;
    assert_eq!(target("max_in_flight: 8"), Target::InFlight(5.6));
    assert_eq!(target("max_in_flight: 3"), Target::InFlight(2.1));
    assert_eq!(target("max_in_flight: 1"), Target::InFlight(0.7));
    assert_eq!(target("max_in_flight: unlimited"), Target::InFlight(7.0));
}

/// The services `a` of backends, `b` of containers, `c` of a fixed number of them, and `d` of a swarm.
fn inherited(defaults: &str, own: &str) -> [Service; 4] {
    let text = format!(
        "defaults: {{ autoscale: {defaults} }}\nservices:\n  a: {{ route: /a, backends: [\"a:1\"]{own} }}\n  b: {{ route: /b, container: {{ image: b, port: 1 }}{own} }}\n  \
         c: {{ route: /c, container: {{ image: c, port: 1, replicas: 2 }} }}\n  d: {{ route: /d, swarm: {{ service: d, port: 1 }}{own} }}"
    );
    load(&text).config.services.try_into().expect("four services")
}

fn max(service: &Service) -> Option<u32> {
    service.autoscale.as_ref().map(|autoscale| autoscale.max.get())
}

#[test]
fn defaults_scale_what_portway_can_scale_by_itself() {
    let services = inherited("{ max: 9, idle: 1m }", "");
    assert_eq!(services.each_ref().map(max), [None, Some(9), None, Some(9)]);
    let of_b = services[1].autoscale.as_ref().expect("it is scaled");
    assert_eq!((of_b.idle, of_b.min), (Duration::from_secs(60), 1));
    // Without a `max`, they only fill what services say of themselves.
    assert_eq!(inherited("{ idle: 1m }", "").each_ref().map(max), [None; 4]);
    assert_eq!(inherited("off", "").each_ref().map(max), [None; 4]);
    assert_eq!(inherited("{ max: 9 }", ", autoscale: off").each_ref().map(max), [None; 4]);
}

#[test]
fn autoscale_is_inherited_key_by_key() {
    let services = inherited(
        "{ max: 9, target_in_flight: 3, idle: 1m, hold: { max: 5, page: true }, hook: \"http://h/\" }",
        ", autoscale: { min: 2, target_rps: 4, hold: { max: 6 } }",
    );
    assert_eq!(services.each_ref().map(max), [Some(9), Some(9), None, Some(9)]);
    for service in [&services[0], &services[1], &services[3]] {
        let autoscale = service.autoscale.as_ref().expect("it is scaled");
        assert_eq!((autoscale.min, autoscale.target, autoscale.idle), (2, Target::Rps(4.0), Duration::from_secs(60)));
        assert_eq!((autoscale.hold.max, autoscale.hold.page), (6, WaitingPage::On));
        // A hook is for those that nobody else scales.
        assert_eq!(autoscale.hook.is_some(), service.name.as_str() == "a");
    }
    assert_eq!(inherited("{ max: 9, hook: \"http://h/\" }", "").each_ref().map(max), [None, Some(9), None, Some(9)]);
    assert_eq!(max(&inherited("{ max: 9, hook: \"http://h/\" }", ", autoscale: true")[0]), Some(9));
}

/// What stands below `autoscale` of a service of backends, and what is said about it. Its first column is 16.
const CASES: [(&str, &str); 43] = [
    (
        "5",
        "3:16 `autoscale` of service `web` must be a mapping such as { min: 0, max: 10, target_in_flight: 6 }, or off, not text (write a mapping such as { min: 0, max: 10, target_in_flight: 6 }, or off)",
    ),
    (
        "0-10",
        "3:16 `autoscale` of service `web` must be a mapping such as { min: 0, max: 10, target_in_flight: 6 }, or off, not text (write a mapping such as { min: 0, max: 10, target_in_flight: 6 }, or off)",
    ),
    (
        "{}",
        "3:16 `autoscale` of service `web` has no `max` (add `max:`, the most replicas there may be)\n3:16 nobody changes the number of replicas of service `web` (add `hook: http://…` or `hook: { command: […] }`, or let Portway run them: `container:`)",
    ),
    (
        "true",
        "3:16 `autoscale` of service `web` has no `max` (add `max:`, the most replicas there may be)\n3:16 nobody changes the number of replicas of service `web` (add `hook: http://…` or `hook: { command: […] }`, or let Portway run them: `container:`)",
    ),
    (
        "{ max: 3 }",
        "3:16 nobody changes the number of replicas of service `web` (add `hook: http://…` or `hook: { command: […] }`, or let Portway run them: `container:`)",
    ),
    (
        "{ maxReplicas: 3, hook: \"http://h/\" }",
        "3:18 unknown key `maxReplicas` in `autoscale` of service `web` (did you mean `max`?)",
    ),
    ("{ max: 3, hok: \"http://h/\" }", "3:26 unknown key `hok` in `autoscale` of service `web` (did you mean `hook`?)"),
    (
        "{ max: 3, webhook: \"http://h/\" }",
        "3:26 unknown key `webhook` in `autoscale` of service `web` (did you mean `hook`?)",
    ),
    (
        "{ max: 3, target: 3, hook: \"http://h/\" }",
        "3:26 unknown key `target` in `autoscale` of service `web` (did you mean `target_in_flight`?)",
    ),
    (
        "{ max: 3, cooldown: 3s, hook: \"http://h/\" }",
        "3:26 unknown key `cooldown` in `autoscale` of service `web` (did you mean `idle`?)",
    ),
    ("{ max: 0, hook: \"http://h/\" }", "3:23 \"0\" is not between 1 and 10000 (write a number such as 10)"),
    ("{ max: unlimited, hook: \"http://h/\" }", "3:23 \"unlimited\" is not a whole number (write a number such as 10)"),
    ("{ min: 4, max: 3, hook: \"http://h/\" }", "3:23 `min` is more than `max`, which is 3 (make it at most as much)"),
    ("{ min: -1, max: 3, hook: \"http://h/\" }", "3:23 \"-1\" is not between 0 and 10000 (write a number such as 1)"),
    (
        "{ max: 3, hold: { timeout: 2m }, hook: \"http://h/\" }",
        "warning 3:43 no request waits so long: its `timeout` ends after 1m (make `timeout` longer, or this shorter)",
    ),
    (
        "{ max: 3, target_rps: 1, target_in_flight: 2, hook: \"http://h/\" }",
        "3:59 replicas are counted by one target: this has `target_rps` and `target_in_flight` (again here; keep one of them)",
    ),
    (
        "{ max: 3, target_in_flight: 0, hook: \"http://h/\" }",
        "3:44 \"0\" is not more than 0 (write a number such as 7)",
    ),
    (
        "{ max: 3, target_in_flight: 1e3, hook: \"http://h/\" }",
        "3:44 \"1e3\" is not a number (write a number such as 7)",
    ),
    (
        "{ max: 3, target_in_flight: 70%, hook: \"http://h/\" }",
        "3:44 \"70%\" is not a number (write a number such as 7)",
    ),
    ("{ max: 3, target_rps: inf, hook: \"http://h/\" }", "3:38 \"inf\" is not a number (write a number such as 7)"),
    (
        "{ max: 3, target_latency: 200, hook: \"http://h/\" }",
        "3:42 \"200\" needs a unit, e.g. 200s (units are ms, s, m, h and d)",
    ),
    (
        "{ max: 3, stable: 100ms, hook: \"http://h/\" }",
        "3:34 \"100ms\" is not between 1s and 1h (most services take 30s to 5m)",
    ),
    (
        "{ max: 3, stable: 2h, hook: \"http://h/\" }",
        "3:34 \"2h\" is not between 1s and 1h (most services take 30s to 5m)",
    ),
    (
        "{ max: 3, panic: 60s, hook: \"http://h/\" }",
        "3:33 the window of bursts is not shorter than the other, which is 1m (a tenth of it is usual)",
    ),
    ("{ max: 3, panic: 1ms, hook: \"http://h/\" }", "3:33 \"1ms\" is less than 100ms (a tenth of `stable` is usual)"),
    (
        "{ max: 3, up_at_once: 1, hook: \"http://h/\" }",
        "3:38 \"1\" is not more than 1: times so many, nothing ever changes (leave it out for 1000)",
    ),
    (
        "{ max: 3, down_at_once: 0.5, hook: \"http://h/\" }",
        "3:40 \"0.5\" is not more than 1: times so many, nothing ever changes (leave it out for 2)",
    ),
    (
        "{ max: 3, idle: 0s, hook: \"http://h/\" }",
        "3:32 \"0s\" leaves no time at all (leave it out for 5m, or write a long time such as 24h to mean \"never\")",
    ),
    (
        "{ max: 3, hold: { max: 0 }, hook: \"http://h/\" }",
        "3:39 no request could wait: each that comes while there is no replica would be refused (write at least 1; `min: 1` keeps a replica)",
    ),
    (
        "{ max: 3, hold: { page: html }, hook: \"http://h/\" }",
        "3:40 \"html\" is not one of the words here (write true or off)",
    ),
    (
        "{ max: 3, hold: 30s, hook: \"http://h/\" }",
        "3:32 `hold` of `autoscale` of service `web` must be a mapping such as { timeout: 60s, max: 1000 }, not text (write a mapping such as { timeout: 60s, max: 1000 })",
    ),
    (
        "{ max: 3, hook: {} }",
        "3:32 `hook` of `autoscale` of service `web` says nobody to tell (add `url: http://…` or `command: […]`)",
    ),
    (
        "{ max: 3, hook: { url: \"http://h/\", command: a } }",
        "3:61 a hook tells one: this has `url` and `command` (again here; keep one of them)",
    ),
    (
        "{ max: 3, hook: \"https://h/\" }",
        "3:32 \"https://h/\" needs TLS, which hooks do not have in this version of Portway yet (use http:// inside of a private network, or a `command` such as curl)",
    ),
    (
        "{ max: 3, hook: ./scale.sh }",
        "3:32 \"./scale.sh\" is not a URL (for a program write { command: [./scale.sh] })",
    ),
    ("{ max: 3, hook: scaler/scale }", "3:32 \"scaler/scale\" has no scheme (write it as http://scaler/scale)"),
    (
        "{ max: 3, hook: \"http:///x\" }",
        "3:32 \"http:///x\" is not a URL that a hook can have (write one such as http://scaler/scale)",
    ),
    (
        "{ max: 3, hook: \"http://a:b@h/\" }",
        "3:32 \"http://a:b@h/\" has a user and a password, which hooks do not send (put a secret into the path or the query)",
    ),
    (
        "{ max: 3, hook: \"ftp://${SECRET}\" }",
        "3:32 \"ftp://${SECRET}\" is not a URL that a hook can have (write one such as http://scaler/scale)",
    ),
    (
        "{ max: 3, hook: { command: [] } }",
        "3:43 `command` of `hook` of `autoscale` of service `web` is an empty list (write the words of the command, or leave it out)",
    ),
    (
        "{ max: 3, hook: { command: \"a | b\" } }",
        "warning 3:43 no shell reads this command: `|` is an argument like any other (for a shell write [sh, -c, '…'])",
    ),
    (
        "{ max: 3, hook: { command: a, timeout: 0 } }",
        "3:55 \"0\" leaves no time at all (leave it out for 10s, or write a long time such as 24h to mean \"never\")",
    ),
    (
        "{ max: 3, target_in_flight: 9, hook: \"http://h/\" }\nmax_in_flight: 8",
        "warning 3:44 no replica ever carries so many: `max_in_flight` is 8, the others wait (make it less than that; 5.6 is usual)",
    ),
];

#[test]
fn each_mistake_has_its_message() {
    for (keys, want) in CASES {
        assert_eq!(complaints(&with_service(&format!("autoscale: {keys}"))).join("\n"), want, "{keys}");
    }
}

#[test]
fn trap_exactly_one_thing_writes_the_number_of_replicas() {
    let text =
        with_service("container: { image: a, port: 1, replicas: 3 }\nautoscale: { max: 3, hook: \"http://h/\" }");
    let diagnostics = load::parse(&text, "portway.yaml", &environment()).expect_err("two mistakes");
    let want = "\
error: two decide the number of replicas: `replicas` and `autoscale`
 --> portway.yaml:3:47
  |
3 |     container: { image: a, port: 1, replicas: 3 }
  |                                               ^ remove it, or write `autoscale: off`
4 |     autoscale: { max: 3, hook: \"http://h/\" }
  |                - the other
  |
  = at: services.web.container.replicas
error: two write the number of replicas: this hook, and Portway itself
 --> portway.yaml:4:32
  |
3 |     container: { image: a, port: 1, replicas: 3 }
  |                - these replicas
4 |     autoscale: { max: 3, hook: \"http://h/\" }
  |                                ^^^^^^^^^^^^ remove it: Portway starts and stops these replicas
  |
  = at: services.web.autoscale.hook
portway.yaml: 2 errors, 0 warnings";
    assert_eq!(render::render(&diagnostics, Color::Never), want);
}

#[test]
fn a_swarm_service_is_scaled_by_one_service() {
    let text = "services:\n  a: { route: /a, swarm: { service: web, port: 1 }, autoscale: { max: 2 } }\n  b: { route: /b, swarm: { service: web, port: 2 }, autoscale: OWN }";
    let want = "3:37 two write the number of replicas of the Swarm service web: `a` and `b` (again here; write `autoscale: off` in one of them)";
    assert_eq!(complaints(&text.replace("OWN", "{ max: 2 }")), [want]);
    assert!(complaints(&text.replace("OWN", "off")).is_empty());
}

#[test]
fn a_service_that_only_redirects_has_nothing_to_scale() {
    let said = complaints(&with_service("route: { redirect: /x }\nautoscale: { max: 3 }"));
    assert_eq!(said, ["warning 4:16 there is nothing to scale in `web`: each of its routes is a redirect (remove it)"]);
    let said = complaints(&with_service("route: { redirect: /x }\ncontainer: { image: a, port: 1 }"));
    assert_eq!(
        said,
        ["warning 4:16 the containers of `web` are never used: each of its routes is a redirect (remove them)"]
    );
}

#[test]
fn what_can_have_an_effect_is_not_warned_of() {
    for keys in [
        "container: { image: a, port: 1 }\nautoscale: { min: 0, max: 1 }",
        "docker: { label: a, port: 1 }\nautoscale: { min: 0, max: 1, hook: \"http://h/\" }",
        "timeout: 2m\nautoscale: { max: 3, hold: { timeout: 2m }, hook: \"http://h/\" }",
        "timeout: 2s\nautoscale: { max: 3, hold: { max: 2 }, hook: \"http://h/\" }",
        "autoscale: { min: 0, max: 100, hook: \"http://h/\" }",
        "autoscale: { max: 3, target_in_flight: 8, hook: \"http://h/\" }\nmax_in_flight: 8",
        "autoscale: { max: 3, target_rps: 90, hook: \"http://h/\" }\nmax_in_flight: 8",
        "container: { image: a, port: 1, replicas: 3 }\nautoscale: off",
    ] {
        assert_eq!(complaints(&with_service(keys)), [""; 0], "{keys}");
    }
}

#[test]
fn show_leaves_to_follow_what_follows_from_a_variable() {
    let shown = |keys: &str| {
        let loaded = load(&with_service(&format!("container: {{ image: a, port: 1 }}\n{keys}")));
        load::to_yaml(&show::with_defaults(&loaded.raw, &loaded.config))
    };
    let plain = shown("autoscale: { max: 3 }\nmax_in_flight: 8");
    for part in
        ["min: 1\n", "target_in_flight: 5.6\n", "panic: 6s\n", "up_at_once: 1000\n", "page: false\n", "max: 1000\n"]
    {
        assert!(plain.contains(part), "{part}\n{plain}");
    }
    assert!(!plain.contains("replicas"), "{plain}");
    let of_variables = shown("autoscale: { max: 3, stable: \"${S:-20s}\" }\nmax_in_flight: \"${N:-8}\"");
    assert!(!of_variables.contains("target_in_flight") && !of_variables.contains("panic"), "{of_variables}");
}

#[test]
fn a_secret_of_a_hook_is_never_printed() {
    for hook in
        ["\"http://h/x?token=${SECRET}\"", "{ command: \"./x ${SECRET}\" }", "{ command: [./x, \"${SECRET}\"] }"]
    {
        let loaded = load(&with_service(&format!("autoscale: {{ max: 2, hook: {hook} }}")));
        assert!(!format!("{:?}", loaded.config).contains("hunter2"));
        let typed = loaded.raw.services.as_ref().and_then(|services| services.0[0].value.autoscale.as_ref());
        assert!(matches!(typed, Some(Switch::On(_))));
        for shown in [show::as_typed(&loaded.raw), show::with_defaults(&loaded.raw, &loaded.config)] {
            let text = load::to_yaml(&shown);
            assert!(text.contains("${SECRET}") && !text.contains("hunter2"), "{text}");
        }
    }
}
