//! The exact words of messages: the three of the design to the letter, then one line for each mistake.

use super::*;

#[test]
fn all_mistakes_of_a_file_are_drawn_at_once() {
    let text = "\
listen: \":8080\"

services:
  shop:
    route: shop.example.com/
    backends:
      - 10.0.0.12
      - 10.0.0.11:5000
    helth: /healthz

  shop-v2:
    backends: [10.0.0.13:5000]
    # the same again
    route: shop.example.com/
";
    let diagnostics = load::parse(text, "portway.yaml", &environment()).expect_err("three mistakes");
    let want = "\
error: \"10.0.0.12\" has no port
  --> portway.yaml:7:9
   |
 7 |       - 10.0.0.12
   |         ^^^^^^^^^ write it as 10.0.0.12:5000
   |
   = at: services.shop.backends[0]
error: unknown key `helth` in service `shop`
  --> portway.yaml:9:5
   |
 9 |     helth: /healthz
   |     ^^^^^ did you mean `health`?
   |
   = at: services.shop.helth
error: two routes are the same: `shop` and `shop-v2` both take shop.example.com/
  --> portway.yaml:14:12
   |
 5 |     route: shop.example.com/
   |            ----------------- first here
14 |     route: shop.example.com/
   |            ^^^^^^^^^^^^^^^^^ again here; add `headers:` or `methods:` to tell them apart
   |
   = at: services.shop-v2.route
portway.yaml: 3 errors, 0 warnings";
    assert_eq!(render::render(&diagnostics, Color::Never), want);
    let coloured = render::render(&diagnostics, Color::Always);
    assert!(coloured.contains("\x1b["));
    let mut bare = String::new();
    for (idx, part) in coloured.split("\x1b[").enumerate() {
        bare.push_str(if idx == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) });
    }
    let trimmed: Vec<_> = bare.lines().map(str::trim_end).collect();
    assert_eq!(trimmed.join("\n"), want, "colour changes nothing else");
    let json = diagnostics.to_json();
    assert_eq!(
        json[0],
        serde_json::json!({
            "severity": "error", "path": "services.shop.backends[0]", "file": "portway.yaml", "line": 7, "column": 9,
            "message": "\"10.0.0.12\" has no port", "help": "write it as 10.0.0.12:5000",
        })
    );
    assert_eq!((&json[1]["path"], &json[2]["path"]), (&"services.shop.helth".into(), &"services.shop-v2.route".into()));
    assert_eq!(
        diagnostics.to_string(),
        "portway.yaml:7:9 \"10.0.0.12\" has no port (write it as 10.0.0.12:5000) and 2 more: portway check"
    );
}

