//! The terminal of `portway top`: its size, its keys, and a screen of its own that is given back.
//! Promises that the terminal is as it was on every way out, a panic included. It knows nothing of what is drawn.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

use super::frame::Size;
use super::screen::Line;
use crate::config::render::Color;

/// The other screen, without a cursor, without breaking lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Keys that were pressed and not looked at.
const KEYS_MAX: usize = 64;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    First,
    Last,
    Quit,
}

/// A terminal that shows frames until it is dropped.
pub(super) struct Terminal {
    tty: File,
    before: Termios,
    color: Color,
}

impl Terminal {
    /// Takes over the terminal of this process.
    pub(super) fn enter(color: Color) -> io::Result<Self> {
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&tty)?;
        let mut quiet = before.clone();
        // Keys come as they are pressed; Ctrl-C is one of them, so that Ctrl-Z cannot leave a screen behind.
        quiet.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(&tty, OptionalActions::Now, &quiet)?;
        let mut terminal = Self { tty, before, color };
        terminal.tty.write_all(ENTER.as_bytes())?;
        Ok(terminal)
    }

    /// Its present size; the usual one where it does not say.
    pub(super) fn size(&self) -> Size {
        let size = tcgetwinsize(&self.tty).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or(Size { columns: 80, rows: 24 }, |size| Size {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
        })
    }

    /// Draws over the last frame.
    pub(super) fn draw(&mut self, lines: &[Line], size: Size) -> io::Result<()> {
        let mut text = "\x1b[H".to_owned();
        let rows: Vec<String> = lines.iter().map(|line| line.paint(size.columns, self.color) + "\x1b[K").collect();
        text += &rows.join("\r\n");
        text += "\x1b[J";
        self.tty.write_all(text.as_bytes())
    }

    /// What is pressed from now on, read on a thread of its own. Ends with the terminal.
    pub(super) fn keys(&self) -> io::Result<mpsc::Receiver<Key>> {
        let (sender, receiver) = mpsc::channel(KEYS_MAX);
        let mut tty = self.tty.try_clone()?;
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            let (mut bytes, mut unread) = ([0; 64], Vec::new());
            while let Ok(n @ 1..) = tty.read(&mut bytes) {
                unread.extend_from_slice(&bytes[..n]);
                for key in keys_of(&mut unread) {
                    if sender.blocking_send(key).is_err() {
                        return;
                    }
                }
            }
        })?;
        Ok(receiver)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = self.tty.write_all(LEAVE.as_bytes());
        let _ = tcsetattr(&self.tty, OptionalActions::Now, &self.before);
    }
}

/// What a terminal sends for each key.
const WORDS: [(&[u8], Key); 17] = [
    (b"\x1b[A", Key::Up),
    (b"\x1bOA", Key::Up),
    (b"\x1b[B", Key::Down),
    (b"\x1bOB", Key::Down),
    (b"\x1b[H", Key::First),
    (b"\x1bOH", Key::First),
    (b"\x1b[1~", Key::First),
    (b"\x1b[F", Key::Last),
    (b"\x1bOF", Key::Last),
    (b"\x1b[4~", Key::Last),
    (b"k", Key::Up),
    (b"j", Key::Down),
    (b"g", Key::First),
    (b"G", Key::Last),
    (b"q", Key::Quit),
    (b"Q", Key::Quit),
    (b"\x03", Key::Quit),
];

/// Takes the keys out of what was read; those that mean nothing here are passed over. A key that came in part is left
/// there for the next read.
fn keys_of(unread: &mut Vec<u8>) -> Vec<Key> {
    let (mut keys, mut bytes) = (Vec::new(), unread.as_slice());
    while !bytes.is_empty() {
        let found = WORDS.iter().find(|(word, _)| bytes.starts_with(word));
        let length = match found {
            Some((word, key)) => {
                keys.push(*key);
                word.len()
            }
            None if WORDS.iter().any(|(word, _)| word.starts_with(bytes)) => break,
            None => unknown_length(bytes),
        };
        bytes = &bytes[length..];
    }
    *unread = bytes.to_vec();
    keys
}

/// ECMA-48: ESC, `[`, parameters, one final byte from `@` to `~`. Anything else is a byte.
fn unknown_length(bytes: &[u8]) -> usize {
    let Some(rest) = bytes.strip_prefix(b"\x1b[") else { return 1 };
    let end = rest.iter().position(|byte| (b'@'..=b'~').contains(byte));
    end.map_or(bytes.len(), |end| 2 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_the_rest() {
        for (bytes, keys) in [
            (&b"q"[..], &[Key::Quit][..]),
            (b"\x03", &[Key::Quit]),
            (b"\x1b[A\x1b[Bjk", &[Key::Up, Key::Down, Key::Down, Key::Up]),
            (b"\x1bOA\x1bOB", &[Key::Up, Key::Down]),
            (b"\x1b[1~\x1b[4~gG", &[Key::First, Key::Last, Key::First, Key::Last]),
            (b"\x1b[5~x\x1b[200~q\x1b[201~", &[Key::Quit]),
            (b"\x1b", &[]),
            (b"\x1b[", &[]),
            ("é…".as_bytes(), &[]),
        ] {
            assert_eq!(keys_of(&mut bytes.to_vec()), keys, "{bytes:?}");
        }
    }

    #[test]
    fn a_key_may_come_in_parts() {
        let mut unread = Vec::new();
        let mut keys = |part: &[u8]| {
            unread.extend_from_slice(part);
            keys_of(&mut unread)
        };
        assert_eq!(keys(b"j\x1b"), [Key::Down]);
        assert_eq!(keys(b"["), []);
        assert_eq!(keys(b"Aq"), [Key::Up, Key::Quit]);
        assert_eq!(keys(b"\x1bxq"), [Key::Quit], "Alt and a key is not that key's rest");
    }
}
