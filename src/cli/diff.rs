//! `portway diff NEW`: what applying another configuration would change on a running instance.
//! Promises to change nothing, and exit code 0 whether there are differences or not. Variables of both are those of this
//! command's environment: the instance sends names, not values.

use std::path::Path;
use std::process::ExitCode;

use super::DiffArgs;
use super::admin_client::{self, Answer};
use super::reload::{self, Form};
use crate::config::checked::{Admin, Config};
use crate::config::diff::{Diff, needing_restart};
use crate::config::expand::ProcessEnvironment;
use crate::config::load;

/// Runs the command.
pub(crate) fn run(args: &DiffArgs) -> ExitCode {
    let new = match load::read(&args.new, &ProcessEnvironment) {
        Ok(new) => new,
        Err(diagnostics) => return super::complain_of(&diagnostics),
    };
    if !new.warnings.is_empty() {
        super::complain_of(&new.warnings);
    }
    let active = args.instance.admin().and_then(|admin| active(&admin));
    let form = if args.json { Form::Json } else { Form::Text };
    match active {
        Ok(active) => print(&active, &new.config, &args.new, form),
        Err(message) => super::complain(&message),
    }
}

/// The configuration that is in effect.
pub(super) fn active(admin: &Admin) -> Result<Config, String> {
    let answer = admin_client::get(admin, "/api/v1/config").map_err(|error| format!("error: {error}"))?;
    let Answer { status: 200, body } = answer else {
        return Err(format!("error: {}", reload::not_understood(admin, &answer)));
    };
    let text = String::from_utf8_lossy(&body);
    let name = format!("the configuration of {}", admin_client::describe(admin));
    let loaded = load::parse(&text, &name, &ProcessEnvironment).map_err(|diagnostics| {
        format!("error: {diagnostics}\n  are its variables set here as they are where it runs, and is it this version of Portway?")
    })?;
    Ok(loaded.config)
}

fn print(active: &Config, new: &Config, path: &Path, form: Form) -> ExitCode {
    let diff = Diff::between(active, new);
    let changed = |key: &&str| diff.settings.iter().any(|entry| entry.name == *key);
    let restart: Vec<&str> = needing_restart(active, new).into_iter().filter(changed).collect();
    if !restart.is_empty() {
        super::complain(&format!("warning: {}: takes effect at the next start", restart.join(", ")));
    }
    let text = match form {
        Form::Json => {
            let json = serde_json::to_string(&diff).expect("our own values have text keys and no failing fields");
            format!("{json}\n")
        }
        Form::Text if diff.is_empty() => format!("{}: changes nothing\n", path.display()),
        Form::Text => diff.to_string(),
    };
    super::print(&text)
}
