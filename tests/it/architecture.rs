//! The shape of the house: who may import whom, which outside crate is named where, and the house numbers.
//! It reads `src/**/*.rs`, so that a change of the shape is a change of this file, where a reader sees it.
//! An exception has its reason beside it, and one that is not needed any more fails as well.

mod source;

use std::collections::BTreeSet;

use regex::Regex;
use source::Source;

/// Longest function, in lines from `fn` to its last brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Longest file, in lines with code, tests aside.
const FILE_LINES_MAX: usize = 500;

/// What each module of the crate may import from the others, lowest first. Whatever stands in no list may not be there.
const IMPORTS: [(&str, &[&str]); 19] = [
    ("units", &[]),
    ("error", &[]),
    ("config", &["units", "error"]),
    ("lifecycle", &["units", "error"]),
    ("telemetry", &["units", "error", "config"]),
    ("routing", &["units", "error", "config"]),
    ("balance", &["units", "error", "config"]),
    ("http", &["units", "error", "telemetry", "lifecycle"]),
    ("runtime", &["units", "error", "config", "telemetry", "lifecycle", "routing", "balance", "http"]),
    ("net", &["units", "error", "config", "telemetry", "lifecycle"]),
    ("filters", &["units", "error", "config", "telemetry", "lifecycle", "routing", "balance", "http", "runtime"]),
    (
        "control",
        &["units", "error", "config", "telemetry", "lifecycle", "routing", "balance", "http", "runtime", "net"],
    ),
    (
        "proxy",
        &[
            "units",
            "error",
            "config",
            "telemetry",
            "lifecycle",
            "routing",
            "balance",
            "http",
            "runtime",
            "net",
            "filters",
        ],
    ),
    ("admin", &["units", "error", "config", "telemetry", "lifecycle", "routing", "balance", "http", "runtime"]),
    ("app", EVERYTHING),
    ("cli", EVERYTHING),
    ("main", EVERYTHING),
    ("lib", EVERYTHING),
    ("bin", EVERYTHING),
];

const EVERYTHING: &[&str] = &["*"];

/// Outside crates and where alone they are named: a module, or one file.
const CRATES: [(&str, &[&str]); 18] = [
    ("serde_yaml", &["config/load.rs"]),
    ("saphyr_parser", &["config"]),
    ("schemars", &["config"]),
    ("annotate_snippets", &["config/render.rs"]),
    ("notify", &["control"]),
    ("bollard", &["control/docker"]),
    ("regex", &["config", "routing"]),
    ("metrics", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("tracing_subscriber", &["telemetry"]),
    ("arc_swap", &["runtime"]),
    ("tower", &["filters", "proxy"]),
    ("tower_http", &["proxy/stack.rs"]),
    // The demo's backends and clients are servers and clients like any other.
    // A probe is a client, but no request: it shares neither pools nor deadlines with the data plane.
    ("hyper", &["proxy", "admin", "cli/demo", "control/health/probe", "control/autoscale"]),
    ("hyper_util", &["proxy", "admin", "cli/demo", "control/health/probe", "control/autoscale"]),
    ("h2", &["control/health/probe"]),
    ("socket2", &["net", "admin/server.rs"]),
    ("clap", &["cli"]),
];

/// Modules that decide and do not act: time, chance and the outside world are arguments.
const PURE: [&str; 5] = ["units", "error", "config", "routing", "balance"];
/// What they may not name.
const IMPURE: [&str; 7] =
    ["tokio", "fastrand", "std::net::Tcp", "std::net::Udp", "Instant::now", "SystemTime", "lifecycle::clock"];

/// Places that break a rule, each with its reason: rule, file, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("unsafe", "net/inherited.rs", "a descriptor number that a parent handed over has no safe way to become a socket"),
    ("unsafe", "lifecycle/memory.rs", "the allocator offers the call that gives memory back to C only"),
];

/// What is wrong in which file.
struct Finding {
    rule: &'static str,
    file: String,
    what: String,
}

fn check(rule: &'static str, judge: impl Fn(&Source) -> Vec<String>) {
    let findings: Vec<Finding> = source::all()
        .iter()
        .flat_map(|source| {
            let file = source.path.clone();
            judge(source).into_iter().map(move |what| Finding { rule, file: file.clone(), what })
        })
        .collect();
    let excepted: BTreeSet<&str> =
        EXCEPTIONS.iter().filter(|exception| exception.0 == rule).map(|exception| exception.1).collect();
    let broken: Vec<String> = findings
        .iter()
        .filter(|finding| !excepted.contains(finding.file.as_str()))
        .map(|finding| format!("{}: src/{}: {}", finding.rule, finding.file, finding.what))
        .collect();
    assert!(broken.is_empty(), "{} places:\n{}", broken.len(), broken.join("\n"));
    for file in excepted {
        let is_needed = findings.iter().any(|finding| finding.file == file);
        assert!(is_needed, "src/{file} keeps the rule `{rule}` by now: remove its exception");
    }
}

