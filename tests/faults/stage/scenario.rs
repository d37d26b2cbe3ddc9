//! A scenario, the stage it is played on, and what came of it.
//! It promises that no fault counts unless the same stage without it was clean a moment before, and that a seed is
//! named wherever chance had a part. What is injected is the scenario's own affair.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::pin::Pin;
use std::time::Duration;

use super::backend::{Backend, Book};
use super::front::{Front, Player, Who};
use super::ledger::{self, Contract, Ending, Executed, Hope, Sent, Verdict};
use super::load::{Load, Running};
use super::payload;
use super::site::Site;
use crate::support::Scratch;

/// How long a scenario takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Seconds, with the counts as the bar: what `cargo test` runs.
    Short,
    /// As long as the figures need.
    Full,
}

/// Who can play a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Players {
    Everybody,
    PortwayAlone,
}

/// What a play is: it borrows the stage and ends when the fault is over.
pub(crate) type Play<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One row of the table.
pub(crate) struct Scenario {
    /// On the command line.
    pub(crate) name: &'static str,
    /// As the issue and its references number it.
    pub(crate) number: &'static str,
    /// What happens, for the table.
    pub(crate) fault: &'static str,
    /// What has to hold, for the table.
    pub(crate) bar: &'static str,
    pub(crate) players: Players,
    pub(crate) n_backends: usize,
    /// The backend that lives in a network of its own, where there can be one.
    pub(crate) emigrant: Option<usize>,
    /// Portway's settings at the top level.
    pub(crate) top: &'static str,
    /// Portway's settings of the service.
    pub(crate) service: &'static str,
    pub(crate) response_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    /// Peers' only: Portway's is in `top`.
    pub(crate) client_timeout: Option<Duration>,
    pub(crate) max_in_flight: Option<u32>,
    /// In the short and in the full form; a rate of zero is no load.
    pub(crate) load: Load,
    pub(crate) full_rate: u32,
    pub(crate) contract: Contract,
    pub(crate) play: for<'a> fn(&'a mut Stage) -> Play<'a>,
    /// Looks at the whole run when it is over.
    pub(crate) judge: fn(&Ended, &mut Findings),
}

impl Scenario {
    /// What most scenarios have in common.
    pub(crate) const ORDINARY: Scenario = Scenario {
        name: "",
        number: "",
        fault: "",
        bar: "",
        players: Players::PortwayAlone,
        n_backends: 3,
        top: "",
        service: "",
        response_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(1),
        client_timeout: None,
        emigrant: None,
        max_in_flight: None,
        load: Load::ORDINARY,
        full_rate: 1_000,
        contract: Contract::STRICT,
        play: |_| Box::pin(async {}),
        judge: |_, _| {},
    };

    /// Whether this proxy has what the scenario asks for.
    pub(crate) fn is_played_by(&self, who: Who) -> bool {
        who == Who::Portway || self.players == Players::Everybody
    }
}

/// What a play has at hand.
pub(crate) struct Stage {
    pub(crate) form: Form,
    pub(crate) random: fastrand::Rng,
    pub(crate) fleet: Vec<Backend>,
    pub(crate) site: Site,
    pub(crate) front: Front,
    /// The load that runs meanwhile; `None` for scenarios without.
    pub(crate) load: Option<Running>,
    /// Requests that a play has sent itself.
    pub(crate) sent: Vec<Sent>,
    /// Named moments, in microseconds, for the judge.
    pub(crate) marks: Vec<(&'static str, u64)>,
    pub(crate) findings: Findings,
    scratch: Scratch,
}

impl Stage {
    /// One of two, by the form of the run.
    pub(crate) fn pick<T>(&self, short: T, full: T) -> T {
        match self.form {
            Form::Short => short,
            Form::Full => full,
        }
    }

    /// Lets the load go on for a while.
    pub(crate) async fn rest(&self, short: Duration, full: Duration) {
        tokio::time::sleep(self.pick(short, full)).await;
    }

    /// Names this moment.
    pub(crate) fn mark(&mut self, name: &'static str) {
        self.marks.push((name, payload::now_us()));
    }

    /// Tells every backend the same.
    pub(crate) fn tell_all(&mut self, order: &str) {
        self.fleet.iter_mut().for_each(|backend| backend.tell(order));
    }

