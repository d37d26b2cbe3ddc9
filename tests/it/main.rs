//! The integration suites: the real binary, real sockets, one test program.
//! A suite is a file of facts; what they stand on is in `support`. It does not test decisions, which have unit tests.

mod support;

mod architecture;
mod cancel;
mod cli;
mod commands;
mod corpus;
mod drain;
mod flask;
mod guard_and_engine;
mod harness;
mod invariants;
mod slow;
