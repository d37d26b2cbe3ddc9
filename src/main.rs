//! The `portway` command: hands its arguments to the library and exits with what comes back.
//! Promises nothing of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    portway::cli::run(std::env::args_os())
}
