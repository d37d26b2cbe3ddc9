//! `portway version`: name and version on one line.
//! Promises a form that scripts can split at the space. Says nothing of a running instance.

use std::process::ExitCode;

/// Runs the command.
pub(crate) fn run() -> ExitCode {
    super::print(concat!("portway ", env!("CARGO_PKG_VERSION"), "\n"))
}
