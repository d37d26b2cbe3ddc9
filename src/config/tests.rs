//! The language as its users meet it: YAML text in, the configuration or the messages out.
//! Promises the exact words of the most important messages. What one module does alone is tested there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::checked::*;
use super::load::{self, Loaded};
use super::raw::{LATER_LISTENER_KEYS, LATER_SERVICE_KEYS};
use super::render::{self, Color};
use super::{defaults, show};
use crate::units::{ByteSize, HostPort};

mod autoscale;
mod containers;
mod hostile;
mod messages;
mod resilience;

const EXAMPLES: [(&str, &str); 4] = [
    ("minimal.yaml", include_str!("../../config/minimal.yaml")),
    ("front-door.yaml", include_str!("../../config/front-door.yaml")),
    ("reference.yaml", include_str!("../../config/reference.yaml")),
    ("containers.yaml", include_str!("../../config/containers.yaml")),
];

fn environment() -> BTreeMap<String, String> {
    [("PORT", "5000"), ("SECRET", "hunter2"), ("ROUTE", "shop.example.com/api"), ("EMPTY", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn load(text: &str) -> Loaded {
    load::parse(text, "portway.yaml", &environment())
        .unwrap_or_else(|diagnostics| panic!("{}\n{text}", render::render(&diagnostics, Color::Never)))
}

/// A configuration with one service, whose keys are given.
fn service(keys: &str) -> Service {
    load(&with_service(keys)).config.services.remove(0)
}

fn with_service(keys: &str) -> String {
    let mut text = "services:\n  web:\n".to_owned();
    for line in keys.lines() {
        writeln!(text, "    {line}").expect("writing to a string cannot fail");
    }
    let sources = ["backends", "redirect", "docker:", "container:", "swarm:"];
    if !sources.iter().any(|source| keys.contains(source)) {
        text.push_str("    backends: [\"127.0.0.1:5000\"]\n");
    }
    text
}

/// Each message on one line, without the name of the file.
fn complaints(text: &str) -> Vec<String> {
    let said: Vec<String> = match load::parse(text, "portway.yaml", &environment()) {
        Ok(loaded) => loaded.warnings.list.iter().map(|warning| format!("warning {warning}")).collect(),
        Err(diagnostics) => diagnostics.list.iter().map(ToString::to_string).collect(),
    };
    said.into_iter().map(|line| line.replace("portway.yaml:", "")).collect()
}

fn same(a: &Config, b: &Config) -> bool {
    // Debug output shows what equality overlooks, and holds back what may be secret.
    a == b && format!("{a:?}") == format!("{b:?}")
}

#[test]
fn the_smallest_file_has_every_default() {
    let config = load("services: { web: { backends: [\"127.0.0.1:5000\"] } }").config;
    assert_eq!(config.listeners, [Listener { address: ListenAddress::AnyTcp(8080), max_connections: None }]);
    let admin = Admin { address: ListenAddress::Tcp("127.0.0.1:9900".parse().unwrap()), token: None };
    assert_eq!(config.admin, Some(admin));
    assert_eq!(config.accept, Accept::Kernel);
    assert_eq!(config.limits.header_timeout, defaults::LIMIT_HEADER_TIMEOUT);
    assert_eq!(config.access_log.as_ref().map(|log| log.format), Some(LogFormat::Json));
    let web = &config.services[0];
    assert_eq!(web.name.as_str(), "web");
    assert_eq!(web.routes[0].display, "/");
    assert_eq!(web.timeout, defaults::TIMEOUT);
    assert_eq!(web.balance, Balance::LeastRequests);
    assert!(web.filters.is_empty());
    let backends = web.source.declared();
    assert_eq!(backends[0].address, HostPort { host: "127.0.0.1".into(), port: 5000 });
}

#[test]
fn every_example_is_right_and_has_no_warning() {
    for (name, text) in EXAMPLES {
        assert!(load(text).warnings.is_empty(), "{name}");
    }
}

#[test]
fn the_reference_writes_out_the_defaults() {
    let reference = load(EXAMPLES[2].1).config;
    let smallest = load("services: { web: { backends: [\"127.0.0.1:5000\"] } }").config;
    let without_services = |config: &Config| Config { services: Vec::new(), ..config.clone() };
    assert!(same(&without_services(&reference), &without_services(&smallest)));
    assert_eq!(format!("{:?}", reference.services[0]), format!("{:?}", smallest.services[0]));
}

#[test]
fn short_and_long_forms_mean_the_same() {
    let pairs = [
        ("route: /x", "route: [{ path: /x }]"),
        ("route: /x/", "route: { path: /x }"),
        ("route: Shop.Example.com./x", "route: { host: shop.example.com, path: /x }"),
        ("route: \"*.example.com/\"", "route: { host: \"*.example.com\" }"),
        ("route: \"*/x\"", "route: /x"),
        ("backends: web:80", "backends: [{ address: \"web:80\", weight: 1 }]"),
        ("compression: true", "compression: { min_size: 1KiB }"),
        ("cors: off", "cors: false"),
        ("cors: {}", "cors: { origins: \"*\" }"),
        ("route: { redirect: /y }", "route: { redirect: { location: /y, status: 302 } }"),
        ("max_in_flight: unlimited", "timeout: 60s"),
        ("timeout:", "timeout: 1m"),
        ("route: { headers: { x-a: } }", "route: { headers: { x-a: {} } }"),
        ("route: { headers: { x-a: b } }", "route: { headers: { x-a: { exact: b } } }"),
        ("route: /a\nx-note: ignored", "route: /a"),
        ("backends: [\"web:${PORT}\"]", "backends: [\"web:5000\"]"),
        ("max_in_flight: ${N:-8}", "max_in_flight: 8"),
        ("route: ${ROUTE}", "route: shop.example.com/api"),
    ];
    for (short, long) in pairs {
        assert_eq!(format!("{:?}", service(short)), format!("{:?}", service(long)), "{short} / {long}");
    }
    let services = "services: { web: { backends: \"a:1\" } }";
    for (short, long) in [
        ("listen: \":80\"", "listen: [{ address: \":80\" }]"),
        ("admin: off", "admin: false"),
        ("access_log: off", "access_log: false"),
        ("access_log: combined", "access_log: { format: combined, path: stdout, only: all }"),
        ("admin: unix:/run/a.sock", "admin: { address: unix:/run/a.sock }"),
        ("trusted_proxies: 10.0.0.0/8", "trusted_proxies: [10.0.0.0/8]"),
        ("trusted_proxies: 10.0.0.1", "trusted_proxies: [10.0.0.1/32]"),
    ] {
        let [short_config, long_config] = [short, long].map(|line| load(&format!("{line}\n{services}")).config);
        assert!(same(&short_config, &long_config), "{short}");
    }
}

#[test]
fn each_key_of_a_service_reaches_the_configuration() {
    let web = service(
        "balance: { hash: { cookie: session } }\ntimeout: 5s\ntimeouts: { connect: 100ms }\nmax_in_flight: 8\n\
         queue: { size: 7, timeout: 3s }\nkeepalive: { idle: 0, max_requests: 9 }\nbuffer: { request: 0 }\nmax_body: 1GiB\n\
         backends: [{ address: \"web:80\", weight: 3, zone: a }]\nheaders: { response: { set: { x-a: b }, remove: server } }",
    );
    assert_eq!(web.balance, Balance::Hash(HashKey::Cookie("session".to_owned())));
    assert_eq!(web.timeout, Duration::from_secs(5));
    assert_eq!((web.timeouts.connect, web.timeouts.response), (Duration::from_millis(100), defaults::TIMEOUT_RESPONSE));
    assert_eq!(web.max_in_flight.map(|cap| cap.get()), Some(8));
    assert_eq!(web.queue, Queue { size: 7, timeout: Duration::from_secs(3) });
    assert_eq!((web.keepalive.idle, web.keepalive.max_requests.map(|n| n.get())), (Duration::ZERO, Some(9)));
    assert_eq!(web.buffer, Buffer { request: ByteSize(0), response: defaults::BUFFER_RESPONSE });
    assert_eq!(web.max_body, ByteSize::mib(1024));
    let backends = web.source.declared();
    assert_eq!((backends[0].weight.get(), backends[0].zone.as_deref()), (3, Some("a")));
    let edits = web.filters.headers.expect("headers were typed");
    assert_eq!((edits.response.set.len(), edits.response.remove.len()), (1, 1));
}

#[test]
fn routes_become_matches_and_actions() {
    let route = |text: &str| service(&format!("route: {text}")).routes.remove(0);
    assert!(matches!(&route("/api").matcher.path, PathMatch::Prefix(path) if path == "/api"));
    assert!(matches!(&route("{ exact: /a/ }").matcher.path, PathMatch::Exact(path) if path == "/a/"));
    assert!(matches!(&route("{ regex: ^/a$ }").matcher.path, PathMatch::Regex(regex) if regex.as_str() == "^/a$"));
    assert_eq!(route("\"[::1]/a\"").matcher.host, HostMatch::Exact("[::1]".to_owned()));
    assert_eq!(route("{ methods: GET }").matcher.methods, [http::Method::GET]);
    let rewrite = |text: &str| match route(text).action {
        RouteAction::Forward(rewrite) => format!("{rewrite:?}"),
        RouteAction::Redirect(redirect) => format!("{redirect:?}"),
    };
    assert_eq!(rewrite("{ path: /a/, strip_prefix: true }"), "StripPrefix(\"/a\")");
    assert_eq!(rewrite("{ path: /, strip_prefix: true }"), "None");
    assert_eq!(rewrite("{ path: /a, rewrite: /b/ }"), "ReplacePrefix { from: \"/a\", to: \"/b\" }");
    assert!(rewrite("{ regex: ^/(.*)$, rewrite: /b/$1 }").contains("replacement: \"/b/$1\""));
    assert!(rewrite("{ redirect: { status: 308, location: \"https://{host}{path}\" } }").contains("status: 308"));
    assert!(matches!(service("route: { redirect: /x }").source, Source::Backends(backends) if backends.is_empty()));
}

#[test]
fn a_service_inherits_what_it_leaves_out() {
    let config = load(
        "defaults: { timeout: 5s, timeouts: { connect: 2s, idle: 9s }, balance: random, compression: true }\n\
         services:\n  a: { route: /a, backends: \"a:1\" }\n  b: { route: /b, backends: \"b:1\", timeout: 7s, timeouts: { connect: 3s }, compression: off }",
    )
    .config;
    let [a, b] = &config.services[..] else { panic!("two services") };
    assert_eq!((a.timeout, b.timeout), (Duration::from_secs(5), Duration::from_secs(7)));
    assert_eq!((a.timeouts.connect, b.timeouts.connect), (Duration::from_secs(2), Duration::from_secs(3)));
    assert_eq!(b.timeouts.idle, Duration::from_secs(9));
    assert_eq!(b.balance, Balance::Random);
    assert!(a.filters.compression.is_some() && b.filters.compression.is_none());
}

#[test]
fn anchors_and_merge_keys_work() {
    let config = load(
        "x-slow: &slow { timeout: 5m, max_in_flight: 2 }\nservices:\n  a:\n    <<: *slow\n    route: /a\n    backends: &hosts [\"a:1\", \"a:2\"]\n\
         \x20 b:\n    <<: [{ timeout: 1s }, *slow]\n    route: /b\n    backends: *hosts",
    )
    .config;
    let [a, b] = &config.services[..] else { panic!("two services") };
    assert_eq!(a.timeout, Duration::from_secs(300));
    assert_eq!((b.timeout, b.max_in_flight), (Duration::from_secs(1), a.max_in_flight));
    assert_eq!(a.source, b.source);
}

#[test]
fn included_services_follow_in_the_order_of_their_files() {
    let folder = Folder::new("include");
    folder.write("portway.yaml", "include: services/*.yaml\nservices: { main: { backends: \"a:1\" } }");
    folder.write("services/b.yaml", "services: { b: { route: /b, backends: \"b:1\" } }");
    folder.write("services/a.yaml", "services: { a: { route: /a, backends: \"a:1\" } }");
    folder.write("services/.a.yaml.swp", "\0");
    folder.write("services/notes.txt", "not a configuration");
    let loaded = load::read(&folder.path("portway.yaml"), &environment()).expect("all three are right");
    let names: Vec<_> = loaded.config.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["main", "a", "b"]);
    let files: Vec<_> = loaded.files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
    assert_eq!(files, ["portway.yaml", "a.yaml", "b.yaml"]);
    let shown = load(&load::to_yaml(&show::with_defaults(&loaded.raw, &loaded.config))).config;
    assert!(same(&shown, &loaded.config));
}

#[test]
fn an_included_file_may_hold_nothing_but_comments_and_patterns_have_no_brackets() {
    let folder = Folder::new("blank");
    folder.write("portway.yaml", "include: [more.yaml]\nservices: { main: { backends: \"c:1\" } }");
    folder.write("more.yaml", "# services:\n#   a: { backends: \"a:1\" }\n\n");
    let loaded = load::read(&folder.path("portway.yaml"), &environment()).expect("nothing is wrong with it");
    assert_eq!((loaded.config.services.len(), loaded.files.len()), (1, 2));

    folder.write("portway.yaml", "include: [\"[ab].yaml\"]\nservices: { main: { backends: \"c:1\" } }");
    let error = load::read(&folder.path("portway.yaml"), &environment()).expect_err("no such file");
    assert!(error.to_string().contains("a pattern may have `*` and `?`, no `[…]`"), "{error}");
}

#[test]
fn a_name_in_two_files_is_an_error_that_shows_both() {
    let folder = Folder::new("twice");
    folder.write(
        "portway.yaml",
        "include: [more.yaml, gone.yaml, \"x/*.yaml\"]\nservices: { web: { backends: \"a:1\" } }",
    );
    folder.write("more.yaml", "services: { web: { backends: \"b:1\" } }\nlisten: \":80\"");
    let diagnostics = load::read(&folder.path("portway.yaml"), &environment()).expect_err("web is there twice");
    let text = render::render(&diagnostics, Color::Never).replace(&format!("{}/", folder.0.display()), "");
    let want = "\
error: cannot read gone.yaml: no such file or directory
 --> portway.yaml:1:22
  |
1 | include: [more.yaml, gone.yaml, \"x/*.yaml\"]
  |                      ^^^^^^^^^ it is looked for relative to this file
  |
  = at: include[1]
error: cannot list the folder of \"x/*.yaml\": no such file or directory
 --> portway.yaml:1:33
  |
1 | include: [more.yaml, gone.yaml, \"x/*.yaml\"]
  |                                 ^^^^^^^^^^ it is looked for relative to this file
  |
  = at: include[2]
error: two files have a service `web`
 --> more.yaml:1:13
  |
1 | services: { web: { backends: \"b:1\" } }
  |             ^^^ again here; rename one of them
  |
 ::: portway.yaml:2:13
  |
2 | services: { web: { backends: \"a:1\" } }
  |             --- first here
  |
  = at: services.web
error: unknown key `listen` at the top level
 --> more.yaml:2:1
  |
2 | listen: \":80\"
  | ^^^^^^ known here: services
  |
  = at: listen
portway.yaml: 4 errors, 0 warnings";
    assert_eq!(text, want);
}

#[test]
fn what_show_prints_reads_back_as_the_same() {
    for (name, text) in EXAMPLES {
        assert_shown_reads_back(text, name);
    }
}

fn assert_shown_reads_back(text: &str, name: &str) {
    let loaded = load(text);
    let shown = load::to_yaml(&show::as_typed(&loaded.raw));
    assert!(same(&load(&shown).config, &loaded.config), "{name}\n{shown}");
    let long = load::to_yaml(&show::with_defaults(&loaded.raw, &loaded.config));
    let again = load(&long);
    assert!(same(&again.config, &loaded.config), "{name}\n{long}");
    assert_eq!(load::to_yaml(&show::with_defaults(&again.raw, &again.config)), long, "{name}");
}

#[test]
fn show_prints_every_key_that_is_in_force() {
    let loaded = load("services: { web: { backends: [\"127.0.0.1:5000\"] } }");
    let long = load::to_yaml(&show::with_defaults(&loaded.raw, &loaded.config));
    let same_text = [
        "listen:\n- address: :8080\n",
        "header_bytes: 32KiB\n",
        "keep_alive: 75s\n",
        "idle: 1500ms\n",
        "max_in_flight: unlimited\n",
        "access_log:\n  format: json\n",
        "balance: least_requests\n",
        "    route:\n    - path: /\n",
    ];
    for part in same_text {
        assert!(long.contains(part), "{part}\n{long}");
    }
}

#[test]
fn a_value_from_the_environment_is_never_printed() {
    let good = "admin: { address: \":9900\", token: \"${SECRET}\" }\nservices: { web: { route: { headers: { x-a: \"${SECRET}\" } }, backends: \"a:1\" } }";
    let loaded = load(good);
    assert_eq!(loaded.config.admin.as_ref().and_then(|admin| admin.token.as_deref()), Some("hunter2"));
    for shown in [show::as_typed(&loaded.raw), show::with_defaults(&loaded.raw, &loaded.config)] {
        let text = load::to_yaml(&shown);
        assert!(text.contains("${SECRET}") && !text.contains("hunter2"), "{text}");
    }
    let value = "\"${SECRET}\"";
    let keys = [
        "timeout",
        "max_body",
        "max_in_flight",
        "balance",
        "protocol",
        "route",
        "backends",
        "queue: { size",
        "timeouts: { idle",
        "keepalive: { max_requests",
        "health",
        "health: { tcp",
        "health: { path: /p, every",
        "health: { path: /p, host",
        "health: { path: /p, expect",
        "health: { path: /p, initial",
        "ejection: { consecutive",
        "ejection: { success_rate",
        "ejection: { max",
        "retries",
        "retries: { when",
        "retries: { budget",
        "retries: { backoff",
        "retries: { other_backend",
        "hedge",
        "slow_start",
        "drain",
        "cors: { origins",
        "cors: { methods",
        "cors: { credentials",
        "headers: { request: { remove",
        "route: { host",
        "route: { path",
        "route: { exact",
        "route: { methods",
        "route: { rewrite",
        "route: { redirect",
        "route: { redirect: { status",
        "route: { strip_prefix",
        "balance: { hash",
    ];
    for key in keys {
        let closing = " }".repeat(key.matches('{').count());
        for value in [value, "\"${SECRET}(\"", "\"${SECRET}?x=/y\""] {
            let text = with_service(&format!("{key}: {value}{closing}"));
            let said = complaints(&text).join("\n");
            assert!(!said.contains("hunter2"), "{text}{said}");
        }
    }
    for line in
        ["listen", "admin", "workers", "accept", "trusted_proxies", "limits: { header_bytes", "access_log", "include"]
    {
        let closing = " }".repeat(line.matches('{').count());
        let said = complaints(&format!("{line}: {value}{closing}\n{}", with_service(""))).join("\n");
        assert!(!said.is_empty() && !said.contains("hunter2"), "{line} {said}");
    }
}

#[test]
fn keys_of_later_versions_are_said_to_be_that() {
    for key in LATER_SERVICE_KEYS {
        let said = complaints(&with_service(&format!("backends: \"a:1\"\n{key}: {{}}"))).join("\n");
        assert!(said.contains(&format!("`{key}` is not in this version of Portway yet")), "{said}");
    }
    for key in LATER_LISTENER_KEYS {
        let said = complaints(&format!("listen: {{ address: \":80\", {key}: {{}} }}\n{}", with_service(""))).join("\n");
        assert!(said.contains(&format!("`{key}` is not in this version of Portway yet")), "{said}");
    }
}

/// A folder that is gone when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portway-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder can be made");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("the path has a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn any_line() -> impl Strategy<Value = String> {
    let duration = (1_u32..90_000).prop_map(|millis| format!("{millis}ms"));
    prop_oneof![
        duration.clone().prop_map(|value| format!("timeout: {value}")),
        duration.clone().prop_map(|value| format!("timeouts: {{ connect: {value} }}")),
        duration.prop_map(|value| format!("keepalive: {{ idle: {value}, max_requests: 7 }}")),
        (1_u32..64).prop_map(|cap| format!("max_in_flight: {cap}")),
        (0_u32..64).prop_map(|size| format!("buffer: {{ request: {size}KiB }}")),
        prop::sample::select(vec![
            "balance: peak_ewma",
            "balance: { hash: ip }",
            "balance: { hash: { header: X-User } }",
            "balance: { hash: { query: \"a b\" } }",
            "compression: true",
            "cors: { origins: [\"https://a.example\"], credentials: true }",
            "headers: { request: { set: { x-a: \"$$1: ${SECRET}\", x-b: \"off\" } } }",
            "queue: { size: 0 }",
            "health: /healthz",
            "health: { tcp: true, initial: down }",
            "health: { grpc: a.B, headers: { x-a: \"${SECRET}\" }, every: 500ms }",
            "health: off",
            "ejection: { consecutive: off, success_rate: 80%, base: 1s }",
            "ejection: off",
            "retries: 3",
            "retries: { when: [connection, 503, 502-504], backoff: 1s, budget: { per_second: 0 } }",
            "retries: off",
            "hedge: p95",
            "hedge: 100ms",
            "slow_start: 20s",
            "drain: 0s",
            "protocol: http1",
            "x-note: { any: thing }",
        ])
        .prop_map(str::to_owned),
    ]
}

fn any_source() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "backends: [{ address: \"web:80\", weight: 7 }]",
        "docker: { label: app, port: \"${PORT}\" }",
        "docker: { label: \"a.b/c=d e\", port: 1, network: n, address: network, endpoint: [default, \"tcp://[::1]:2375\", \"unix:/run/d.sock\"] }",
        "container: { image: \"a/b:${PORT}\", port: 65535, replicas: 0, memory: 1GiB, cpus: 0.25, pull: never }",
        "container: { image: a, port: 1, command: \"a 'b c' ${PORT}\", environment: [PORT, \"A=b=${SECRET}\", \"E=\"], labels: [l, \"m=n\"] }",
        "container: { image: a, port: 1, command: \"sh -c 'x $$y'\", environment: { A: , PORT: , N: 1, T: true } }",
        "container: { image: a, port: 1, volumes: [\"./a:/a:ro\", \"../${PORT}:/b\", \"vol:/c\", \"/d:/d\"], networks: [n1, n2], stop_timeout: 0s }",
        "swarm: { service: a_b, port: 80, address: published, endpoint: \"tcp://m:2375\" }",
        "backends: web:80\n    autoscale: { min: 0, max: 3, hook: \"http://scaler/x?token=${SECRET}\" }",
        "backends: web:80\n    autoscale: { max: 5, hook: { command: \"./s.sh 'a b' $$1\" }, hold: { page: true } }",
        "docker: { label: app, port: 1 }\n    autoscale: { max: 7, hook: { command: [../scale, \"${SECRET}\"] } }",
        "docker: { label: app, port: 1 }\n    autoscale: { max: 7, hook: { command: \"./scale ${SECRET}\", timeout: 1s } }",
        "container: { image: a, port: 1 }\n    autoscale: { min: 0, max: 5, target_rps: 0.5, stable: 30s, down_at_once: 1.5 }",
        "container: { image: a, port: 1 }\n    autoscale: { max: 5, target_rps: 0.0000001, up_at_once: 2.50 }",
        "swarm: { service: web, port: 1 }\n    autoscale: { max: 5, target_latency: 20ms, stable: \"${N:-20s}\" }",
        "swarm: { service: web, port: 1 }\n    autoscale: off",
    ])
    .prop_map(str::to_owned)
}

fn any_inherited() -> impl Strategy<Value = String> {
    let autoscale = prop::sample::select(vec![
        "autoscale: off",
        "autoscale: { idle: 1m, hold: { max: 5 } }",
        "autoscale: { max: 9, target_in_flight: 3, hook: \"http://scaler/\" }",
        "autoscale: { max: \"${N:-9}\", hook: { command: [\"./s/${SECRET}\"] } }",
    ]);
    prop_oneof![any_line(), autoscale.prop_map(str::to_owned)]
}

fn any_route() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "/",
        "{ path: /a, strip_prefix: true }",
        "\"*.example.com/\"",
        "{ exact: /a/, methods: [GET, HEAD] }",
        "{ regex: \"^/(?P<x>[0-9]+)$\", rewrite: /n/$x }",
        "[/b, { host: b.example.com, headers: { x-a: , x-b: \"1\", x-c: { regex: \"a$\" } } }]",
        "{ path: /q, query: { page: \"1\", \"a b\": } }",
        "{ path: /old, redirect: \"https://{host}/new?{query}\" }",
        "\"${ROUTE}\"",
        "\"${PORT}.example.com/p\"",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn any_configuration_that_is_shown_reads_back_as_the_same(
        lines in prop::collection::vec(any_line(), 0..4),
        inherited in prop::collection::vec(any_inherited(), 0..3),
        route in any_route(),
        source in any_source(),
    ) {
        // Two lines with one key would be an error of this test.
        let unique = |lines: Vec<String>| -> BTreeMap<String, String> {
            lines.into_iter().map(|line| (line.split(':').next().unwrap_or_default().to_owned(), line)).collect()
        };
        let mut text = format!("services:\n  web:\n    route: {route}\n    {source}\n");
        for line in unique(lines).values() {
            writeln!(text, "    {line}").unwrap();
        }
        text.push_str("defaults:\n");
        for line in unique(inherited).values() {
            writeln!(text, "  {line}").unwrap();
        }
        assert_shown_reads_back(&text, &text);
    }
}
