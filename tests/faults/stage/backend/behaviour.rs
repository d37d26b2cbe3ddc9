//! What a backend is told to do, as words: the same on its standard input and in a request's `x-act` field.
//! It promises that words which mean nothing are an error, so that a scenario cannot test nothing by a typo.

use std::time::Duration;

/// What a backend does with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It answers.
    #[default]
    Ok,
    /// It answers after a while, and notices when nobody waits any more: `delay MS`.
    Delay(Duration),
    /// It answers at once with this status: `status 500`.
    Status(u16),
    /// It does nothing until it is told otherwise, then goes on: `stall`.
    Stall,
    /// It answers with so many MiB that mean nothing: `large MIB`.
    Large(usize),
    /// It dies with a reset: `die PLACE`.
    Die(Place),
    /// It breaks the protocol: `lie KIND`.
    Lie(Lie),
}

/// Where a backend dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// With the head read, nothing executed.
    Unread,
    /// With the request executed and no byte of an answer sent.
    Read,
    /// After `100 Continue`.
    Continue,
    /// After the head of the answer.
    Head,
    /// After so many bytes of the answer's body.
    Body(usize),
}

/// How a backend breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// `Content-Length` and `Transfer-Encoding`, which disagree.
    TwoLengths,
    /// A chunk whose size is no number.
    BadChunk,
    /// `101` that nobody asked for, then bytes of another protocol.
    Unsolicited101,
    /// A head that does not end.
    EndlessHead,
    /// `100 Continue` for ever.
    EndlessInterim,
    /// A whole answer, and behind it one that belongs to nobody.
    Surplus,
    /// Bytes that are no HTTP.
    Nonsense,
}

impl Lie {
    /// With the word for each.
    pub(crate) const ALL: [(&'static str, Lie); 7] = [
        ("two-lengths", Lie::TwoLengths),
        ("bad-chunk", Lie::BadChunk),
        ("unsolicited-101", Lie::Unsolicited101),
        ("endless-head", Lie::EndlessHead),
        ("endless-interim", Lie::EndlessInterim),
        ("surplus", Lie::Surplus),
        ("nonsense", Lie::Nonsense),
    ];
}

impl Mode {
    /// Reads `words`, or says what is wrong with them.
    pub(crate) fn parse(words: &str) -> Result<Self, String> {
        let wrong = || format!("no such mode: {words:?}");
        let mut parts = words.split_whitespace();
        let (first, second, third) = (parts.next(), parts.next(), parts.next());
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok()).ok_or_else(wrong);
        Ok(match first.ok_or_else(wrong)? {
            "ok" => Mode::Ok,
            "delay" => Mode::Delay(Duration::from_millis(number(second)?)),
            "status" => Mode::Status(u16::try_from(number(second)?).map_err(|_| wrong())?),
            "stall" => Mode::Stall,
            "large" => Mode::Large(usize::try_from(number(second)?).map_err(|_| wrong())?),
            "die" => Mode::Die(match second.ok_or_else(wrong)? {
                "unread" => Place::Unread,
                "read" => Place::Read,
                "continue" => Place::Continue,
                "head" => Place::Head,
                "body" => Place::Body(usize::try_from(number(third)?).map_err(|_| wrong())?),
                _ => return Err(wrong()),
            }),
            "lie" => {
                let known = Lie::ALL.into_iter().find(|(word, _)| Some(*word) == second);
                Mode::Lie(known.ok_or_else(wrong)?.1)
            }
            _ => return Err(wrong()),
        })
    }
}

/// Everything that can be changed while a backend runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Behaviour {
    pub(crate) mode: Mode,
    /// What `/healthz` says, whatever traffic meets.
    pub(crate) health: Health,
    /// Closes a connection that was idle for so long after an answer; at once where it is zero, never for `None`.
    pub(crate) idle: Option<Duration>,
    /// So many requests at a time, each of which takes so long.
    pub(crate) capacity: Option<(usize, Duration)>,
    /// It says `Connection: close` on every answer: what a backend does that is about to leave.
    pub(crate) says_close: bool,
}

/// The answer to a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Health {
    #[default]
    Passes,
    Fails,
}

impl Behaviour {
    /// Changes what one line of standard input says.
    pub(crate) fn apply(&mut self, line: &str) -> Result<(), String> {
        let wrong = || format!("no such command: {line:?}");
        let (word, rest) = line.split_once(' ').ok_or_else(wrong)?;
        let millis = |word: &str| word.parse().map(Duration::from_millis).map_err(|_| wrong());
        match (word, rest) {
            ("mode", words) => self.mode = Mode::parse(words)?,
            ("health", "pass") => self.health = Health::Passes,
            ("health", "fail") => self.health = Health::Fails,
            ("idle", "never") => self.idle = None,
            ("idle", ms) => self.idle = Some(millis(ms)?),
            ("capacity", words) => {
                let (n, ms) = words.split_once(' ').ok_or_else(wrong)?;
                self.capacity = Some((n.parse().map_err(|_| wrong())?, millis(ms)?));
            }
            ("close", "always") => self.says_close = true,
            ("close", "never") => self.says_close = false,
            _ => return Err(wrong()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_mean_nothing_are_an_error() {
        for words in ["", "okay", "delay", "delay x", "status 99999", "die", "die body", "die body x", "lie", "lie big"]
        {
            assert!(Mode::parse(words).is_err(), "{words:?}");
        }
        for line in ["", "mode", "mode what", "idle", "idle x", "capacity 1", "health", "health maybe", "close"] {
            assert!(Behaviour::default().apply(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn every_mode_has_its_words() {
        let second = Duration::from_secs(1);
        let cases = [
            ("ok", Mode::Ok),
            ("delay 1000", Mode::Delay(second)),
            ("status 500", Mode::Status(500)),
            ("stall", Mode::Stall),
            ("large 8", Mode::Large(8)),
            ("die unread", Mode::Die(Place::Unread)),
            ("die read", Mode::Die(Place::Read)),
            ("die continue", Mode::Die(Place::Continue)),
            ("die head", Mode::Die(Place::Head)),
            ("die body 100", Mode::Die(Place::Body(100))),
            ("lie surplus", Mode::Lie(Lie::Surplus)),
        ];
        for (words, mode) in cases {
            assert_eq!(Mode::parse(words), Ok(mode), "{words}");
        }
    }
}