/// The keys of a service, and what is said about them. Its first line is line 3, its first column 5.
const SERVICE_CASES: [(&str, &str); 71] = [
    ("timeout: 2", "3:14 \"2\" needs a unit, e.g. 2s (units are ms, s, m, h and d)"),
    (
        "timeout: 0s",
        "3:14 \"0s\" leaves no time at all (leave it out for 1m, or write a long time such as 24h to mean \"never\")",
    ),
    ("timeout: soon", "3:14 \"soon\" is not a duration (write a number and a unit: 250ms, 2s, 5m, 1h)"),
    (
        "timeout: [2s]",
        "3:14 `timeout` of service `web` must be a duration such as 2s, not a list (write a duration such as 2s)",
    ),
    (
        "timeouts: 2s",
        "3:15 `timeouts` of service `web` must be a mapping such as { connect: 1s, response: 30s }, not text (write a mapping such as { connect: 1s, response: 30s })",
    ),
    ("timeouts: { conect: 1s }", "3:17 unknown key `conect` in `timeouts` of service `web` (did you mean `connect`?)"),
    (
        "max_body: 10",
        "3:15 \"10\" needs a unit, e.g. 10KiB (units are B, KiB, MiB, GiB, and kB, MB, GB for powers of ten)",
    ),
    ("max_body: 10mib", "3:15 \"10mib\" has an unknown unit (write it as 10MiB)"),
    (
        "max_body: 0",
        "3:15 \"0\" leaves room for nothing (leave it out for 100MiB, or write a large size such as 100GiB)",
    ),
    ("max_in_flight: 0", "3:20 \"0\" is not a cap (write a whole number of at least 1, or unlimited)"),
    ("max_in_flight: -1", "3:20 \"-1\" is not a cap (write a whole number of at least 1, or unlimited)"),
    ("queue: { size: many }", "3:20 \"many\" is not a whole number (write a number such as 100)"),
    (
        "queue: { size: 5000 }",
        "warning 3:20 this queue is never used: without `max_in_flight`, no request waits (set `max_in_flight`, or remove `queue`)",
    ),
    ("balance: least_request", "3:14 \"least_request\" is not one of the words here (did you mean `least_requests`?)"),
    (
        "balance: fastest",
        "3:14 \"fastest\" is not one of the words here (write least_requests, peak_ewma, round_robin, random or { hash: … })",
    ),
    (
        "balance: { hash: { header: x, cookie: y } }",
        "3:22 `hash` of `balance` of service `web` must name exactly one part of the request (write one of { header }, { cookie }, { query }, or ip or path)",
    ),
    (
        "balance: { hash: port }",
        "3:22 \"port\" is not one of the words here (write ip, path, or one of { header }, { cookie }, { query })",
    ),
    ("protocol: h2", "3:15 HTTP/2 is not in this version of Portway yet (write http1, or leave it out)"),
    ("sticky: session", "3:5 `sticky` is not in this version of Portway yet (remove it for now)"),
    ("upstreams: [a:1]", "3:5 unknown key `upstreams` in service `web` (did you mean `backends`?)"),
    ("listen: \":80\"", "3:5 unknown key `listen` in service `web` (it belongs to the top level of the file)"),
    (
        "frobnicate: 1",
        "3:5 unknown key `frobnicate` in service `web` (known here: route, backends, docker, container, swarm, autoscale, protocol, balance, health, ejection, slow_start, retries, hedge, timeout, timeouts, max_in_flight, queue, keepalive, buffer, max_body, cors, compression, headers, drain)",
    ),
    ("backends: []", "2:3 service `web` has no backends (add, for example, backends: [\"127.0.0.1:5000\"])"),
    ("backends: { address: a }", "3:26 \"a\" has no port (write it as a:5000)"),
    ("backends: [{ weight: 2 }]", "3:16 `backends` of service `web` has no `address` (add `address:`)"),
    (
        "backends: [\"a:1\", \"a:1\"]",
        "3:23 the backend a:1 is here twice (again here; for a larger share, give it a `weight`)",
    ),
    ("backends: [{ address: \"a:1\", weight: 0 }]", "3:42 \"0\" is not between 1 and 1000 (write a number such as 1)"),
    ("backends: [a:80, b]", "3:22 \"b\" has no port (write it as b:80)"),
    ("backends: [http://a:80/]", "3:16 \"http://a:80/\" has a scheme (write the address alone: a:80)"),
    ("route: shop", "3:12 the route \"shop\" has no slash (write \"shop/\" for a host or \"/shop\" for a path)"),
    (
        "route: https://a.example/",
        "3:12 the route \"https://a.example/\" has a scheme (leave it out: a route takes what its listener takes)",
    ),
    (
        "route: a.example:80/",
        "3:12 the host \"a.example:80\" has a port (leave it out: a route's host is compared without the port)",
    ),
    (
        "route: münchen.example/",
        "3:12 the host \"münchen.example\" has letters outside of ASCII (write it in punycode, as browsers send it: xn--…)",
    ),
    (
        "route: a.*.example/",
        "3:12 the host \"a.*.example\" has a `*` in the middle (a wildcard stands in front: *.example.com)",
    ),
    ("route: a.example/x/*", "3:21 the path \"/x/*\" has a `*` (a path takes all below it: write /x)"),
    (
        "route: \"/users/{id}\"",
        "3:12 the path \"/users/{id}\" has a placeholder (write a regular expression under `regex`)",
    ),
    ("route: /a?b=c", "3:12 the path \"/a?b=c\" has a query (write conditions on it under `query`)"),
    ("route: /a//b", "3:12 the path \"/a//b\" has an empty segment (write single slashes)"),
    ("route: /a/../b", "3:12 the path \"/a/../b\" has a dot segment (write the path that it leads to)"),
    (
        "route: /a b",
        "3:12 the path \"/a b\" has characters that a request cannot (percent-encode them, such as %20 for a space)",
    ),
    ("route: { path: api }", "3:20 the path \"api\" does not begin with a slash (write it as /api)"),
    (
        "route: { path: /a, exact: /b }",
        "3:31 a route has one of `path`, `exact` and `regex` (again here; keep one of them)",
    ),
    (
        "route: { regex: \"(\" }",
        "3:21 \"(\" is not a regular expression: unclosed group (to match a character such as ( itself, write \\( in single quotes)",
    ),
    ("route: { methods: [get] }", "3:24 \"get\" is in lower case, and methods tell case apart (write it as GET)"),
    ("route: { methods: \"G T\" }", "3:23 \"G T\" is not a method (write one such as GET)"),
    (
        "route: { headers: { \"x y\": 1 } }",
        "3:25 \"x y\" is not the name of a header field (letters, digits and - only, without a colon)",
    ),
    (
        "route: { regex: ^/a, strip_prefix: true }",
        "3:40 `strip_prefix` needs a `path` (write `path` in place of `exact` or `regex`, or use `rewrite`)",
    ),
    ("route: { path: /a, strip_prefix: yes }", "3:38 \"yes\" is neither true nor false (write true or false)"),
    (
        "route: { path: /a, strip_prefix: true, rewrite: /b }",
        "3:53 a route has one of `strip_prefix` and `rewrite` (again here; keep one of them)",
    ),
    (
        "route: { regex: ^/(a), rewrite: /$1x }",
        "3:37 `$1x` is no group of the regular expression (groups are $1 to $1; before a letter or digit write ${1})",
    ),
    (
        "route: { redirect: { status: 200, location: /x } }",
        "3:34 \"200\" is not the status of a redirect (write 301 or 308 (for ever), 302 or 307 (for now), or 303)",
    ),
    (
        "route: { redirect: \"https://{hots}/\" }",
        "3:24 `{hots}` is no placeholder of a location (placeholders are {scheme}, {host}, {path} and {query})",
    ),
    (
        "route: { redirect: shop.example.com }",
        "3:24 \"shop.example.com\" is not a location (write a path or a URL, such as https://{host}{path})",
    ),
    (
        "route: { redirect: /x, strip_prefix: true }",
        "3:42 a redirect changes no path on its way to a backend (remove this, or `redirect`)",
    ),
    (
        "route: { redirect: /x }\nbackends: \"a:1\"",
        "warning 4:15 the backends of `web` are never used: each of its routes is a redirect (remove them)",
    ),
    (
        "route: [/a, /a/]",
        "3:17 two routes of `web` are the same: both take /a (again here; add `headers:` or `methods:` to tell them apart)",
    ),
    (
        "route: [\"${ROUTE}/x\", \"${ROUTE}/x\"]",
        "3:27 two routes of `web` are the same: both take ${ROUTE}/x (again here; add `headers:` or `methods:` to tell them apart)",
    ),
    ("backends:", "3:5 `backends` of service `web` is empty (write its value, or remove the line)"),
    ("docker:", "3:5 `docker` of service `web` is empty (write its value, or remove the line)"),
    ("backends: [{ address: }]", "3:16 `backends` of service `web` has no `address` (add `address:`)"),
    (
        "route: { redirect: }",
        "3:14 `redirect` of `route` of service `web` is empty (write its value, or remove the line)",
    ),
    ("route: { path: }", "3:14 `path` of `route` of service `web` is empty (write its value, or remove the line)"),
    ("balance: { hash: }", "3:16 `hash` of `balance` of service `web` is empty (write its value, or remove the line)"),
    (
        "headers: { x-a: b }",
        "warning 3:16 `x-a` does nothing here: keys in `x-` are for notes and anchors (for a header, write `response: { set: { name: value } }`, or `request:`)",
    ),
    (
        "headers: { response: { x-a: b } }",
        "warning 3:28 `x-a` does nothing here: keys in `x-` are for notes and anchors (for a header, write it below `set:`)",
    ),
    (
        "cors: { credentials: true }",
        "3:26 cookies for every origin (list the origins that may send cookies under `origins`)",
    ),
    (
        "cors: { origins: https://a.example/x }",
        "3:22 \"https://a.example/x\" is not an origin (write scheme and host only, such as https://app.example.com)",
    ),
    (
        "headers: { request: { set: { content-length: 1 } } }",
        "3:34 `content-length` belongs to the connection, not to the message (remove it: Portway writes it anew on either side)",
    ),
    ("backends: [\"127.0.0.1:${NOPE}\"]", "3:16 the variable `NOPE` is not set (set it, or write ${NOPE:-default})"),
    ("timeout: ${NOPE}", "3:14 the variable `NOPE` is not set (set it, or write ${NOPE:-default})"),
    ("timeout: ${PORT}", "3:14 \"${PORT}\" needs a unit, e.g. 2s (units are ms, s, m, h and d)"),
];

