//! What the operating system's signals ask for, as values.
//! Promises that HUP, USR1 and USR2, which kill a process that does not know them, never do. It acts on none of them.

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// A signal, as what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// TERM, INT or QUIT, by name: drain; the second one means now.
    Drain(&'static str),
    /// HUP: read the configuration again.
    Reload,
    /// USR1: open the log files again, after rotation.
    ReopenLogs,
    /// USR2: hand over to a new binary. Not in this version: say so in the log.
    Upgrade,
}

/// The signals of this process.
#[derive(Debug)]
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    hangup: unix::Signal,
    user1: unix::Signal,
    user2: unix::Signal,
}

impl Signals {
    /// Takes over the signals, for good. Needs a runtime with I/O; the earlier, the smaller the window in which they kill.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            quit: unix::signal(SignalKind::quit())?,
            hangup: unix::signal(SignalKind::hangup())?,
            user1: unix::signal(SignalKind::user_defined1())?,
            user2: unix::signal(SignalKind::user_defined2())?,
        })
    }

    /// The next request. Cancel-safe. Signals of one kind that arrive together count once: that is how signals are.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            Some(()) = self.terminate.recv() => Request::Drain("SIGTERM"),
            Some(()) = self.interrupt.recv() => Request::Drain("SIGINT"),
            Some(()) = self.quit.recv() => Request::Drain("SIGQUIT"),
            Some(()) = self.hangup.recv() => Request::Reload,
            Some(()) = self.user1.recv() => Request::ReopenLogs,
            Some(()) = self.user2.recv() => Request::Upgrade,
            // The streams end only with the runtime, and then nobody waits here.
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn each_signal_asks_for_its_own() {
        let mut signals = Signals::new().unwrap();
        for (signal, request) in [
            (Signal::TERM, Request::Drain("SIGTERM")),
            (Signal::INT, Request::Drain("SIGINT")),
            (Signal::QUIT, Request::Drain("SIGQUIT")),
            (Signal::HUP, Request::Reload),
            (Signal::USR1, Request::ReopenLogs),
            (Signal::USR2, Request::Upgrade),
        ] {
            kill_process(getpid(), signal).unwrap();
            assert_eq!(signals.next().await, request);
        }
    }
}
