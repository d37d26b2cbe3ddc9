//! The fault suite in its full form: `cargo bench --bench faults -- [--only NAME,…] [--players portway,nginx,…]`.
//! It plays every scenario with Portway and, where they can play, with HAProxy, nginx and Caddy, and prints the table.
//! Hours of playing need not be one run: each leaves its pieces, and `-- --assemble DIR` makes the table of all of them.
//! What a scenario is, and what it has to show, is in `tests/faults`.

#[path = "../peers/machine.rs"]
mod machine;
#[path = "../peers/packages.rs"]
mod packages;
mod piece;
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

use piece::{Drawer, Piece};
use report::{Manner, Report};
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
    /// Where the pieces go: a line of JSON for each scenario and player. The short form leaves none.
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/faults"))]
    pieces: PathBuf,
    /// Plays nothing: makes the table of the pieces in this directory, of each scenario and player the newest.
    #[arg(long, value_name = "DIR")]
    assemble: Option<PathBuf>,
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

    /// What is complete is published; anything less goes under `target/`, so that a quick look never replaces a table.
    fn out(&self, report: &Report) -> PathBuf {
        let default = match !self.short && report.is_complete() {
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
    let report = match &options.assemble {
        Some(directory) => piece::newest_in(directory).map(|pieces| Report::new(pieces, Manner::PieceByPiece)),
        None => play_all(&options).map(|pieces| Report::new(pieces, Manner::OneRun)),
    };
    let written = report.and_then(|report| report.write(&options.out(&report)).map(|()| report.is_kept()));
    match written {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play_all(options: &Options) -> anyhow::Result<Vec<Piece>> {
    machine::prepare()?;
    let players = players::find(&options.players);
    let drawer = Drawer::in_directory(&options.pieces)?;
    let mut pieces = Vec::new();
    for scenario in scenarios::all().filter(|scenario| options.wants(scenario.name)) {
        for player in players.iter().filter(|player| scenario.is_played_by(player.who)) {
            let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
            eprintln!("faults: {} with {}, seed {seed}", scenario.name, player.who.title());
            let played = play_one(scenario, player, options.form(), seed);
            match &played {
                Ok(outcome) => eprintln!("  {outcome}"),
                Err(why) => eprintln!("  BROKEN {why}"),
            }
            let piece = Piece::new(scenario.name, player, seed, played);
            if !options.short {
                drawer.put(&piece)?;
            }
            pieces.push(piece);
        }
    }
    Ok(pieces)
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
