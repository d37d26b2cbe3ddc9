//! The integration suites: the real binary, real sockets, one test program.
//! A suite is a file of facts; what they stand on is in `support`. It does not test decisions, which have unit tests.

mod support;

mod architecture;
mod autoscale;
mod cancel;
mod cli;
mod commands;
mod corpus;
mod corpus_live;
mod dashboard;
mod docker;
mod drain;
mod ejection;
mod filtered;
mod flask;
mod framing;
mod guard_and_engine;
mod harness;
mod health;
mod hold;
mod identity;
mod interim;
mod invariants;
mod keepalive;
mod log;
mod paths;
mod published;
mod queue;
mod race;
mod reload;
mod responses;
mod retries;
mod scale;
mod slow;
mod slow_start;
mod smuggling;
mod top;
mod upgrade;