    /// A directory for the play's own files.
    pub(crate) fn directory(&self) -> &std::path::Path {
        &self.scratch.0
    }

    fn executed(&self) -> Vec<Executed> {
        self.fleet.iter().flat_map(|backend| backend.book().executed).collect()
    }
}

/// A run that is over, for the judge.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) form: Form,
    /// Of the run with the fault, in the order in which they were due.
    pub(crate) sent: Vec<Sent>,
    /// Of the control run before it.
    pub(crate) control: Vec<Sent>,
    pub(crate) books: Vec<Book>,
    marks: Vec<(&'static str, u64)>,
}

impl Ended {
    /// Every moment of that name.
    pub(crate) fn marks(&self, name: &str) -> Vec<u64> {
        self.marks.iter().filter(|(is, _)| *is == name).map(|(_, at)| *at).collect()
    }

    /// The first moment of that name, or the end of time.
    pub(crate) fn mark(&self, name: &str) -> u64 {
        self.marks(name).first().copied().unwrap_or(u64::MAX)
    }

    /// From each moment of one name to the next of the other, or to the end of time.
    pub(crate) fn spans(&self, from: &str, to: &str) -> Vec<(u64, u64)> {
        let ends = self.marks(to);
        let span = |from: u64| (from, ends.iter().copied().find(|to| *to > from).unwrap_or(u64::MAX));
        self.marks(from).into_iter().map(span).collect()
    }

    /// Requests that were due in `[from, to)`.
    pub(crate) fn due(&self, from: u64, to: u64) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(move |sent| (from..to).contains(&sent.due_us))
    }

    /// Of what was executed in `[from, to)`, the share that one backend got.
    pub(crate) fn share(&self, backend: usize, from: u64, to: u64) -> f64 {
        let count = |book: &Book| book.executed.iter().filter(|e| (from..to).contains(&e.at_us)).count();
        let all: usize = self.books.iter().map(count).sum();
        count(&self.books[backend]) as f64 / all.max(1) as f64
    }
}

/// Figures and complaints beyond the ledger's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// What was measured, in words: `p99 3.1 ms`.
    pub(crate) measured: Vec<String>,
    /// Bars that were missed.
    pub(crate) missed: Vec<String>,
    /// Why the scenario could not be played, or not in full.
    pub(crate) skipped: Vec<String>,
}

impl Findings {
    /// A figure for the table.
    pub(crate) fn measure(&mut self, what: impl Into<String>) {
        self.measured.push(what.into());
    }

    /// A count that has to hold in every form.
    pub(crate) fn require(&mut self, is_kept: bool, otherwise: impl Into<String>) {
        if !is_kept {
            self.missed.push(otherwise.into());
        }
    }
}

/// What came of a scenario.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) seed: u64,
    pub(crate) verdict: Verdict,
    pub(crate) findings: Findings,
    /// What clients got, but for 200: how often, and when in the run.
    pub(crate) endings: BTreeMap<String, Vec<u64>>,
}

impl Outcome {
    /// Nothing lost, no bar missed.
    pub(crate) fn is_kept(&self) -> bool {
        self.verdict.is_clean() && self.findings.missed.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{} (seed {}): {} requests", self.name, self.seed, self.verdict.n_sent);
        for (head, lines) in
            [("", &self.findings.measured), ("SKIPPED ", &self.findings.skipped), ("MISSED ", &self.findings.missed)]
        {
            lines.iter().for_each(|line| write!(text, "\n  {head}{line}").unwrap_or_default());
        }
        for (ending, at_ms) in &self.endings {
            let (first, last) = (at_ms.iter().min().unwrap_or(&0), at_ms.iter().max().unwrap_or(&0));
            write!(text, "\n  {} × {ending}, {first} to {last} ms into it", at_ms.len())?;
        }
        if !self.verdict.is_clean() {
            write!(text, "\n  {}", self.verdict.explained())?;
        }
        f.write_str(&text)
    }
}

