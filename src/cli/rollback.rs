//! `portway rollback`: a running instance returns to a configuration that it had before.
//! Promises to say what that changed. The file stays as it is: its next change, or a reload, applies it again.

use std::process::ExitCode;

use super::RollbackArgs;
use super::admin_client;
use super::reload::{self, Form};
use super::status::aligned;
use crate::admin::KeptGeneration;
use crate::config::checked::Admin;

/// Runs the command.
pub(crate) fn run(args: &RollbackArgs) -> ExitCode {
    let admin = match args.instance.admin() {
        Ok(admin) => admin,
        Err(message) => return super::complain(&message),
    };
    let form = if args.json { Form::Json } else { Form::Text };
    if args.list {
        return list(&admin, form);
    }
    let body = args.generation.map_or_else(String::new, |generation| format!("{{\"generation\":{generation}}}"));
    reload::post(&admin, "/api/v1/rollback", &body, form)
}

fn list(admin: &Admin, form: Form) -> ExitCode {
    let answer = match admin_client::get(admin, "/api/v1/history") {
        Ok(answer) => answer,
        Err(error) => return super::complain(&format!("error: {error}")),
    };
    match serde_json::from_slice::<Vec<KeptGeneration>>(&answer.body) {
        Err(_) => super::complain(&format!("error: {}", reload::not_understood(admin, &answer))),
        Ok(_) if form == Form::Json => super::print(&format!("{}\n", String::from_utf8_lossy(&answer.body))),
        Ok(kept) => super::print(&table(&kept)),
    }
}

fn table(kept: &[KeptGeneration]) -> String {
    let heading = ["GENERATION", "APPLIED", "SERVICES", ""].map(str::to_owned);
    let rows = kept.iter().rev().map(|entry| {
        let mut note = entry.rollback_to.map_or_else(String::new, |to| format!("rollback to {to}"));
        if entry.is_active {
            note = format!("active {note}").trim_end().to_owned();
        }
        [entry.generation.to_string(), entry.applied.clone(), entry.services.to_string(), note]
    });
    aligned(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_first_and_the_active_one_is_marked() {
        let entry = |generation, rollback_to, is_active| KeptGeneration {
            generation,
            applied: "2026-01-01T00:00:00Z".to_owned(),
            rollback_to,
            is_active,
            services: 3,
        };
        let text = table(&[entry(1, None, false), entry(2, None, false), entry(3, Some(1), true)]);
        let wanted = "\
GENERATION  APPLIED               SERVICES
3           2026-01-01T00:00:00Z  3         active rollback to 1
2           2026-01-01T00:00:00Z  3
1           2026-01-01T00:00:00Z  3
";
        assert_eq!(text, wanted);
    }
}
