//! `portway man`: the manual page, in roff.
//! Promises one section per command, from the same words as `--help`. Installs nothing: redirect it.

use std::io;
use std::process::ExitCode;

use clap::Command;
use clap_mangen::Man;

/// What no option says.
const ENDING: &str = "\
.SH FILES
.TP
\\&./portway.yaml, /etc/portway/portway.yaml
Where the configuration is looked for, in this order, unless \\fB\\-c\\fR or \\fBPORTWAY_CONFIG\\fR names one.
.SH SIGNALS
.TP
TERM, INT, QUIT
Drain: take no new connection, finish what is open, then exit. A second one ends what is open at once.
.TP
HUP
Read the configuration again and apply it.
.TP
USR1
Open the access log again, after rotation.
.TP
USR2
Nothing but a line in the log: this version cannot hand over to a new binary.
.SH EXIT STATUS
.TP
0
All is well; after a signal: every request was finished.
.TP
1
The configuration is invalid, or the command failed.
.TP
2
The command line cannot be understood.
.TP
3
The time to drain was over and connections were cut.
";

/// Runs the command.
pub(crate) fn run(command: Command) -> ExitCode {
    match page(command) {
        Ok(page) => super::print(&page),
        Err(error) => super::complain(&format!("error: cannot write the manual page: {error}")),
    }
}

fn page(mut command: Command) -> io::Result<String> {
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        section("portway", subcommand, &mut page)?;
    }
    page.extend_from_slice(ENDING.as_bytes());
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// One command; a group of commands becomes a section for each.
fn section(parent: &str, command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let name = format!("{parent} {}", command.get_name());
    let mut subcommands = command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help").peekable();
    if subcommands.peek().is_some() {
        return subcommands.try_for_each(|subcommand| section(&name, subcommand, page));
    }
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    // The headings of a page of its own become those of a part of this one.
    let text = String::from_utf8_lossy(&text).replace(".SH DESCRIPTION\n", "").replace(".SH OPTIONS\n", "");
    page.extend_from_slice(format!(".SH {}\n{text}", name.to_uppercase()).as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_has_a_section_with_its_options() {
        let page = page(crate::cli::Cli::command()).unwrap();
        for words in [".SH PORTWAY RUN\n", ".SH PORTWAY CONFIG SHOW\n", "deny", ".SH EXIT STATUS\n"] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert_eq!(page.matches(".SH NAME").count(), 1);
        // What begins with a dot is a request to the formatter, and vanishes if there is none of this name.
        let is_request = |line: &str| line[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '\\');
        for line in page.lines().filter(|line| line.starts_with('.')) {
            assert!(is_request(line), "{line}");
        }
    }
}
