//! `portway run`. Temporary: says that it is not wired yet.
//! Promises exit code 1 until it does its work.

use std::process::ExitCode;

use super::RunArgs;

/// Runs the command.
pub(crate) fn run(_: &RunArgs) -> ExitCode {
    super::complain("error: `portway run` is not wired yet")
}
