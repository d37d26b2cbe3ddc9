//! `portway drain` and `portway undrain`: takes the process or one backend out, and puts a backend back.
//! Promises to say what is still open and how to undo it. The running instance does the work: this asks it.

use std::fmt;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use serde_json::json;

use super::status::{called, escaped};
use super::{DrainArgs, UndrainArgs};
use crate::admin::{BackendState, BackendStatus, Handled};
use crate::config::checked::Admin;
use crate::config::quantity;

/// Between two looks while it waits.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// `SERVICE/BACKEND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendName {
    /// Before the slash.
    pub service: String,
    /// `host:port`.
    pub backend: String,
}

impl FromStr for BackendName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((service, backend)) if !service.is_empty() && !backend.is_empty() => {
                Ok(Self { service: service.to_owned(), backend: backend.to_owned() })
            }
            _ => {
                Err("write SERVICE/BACKEND, such as shop/10.0.0.11:5000; `portway explain` and the dashboard name them"
                    .to_owned())
            }
        }
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.backend)
    }
}

/// For clap.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    quantity::duration(text, text).map_err(|error| format!("{}; {}", error.message, error.help))
}

/// `portway drain [SERVICE/BACKEND]`.
pub(super) fn drain(args: &DrainArgs) -> ExitCode {
    super::status::finish(args.instance.admin().and_then(|admin| match &args.backend {
        None => drain_process(&admin),
        Some(backend) => {
            let handled = set(&admin, "/api/v1/drain", backend)?;
            if handled.ready == 0 {
                let name = &handled.service;
                super::status::complain_of(&format!("warning: no other backend of `{name}` takes requests now"));
            }
            match args.wait {
                None => Ok(drained(&handled, backend)),
                Some(limit) => wait(&admin, &handled, limit),
            }
        }
    }))
}

/// `portway undrain SERVICE/BACKEND`.
pub(super) fn undrain(args: &UndrainArgs) -> ExitCode {
    super::status::finish(args.instance.admin().and_then(|admin| {
        let handled = set(&admin, "/api/v1/undrain", &args.backend)?;
        Ok(put_back(&handled))
    }))
}

fn drain_process(admin: &Admin) -> Result<String, String> {
    super::status::post(admin, "/api/v1/drain", "")?;
    Ok("draining: it takes nothing new and ends when what is open is finished, by `shutdown.drain` at the latest\n"
        .into())
}

fn set(admin: &Admin, path: &str, name: &BackendName) -> Result<Handled, String> {
    let body = json!({ "service": name.service, "backend": name.backend }).to_string();
    let body = super::status::post(admin, path, &body)?;
    serde_json::from_slice(&body).map_err(|error| format!("the answer cannot be read: {error}"))
}

fn drained(handled: &Handled, name: &BackendName) -> String {
    let lines = handled.backends.iter().map(|backend| {
        let open = match (backend.state, backend.in_flight) {
            (BackendState::Draining, 1) => "1 request is still at it".to_owned(),
            (BackendState::Draining, n) => format!("{n} requests are still at it"),
            _ => "nothing is in flight at it".to_owned(),
        };
        let name = escaped(called(backend));
        format!("{} {name}   {}: {open}\n", handled.service, backend.state)
    });
    let undo = format!("It takes no new requests until `portway undrain {name}` or a restart.\n");
    lines.chain([undo]).collect()
}

fn put_back(handled: &Handled) -> String {
    if handled.backends.is_empty() {
        return format!(
            "{}: no backend of this name is there now; when it comes, it takes requests\n",
            handled.service
        );
    }
    let line = |backend: &BackendStatus| {
        let why = backend.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let name = escaped(called(backend));
        format!("{} {name}   {}{why}\n", handled.service, backend.state)
    };
    handled.backends.iter().map(line).collect()
}

/// Looks until nothing is in flight at the drained backends.
fn wait(admin: &Admin, handled: &Handled, limit: Duration) -> Result<String, String> {
    let mut waited = Duration::ZERO;
    loop {
        let (status, _) = super::status::fetch(admin)?;
        let services = status.services.iter().filter(|service| service.name == handled.service);
        let is_ours = |backend: &&BackendStatus| handled.backends.iter().any(|ours| ours.address == backend.address);
        let n_open: u64 =
            services.flat_map(|service| &service.backends).filter(is_ours).map(|backend| backend.in_flight).sum();
        if n_open == 0 {
            return Ok(format!("{}: drained, nothing is in flight\n", handled.service));
        }
        if waited >= limit {
            let limit = quantity::spell_duration(limit);
            return Err(format!("{n_open} in flight after {limit}; the drain goes on, and so do they"));
        }
        std::thread::sleep(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ProcessState;
    use crate::admin::tests::sample_status;
    use crate::cli::status::tests::serving;

    fn handled(state: BackendState) -> Handled {
        let mut backend = sample_status(ProcessState::Ready).services[0].backends[0].clone();
        backend.state = state;
        backend.in_flight = u64::from(state == BackendState::Draining) * 2;
        Handled { service: "shop".to_owned(), backends: vec![backend], ready: 1 }
    }

    fn name(text: &str) -> BackendName {
        text.parse().unwrap()
    }

    #[test]
    fn a_drained_backend_says_what_is_open_and_how_to_undo_it() {
        let text = drained(&handled(BackendState::Draining), &name("shop/10.0.0.11:5000"));
        assert_eq!(
            text,
            "shop 10.0.0.11:5000   draining: 2 requests are still at it\n\
             It takes no new requests until `portway undrain shop/10.0.0.11:5000` or a restart.\n"
        );
        let text = drained(&handled(BackendState::Drained), &name("shop/10.0.0.11:5000"));
        assert!(text.starts_with("shop 10.0.0.11:5000   drained: nothing is in flight at it\n"), "{text}");
    }

    #[test]
    fn a_running_instance_does_as_it_is_told() {
        let answer = set(&serving(), "/api/v1/undrain", &name("shop/10.0.0.11:5000")).unwrap();
        assert_eq!(put_back(&answer), "shop 10.0.0.11:5000   ready\n");
        let problem = set(&serving(), "/api/v1/drain", &name("shop/10.0.0.9:5000")).unwrap_err();
        assert_eq!(problem, "there is no shop/10.0.0.9:5000");
        assert!(drain_process(&serving()).unwrap().starts_with("draining"));
    }

    #[test]
    fn a_wait_ends_with_the_last_request_or_its_limit() {
        let none = Handled { backends: vec![], ..handled(BackendState::Drained) };
        assert_eq!(wait(&serving(), &none, Duration::ZERO).unwrap(), "shop: drained, nothing is in flight\n");
        let busy = wait(&serving(), &handled(BackendState::Draining), Duration::ZERO).unwrap_err();
        assert!(busy.starts_with("4 in flight after 0s"), "{busy}");
    }
}
