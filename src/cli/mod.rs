//! The command line: one file per command.
//! Promises messages that say where, what, and what to do. It decides nothing that a library caller would need.

pub mod admin_client;
pub mod healthcheck;
pub mod status;
