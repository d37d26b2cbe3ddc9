//! The books of one run: what clients sent and got, what backends executed, and where the two disagree.
//! It promises that a request which was lost, repeated, changed, swapped, misled or left hanging is counted as such, and
//! names some of each. Pure: it reads no socket and no clock. It does not know why.

use std::collections::{BTreeMap, HashMap};

/// How a request ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A whole response.
    Answered(Answer),
    /// The client went away on purpose.
    Abandoned,
    /// No connection, or an end or a reset before the response was whole: what the client saw of it.
    Failed(Failure),
}

/// Why there is no whole response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The connection was refused, or could not be made in time.
    Connect,
    /// It ended before the first byte of a response.
    NoResponse,
    /// It ended within the response, visibly: fewer bytes than announced, or a reset.
    Truncated,
    /// What came was no HTTP.
    Nonsense,
    /// Nothing came to an end before the client's patience did.
    Patience,
}

/// A whole response, as far as the books need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The id that the response carries; `None` on answers of the proxy itself.
    pub(crate) id: Option<u64>,
    /// `x-portway-reason`.
    pub(crate) reason: Option<String>,
    /// Which service says that it answered.
    pub(crate) service: Option<String>,
    /// Whether the body is the one that belongs to the request; meaningful with an id only.
    pub(crate) body: Content,
}

/// A body compared with what it ought to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Content {
    /// As it ought to be.
    #[default]
    Right,
    /// Anything else.
    Wrong,
}

/// Whether a method may be executed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
}

/// What a request's client may hope for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hope {
    /// What the contract says.
    Contract,
    /// An answer that is right, or a failure that it can see: it asked for the fault itself.
    Truth,
    /// Nothing: it is part of the fault. Only what it does to others counts.
    Nothing,
}

/// One request, as its client saw it. Times are microseconds of the wall clock.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: u64,
    pub(crate) method: Method,
    /// Hash of the body it sent.
    pub(crate) body: u64,
    /// Which service it was meant for.
    pub(crate) service: &'static str,
    /// When it was due; not when a busy client got round to it.
    pub(crate) due_us: u64,
    pub(crate) ended_us: u64,
    /// By when there had to be an outcome.
    pub(crate) deadline_us: u64,
    pub(crate) ending: Ending,
    pub(crate) hope: Hope,
}

impl Sent {
    /// From the time it was due to its end.
    pub(crate) fn latency_us(&self) -> u64 {
        self.ended_us.saturating_sub(self.due_us)
    }

    /// The status of a whole response.
    pub(crate) fn status(&self) -> Option<u16> {
        match &self.ending {
            Ending::Answered(answer) => Some(answer.status),
            _ => None,
        }
    }
}

/// One execution at a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Executed {
    pub(crate) id: u64,
    /// Index of the backend.
    pub(crate) backend: usize,
    /// Which connection of that backend.
    pub(crate) connection: u64,
    pub(crate) at_us: u64,
    /// Hash of the body that arrived.
    pub(crate) body: u64,
}

/// What a scenario allows its clients to see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contract {
    /// Statuses that count as served, for requests that may be repeated.
    pub(crate) get: &'static [u16],
    /// The same for those that may not.
    pub(crate) post: &'static [u16],
    /// Failures that are the visible truth where a backend died in mid-response.
    pub(crate) failures: &'static [Failure],
    /// Slack after a deadline, for the machine.
    pub(crate) slack_us: u64,
}

impl Contract {
    /// Everybody is served.
    pub(crate) const STRICT: Contract = Contract { get: &[200, 101], post: &[200], failures: &[], slack_us: 1_000_000 };

    fn keeps(&self, sent: &Sent) -> bool {
        let statuses = match sent.method {
            Method::Get => self.get,
            Method::Post => self.post,
        };
        match &sent.ending {
            Ending::Answered(answer) => statuses.contains(&answer.status),
            Ending::Abandoned => true,
            Ending::Failed(failure) => self.failures.contains(failure),
        }
    }
}

/// What the books of one run say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// Requests that were sent.
    pub(crate) n_sent: usize,
    /// How often each kind of violation is there, with some of them in words.
    pub(crate) violations: BTreeMap<Violation, Cases>,
}

