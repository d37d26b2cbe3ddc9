//! `portway run`: serves in the foreground until a signal ends it.
//! Promises exit code 0 after a clean drain and 3 if connections were cut. What runs is `app`'s business.

use std::process::ExitCode;

use super::RunArgs;
use crate::app::{App, Setup, TakeSignals};
use crate::config::load::to_yaml;
use crate::config::render;
use crate::config::show;
use crate::lifecycle::drain::End;
use crate::telemetry::logging;

/// The exit code of a drain whose deadline passed.
const CUT: u8 = 3;

/// Runs the command.
pub(crate) fn run(args: &RunArgs) -> ExitCode {
    logging::init(logging::Format::from_environment());
    let path = match args.file.path() {
        Ok(path) => path,
        Err(message) => return super::complain(&message),
    };
    let loaded = match args.file.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if !loaded.warnings.is_empty() {
        super::complain(&render::render(&loaded.warnings, super::color_for(&std::io::stderr())));
    }
    let yaml = to_yaml(&show::with_defaults(&loaded.raw, &loaded.config));
    let setup = Setup { config: loaded.config, file: Some(path), yaml };
    match App::start(setup).and_then(|app| app.run(TakeSignals::Yes)) {
        Ok(End::Clean) => ExitCode::SUCCESS,
        Ok(End::Forced) => ExitCode::from(CUT),
        Err(error) => super::complain(&format!("error: {error}")),
    }
}
