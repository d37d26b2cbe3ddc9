//! `portway check`: everything that is wrong with a configuration, for people or as JSON.
//! Promises exit code 0 only for a configuration that `run` would start with. Binds nothing, resolves no name.

use std::process::ExitCode;

use super::CheckArgs;
use crate::config::checked::{Config, Source};
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

/// `3 services, 7 backends, 4 routes, 1 listener`. Backends that are found out are not counted: nobody asks an engine here.
fn contents(config: &Config) -> String {
    let of_containers = config.services.iter().filter(|service| !matches!(service.source, Source::Backends(_))).count();
    let services = match (config.services.len(), of_containers) {
        (n, 0) => count_of(n, "service"),
        (n, found) if n == found => format!("{} of containers", count_of(n, "service")),
        (n, found) => format!("{}, {found} of containers", count_of(n, "service")),
    };
    let n_backends: usize = config.services.iter().map(|service| service.source.declared().len()).sum();
    let n_routes = config.services.iter().map(|service| service.routes.len());
    let backends = (n_backends > 0 || of_containers == 0).then(|| count_of(n_backends, "backend"));
    let further = [count_of(n_routes.sum(), "route"), count_of(config.listeners.len(), "listener")];
    [services].into_iter().chain(backends).chain(further).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_file_is_counted() {
        for (services, wanted) in [
            ("web: { backends: [\"a:1\", \"b:1\"] }", "1 service, 2 backends, 1 route, 1 listener"),
            ("web: { route: { redirect: /x } }", "1 service, 0 backends, 1 route, 1 listener"),
            ("web: { docker: { label: a, port: 1 } }", "1 service of containers, 1 route, 1 listener"),
            (
                "web: { container: { image: a, port: 1 } }, b: { route: [/b, /c], backends: \"b:1\" }",
                "2 services, 1 of containers, 1 backend, 3 routes, 1 listener",
            ),
        ] {
            let text = format!("services: {{ {services} }}");
            let loaded = load::parse(&text, "x", &ProcessEnvironment).unwrap_or_else(|d| panic!("{d}"));
            assert_eq!(contents(&loaded.config), wanted);
        }
    }
}
