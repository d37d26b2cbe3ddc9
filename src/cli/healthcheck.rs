//! `portway healthcheck`. Temporary: says that it is not wired yet.
//! Promises exit code 1 until it does its work.

use std::process::ExitCode;

use super::HealthcheckArgs;

/// Runs the command.
pub(crate) fn run(_: &HealthcheckArgs) -> ExitCode {
    super::complain("error: `portway healthcheck` is not wired yet")
}
