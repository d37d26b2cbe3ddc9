//! `portway man`: the manual page, in roff.
//! Promises one section per command, from the same words as `--help`. Installs nothing: redirect it.

use std::process::ExitCode;

use clap_mangen::Man;

/// Runs the command.
pub(crate) fn run(command: clap::Command) -> ExitCode {
    let mut page = Vec::new();
    match Man::new(command).render(&mut page) {
        Ok(()) => super::print(&String::from_utf8_lossy(&page)),
        Err(error) => super::complain(&format!("error: cannot write the manual page: {error}")),
    }
}