#[test]
fn each_mistake_in_a_service_has_its_message() {
    for (keys, want) in SERVICE_CASES {
        assert_eq!(complaints(&with_service(keys)), [want], "{keys}");
    }
}

const ELSEWHERE_CASES: [(&str, &str); 24] = [
    ("listen: 8080", "1:9 \"8080\" has no host (write it as \":8080\")"),
    ("listen: []", "1:1 `listen` is an empty list (leave it out for :8080)"),
    (
        "listen: [\":80\", \"127.0.0.1:80\"]",
        "1:17 two listeners take the same connections (again here; give one of them another port)",
    ),
    (
        "listen: \":9900\"",
        "1:9 the admin listener is at 127.0.0.1:9900 unless `admin` says otherwise (give this listener another port, or write `admin:` with another one)",
    ),
    ("admin: no", "1:8 \"no\" is not the address of the admin listener (write `off`)"),
    (
        "admin: \"127.0.0.1:8080\"",
        "1:8 requests are taken at :8080 unless `listen` says otherwise (give the admin listener another port, or write `listen:` with another one)",
    ),
    ("listen: { address: }", "1:9 `listen` has no `address` (add `address:`)"),
    ("listen: { adress: \":80\" }", "1:11 unknown key `adress` in `listen` (did you mean `address`?)"),
    (
        "admin: \":9900\"",
        "1:8 the admin address :9900 is open to more than this host and has no token (write { address: …, token: \"${PORTWAY_ADMIN_TOKEN}\" }, or listen on 127.0.0.1)",
    ),
    (
        "admin: { address: \":9900\", token: \"${EMPTY}\" }",
        "1:35 the token is empty or holds more than visible ASCII (try: openssl rand -hex 32)",
    ),
    ("servces: {}", "1:1 unknown key `servces` at the top level (did you mean `services`?)"),
    (
        "backends: [a:1]",
        "1:1 unknown key `backends` at the top level (it belongs to a service: services.NAME.backends)",
    ),
    (
        "web: { backends: [a:1] }",
        "1:1 unknown key `web` at the top level (if `web` is a service, indent it below `services:`)",
    ),
    (
        "admin: on",
        "1:8 \"on\" is not the address of the admin listener (leave it out: it is at 127.0.0.1:9900 unless it is `off`)",
    ),
    ("admin: 9901", "1:8 \"9901\" is not the address of the admin listener (write it as 127.0.0.1:9901)"),
    ("workers: 0", "1:10 \"0\" is not between 1 and 1024 (write a number such as 2)"),
    ("accept: kernal", "1:9 \"kernal\" is not one of the words here (did you mean `kernel`?)"),
    (
        "trusted_proxies: [10.0.0.1/8]",
        "1:19 \"10.0.0.1/8\" is an address inside of a network (the network is 10.0.0.0/8, the address alone 10.0.0.1)",
    ),
    (
        "trusted_proxies: proxy",
        "1:18 \"proxy\" is neither an address nor a network (write one such as 10.0.0.0/8 or 192.0.2.7)",
    ),
    ("limits: { header_bytes: 1KiB }", "1:25 \"1KiB\" is not between 8KiB and 1MiB (most servers take 8KiB to 64KiB)"),
    ("access_log: xml", "1:13 \"xml\" is not one of the words here (write json or combined)"),
    ("access_log: { path: \"\" }", "1:21 the path of the access log is empty (write a file, or stdout)"),
    (
        "include: a/*/b.yaml",
        "1:10 \"a/*/b.yaml\" has a wildcard in a folder's name (wildcards are for the file's name; list the folders)",
    ),
    (
        "defaults: { route: /x }",
        "1:20 `route` cannot stand in `defaults`: no two services share one (write it in each service)",
    ),
];

