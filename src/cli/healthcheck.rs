//! `portway healthcheck`: whether the running process is ready, as an exit code; made for Docker's `HEALTHCHECK`.
//! Promises silence when all is well and one line when it is not. It starts nothing and reads no configuration.

use std::process::ExitCode;

use super::admin_client::{self, Answer, AskError};
use crate::config::checked::Admin;

/// 0 if `GET /readyz` says so, else 1 with the reason on standard error.
pub(super) fn run(admin: &Admin) -> ExitCode {
    match verdict(admin_client::get(admin, "/readyz")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            super::status::complain(&message);
            ExitCode::FAILURE
        }
    }
}

fn verdict(answer: Result<Answer, AskError>) -> Result<(), String> {
    match answer {
        Ok(Answer { status: 200, .. }) => Ok(()),
        Ok(Answer { status, body }) => {
            Err(format!("not ready ({status}): {}", String::from_utf8_lossy(&body).trim().escape_debug()))
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_is_healthy() {
        let answer = |status, body: &str| Ok(Answer { status, body: body.as_bytes().to_vec() });
        assert_eq!(verdict(answer(200, "ready\n")), Ok(()));
        assert_eq!(verdict(answer(503, "draining\n")), Err("not ready (503): draining".to_owned()));
        assert!(verdict(Err(AskError::NotHttp { address: "here".to_owned() })).is_err());
    }
}