#[test]
fn modules_import_only_what_stands_below_them() {
    let import = Regex::new(r"\bcrate::(\{[^}]*\}|\w+)").expect("a pattern");
    let word = Regex::new(r"^\w+").expect("a pattern");
    check("imports", |source| {
        let module = source.module();
        let allowed = IMPORTS.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else { return vec![format!("the module `{module}` is in no list of this test")] };
        let mut wrong = BTreeSet::new();
        for found in import.captures_iter(&source.code) {
            let names = found[1].trim_matches(['{', '}']).split(',').filter_map(|name| word.find(name.trim()));
            wrong.extend(
                names
                    .map(|name| name.as_str().to_owned())
                    .filter(|name| name != module && allowed != EVERYTHING && !allowed.contains(&name.as_str())),
            );
        }
        wrong.into_iter().map(|name| format!("imports `{name}`, which `{module}` may not")).collect()
    });
}

#[test]
fn control_and_proxy_never_import_each_other() {
    for (module, other) in [("control", "proxy"), ("proxy", "control")] {
        let (_, allowed) = IMPORTS.iter().find(|(name, _)| *name == module).expect("both are in the table");
        assert!(!allowed.contains(&other));
    }
}

#[test]
fn a_request_loads_the_snapshot_once() {
    // The connection reads its limits when it begins, the worker sweeps: neither is a request.
    const OF_NO_REQUEST: [&str; 2] = ["proxy/connection.rs", "proxy/worker.rs"];
    let loads = |source: &&Source| source.code.contains("store.load") && source.module() == "proxy";
    let loading: Vec<&str> = source::all().iter().filter(loads).map(|source| source.path.as_str()).collect();
    let of_requests: Vec<&&str> = loading.iter().filter(|path| !OF_NO_REQUEST.contains(path)).collect();
    assert_eq!(of_requests, [&"proxy/handler.rs"]);
    let handler = source::all().iter().find(|source| source.path == "proxy/handler.rs").expect("just found");
    assert_eq!(handler.code.matches("store.load").count(), 1);
}

/// Locks of the data plane and why nobody waits for them.
const LOCKS: [(&str, &str); 9] = [
    ("proxy/connection.rs", "of one connection, taken by its own task alone"),
    ("proxy/expect.rs", "of one request"),
    ("proxy/pool.rs", "of one worker, which is one thread"),
    ("proxy/stack.rs", "of one request"),
    ("proxy/timer.rs", "of one connection"),
    ("proxy/worker.rs", "of one worker, which is one thread"),
    ("runtime/queue.rs", "taken only by requests that wait in line anyway"),
    ("runtime/scale.rs", "taken by the control plane, and by requests that find no replica at all"),
    ("runtime/registry.rs", "taken when members change, not by requests"),
];

#[test]
fn the_data_plane_takes_no_lock_that_requests_share() {
    let word = Regex::new(r"\b(Mutex|RwLock)<").expect("a pattern");
    const DATA_PLANE: [&str; 7] = ["proxy", "runtime", "http", "routing", "balance", "net", "filters"];
    check("lock", |source| {
        let is_known = LOCKS.iter().any(|(file, _)| *file == source.path);
        match DATA_PLANE.contains(&source.module()) && !is_known && word.is_match(&source.code) {
            true => vec!["has a lock: who may wait for it? Add it to LOCKS with the answer".to_owned()],
            false => vec![],
        }
    });
}

#[test]
fn the_data_plane_logs_nothing_above_debug() {
    let loud = Regex::new(r"\b(info|warn|error)!\(").expect("a pattern");
    check("log", |source| match ["proxy", "http", "runtime", "net", "filters"].contains(&source.module()) {
        true => loud.find_iter(&source.code).map(|found| format!("logs with `{}`", found.as_str())).collect(),
        false => vec![],
    });
}

#[test]
fn a_panic_ends_one_connection_and_not_the_process() {
    let manifest = include_str!("../../Cargo.toml");
    let (_, release) = manifest.split_once("[profile.release]").expect("there is one");
    let release = release.split("\n[").next().expect("split gives at least one part");
    assert!(release.contains("panic = \"unwind\""), "{release}");
}