#[test]
fn each_mistake_elsewhere_has_its_message() {
    for (line, want) in ELSEWHERE_CASES {
        // The number of cores is this machine's.
        let said: Vec<_> = complaints(&format!("{line}\n{}", with_service("")))
            .into_iter()
            .map(|line| match line.split_once("(write a number such as ") {
                Some((before, _)) => format!("{before}(write a number such as 2)"),
                None => line,
            })
            .collect();
        assert_eq!(said, [want], "{line}");
    }
}

/// YAML takes each of them for something else, and its parser stumbles later.
#[test]
fn slips_of_the_keyboard_are_told_where_they_are() {
    let glued = "a key without a space after its colon (write a space after `timeout:`)";
    for (keys, want) in [
        ("timeout:3s\n\ndrain: 3s", format!("3:5 {glued}")),
        ("drain: 3s\ntimeout:3s", format!("4:5 {glued}")),
        (
            "route: *.example.com/",
            "3:12 a `*` without quotes: YAML takes it for an alias (write it in quotes: \"*.example.com/\")".to_owned(),
        ),
        (
            "cors:\n  origins:\n    - https://a.example\n    max_age: 1h",
            "6:9 this line is neither an entry of the list above it nor part of one (begin it with `-`, or indent it as far as the keys of the entry that it belongs to)".to_owned(),
        ),
    ] {
        let text = format!("services:\n  web:\n{}", keys.lines().map(|line| format!("    {line}\n")).collect::<String>());
        assert_eq!(complaints(&text), [want], "{keys}");
    }
    let only = "services:\n  web:\n    backends:[a:1]\n";
    let want = "3:5 service `web` must be a mapping such as { backends: [\"127.0.0.1:5000\"] }, not text (write a space after `backends:`)";
    assert_eq!(complaints(only), [want]);
    assert_eq!(complaints(&format!("access_log: {{ path: }}\n{}", with_service(""))), [""; 0], "it has a default");
}

