//! `portway status`. Temporary: says that it is not wired yet.
//! Promises exit code 1 until it does its work.

use std::process::ExitCode;

use super::StatusArgs;

/// Runs the command.
pub(crate) fn run(_: &StatusArgs) -> ExitCode {
    super::complain("error: `portway status` is not wired yet")
}
