//! `portway init`: a file to begin with.
//! Promises never to touch a file that is there. Asks nothing and looks for nothing.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::process::ExitCode;

use super::InitArgs;

/// What is written: one of the examples that the tests read.
const STARTER: &str = include_str!("../../config/minimal.yaml");

/// Runs the command.
pub(crate) fn run(args: &InitArgs) -> ExitCode {
    let path = args.file.display();
    let written = OpenOptions::new().write(true).create_new(true).open(&args.file);
    match written.and_then(|mut file| file.write_all(STARTER.as_bytes())) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return super::complain(&format!("error: {path} is there already\nname another: portway init FILE"));
        }
        Err(error) => return super::complain(&format!("error: cannot write {path}: {error}")),
    }
    let option = if path.to_string() == super::CONFIG_PATHS[0] { String::new() } else { format!(" -c {path}") };
    super::print(&format!(
        "wrote {path}\nnext: put your backends into it, then\n  portway check{option}\n  portway run{option}\n"
    ))
}
