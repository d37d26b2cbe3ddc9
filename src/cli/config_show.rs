//! `portway config show`: the configuration in its long form, as YAML that reads back as the same.
//! Promises to print `${VAR}` where a variable stood, never its value. Does not ask a running instance.

use std::process::ExitCode;

use super::ConfigShowArgs;
use crate::config::{load, show};

/// Runs the command.
pub(crate) fn run(args: &ConfigShowArgs) -> ExitCode {
    let loaded = match args.file.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let long = match args.defaults {
        true => show::with_defaults(&loaded.raw, &loaded.config),
        false => show::as_typed(&loaded.raw),
    };
    super::print(&load::to_yaml(&long))
}
