//! What happens, once a second: a table that stays in its place on a terminal, else a line.
//! Promises the figures of the admin API and none of its own. Stops with the drain, or when nobody reads any more.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::backends::Backend;
use crate::admin::{BackendStatus, Status};
use crate::cli::status::{self, aligned, count, millis};
use crate::config::checked::{Admin, ListenAddress};
use crate::lifecycle::drain::{Phase, Reason, Trigger};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Between two looks at an instance that starts.
const START: Duration = Duration::from_millis(10);

/// How the figures are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Drawn over the last one.
    Table,
    /// One below the other.
    Lines,
}

impl Form {
    fn of_stdout() -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if io::stdout().is_terminal() && !is_dumb { Form::Table } else { Form::Lines }
    }
}

/// Prints `introduction` once the admin listener at `admin` answers, then what it says until the drain begins.
pub(super) fn start(
    admin: SocketAddr,
    backends: &[Arc<Backend>],
    introduction: String,
    trigger: Trigger,
) -> io::Result<JoinHandle<()>> {
    let mut show = Show { backends: backends.to_vec(), seen: HashMap::new(), n_lines: 0, form: Form::of_stdout() };
    let mut drain = trigger.watch();
    let admin = Admin { address: ListenAddress::Tcp(admin), token: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("demo-table".to_owned()).spawn(move || {
        runtime.block_on(async {
            let mut text = introduction;
            let mut pause = START;
            loop {
                tokio::select! {
                    () = drain.reached(Phase::Announced) => return,
                    () = tokio::time::sleep(pause) => {}
                }
                // It may not be up yet, or busy: the next look tells.
                let Ok((status, _)) = status::fetch(&admin) else { continue };
                if pause == EVERY {
                    text = show.next(&status);
                }
                pause = EVERY;
                let mut stdout = io::stdout().lock();
                if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
                    // Whoever read has seen enough (`| head`): there is nobody left to show anything to.
                    return trigger.request_once(Reason::Failure);
                }
            }
        });
    })
}

struct Show {
    backends: Vec<Arc<Backend>>,
    /// Requests of each backend at the last look.
    seen: HashMap<String, u64>,
    /// Of the table on the screen.
    n_lines: usize,
    form: Form,
}

/// A backend with what it did.
struct Row<'a> {
    backend: &'a Backend,
    figures: &'a BackendStatus,
    n_new: u64,
}

impl Show {
    fn next(&mut self, status: &Status) -> String {
        let Some(service) = status.services.first() else { return String::new() };
        let rows: Vec<Row<'_>> = self
            .backends
            .iter()
            .filter_map(|backend| {
                let address = backend.address.to_string();
                let figures = service.backends.iter().find(|figures| figures.address == address)?;
                let before = self.seen.insert(address, figures.requests).unwrap_or_default();
                Some(Row { backend, figures, n_new: figures.requests.saturating_sub(before) })
            })
            .collect();
        match self.form {
            Form::Lines => line(status, &rows),
            Form::Table => {
                let table = table(status, &rows);
                let up = if self.n_lines == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.n_lines) };
                self.n_lines = table.lines().count();
                up + &table
            }
        }
    }
}

fn table(status: &Status, rows: &[Row<'_>]) -> String {
    let sum = |figure: fn(&BackendStatus) -> u64| rows.iter().map(|row| figure(row.figures)).sum::<u64>();
    let heading = ["", "", "LAST SECOND", "REQUESTS", "ERRORS", "IN FLIGHT", "P50", "P99"].map(str::to_owned);
    let front = [
        "front door".to_owned(),
        status.state.to_string(),
        rows.iter().map(|row| row.n_new).sum::<u64>().to_string(),
        count(sum(|figures| figures.requests) as f64),
        count(sum(|figures| figures.errors) as f64),
        sum(|figures| figures.in_flight).to_string(),
        millis(status.traffic.p50_ms),
        millis(status.traffic.p99_ms),
    ];
    let backends = rows.iter().map(|Row { backend, figures, n_new }| {
        [
            format!("  {}", backend.name),
            backend.mode().word().to_owned(),
            n_new.to_string(),
            count(figures.requests as f64),
            count(figures.errors as f64),
            figures.in_flight.to_string(),
            millis(figures.p50_ms),
            millis(figures.p99_ms),
        ]
    });
    aligned(&[heading, front].into_iter().chain(backends).collect::<Vec<_>>())
}

fn line(status: &Status, rows: &[Row<'_>]) -> String {
    let shares: Vec<String> = rows.iter().map(|row| format!("{} {}", row.backend.name, row.n_new)).collect();
    let n_requests: u64 = rows.iter().map(|row| row.figures.requests).sum();
    let n_errors: u64 = rows.iter().map(|row| row.figures.errors).sum();
    let (p50, p99) = (millis(status.traffic.p50_ms), millis(status.traffic.p99_ms));
    let shares = shares.join("  ");
    format!(
        "last second: {shares}   since the start: {n_requests} requests, {n_errors} errors   p50 {p50}   p99 {p99}\n"
    )
}