#[test]
fn a_mistake_that_many_services_inherit_is_said_once() {
    let text = "defaults: { timeout: 5 }\nservices: { a: { route: /a, backends: \"a:1\" }, b: { route: /b, backends: \"b:1\" } }";
    assert_eq!(complaints(text), ["1:22 \"5\" needs a unit, e.g. 5s (units are ms, s, m, h and d)"]);
}

#[test]
fn two_sources_are_an_error_with_both_places() {
    let text = with_service("docker: {}\nbackends: \"a:1\"");
    let diagnostics = load::parse(&text, "a", &environment()).expect_err("two sources");
    let both = diagnostics.list.iter().find(|d| d.message.contains("two sources")).expect("it is said");
    assert_eq!(both.message, "service `web` has two sources of backends: `docker` and `backends`");
    assert_eq!(both.place.line, 4);
    assert_eq!(diagnostics.sources.place(both.also.as_ref().expect("it has a second place").span).line, 3);
}

#[test]
fn keys_that_are_there_twice_are_errors_with_both_places() {
    let text = "services:\n  web:\n    backends: \"a:1\"\n    timeout: 1s\n    timeout: 2s\n  web: {}\n";
    let diagnostics = load::parse(text, "a", &environment()).expect_err("two duplicates");
    let said: Vec<_> = diagnostics.list.iter().map(|d| (d.message.as_str(), d.place.line, d.path.as_str())).collect();
    assert_eq!(
        said,
        [("`timeout` is here twice", 5, "services.web.timeout"), ("`web` is here twice", 6, "services.web")]
    );
    assert!(diagnostics.list.iter().all(|d| d.also.is_some()));
}

