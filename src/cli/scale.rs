//! `portway scale SERVICE=N` and `SERVICE=auto`: pins how many replicas a service has, and leaves it to the load again.
//! Promises to say what there is now and how to undo it. The running instance does the work: this asks it.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use serde_json::json;

use super::ScaleArgs;
use super::status::{self, escaped};
use crate::admin::{ReplicaStatus, ScaleTo, Scaled};
use crate::config::checked::Admin;
use crate::config::quantity;

/// Between two looks while it waits.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// `SERVICE=N` or `SERVICE=auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleRequest {
    /// Before the equals sign.
    pub service: String,
    /// After it.
    pub to: ScaleTo,
}

impl FromStr for ScaleRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || "write SERVICE=N, such as thumbs=3, or SERVICE=auto".to_owned();
        let (service, to) = text.split_once('=').filter(|(service, _)| !service.is_empty()).ok_or_else(usage)?;
        let to = match to {
            "auto" => ScaleTo::Auto,
            number => ScaleTo::Pinned(number.parse().map_err(|_| usage())?),
        };
        Ok(Self { service: service.to_owned(), to })
    }
}

/// Runs the command.
pub(super) fn run(args: &ScaleArgs) -> ExitCode {
    status::finish(args.instance.admin().and_then(|admin| {
        let scaled = ask(&admin, &args.request)?;
        match (args.request.to, args.wait) {
            (ScaleTo::Pinned(n), Some(limit)) => wait(&admin, &scaled.service, n, limit),
            _ => Ok(told(&scaled)),
        }
    }))
}

fn ask(admin: &Admin, request: &ScaleRequest) -> Result<Scaled, String> {
    let replicas = match request.to {
        ScaleTo::Pinned(n) => json!(n),
        ScaleTo::Auto => json!("auto"),
    };
    let body = json!({ "service": request.service, "replicas": replicas }).to_string();
    let body = status::post(admin, "/api/v1/scale", &body)?;
    serde_json::from_slice(&body).map_err(|error| format!("the answer cannot be read: {error}"))
}

fn told(scaled: &Scaled) -> String {
    let Scaled { service, replicas } = scaled;
    let ReplicaStatus { ready, min, max, pinned, .. } = replicas;
    match pinned {
        Some(n) => format!(
            "{service}: pinned at {n}, {ready} ready now\n\
             It stays at {n} until `portway scale {service}=auto` or a restart.\n"
        ),
        None => format!("{service}: as many as the load needs, {min} to {max}; {ready} ready now\n"),
    }
}

/// Looks until as many replicas are ready as are wanted, and no more.
fn wait(admin: &Admin, service: &str, n: u32, limit: Duration) -> Result<String, String> {
    let mut waited = Duration::ZERO;
    loop {
        let (status, _) = status::fetch(admin)?;
        let found = status.services.iter().find(|known| known.name == service);
        let found = found.ok_or_else(|| status::no_service(&status, service))?;
        let ready = found.replicas.as_ref().map_or(0, |replicas| replicas.ready);
        if ready == n {
            return Ok(format!("{}: {n} ready\n", escaped(service)));
        }
        if waited >= limit {
            let failure = status::replicas::failure(found);
            let limit = quantity::spell_duration(limit);
            return Err(format!("{ready} ready after {limit}, {n} wanted; it goes on\n{failure}")
                .trim_end()
                .to_owned());
        }
        std::thread::sleep(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::sample_scaled;
    use crate::cli::status::tests::serving;

    fn request(text: &str) -> ScaleRequest {
        text.parse().unwrap()
    }

    #[test]
    fn a_request_is_a_service_and_a_number_or_auto() {
        assert_eq!(request("thumbs=3"), ScaleRequest { service: "thumbs".to_owned(), to: ScaleTo::Pinned(3) });
        assert_eq!(request("thumbs=auto").to, ScaleTo::Auto);
        for wrong in ["thumbs", "=3", "thumbs=", "thumbs=-1", "thumbs=many", "thumbs=99999999999"] {
            assert!(wrong.parse::<ScaleRequest>().unwrap_err().contains("thumbs=3"), "{wrong}");
        }
    }

    #[test]
    fn what_was_done_says_how_to_undo_it() {
        let admin = serving();
        let pinned = told(&ask(&admin, &request("thumbs=3")).unwrap());
        assert_eq!(
            pinned,
            "thumbs: pinned at 3, 1 ready now\nIt stays at 3 until `portway scale thumbs=auto` or a restart.\n"
        );
        let released = told(&ask(&admin, &request("thumbs=auto")).unwrap());
        assert_eq!(released, "thumbs: as many as the load needs, 0 to 10; 1 ready now\n");
    }

    #[test]
    fn what_cannot_be_had_is_answered_in_words() {
        assert_eq!(ask(&serving(), &request("shop=3")).unwrap_err(), "there is no service `shop`");
        assert_eq!(ask(&serving(), &request("thumbs=11")).unwrap_err(), "11 is too many");
    }

    #[test]
    fn a_wait_ends_at_its_limit() {
        let error = wait(&serving(), "shop", 2, Duration::ZERO).unwrap_err();
        assert_eq!(error, "0 ready after 0s, 2 wanted; it goes on");
        assert_eq!(sample_scaled().replicas.unwrap().ready, 1);
    }
}
