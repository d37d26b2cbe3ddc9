//! The fault suite in its full form: `cargo bench --bench faults -- [--only NAME,…] [--players portway,nginx,…]`.
//! It plays every scenario with Portway and, where they can play, with HAProxy, nginx and Caddy, and prints the table.
//! What a scenario is, and what it has to show, is in `tests/faults`.

#[path = "../peers/machine.rs"]
mod machine;
#[path = "../peers/packages.rs"]
mod packages;
mod players;
mod report;
#[path = "../../tests/faults/scenarios/mod.rs"]
mod scenarios;
#[path = "../../tests/faults/stage/mod.rs"]
mod stage;
#[path = "../../tests/it/support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use report::{Cell, Report};
use stage::front::Player;
use stage::scenario::{Form, Outcome, Scenario, play};

#[derive(Debug, Parser)]
#[command(name = "faults", about = "What Portway and its peers lose when things go wrong")]
struct Options {
    /// Scenarios to play, by name.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Who plays: portway, haproxy, nginx, caddy.
    #[arg(long, value_delimiter = ',')]
    players: Vec<String>,
    /// The short form: seconds each. Its figures mean little.
    #[arg(long)]
    short: bool,
    /// Repeats the choices of an earlier run, though not its timing.
    #[arg(long)]
    seed: Option<u64>,
    /// Names the scenarios and plays none.
    #[arg(long)]
    list: bool,
    /// Where the table goes.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Cargo says this when it runs benches.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn form(&self) -> Form {
        if self.short { Form::Short } else { Form::Full }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// A complete run publishes; anything less goes under `target/`, so that a quick look never replaces a table.
    fn out(&self) -> PathBuf {
        let is_complete = !self.short && self.only.is_empty() && self.players.is_empty();
        let default = match is_complete {
            true => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/results/faults.md"),
            false => PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("faults.md"),
        };
        self.out.clone().unwrap_or(default)
    }
}

fn main() -> ExitCode {
    if stage::backend::run_if_told() {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    if options.list {
        scenarios::all().for_each(|scenario| println!("{:14} {}", scenario.name, scenario.fault));
        return ExitCode::SUCCESS;
    }
    if !options.bench {
        println!("the fault suite takes an hour in its full form: start it with `cargo bench --bench faults`");
        return ExitCode::SUCCESS;
    }
    if let Some(wrong) = options.only.iter().find(|name| scenarios::all().all(|scenario| scenario.name != **name)) {
        eprintln!("faults: no scenario {wrong:?}; `-- --list` names them");
        return ExitCode::from(2);
    }
    if let Err(error) = machine::prepare() {
        eprintln!("faults: {error:#}");
        return ExitCode::FAILURE;
    }
    let players = players::find(&options.players);
    let report = play_all(&options, &players);
    match report.write(&options.out()) {
        Ok(()) if report.is_kept() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play_all(options: &Options, players: &[Player]) -> Report {
    let mut report = Report::new(players);
    for scenario in scenarios::all().filter(|scenario| options.wants(scenario.name)) {
        let cells = players.iter().map(|player| {
            if !scenario.is_played_by(player.who) {
                return Cell::Absent;
            }
            let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
            eprintln!("faults: {} with {}, seed {seed}", scenario.name, player.who.title());
            match play_one(scenario, player, options.form(), seed) {
                Ok(outcome) => {
                    eprintln!("  {outcome}");
                    Cell::Played(outcome)
                }
                Err(why) => Cell::Broken(why),
            }
        });
        let cells = cells.collect();
        report.add(scenario, cells);
    }
    report
}

/// A scenario that cannot be played to its end costs its own cell only.
fn play_one(scenario: &Scenario, player: &Player, form: Form, seed: u64) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(scenario, player, form, seed))));
    played.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => text.lines().next().unwrap_or_default().to_owned(),
        Err(_) => "it could not be played to its end".to_owned(),
    })
}
