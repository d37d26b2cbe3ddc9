//! `portway reload`: a running instance reads its configuration again, and this says what became of it.
//! Promises exit code 0 only if what is in the file is in effect, and else the same drawing as `check`. The instance reads
//! the file: this command only finds out where to ask.

use std::process::ExitCode;

use super::ReloadArgs;
use super::admin_client::{self, Answer};
use crate::admin::{ReloadAnswer, ReloadResult};
use crate::config::checked::Admin;

/// Runs the command.
pub(crate) fn run(args: &ReloadArgs) -> ExitCode {
    // A file that is wrong does not say where to ask either; what is wrong with it is the answer.
    if args.instance.admin.is_none()
        && let Ok(path) = args.instance.file.path()
        && let Err(diagnostics) = crate::config::load::read(&path, &crate::config::expand::ProcessEnvironment)
    {
        super::complain_of(&diagnostics);
        return super::complain("not reloaded: the instance keeps what it has");
    }
    let form = if args.json { Form::Json } else { Form::Text };
    match args.instance.admin() {
        Ok(admin) => post(&admin, "/api/v1/reload", "", form),
        Err(message) => super::complain(&message),
    }
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// As the API gives it.
    Json,
}

/// Posts, prints the answer, and gives its exit code.
pub(super) fn post(admin: &Admin, path: &str, body: &str, form: Form) -> ExitCode {
    let answer = match admin_client::post(admin, path, body) {
        Ok(answer) => answer,
        Err(error) => return super::complain(&format!("error: {error}")),
    };
    let Ok(told) = serde_json::from_slice::<ReloadAnswer>(&answer.body) else {
        return super::complain(&format!("error: {}", not_understood(admin, &answer)));
    };
    let printed = match form {
        Form::Json => super::print(&format!("{}\n", String::from_utf8_lossy(&answer.body))),
        Form::Text => print(&told),
    };
    match told.result {
        ReloadResult::Applied | ReloadResult::Unchanged => printed,
        ReloadResult::Invalid | ReloadResult::Refused => ExitCode::FAILURE,
    }
}

/// An answer of another kind: a wrong token, another version.
pub(super) fn not_understood(admin: &Admin, answer: &Answer) -> String {
    let (address, status) = (admin_client::describe(admin), answer.status);
    match status {
        401 => format!("{address} wants another token\n  give it with --token or PORTWAY_ADMIN_TOKEN"),
        _ => format!("{address} answered {status}: {}", String::from_utf8_lossy(&answer.body).trim().escape_debug()),
    }
}

fn print(told: &ReloadAnswer) -> ExitCode {
    match told.result {
        ReloadResult::Invalid => {
            super::complain(told.text.trim_end());
            super::complain(&format!("not applied: generation {} stays", told.generation))
        }
        ReloadResult::Refused => super::complain(&format!("error: {}", told.message)),
        ReloadResult::Unchanged => super::print(&format!("{}\n", told.message)),
        ReloadResult::Applied => {
            if !told.text.is_empty() {
                super::complain(told.text.trim_end());
            }
            if !told.needs_restart.is_empty() {
                let keys = told.needs_restart.join(", ");
                super::complain(&format!("warning: {keys}: takes effect at the next start"));
            }
            super::print(&format!("{}\n{}", told.message, told.changes))
        }
    }
}
