//! `portway top` in a real terminal: what it draws, how it ends, and that the terminal is as it was.
//! The terminal is that of `script`, which gives a command one and copies it to its standard output. What is drawn is
//! tested next to the code.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Guarded, PATIENCE, Portway, Scratch, binary, require};

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
/// After the command, in the same terminal: whether keys are echoed, and signals sent, as before.
const AFTERWARDS: &str =
    "; echo code $?; stty -a | tr ';' '\\n' | grep -o -e '-\\?\\bisig' -e '-\\?\\bicanon' -e '-\\?\\becho\\b'";

struct Terminal {
    script: Guarded,
    pieces: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Runs `top` of the instance in a terminal of its own; `None` where there is no `script`.
    fn start(portway: &Portway, folder: &Scratch, environment: &[(&str, &str)]) -> Option<Self> {
        let line = format!("'{}' top --admin {}{AFTERWARDS}", binary().to_string_lossy(), portway.admin);
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]).current_dir(&folder.0);
        command.env_remove("NO_COLOR").env("TERM", "xterm").envs(environment.iter().copied());
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut script: Child = require("script", spawned.map_err(|error| error.to_string()))?;
        let mut stdout = script.stdout.take().expect("it is piped");
        let (sender, pieces) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut bytes) {
                if sender.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Some(Self { script: Guarded(script), pieces, seen: String::new() })
    }

    /// Reads on until these words were drawn.
    fn until(&mut self, words: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.seen.contains(words) {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            match self.pieces.recv_timeout(left.max(Duration::from_millis(1))) {
                Ok(piece) => self.seen += &String::from_utf8_lossy(&piece),
                Err(error) => panic!("no {words:?} ({error}) in\n{:?}", self.seen),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.script.0.stdin.as_mut().expect("it is piped");
        stdin.write_all(keys.as_bytes()).and_then(|()| stdin.flush()).expect("the terminal takes keys");
    }

    /// Reads to the end: the screen was given back, and the terminal is as it was.
    #[track_caller]
    fn assert_given_back(mut self) {
        while let Ok(piece) = self.pieces.recv_timeout(PATIENCE) {
            self.seen += &String::from_utf8_lossy(&piece);
        }
        let (_, rest) = self.seen.rsplit_once(LEAVE).unwrap_or_else(|| panic!("no way back in {:?}", self.seen));
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(rest, "code 0 isig icanon echo", "{:?}", self.seen);
    }
}

const TWO: &str =
    "services: { web: { backends: [\"127.0.0.1:1\"] }, api: { route: /api, backends: [\"127.0.0.1:2\"] } }\n";

#[tokio::test(flavor = "multi_thread")]
async fn keys_choose_a_service_and_end_it_and_the_terminal_is_as_it_was() {
    let (portway, folder) = (Portway::start(TWO).await, Scratch::new());
    let Some(mut terminal) = Terminal::start(&portway, &folder, &[]) else { return };
    terminal.until("\x1b[7m> web");
    assert!(terminal.seen.contains(ENTER), "{:?}", terminal.seen);
    terminal.until("127.0.0.1:1"); // below the table: a frame may come in pieces
    terminal.press("\x1b[B");
    terminal.until("\x1b[7m> api");
    terminal.until("127.0.0.1:2");
    terminal.press("q");
    terminal.assert_given_back();
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_and_a_signal_give_the_terminal_back() {
    let (portway, folder) = (Portway::start(TWO).await, Scratch::new());
    let Some(mut terminal) = Terminal::start(&portway, &folder, &[("NO_COLOR", "1")]) else { return };
    terminal.until("> web");
    assert!(!terminal.seen.contains("\x1b[7m") && !terminal.seen.contains("\x1b[32m"), "{:?}", terminal.seen);
    terminal.press("\x03");
    terminal.assert_given_back();

    let mut terminal = Terminal::start(&portway, &folder, &[]).expect("it was there before");
    terminal.until("> web");
    let top = top_of(&portway.admin.to_string());
    rustix::process::kill_process(top, Signal::TERM).expect("it runs");
    terminal.assert_given_back();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_goes_away_is_said_and_what_was_seen_stays() {
    let (mut portway, folder) = (Portway::start(TWO).await, Scratch::new());
    let Some(mut terminal) = Terminal::start(&portway, &folder, &[]) else { return };
    terminal.until("> web");
    portway.sigterm();
    portway.wait_exit(PATIENCE).await;
    terminal.until("what you see is old");
    terminal.press("q");
    terminal.assert_given_back();
}

/// The process that was told to ask there, and is not the shell that was told to start it.
fn top_of(admin: &str) -> rustix::process::Pid {
    let is_it = |line: &str| line.contains("\0top\0") && line.contains(admin) && !line.contains("stty");
    let processes = std::fs::read_dir("/proc").expect("this is Linux").filter_map(Result::ok);
    let found =
        processes.filter(|entry| std::fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|l| is_it(&l)));
    let pids = found.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()));
    pids.filter_map(rustix::process::Pid::from_raw).next().expect("it was seen to draw")
}