/// Plays a scenario once.
pub(crate) async fn play(scenario: &Scenario, player: &Player, form: Form, seed: u64) -> Outcome {
    let mut stage = set(scenario, player, form, seed).await;
    let control = control_run(scenario, &mut stage, seed).await;
    if scenario.load.rate > 0 {
        let load = Load { rate: rate(scenario, form), ..scenario.load };
        stage.load = Some(load.start(stage.front.address, seed));
    }
    (scenario.play)(&mut stage).await;
    if let Some(load) = stage.load.take() {
        stage.sent.extend(load.stop().await);
    }
    end(scenario, stage, control, seed).await
}

async fn set(scenario: &Scenario, player: &Player, form: Form, seed: u64) -> Stage {
    let scratch = Scratch::new();
    let mut fleet = Vec::new();
    for idx in 0..scenario.n_backends {
        fleet.push(Backend::start(idx, "web", &scratch.0).await);
    }
    let mut findings = Findings::default();
    if let Some(idx) = scenario.emigrant
        && let Err(why) = fleet[idx].emigrate().await
    {
        findings.skipped.push(format!("the network namespace, for want of root or iproute2 ({why})"));
    }
    let site = Site {
        backends: fleet.iter().map(|backend| backend.address).collect(),
        response_timeout: scenario.response_timeout,
        connect_timeout: scenario.connect_timeout,
        client_timeout: scenario.client_timeout,
        max_in_flight: scenario.max_in_flight,
        top: scenario.top.to_owned(),
        service: scenario.service.to_owned(),
        more: String::new(),
    };
    let front = Front::start(player, &site).await;
    let random = fastrand::Rng::with_seed(seed);
    let (sent, marks) = (Vec::new(), Vec::new());
    Stage { form, random, fleet, site, front, load: None, sent, marks, findings, scratch }
}

fn rate(scenario: &Scenario, form: Form) -> u32 {
    match form {
        Form::Short => scenario.load.rate,
        Form::Full => scenario.full_rate,
    }
}

/// The same load on the same processes without the fault: it must be clean, or nothing that follows means anything.
async fn control_run(scenario: &Scenario, stage: &mut Stage, seed: u64) -> Vec<Sent> {
    if scenario.load.rate == 0 {
        return Vec::new();
    }
    let load = Load { rate: rate(scenario, stage.form), ..scenario.load };
    let running = load.start(stage.front.address, !seed);
    stage.rest(Duration::from_millis(500), Duration::from_secs(10)).await;
    let sent = running.stop().await;
    let verdict = ledger::check(&sent, &stage.executed(), &Contract::STRICT);
    stage.findings.require(verdict.is_clean(), format!("the control run without the fault: {}", verdict.explained()));
    sent
}

async fn end(scenario: &Scenario, stage: Stage, control: Vec<Sent>, seed: u64) -> Outcome {
    let Stage { fleet, mut front, sent, marks, mut findings, form, .. } = stage;
    let stderr = front.stderr();
    findings.require(!stderr.contains("panicked"), format!("a panic:\n{stderr}"));
    let books: Vec<Book> = fleet.iter().map(Backend::book).collect();
    for violation in books.iter().flat_map(|book| &book.violations).take(5) {
        findings.require(false, format!("a backend got {violation}"));
    }
    let all: Vec<Sent> = control.iter().chain(&sent).cloned().collect();
    let executed: Vec<Executed> = books.iter().flat_map(|book| book.executed.clone()).collect();
    let mut verdict = ledger::check(&all, &executed, &scenario.contract);
    verdict.n_sent = sent.iter().filter(|sent| sent.hope == Hope::Contract).count();
    let endings = endings(&sent);
    (scenario.judge)(&Ended { form, sent, control, books, marks }, &mut findings);
    front.signal(rustix::process::Signal::TERM);
    Outcome { name: scenario.name, seed, verdict, findings, endings }
}

fn endings(sent: &[Sent]) -> BTreeMap<String, Vec<u64>> {
    let begin_us = sent.iter().map(|sent| sent.due_us).min().unwrap_or(0);
    let mut endings: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for sent in sent {
        let what = match &sent.ending {
            Ending::Answered(answer) if matches!(answer.status, 101 | 200) => continue,
            Ending::Answered(answer) => format!("{} {}", answer.status, answer.reason.as_deref().unwrap_or("")),
            ending => format!("{ending:?}"),
        };
        let key = format!("{:?} {what}", sent.method);
        endings.entry(key).or_default().push((sent.due_us - begin_us) / 1_000);
    }
    endings
}
