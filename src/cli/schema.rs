//! `portway schema`: the JSON Schema of the configuration, for editors.
//! Promises what `config::schema` promises. Writes no file: redirect it.

use std::process::ExitCode;

use crate::config::schema;

/// Runs the command.
pub(crate) fn run() -> ExitCode {
    super::print(&format!("{:#}\n", schema::json_schema()))
}
