//! What was played, as a Markdown table: one row for each scenario, one column for each player.
//! It promises that a loss is marked where it stands, that a cell nobody played says so, and that the days and machines
//! of the play are named. It computes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::piece::Piece;
use crate::scenarios;
use crate::stage::front::Who;
use crate::stage::scenario::Scenario;

/// Everything that was played, at most once for each scenario and player.
pub(crate) struct Report {
    pieces: Vec<Piece>,
    manner: Manner,
}

/// How the pieces came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// One after the other.
    OneRun,
    /// In runs of their own, put together.
    PieceByPiece,
}

impl Report {
    pub(crate) fn new(pieces: Vec<Piece>, manner: Manner) -> Self {
        Self { pieces, manner }
    }

    /// Whether Portway kept every bar.
    pub(crate) fn is_kept(&self) -> bool {
        self.pieces.iter().filter(|piece| piece.player == Who::Portway.title()).all(Piece::is_kept)
    }

    /// Whether everybody has played everything that can be asked of them.
    pub(crate) fn is_complete(&self) -> bool {
        let is_there =
            |scenario: &Scenario, who: Who| !scenario.is_played_by(who) || self.find(scenario, who).is_some();
        scenarios::all().all(|scenario| Who::ALL.into_iter().all(|who| is_there(scenario, who)))
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
            "✓ kept, ✗ missed (without counts: it could not be played to its end), – cannot be asked of this proxy. *Lost* is no answer, or one that the bar does not allow; \
             duplicate, corrupt, crossed, misrouted and stuck are none where they are not named. All counts are over the \
             run with the fault, whose control run without it was clean. Measured with `cargo bench --bench faults`{} on \
             {}, {}: the proxy on one core, clients and backends on the other, open-loop load, latency from the time at \
             which a request was due.\n",
            if self.manner == Manner::OneRun { "" } else { ", in several runs put together with `-- --assemble`," },
            self.named(|piece| &piece.machine),
            self.named(Piece::day),
        );
        let short = self.table(
            "| # | what goes wrong |",
            |scenario| format!("{} | {}", scenario.number, scenario.fault),
            counts,
        );
        let full = self.table(
            "| # | what has to hold |",
            |scenario| format!("{} `{}` | {}", scenario.number, scenario.name, scenario.bar),
            in_words,
        );
        format!("<!-- table: begin -->\n{short}<!-- table: end -->\n\n{method}\n## Figures\n\n{full}")
    }

    fn table(&self, head: &str, row: impl Fn(&Scenario) -> String, cell: impl Fn(&Piece) -> String) -> String {
        let players: Vec<Who> = Who::ALL.into_iter().filter(|who| self.of(*who).next().is_some()).collect();
        let mut text = head.to_owned();
        for who in &players {
            text += &format!(" {} {} |", who.title(), self.versions(*who));
        }
        text += &format!("\n|---|---|{}\n", "---|".repeat(players.len()));
        for scenario in scenarios::all().filter(|scenario| self.is_played(scenario)) {
            let cells = players.iter().map(|who| match self.find(scenario, *who) {
                Some(piece) => format!(" {} |", cell(piece)),
                None if scenario.is_played_by(*who) => " not played |".to_owned(),
                None => " – |".to_owned(),
            });
            text += &format!("| {} |{}\n", row(scenario), cells.collect::<String>());
        }
        text
    }

    fn is_played(&self, scenario: &Scenario) -> bool {
        self.pieces.iter().any(|piece| piece.scenario == scenario.name)
    }

    fn find(&self, scenario: &Scenario, who: Who) -> Option<&Piece> {
        self.of(who).find(|piece| piece.scenario == scenario.name)
    }

    fn of(&self, who: Who) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().filter(move |piece| piece.player == who.title())
    }

    /// More than one if it was changed between two pieces.
    fn versions(&self, who: Who) -> String {
        let versions: BTreeSet<&str> = self.of(who).map(|piece| piece.version.as_str()).collect();
        Vec::from_iter(versions).join(", ")
    }

    /// What the pieces name, each once: `2026-11-23, 2026-11-24`.
    fn named<'a>(&'a self, name: impl Fn(&'a Piece) -> &'a str) -> String {
        Vec::from_iter(self.pieces.iter().map(name).collect::<BTreeSet<&str>>()).join(", ")
    }
}

/// `✓ 0 of 24,310`, `✗ 14 lost of 24,310`, `✗`.
fn counts(piece: &Piece) -> String {
    let mark = if piece.is_kept() { "✓" } else { "✗" };
    match (piece.n_requests, piece.violations.as_str()) {
        (0, _) => mark.to_owned(),
        (n, "") => format!("{mark} 0 of {}", thousands(n)),
        (n, violations) => format!("{mark} {violations} of {}", thousands(n)),
    }
}

fn in_words(piece: &Piece) -> String {
    if let Some(why) = &piece.broken {
        return format!("✗ {}", cleaned(why));
    }
    let mut parts = vec![counts(piece)];
    parts.extend(piece.measured.iter().map(|figure| cleaned(figure)));
    parts.extend(piece.missed.iter().take(2).map(|missed| format!("**{}**", cleaned(missed))));
    parts.extend(piece.skipped.iter().map(|why| format!("not played: {}", cleaned(why))));
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
