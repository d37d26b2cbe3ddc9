//! `portway demo`. Temporary: says that it is not wired yet.
//! Promises exit code 1 until it does its work.

use std::process::ExitCode;

use super::DemoArgs;

/// Runs the command.
pub(crate) fn run(_: &DemoArgs) -> ExitCode {
    super::complain("error: `portway demo` is not wired yet")
}
