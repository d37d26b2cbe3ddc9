//! What was played, as a Markdown table: one row for each scenario, one column for each player.
//! It promises that a loss is marked where it stands. It computes nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::machine;
use crate::stage::front::{Player, Who};
use crate::stage::scenario::{Outcome, Scenario};

/// What came of one scenario with one player.
pub(crate) enum Cell {
    Played(Outcome),
    /// It could not be played to its end, and why.
    Broken(String),
    /// This player has no such thing.
    Absent,
}

/// Everything that was played.
pub(crate) struct Report {
    players: Vec<(Who, String)>,
    rows: Vec<(&'static Scenario, Vec<Cell>)>,
}

impl Report {
    pub(crate) fn new(players: &[Player]) -> Self {
        Self { players: players.iter().map(|player| (player.who, player.version.clone())).collect(), rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, scenario: &'static Scenario, cells: Vec<Cell>) {
        self.rows.push((scenario, cells));
    }

    /// Whether Portway kept every bar.
    pub(crate) fn is_kept(&self) -> bool {
        let ours = self.players.iter().position(|(who, _)| *who == Who::Portway);
        let is_kept = |cell: &Cell| match cell {
            Cell::Played(outcome) => outcome.is_kept(),
            Cell::Broken(_) => false,
            Cell::Absent => true,
        };
        ours.is_none_or(|idx| self.rows.iter().all(|(_, cells)| is_kept(&cells[idx])))
    }

    /// Writes the table to `file` and prints it.
    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let table = self.markdown();
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        fs::write(file, &table).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{table}\nwritten to {}", file.display());
        Ok(())
    }

    fn markdown(&self) -> String {
        let mut text = "| # | what goes wrong | what has to hold |".to_owned();
        for (who, version) in &self.players {
            write!(text, " {} {version} |", who.title()).ok();
        }
        text += &format!("\n|---|---|---|{}\n", "---|".repeat(self.players.len()));
        for (scenario, cells) in &self.rows {
            write!(text, "| {} | {} | {} |", scenario.number, scenario.fault, scenario.bar).ok();
            for cell in cells {
                write!(text, " {} |", in_words(cell)).ok();
            }
            text.push('\n');
        }
        text + &format!(
            "\n✓ kept, ✗ missed, – cannot be asked of this proxy. *Lost* is no answer, or one that the bar does not allow; \
             all counts are over the run with the fault, whose control run without it was clean. Measured with \
             `cargo bench --bench faults` on {}: the proxy on one core, clients and backends on the other, open-loop \
             load, latency from the time at which a request was due.\n",
            machine::describe()
        )
    }
}

fn in_words(cell: &Cell) -> String {
    let outcome = match cell {
        Cell::Absent => return "–".to_owned(),
        Cell::Broken(why) => return format!("✗ {}", cleaned(why)),
        Cell::Played(outcome) => outcome,
    };
    let mut parts = Vec::new();
    if outcome.verdict.n_sent > 0 {
        let violations = outcome.verdict.in_words();
        let of = thousands(outcome.verdict.n_sent);
        parts.push(match violations.is_empty() {
            true => format!("0 of {of}"),
            false => format!("**{violations}** of {of}"),
        });
    }
    parts.extend(outcome.findings.measured.iter().map(|figure| cleaned(figure)));
    parts.extend(outcome.findings.missed.iter().take(2).map(|missed| format!("**{}**", cleaned(missed))));
    parts.extend(outcome.findings.skipped.iter().map(|why| format!("not played: {}", cleaned(why))));
    let mark = if outcome.is_kept() { "✓" } else { "✗" };
    format!("{mark} {}", parts.join("; "))
}

/// One line, short enough for a table.
fn cleaned(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().replace('|', "/");
    line.chars().take(160).collect()
}

/// `24,310`.
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
