//! Portway: the front door of containerised services, driven by one YAML file.
//! A library with a thin binary around it: `src/main.rs` hands its arguments to [`cli`], and [`app`] wires a process.
//! This page is the map: the life of a request, who may know whom, and what always holds.
//!
//! # The life of a request
//!
//! ```text
//!  client                                                                                     one worker = one thread
//!    │ TCP
//!    ▼
//!  net::listener ──► proxy::worker       takes connections up to the limits, sweeps timeouts every 100 ms
//!                      │ one task per connection
//!                      ▼
//!                    proxy::connection   hyper's HTTP/1.1 server over proxy::client_stream, in which
//!                      │                 http::head_guard reads every head before hyper does
//!                      ▼
//!                    proxy::handler      the shell: begins an Exchange, never fails
//!                      │   http::authority    settles target and Host, or 400
//!                      │   routing::table     (pure) request → route, or 404
//!                      │   redirect?          answered here
//!                      │   proxy::stack       the route's filters, if it has any: tower layers
//!                      ▼
//!                    proxy::forward      the core: one request, attempts until one answers
//!                      │   proxy::outbound    hop-by-hop fields gone, forwarding fields ours, body read ahead
//!                      │   proxy::place       balance (pure): candidates → choice; runtime::queue if all are at their limit,
//!                      │                      or if there is none and runtime::scale is to bring one
//!                      │   proxy::delivery    a connection of proxy::pool or a new one, the request over it, the head back;
//!                      │                      proxy::upstream writes and reads it, http::signature says who asked,
//!                      │                      http::response_head and http::chunked take the answer apart
//!                      │   proxy::retry       (pure) what came → give up or try again; runtime::budget has to agree
//!                      ▼
//!                    the response head   http::headers cleans it, the client gets it
//!                      │
//!                    proxy::relay        the body, with back-pressure both ways; its end ends the Exchange:
//!                                        one access-log record, the counters, the place at the backend given back
//! ```
//!
//! Whatever fails on the way is a [`error::FailureKind`]: one table gives its status, its reason word and whose fault it
//! is, and [`http::local_reply`] writes it for whoever asked.
//!
//! Beside the workers runs one control thread: signals, [`control::resolve`] (names), [`control::health`] (probes),
//! [`control::outlier`] (ejection), [`control::discovery`] (containers), [`control::autoscale`] (how many replicas),
//! [`control::replicas`] (makes and ends them), [`control::by_hand`], the [`admin`] listener, the drain. It writes only what
//! [`runtime`] holds; requests read that.
//!
//! [`control::reload`] is the one owner of the active configuration. A change ([`control::watch`], SIGHUP, the API, a
//! rollback) is read, checked, compared ([`config::diff`]), its names looked up, its listeners bound, its snapshot built,
//! and only then published by one swap; new listeners begin and old ones close after it. Whatever fails comes before it.
//!
//! # Modules, lowest first
//!
//! | module | what it is | may know |
//! |---|---|---|
//! | [`units`], [`mod@error`] | newtypes; the failure table | nothing |
//! | [`config`] | text in, a checked [`config::checked::Config`] out, or every mistake at once | units, error |
//! | [`lifecycle`], [`telemetry`] | drain, readiness, signals, clock; metrics, logs, traces | those above |
//! | [`routing`], [`balance`] | pure decisions: no I/O, no clock, no chance | units, error, config |
//! | [`http`] | facts of HTTP: heads, fields, framing, local replies | all but config |
//! | [`runtime`] | what both planes share: snapshot, services, backends, queues | all above |
//! | [`net`] | sockets: listeners, dialling, inherited descriptors | units, error, config, lifecycle, telemetry |
//! | [`filters`] | tower layers that wrap an exchange | up to runtime |
//! | [`control`] | loops that write [`runtime`] | up to net |
//! | [`proxy`] | the way of a request, drawn above | up to net, filters |
//! | [`admin`] | health, metrics, API, dashboard | up to runtime |
//! | [`app`], [`cli`] | the wiring; the commands | everything |
//!
//! `tests/it/architecture.rs` enforces the table, where each outside crate may be named, and the house numbers.
//!
//! # Invariants
//!
//! Each names the test that holds it.
//!
//! 1. A request sees one snapshot: its route is matched under one `load()`, and only an `Arc` of the route travels on. One
//!    that was held for a first replica goes on under what its service is by then, as a whole.
//!    *`architecture::a_request_loads_the_snapshot_once`*
//! 2. The data plane takes no lock that requests share, never parses configuration, and logs nothing above `debug` per
//!    request; the access log is the exception. *`architecture::the_data_plane_takes_no_lock_that_requests_share`*,
//!    *`architecture::the_data_plane_logs_nothing_above_debug`*
//! 3. [`control`] and [`proxy`] never import each other; they meet in [`runtime`].
//!    *`architecture::control_and_proxy_never_import_each_other`*
//! 4. Membership changes by swap, load by atomics; both outlive a change of members.
//!    *`runtime::registry::a_backend_keeps_its_state_for_as_long_as_it_is_a_member`*,
//!    *`reload::an_unchanged_service_keeps_its_counts_and_its_pooled_connections`*
//! 5. A wrong configuration never runs: `run` starts with what `check` calls right, or not at all, and a reload publishes a
//!    whole snapshot or changes nothing. *`cli::check_draws_mistakes_on_standard_error_without_colour`*,
//!    *`reload::a_bad_file_changes_nothing_and_says_where_it_is_wrong`*,
//!    *`reload::a_port_that_is_taken_refuses_the_whole_reload`*
//! 6. Every queue, pool, body buffer, header block, retry and connection count has a limit with a name (those of the
//!    language in [`config::defaults`], others where they hold) and a series that says when it is hit.
//!    *`telemetry::metrics::every_failure_kind_and_limit_is_there_before_it_happens`*,
//!    *`architecture::every_limit_is_hit_and_counted_in_some_test`*
//! 7. Every accepted request ends in exactly one access-log record, every attempt in exactly one outcome.
//!    *`invariants::every_request_leaves_one_record_and_every_attempt_one_outcome`*
//! 8. Nothing from a socket, a file or DNS makes it panic, and a panic that is our bug ends one connection.
//!    *`cli::hostile_files_end_in_an_error_in_a_moment`*, *`architecture::nothing_unwraps_outside_tests`*,
//!    *`architecture::a_panic_ends_one_connection_and_not_the_process`*
//! 9. What is forwarded is written anew from its parsed form; what was matched is what is forwarded.
//!    *`invariants::a_request_is_forwarded_as_it_was_understood`*,
//!    *`guard_and_engine::hyper_serves_no_message_that_the_guard_does_not_see`*
//! 10. Nothing about a start depends on a backend being there. *`invariants::a_start_needs_no_backend`*

#![deny(unsafe_code)]

pub mod admin;
pub mod app;
pub mod balance;
pub mod cli;
pub mod config;
pub mod control;
pub mod error;
pub mod filters;
pub mod http;
pub mod lifecycle;
pub mod net;
pub mod proxy;
pub mod routing;
pub mod runtime;
pub mod telemetry;
pub mod units;