/// The six ways to fail a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Violation {
    /// No answer, or one that the contract does not allow.
    Lost,
    /// Executed more than once though it may not be repeated.
    Duplicate,
    /// Changed on the way, or cut short and passed off as whole.
    Corrupt,
    /// Another request's answer, or a request that nobody sent.
    Crossed,
    /// Another service's answer.
    Misrouted,
    /// Ended later than its deadline.
    Stuck,
}

impl Violation {
    pub(crate) const ALL: [Violation; 6] = [
        Violation::Lost,
        Violation::Duplicate,
        Violation::Corrupt,
        Violation::Crossed,
        Violation::Misrouted,
        Violation::Stuck,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Violation::Lost => "lost",
            Violation::Duplicate => "duplicate",
            Violation::Corrupt => "corrupt",
            Violation::Crossed => "crossed",
            Violation::Misrouted => "misrouted",
            Violation::Stuck => "stuck",
        }
    }
}

/// How many, and the first few in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cases {
    pub(crate) n: usize,
    pub(crate) some: Vec<String>,
}

impl Verdict {
    /// How many violations of one kind.
    pub(crate) fn n(&self, violation: Violation) -> usize {
        self.violations.get(&violation).map_or(0, |cases| cases.n)
    }

    /// Nothing of any kind.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// `3 lost, 1 stuck`; empty for a clean run.
    pub(crate) fn in_words(&self) -> String {
        let words = Violation::ALL.into_iter().filter(|violation| self.n(*violation) > 0);
        words.map(|violation| format!("{} {}", self.n(violation), violation.word())).collect::<Vec<_>>().join(", ")
    }

    /// Every kind with its first cases, for whoever has to find out why.
    pub(crate) fn explained(&self) -> String {
        let line = |(violation, cases): (&Violation, &Cases)| {
            format!("{} {}:\n    {}", cases.n, violation.word(), cases.some.join("\n    "))
        };
        self.violations.iter().map(line).collect::<Vec<_>>().join("\n  ")
    }

    fn add(&mut self, violation: Violation, case: String) {
        const SHOWN: usize = 5;
        let cases = self.violations.entry(violation).or_default();
        cases.n += 1;
        if cases.some.len() < SHOWN {
            cases.some.push(case);
        }
    }
}

/// Compares the two books under a contract.
pub(crate) fn check(sent: &[Sent], executed: &[Executed], contract: &Contract) -> Verdict {
    let mut verdict = Verdict { n_sent: sent.len(), ..Verdict::default() };
    let by_id: HashMap<u64, &Sent> = sent.iter().map(|sent| (sent.id, sent)).collect();
    for sent in sent {
        check_ending(sent, contract, &mut verdict);
    }
    let mut times: HashMap<u64, Vec<&Executed>> = HashMap::new();
    for executed in executed {
        match by_id.get(&executed.id) {
            None => verdict.add(Violation::Crossed, format!("nobody sent {executed:?}")),
            Some(sent) if executed.body != sent.body && sent.hope != Hope::Nothing => {
                verdict.add(Violation::Corrupt, format!("the body of {sent:?} arrived as {executed:?}"));
            }
            Some(_) => {}
        }
        times.entry(executed.id).or_default().push(executed);
    }
    for sent in sent {
        let executions = times.get(&sent.id).map_or(&[][..], Vec::as_slice);
        if sent.method == Method::Post && executions.len() > 1 {
            verdict.add(Violation::Duplicate, format!("{sent:?} was executed as {executions:?}"));
        }
        let is_served = sent.status() == Some(200) && matches!(&sent.ending, Ending::Answered(a) if a.id.is_some());
        if is_served && executions.is_empty() {
            verdict.add(Violation::Crossed, format!("no backend executed {sent:?}"));
        }
    }
    verdict
}

