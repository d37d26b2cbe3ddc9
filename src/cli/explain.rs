//! `portway explain`. Temporary: says that it is not wired yet.
//! Promises exit code 1 until it does its work.

use std::process::ExitCode;

use super::ExplainArgs;

/// Runs the command.
pub(crate) fn run(_: &ExplainArgs) -> ExitCode {
    super::complain("error: `portway explain` is not wired yet")
}