/// That the series of a limit is there says nothing; that it counts does.
#[test]
fn every_limit_is_hit_and_counted_in_some_test() {
    /// Reached with 4,096 idle connections to one backend, which no suite has the descriptors for.
    const OUT_OF_REACH: [&str; 1] = ["pool"];
    let texts: Vec<String> = ["src", "tests/it"].into_iter().flat_map(source::texts).collect();
    let words = Regex::new(r#"Limit::\w+ => "(\w+)""#).expect("a pattern");
    let all: Vec<&str> =
        texts.iter().flat_map(|text| words.captures_iter(text)).map(|found| found.extract::<1>().1[0]).collect();
    assert!(all.len() > 15, "{all:?}");
    for word in all.iter().filter(|word| !OUT_OF_REACH.contains(*word)) {
        let ways =
            [format!("wait_limit(\"{word}\")"), format!("(\"limit\", \"{word}\")"), format!("limit=\\\"{word}\\\"")];
        let is_hit = texts.iter().any(|text| ways.iter().any(|way| text.contains(way)));
        assert!(is_hit, "no test hits the limit `{word}`");
    }
}

/// What broke other products, each with the tests that keep us out of it.
#[test]
fn every_trap_of_the_field_has_a_test() {
    const TRAPS: [(&str, &[&str]); 14] = [
        (
            "a new server without samples gets everything, or nothing",
            &["trap_a_new_server_with_no_samples_must_not_get_everything_nor_nothing"],
        ),
        (
            "a burst of failures trips the breaker at one rate and not at another",
            &["trap_a_burst_of_failures_must_trip_the_breaker_the_same_at_10_rps_and_at_10_000_rps"],
        ),
        (
            "a penalty below the current latency improves a failing backend's score",
            &["trap_a_penalty_lower_than_the_current_rtt_must_not_improve_a_failing_backends_score"],
        ),
        (
            "retries that are backing off are counted as load, or not at all",
            &["trap_a_retry_in_back_off_is_set_aside_and_is_no_load"],
        ),
        (
            "the limit of ejections is held against the state before the ejection",
            &["trap_max_ejection_of_67_percent_must_not_eject_all_of_three_backends"],
        ),
        (
            "the first probe waits for an interval, and a reload resets what probes found",
            &[
                "trap_the_first_probe_is_at_once_and_the_next_in_the_rhythm",
                "trap_a_reload_resets_neither_verdicts_nor_the_rhythm",
            ],
        ),
        ("two services at one address share a health bit", &["trap_two_services_at_one_address_have_a_verdict_each"]),
        (
            "a request that was held goes to the address of its time",
            &[
                "trap_a_held_request_goes_to_the_address_that_was_found_after_it_came",
                "a_reload_reaches_those_that_are_held",
            ],
        ),
        (
            "a failed start is answered with 200, and a connect timeout is the base of the back-off",
            &[
                "trap_a_failed_start_is_a_5xx_and_never_a_200",
                "an_image_that_exits_at_once_is_a_503_with_a_reason_and_its_last_words_are_in_the_log",
                "trap_a_connect_timeout_is_not_the_base_of_the_back_off",
            ],
        ),
        (
            "429 is a success for balancing, or a failure for the count",
            &[
                "trap_429_is_not_a_success_for_balancing_and_not_a_hard_failure_for_consecutive_counting",
                "trap_429_hurts_the_rate_and_not_the_run",
            ],
        ),
        (
            "a client that leaves the queue keeps its slot, or some way out forgets to count down",
            &[
                "trap_a_client_that_goes_away_while_it_waits_leaves_the_line_to_the_next",
                "s50_a_storm_of_cancelled_requests_leaves_nothing_behind",
                "every_request_leaves_one_record_and_every_attempt_one_outcome",
            ],
        ),
        (
            "an answer that comes before the body was read is retried",
            &[
                "trap_an_answer_that_comes_before_the_body_was_read_is_not_retried",
                "trap_a_request_of_which_part_is_gone_is_not_retried",
            ],
        ),
        (
            "a name that does not resolve stops the start, or is given up",
            &["a_start_needs_no_backend", "trap_a_name_that_does_not_resolve_is_asked_for_until_it_does"],
        ),
        (
            "two write the number of replicas, out of order or without trying again",
            &[
                "trap_exactly_one_thing_writes_the_number_of_replicas",
                "load_and_its_end_are_told_to_the_hook_in_order_and_with_the_reason",
                "a_hook_that_fails_is_told_again_and_everybody_sees_that_it_fails",
            ],
        ),
    ];
    let texts: Vec<String> = ["src", "tests/it"].into_iter().flat_map(source::texts).collect();
    for (trap, tests) in TRAPS {
        for test in tests {
            let is_there = texts.iter().any(|text| text.contains(&format!("fn {test}(")));
            assert!(is_there, "{trap}: no test `{test}`");
        }
    }
}

/// The crate docs name the tests that hold the invariants: `suite::test` of this program, or of a module.
#[test]
fn every_test_that_the_crate_docs_name_exists() {
    let lib = source::all().iter().find(|source| source.path == "lib.rs").expect("it is there");
    let name = Regex::new(r"\*(?:held by )?`((?:\w+::)+)(\w+)`\*").expect("a pattern");
    let mut n_named = 0;
    for found in name.captures_iter(&lib.text) {
        let (path, test) = (found[1].trim_end_matches("::").replace("::", "/"), &found[2]);
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let own = path.trim_end_matches("/tests").to_owned();
        let places = [
            format!("tests/it/{path}.rs"),
            format!("src/{own}.rs"),
            format!("src/{own}/tests.rs"),
            format!("src/{own}/mod.rs"),
            format!("src/{path}.rs"),
        ];
        let is_there = places.iter().any(|place| {
            let text = std::fs::read_to_string(root.join(place)).unwrap_or_default();
            text.contains(&format!("fn {test}("))
        });
        assert!(is_there, "no test `{test}` in any of {places:?}");
        n_named += 1;
    }
    assert!(n_named >= 10, "only {n_named} tests are named");
}

#[test]
fn outside_crates_are_named_only_where_they_belong() {
    for (name, places) in CRATES {
        let used = Regex::new(&format!(r"(?:^|[^:\w]){name}::")).expect("a pattern");
        check("crates", |source| {
            let is_allowed = places.iter().any(|place| {
                source.path == *place
                    || source.path == format!("{place}.rs")
                    || source.path.starts_with(&format!("{place}/"))
            });
            match is_allowed || !used.is_match(&source.code) {
                true => vec![],
                false => vec![format!("names the crate `{name}`, which belongs to {}", places.join(", "))],
            }
        });
    }
}

#[test]
fn what_decides_has_no_clock_no_chance_and_no_sockets() {
    check("pure", |source| match PURE.contains(&source.module()) {
        true => {
            IMPURE.iter().filter(|name| source.code.contains(**name)).map(|name| format!("names `{name}`")).collect()
        }
        false => vec![],
    });
}

#[test]
fn every_file_opens_with_what_it_is() {
    check("module doc", |source| match source.text.starts_with("//! ") {
        true => vec![],
        false => vec!["does not begin with `//! `".to_owned()],
    });
}

#[test]
fn no_function_is_longer_than_70_lines() {
    check("function length", |source| {
        let long = source.functions().into_iter().filter(|function| function.n_lines > FUNCTION_LINES_MAX);
        long.map(|function| format!("line {}: `{}` has {} lines", function.line, function.name, function.n_lines))
            .collect()
    });
}

#[test]
fn no_file_is_longer_than_500_lines_of_code() {
    check("file length", |source| match source.n_code_lines() {
        n if n > FILE_LINES_MAX => vec![format!("has {n} lines of code")],
        _ => vec![],
    });
}

#[test]
fn public_functions_take_no_bool() {
    let flag = Regex::new(r":\s*&?(mut )?bool\b").expect("a pattern");
    check("bool parameter", |source| {
        let public = source.functions().into_iter().filter(|function| function.qualifiers.contains("pub"));
        let wrong = public.filter(|function| flag.is_match(function.parameters));
        wrong
            .map(|function| {
                format!("line {}: `{}` takes a bool: two functions, or an enum", function.line, function.name)
            })
            .collect()
    });
}

#[test]
fn nothing_unwraps_outside_tests() {
    check("unwrap", |source| match source.code.contains(".unwrap()") {
        true => vec!["unwraps: say with `expect` why it cannot fail, or return the error".to_owned()],
        false => vec![],
    });
}

#[test]
fn there_are_no_macros_of_our_own() {
    check("macro", |source| match source.code.contains("macro_rules!") {
        true => vec!["defines a macro".to_owned()],
        false => vec![],
    });
}

#[test]
fn unsafe_code_is_in_named_leaves_alone() {
    let word = Regex::new(r"\bunsafe\b").expect("a pattern");
    check("unsafe", |source| match word.is_match(&source.code) {
        true => vec!["has unsafe code".to_owned()],
        false => vec![],
    });
}
