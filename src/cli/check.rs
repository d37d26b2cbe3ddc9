//! `portway check`: everything that is wrong with a configuration, for people or as JSON.
//! Promises exit code 0 only for a configuration that `run` would start with. Binds nothing, resolves no name.

use std::process::ExitCode;

use super::CheckArgs;
use crate::config::checked::Config;
use crate::config::diagnostic::count_of;
use crate::config::expand::ProcessEnvironment;
use crate::config::load;

/// Runs the command.
pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    let path = match args.file.path() {
        Ok(path) => path,
        Err(message) => return super::complain(&message),
    };
    let result = load::read(&path, &ProcessEnvironment);
    let (config, diagnostics) = match result {
        Ok(loaded) => (Some(loaded.config), loaded.warnings),
        Err(diagnostics) => (None, diagnostics),
    };
    let is_denied = args.deny_warnings && !diagnostics.is_empty();
    let verdict = if config.is_some() && !is_denied { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if args.json {
        let printed = super::print(&format!("{:#}\n", diagnostics.to_json()));
        return if printed == ExitCode::SUCCESS { verdict } else { printed };
    }
    if !diagnostics.is_empty() {
        super::complain_of(&diagnostics);
    }
    match config {
        Some(config) if !is_denied => super::print(&format!("{}: ok ({})\n", path.display(), contents(&config))),
        _ => verdict,
    }
}

/// `3 services, 7 backends, 4 routes, 1 listener`.
fn contents(config: &Config) -> String {
    let n_backends = config.services.iter().map(|service| {
        let backends = service.source.declared();
        backends.len()
    });
    let n_routes = config.services.iter().map(|service| service.routes.len());
    [
        count_of(config.services.len(), "service"),
        count_of(n_backends.sum(), "backend"),
        count_of(n_routes.sum(), "route"),
        count_of(config.listeners.len(), "listener"),
    ]
    .join(", ")
}
