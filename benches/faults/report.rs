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

    /// The short table is the README's, which a test holds to this file.
    fn markdown(&self) -> String {
        let method = format!(
            "✓ kept, ✗ missed, – cannot be asked of this proxy. *Lost* is no answer, or one that the bar does not allow; \
             duplicate, corrupt, crossed, misrouted and stuck are none where they are not named. All counts are over the \
             run with the fault, whose control run without it was clean. Measured with `cargo bench --bench faults` on \
             {}: the proxy on one core, clients and backends on the other, open-loop load, latency from the time at \
             which a request was due.\n",
            machine::describe()
        );
        let short = self.table("| # | what goes wrong |", "|---|---|", |scenario, cells| {
            let cells: String = cells.iter().map(|cell| format!(" {} |", counts(cell))).collect();
            format!("| {} | {} |{cells}\n", scenario.number, scenario.fault)
        });
        let full = self.table("| # | what has to hold |", "|---|---|", |scenario, cells| {
            let cells: String = cells.iter().map(|cell| format!(" {} |", in_words(cell))).collect();
            format!("| {} `{}` | {} |{cells}\n", scenario.number, scenario.name, scenario.bar)
        });
        format!("<!-- table: begin -->\n{short}<!-- table: end -->\n\n{method}\n## Figures\n\n{full}")
    }

    fn table(&self, head: &str, rule: &str, row: impl Fn(&Scenario, &[Cell]) -> String) -> String {
        let mut text = head.to_owned();
        for (who, version) in &self.players {
            write!(text, " {} {version} |", who.title()).ok();
        }
        text += &format!("\n{rule}{}\n", "---|".repeat(self.players.len()));
        self.rows.iter().for_each(|(scenario, cells)| text += &row(scenario, cells));
        text
    }
}

/// `✓ 0 of 24,310`, `✗ 14 lost of 24,310`, `✗`.
fn counts(cell: &Cell) -> String {
    let outcome = match cell {
        Cell::Absent => return "–".to_owned(),
        Cell::Broken(_) => return "✗".to_owned(),
        Cell::Played(outcome) => outcome,
    };
    let mark = if outcome.is_kept() { "✓" } else { "✗" };
    let violations = outcome.verdict.in_words();
    match (outcome.verdict.n_sent, violations.is_empty()) {
        (0, _) => mark.to_owned(),
        (n, true) => format!("{mark} 0 of {}", thousands(n)),
        (n, false) => format!("{mark} {violations} of {}", thousands(n)),
    }
}

fn in_words(cell: &Cell) -> String {
    let outcome = match cell {
        Cell::Absent => return "–".to_owned(),
        Cell::Broken(why) => return format!("✗ {}", cleaned(why)),
        Cell::Played(outcome) => outcome,
    };
    let mut parts = vec![counts(cell)];
    parts.extend(outcome.findings.measured.iter().map(|figure| cleaned(figure)));
    parts.extend(outcome.findings.missed.iter().take(2).map(|missed| format!("**{}**", cleaned(missed))));
    parts.extend(outcome.findings.skipped.iter().map(|why| format!("not played: {}", cleaned(why))));
    parts.join("; ")
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
