//! `portway top`: what a running instance does, live in the terminal, once a second.
//! Promises to give the terminal back as it was, however it ends, and one plain frame where there is none. It changes
//! nothing on the instance.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{TopArgs, admin_client, events, status};
use crate::admin::Status;
use crate::config::checked::Admin;
use crate::config::render::Color;
use crate::lifecycle::signal::{Request, Signals};
use crate::telemetry::events::Event;
use frame::View;
use screen::{Line, Style};
use terminal::{Key, Terminal};

mod frame;
mod screen;
mod terminal;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// The last line of the screen.
const HELP: &str = "↑ ↓ choose a service   q quit";

/// What one look at the instance gave.
type Look = Result<(Status, Vec<Event>), String>;

/// Runs the command.
pub(super) fn run(args: &TopArgs) -> ExitCode {
    status::finish(args.instance.admin().and_then(|admin| {
        let (status, events) = look(&admin)?;
        let address = admin_client::describe(&admin);
        let view = View { address, status, events, selected: None, problem: None };
        let color = super::color_for(&io::stdout());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if args.once || is_dumb || !io::stdout().is_terminal() {
            return Ok(whole(&view, color));
        }
        let cannot = |error: io::Error| format!("cannot draw on this terminal: {error}\n  `portway top --once` prints");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        runtime.block_on(live(admin, view, color)).map(|()| String::new()).map_err(cannot)
    }))
}

fn look(admin: &Admin) -> Look {
    let (status, _) = status::fetch(admin)?;
    Ok((status, events::fetch(admin)?))
}

/// Everything, one line below the other.
fn whole(view: &View, color: Color) -> String {
    view.lines(usize::MAX).iter().map(|line| line.paint(usize::MAX, color) + "\n").collect()
}

/// Draws until somebody quits or the terminal goes away.
async fn live(admin: Admin, mut view: View, color: Color) -> io::Result<()> {
    let mut looks = looks(admin)?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut signals = Signals::new()?;
    let mut terminal = Terminal::enter(color)?;
    let mut keys = terminal.keys()?;
    view.choose(0);
    loop {
        let size = terminal.size();
        terminal.draw(&screen_of(&view, size.rows), size)?;
        tokio::select! {
            Some(look) = looks.recv() => take(&mut view, look),
            key = keys.recv() => match key {
                None | Some(Key::Quit) => return Ok(()),
                Some(Key::Up) => view.choose(-1),
                Some(Key::Down) => view.choose(1),
                Some(Key::First) => view.choose(isize::MIN),
                Some(Key::Last) => view.choose(isize::MAX),
            },
            _ = resized.recv() => {}
            asked = signals.next() => match asked {
                // SIGHUP: the terminal was closed.
                Request::Drain(_) | Request::Reload => return Ok(()),
                Request::ReopenLogs | Request::Upgrade => {}
            },
        }
    }
}

/// The frame, and in the last line how to leave it.
fn screen_of(view: &View, rows: usize) -> Vec<Line> {
    let mut lines = view.lines(rows.saturating_sub(1));
    lines.resize(rows.saturating_sub(1), Line::default());
    if rows > 0 {
        lines.push(Line::of(Style::Soft, HELP));
    }
    lines
}

/// What is new; an instance that does not answer leaves what was seen last.
fn take(view: &mut View, look: Look) {
    match look {
        Ok((status, events)) => {
            (view.status, view.events, view.problem) = (status, events, None);
            view.choose(0); // the chosen one may have gone
        }
        Err(message) => {
            let first = message.lines().next().unwrap_or_default();
            view.problem = Some(format!("what you see is old: {first}"));
        }
    }
}

/// Looks once a second, on a thread of its own: an instance that is slow to answer does not hold up the keys.
fn looks(admin: Admin) -> io::Result<mpsc::Receiver<Look>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::Builder::new().name("looks".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(EVERY);
            if sender.blocking_send(look(&admin)).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ProcessState;
    use crate::admin::tests::{sample_scaled, sample_status};
    use crate::cli::status::tests::serving;

    fn view() -> View {
        let status = sample_status(ProcessState::Ready);
        View { address: "here".to_owned(), status, events: vec![], selected: None, problem: None }
    }

    #[test]
    fn without_a_terminal_there_is_one_frame_of_everything() {
        let (status, events) = look(&serving()).unwrap();
        let text = whole(&View { status, events, ..view() }, Color::Never);
        assert!(text.starts_with("portway 0.1.0   ready"), "{text}");
        assert!(text.contains("\n  orders   0/2 ready, 1 full") && !text.contains(HELP), "{text}");
    }

    #[test]
    fn the_help_is_the_last_line_of_the_screen() {
        for rows in [1, 5, 24, 100] {
            let lines = screen_of(&view(), rows);
            assert_eq!((lines.len(), lines[rows - 1].text().as_str()), (rows, HELP));
        }
        assert_eq!(screen_of(&view(), 0), []);
    }

    #[test]
    fn an_instance_that_stops_answering_leaves_what_was_seen() {
        let mut view = view();
        take(&mut view, Err("nothing answers at 127.0.0.1:9900: refused\n  is it running?".to_owned()));
        assert_eq!(view.problem.as_deref(), Some("what you see is old: nothing answers at 127.0.0.1:9900: refused"));
        assert_eq!(view.status.services.len(), 2);
        let status = Status { services: vec![sample_scaled()], ..view.status.clone() };
        take(&mut view, Ok((status, vec![])));
        assert_eq!((view.problem, view.selected.as_deref()), (None, Some("thumbs")));
    }
}