fn check_ending(sent: &Sent, contract: &Contract, verdict: &mut Verdict) {
    if sent.hope != Hope::Nothing && sent.ended_us > sent.deadline_us + contract.slack_us {
        verdict.add(Violation::Stuck, format!("{sent:?}"));
    }
    let hopes = sent.hope != Hope::Nothing;
    if sent.hope == Hope::Contract && !contract.keeps(sent) {
        verdict.add(Violation::Lost, format!("{sent:?}"));
    }
    let Ending::Answered(answer) = &sent.ending else { return };
    if answer.id.is_some_and(|id| id != sent.id) {
        verdict.add(Violation::Crossed, format!("{sent:?}"));
    } else if hopes && answer.id.is_some() && answer.body == Content::Wrong {
        verdict.add(Violation::Corrupt, format!("{sent:?}"));
    }
    // A plain 200 without an id is nobody's answer: not a backend's, and the proxy has none of its own.
    if hopes && answer.id.is_none() && answer.status == 200 {
        verdict.add(Violation::Corrupt, format!("no id on the answer of {sent:?}"));
    }
    if answer.service.as_deref().is_some_and(|service| service != sent.service) {
        verdict.add(Violation::Misrouted, format!("{sent:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: u64) -> Answer {
        Answer { status: 200, id: Some(id), service: Some("web".to_owned()), ..Answer::default() }
    }

    fn sent(id: u64) -> Sent {
        Sent {
            id,
            method: Method::Post,
            body: 7,
            service: "web",
            due_us: 1_000,
            ended_us: 2_000,
            deadline_us: 1_000_000,
            ending: Ending::Answered(answer(id)),
            hope: Hope::Contract,
        }
    }

    fn executed(id: u64) -> Executed {
        Executed { id, body: 7, ..Executed::default() }
    }

    /// Three requests without fault, the second one spoilt by `spoil`.
    fn verdict(spoil: impl FnOnce(&mut Vec<Sent>, &mut Vec<Executed>)) -> Vec<(Violation, usize)> {
        let mut sent: Vec<Sent> = (1..=3).map(sent).collect();
        let mut executed: Vec<Executed> = (1..=3).map(executed).collect();
        spoil(&mut sent, &mut executed);
        let verdict = check(&sent, &executed, &Contract::STRICT);
        verdict.violations.iter().map(|(violation, cases)| (*violation, cases.n)).collect()
    }

    fn with_answer(change: impl FnOnce(&mut Answer)) -> Vec<(Violation, usize)> {
        verdict(|sent, _| {
            let Ending::Answered(answer) = &mut sent[1].ending else { unreachable!("made so") };
            change(answer);
        })
    }

    #[test]
    fn a_run_without_fault_is_clean() {
        assert_eq!(verdict(|_, _| {}), []);
    }

    #[test]
    fn a_request_without_an_answer_is_lost() {
        for failure in [Failure::Connect, Failure::NoResponse, Failure::Truncated, Failure::Nonsense] {
            let spoilt = verdict(|sent, _| sent[1].ending = Ending::Failed(failure));
            assert_eq!(spoilt, [(Violation::Lost, 1)], "{failure:?}");
        }
    }

    #[test]
    fn an_answer_that_the_contract_does_not_allow_is_a_loss() {
        assert_eq!(with_answer(|answer| answer.status = 502), [(Violation::Lost, 1)]);
    }

    #[test]
    fn what_the_contract_allows_is_no_loss() {
        let contract = Contract { post: &[200, 502], failures: &[Failure::Truncated], ..Contract::STRICT };
        let refused = Sent { ending: Ending::Answered(Answer { status: 502, ..Answer::default() }), ..sent(1) };
        let cut = Sent { ending: Ending::Failed(Failure::Truncated), ..sent(2) };
        let gone = Sent { ending: Ending::Abandoned, ..sent(3) };
        assert!(check(&[refused.clone(), cut, gone], &[], &contract).is_clean());
        let get = Sent { method: Method::Get, ..refused };
        assert_eq!(check(&[get], &[], &contract).n(Violation::Lost), 1, "a GET has a contract of its own");
    }

    #[test]
    fn a_post_that_is_executed_twice_is_a_duplicate() {
        assert_eq!(verdict(|_, log| log.push(executed(2))), [(Violation::Duplicate, 1)]);
    }

    #[test]
    fn a_post_that_is_executed_twice_is_a_duplicate_even_if_its_client_got_an_error() {
        let contract = Contract { post: &[200, 502], ..Contract::STRICT };
        let refused = Sent { ending: Ending::Answered(Answer { status: 502, ..Answer::default() }), ..sent(1) };
        assert_eq!(check(&[refused], &[executed(1), executed(1)], &contract).n(Violation::Duplicate), 1);
    }

    #[test]
    fn a_get_may_be_executed_twice() {
        assert_eq!(
            verdict(|sent, log| {
                sent[1].method = Method::Get;
                log.push(executed(2));
            }),
            []
        );
    }

    #[test]
    fn a_body_that_changed_on_the_way_there_is_corrupt() {
        assert_eq!(verdict(|_, log| log[1].body = 8), [(Violation::Corrupt, 1)]);
    }

    #[test]
    fn a_body_that_changed_on_the_way_back_is_corrupt() {
        assert_eq!(with_answer(|answer| answer.body = Content::Wrong), [(Violation::Corrupt, 1)]);
    }

    #[test]
    fn a_200_that_carries_no_id_is_corrupt() {
        assert_eq!(with_answer(|answer| answer.id = None), [(Violation::Corrupt, 1)]);
    }

    #[test]
    fn the_answer_to_another_request_is_crossed() {
        assert_eq!(with_answer(|answer| answer.id = Some(3)), [(Violation::Crossed, 1)]);
    }

    #[test]
    fn a_request_that_nobody_sent_is_crossed() {
        assert_eq!(verdict(|_, log| log.push(executed(99))), [(Violation::Crossed, 1)]);
    }

    #[test]
    fn an_answer_that_no_backend_gave_is_crossed() {
        assert_eq!(verdict(|_, log| log.truncate(2)), [(Violation::Crossed, 1)]);
    }

    #[test]
    fn the_answer_of_another_service_is_misrouted() {
        assert_eq!(with_answer(|answer| answer.service = Some("other".to_owned())), [(Violation::Misrouted, 1)]);
    }

    #[test]
    fn what_happens_to_a_request_that_is_part_of_the_fault_is_its_own_affair() {
        let spoilt = verdict(|sent, log| {
            sent[1].hope = Hope::Nothing;
            sent[1].ending = Ending::Failed(Failure::Truncated);
            log[1].body = 9;
        });
        assert_eq!(spoilt, []);
        let spoilt = verdict(|sent, _| {
            sent[1].hope = Hope::Truth;
            sent[1].ending = Ending::Failed(Failure::Truncated);
        });
        assert_eq!(spoilt, [], "a failure that can be seen is the truth");
        let spoilt = verdict(|sent, _| {
            sent[1].hope = Hope::Truth;
            sent[1].ending = Ending::Answered(Answer { body: Content::Wrong, ..answer(2) });
        });
        assert_eq!(spoilt, [(Violation::Corrupt, 1)], "half a body that passes for a whole one is not");
        let spoilt = verdict(|sent, _| {
            sent[1].hope = Hope::Nothing;
            sent[1].ending = Ending::Answered(answer(3));
        });
        assert_eq!(spoilt, [(Violation::Crossed, 1)], "but it may not get another one's answer");
    }

    #[test]
    fn an_outcome_after_the_deadline_is_stuck() {
        assert_eq!(verdict(|sent, _| sent[1].ended_us = 1_999_999), []);
        assert_eq!(verdict(|sent, _| sent[1].ended_us = 2_000_001), [(Violation::Stuck, 1)]);
    }

    #[test]
    fn patience_that_ran_out_is_lost_and_stuck() {
        let spoilt = verdict(|sent, _| {
            sent[1].ended_us = 9_000_000;
            sent[1].ending = Ending::Failed(Failure::Patience);
        });
        assert_eq!(spoilt, [(Violation::Lost, 1), (Violation::Stuck, 1)]);
    }

    #[test]
    fn a_verdict_counts_all_and_shows_some() {
        let sent: Vec<Sent> =
            (0..100).map(|id| Sent { ending: Ending::Failed(Failure::NoResponse), ..self::sent(id) }).collect();
        let verdict = check(&sent, &[], &Contract::STRICT);
        assert_eq!((verdict.n_sent, verdict.in_words().as_str()), (100, "100 lost"));
        assert_eq!(verdict.violations[&Violation::Lost].some.len(), 5);
    }
}
