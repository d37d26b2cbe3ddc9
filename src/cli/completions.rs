//! `portway completions`: a script that completes commands and options in a shell.
//! Promises every command and option of this version. Installs nothing: redirect it.

use std::process::ExitCode;

use super::CompletionsArgs;

/// Runs the command.
pub(crate) fn run(args: &CompletionsArgs, mut command: clap::Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "portway", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
