//! What came of one scenario with one player, as a line of JSON: what a run leaves behind besides its table, so that
//! hours of playing need not be one run. It promises that the newest of each scenario and player is found again, and that
//! a line which is no piece is an error, not a gap. It draws no table.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::machine;
use crate::stage::front::Player;
use crate::stage::scenario::Outcome;

/// One cell of the table, with where and when it was played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Piece {
    /// Its name on the command line.
    pub(crate) scenario: String,
    /// As the head of the column says it.
    pub(crate) player: String,
    pub(crate) version: String,
    /// UTC, to the second: as text it sorts as time does.
    pub(crate) at: String,
    pub(crate) machine: String,
    pub(crate) seed: u64,
    pub(crate) n_requests: usize,
    /// `3 lost, 1 stuck`; empty where nothing was.
    pub(crate) violations: String,
    pub(crate) measured: Vec<String>,
    pub(crate) missed: Vec<String>,
    pub(crate) skipped: Vec<String>,
    /// Why it could not be played to its end.
    pub(crate) broken: Option<String>,
}

impl Piece {
    /// What was just played.
    pub(crate) fn new(scenario: &str, player: &Player, seed: u64, played: Result<Outcome, String>) -> Self {
        let piece = Self {
            scenario: scenario.to_owned(),
            player: player.who.title().to_owned(),
            version: player.version.clone(),
            at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            machine: machine::describe(),
            seed,
            n_requests: 0,
            violations: String::new(),
            measured: Vec::new(),
            missed: Vec::new(),
            skipped: Vec::new(),
            broken: None,
        };
        match played {
            Err(why) => Self { broken: Some(why), ..piece },
            Ok(Outcome { verdict, findings, .. }) => Self {
                n_requests: verdict.n_sent,
                violations: verdict.in_words(),
                measured: findings.measured,
                missed: findings.missed,
                skipped: findings.skipped,
                ..piece
            },
        }
    }

    /// Played to its end, nothing lost, no bar missed.
    pub(crate) fn is_kept(&self) -> bool {
        self.broken.is_none() && self.violations.is_empty() && self.missed.is_empty()
    }

    /// The day on which it was played.
    pub(crate) fn day(&self) -> &str {
        self.at.split('T').next().unwrap_or_default()
    }
}

/// Where one run leaves its pieces.
#[derive(Debug)]
pub(crate) struct Drawer {
    file: PathBuf,
}

impl Drawer {
    /// A file of this run's own in `directory`.
    pub(crate) fn in_directory(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let name = format!("{}-{}.jsonl", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"), std::process::id());
        Ok(Self { file: directory.join(name) })
    }

    /// Written at once: a run that is cut short leaves what it has played.
    pub(crate) fn put(&self, piece: &Piece) -> anyhow::Result<()> {
        let line = serde_json::to_string(piece)? + "\n";
        let file = OpenOptions::new().create(true).append(true).open(&self.file);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.with_context(|| format!("cannot write {}", self.file.display()))
    }
}

/// Every piece in the `.jsonl` files of `directory`; of each scenario and player the newest.
pub(crate) fn newest_in(directory: &Path) -> anyhow::Result<Vec<Piece>> {
    let mut newest: BTreeMap<(String, String), Piece> = BTreeMap::new();
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for (idx, line) in text.lines().enumerate() {
            let place = || format!("{}:{}: not a piece of the fault suite", file.display(), idx + 1);
            let piece: Piece = serde_json::from_str(line).with_context(place)?;
            let key = (piece.scenario.clone(), piece.player.clone());
            if newest.get(&key).is_none_or(|older| older.at <= piece.at) {
                newest.insert(key, piece);
            }
        }
    }
    ensure!(!newest.is_empty(), "no pieces in {}", directory.display());
    Ok(newest.into_values().collect())
}