#[test]
fn nothing_is_an_error_that_shows_something() {
    for text in ["", "# only a comment\n", "~", "---\n"] {
        let said = complaints(text);
        assert_eq!(said.len(), 1, "{text:?}");
        assert!(said[0].contains("is empty (the smallest configuration is: services:"), "{said:?}");
    }
    assert!(complaints("listen: \":80\"")[0].contains("there are no services (add, for example,"));
    assert!(complaints("services:")[0].contains("there are no services"));
}

#[test]
fn a_mistake_in_a_route_is_told_once_and_nothing_that_follows_from_it() {
    let text = "\
services:
  a:
    route: { path: { exact: /only } }
    backends: [127.0.0.1:1]
  b:
    route: { paht: /b }
    backends: [127.0.0.1:2]
  c:
    route: { path: /, headers: { x-a: { regex: \"(\" } } }
    backends: [127.0.0.1:3]
  d:
    route: \"${NOT_SET}\"
    backends: [127.0.0.1:4]
  e:
    route: { paht: /e, methods: [\"G T\"] }
    backends: [127.0.0.1:5]
  f:
    route: { path: /f, redirekt: /there }
  g:
    route: { path: /g, redirect: { locaton: /there } }
  web:
    backends: [127.0.0.1:6]
";
    let diagnostics = load::parse(text, "portway.yaml", &environment()).expect_err("eight mistakes");
    let drawn = render::render(&diagnostics, Color::Never);
    let places: Vec<_> = drawn.lines().filter_map(|line| line.split_once("portway.yaml:")?.1.split_once(':')).collect();
    let want =
        [("3", "20"), ("6", "14"), ("9", "48"), ("12", "12"), ("15", "14"), ("15", "34"), ("18", "24"), ("20", "36")];
    assert_eq!(places, want, "one for each, and no word of what follows from them:\n{drawn}");
}

/// A path says where one key ends and the next begins, whatever people call their services.
#[test]
fn a_path_quotes_keys_that_are_no_words() {
    let long = "k".repeat(1_000);
    let text = format!(
        "services:\n  \"a.b\": {{ bakends: [] }}\n  \"e\\e[m\": {{ bakends: [] }}\n  {long}: {{ bakends: [] }}"
    );
    let diagnostics = load::parse(&text, "portway.yaml", &environment()).expect_err("unknown keys");
    let unknown = diagnostics.list.iter().filter(|diagnostic| diagnostic.message.starts_with("unknown key"));
    let paths: Vec<_> = unknown.map(|diagnostic| diagnostic.path.as_str()).collect();
    assert_eq!(paths[..2], ["services[\"a.b\"].bakends", "services[\"e\\u{1b}[m\"].bakends"]);
    assert!(paths[2].len() < 100 && paths[2].ends_with("k…\"].bakends"), "{}", paths[2]);
}
