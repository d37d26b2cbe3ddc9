//! The command line: its arguments, and one file per command.
//! Promises the exit codes 0 (fine), 1 (invalid configuration or failure) and 2 (usage). Does no command's work itself.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::diagnostic::Diagnostics;
use crate::config::expand::ProcessEnvironment;
use crate::config::load::{self, Loaded};
use crate::config::render::{self, Color};
use crate::lifecycle::memory;

mod admin_client;
mod check;
mod completions;
mod config_show;
mod demo;
mod diff;
mod drain;
mod events;
mod explain;
mod healthcheck;
mod init;
mod instance;
mod man;
mod reload;
mod rollback;
mod run;
mod scale;
mod schema;
mod status;
mod top;
mod version;

pub use drain::BackendName;
pub use instance::InstanceArgs;
pub use scale::ScaleRequest;

/// Where the configuration is looked for if nobody says.
pub const CONFIG_PATHS: [&str; 2] = ["portway.yaml", "/etc/portway/portway.yaml"];

/// The exit code of a command line that cannot be understood.
const USAGE: u8 = 2;

/// The front door of containerised services: a load balancer driven by one YAML file.
#[derive(Debug, Parser)]
#[command(name = "portway", version, propagate_version = true, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Try `portway demo` first. `portway init` writes a file to begin with.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve in the foreground until SIGTERM or Ctrl-C
    Run(RunArgs),
    /// Show the front door with three backends of its own: no file needed
    Demo(DemoArgs),
    /// Say everything that is wrong with a configuration; binds nothing
    Check(CheckArgs),
    /// Say which route takes a request, why the others do not, and where it would go
    Explain(ExplainArgs),
    /// Show what a running instance does
    Status(StatusArgs),
    /// Watch a running instance in the terminal: services, containers, events, once a second
    Top(TopArgs),
    /// Show what happened lately on a running instance: reloads, ejections, scaling with its reasons
    Events(EventsArgs),
    /// Say how many replicas a service of a running instance shall have, or leave that to the load again
    Scale(ScaleArgs),
    /// Take a backend of a running instance out, or end the instance when its work is done
    Drain(DrainArgs),
    /// Put a backend back that was drained
    Undrain(UndrainArgs),
    /// Let a running instance read its configuration again, and say what became of it
    Reload(ReloadArgs),
    /// Say what another configuration would change on a running instance; changes nothing
    Diff(DiffArgs),
    /// Return a running instance to a configuration that it had before
    Rollback(RollbackArgs),
    /// Print the configuration as Portway understands it
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Write a configuration to begin with
    Init(InitArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
    /// Exit with 0 if a running instance is ready, for HEALTHCHECK in a Dockerfile
    Healthcheck(HealthcheckArgs),
    /// Print the version
    Version,
}

/// Commands about the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting in its long form; values of variables are not printed
    Show(ConfigShowArgs),
}

/// Which configuration.
#[derive(Args, Clone, Debug, Default)]
pub struct FileArgs {
    /// The configuration [default: ./portway.yaml, then /etc/portway/portway.yaml]
    #[arg(short, long = "config", value_name = "FILE", env = "PORTWAY_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Which configuration.
    #[command(flatten)]
    pub file: FileArgs,
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Port of the front door; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// Requests that it sends to itself per second, so that there is something to see; 0 sends none
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub rate: u32,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Which configuration.
    #[command(flatten)]
    pub file: FileArgs,
    /// Print the mistakes as a JSON array on standard output
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 if there are warnings, too
    #[arg(long)]
    pub deny_warnings: bool,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// Which configuration.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// The method, such as GET
    pub method: String,
    /// The URL, such as `http://shop.example.com/api?page=2`
    pub url: String,
    /// A header field of the request; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Judge by the configuration that the running instance has in effect, not by the file
    #[arg(long)]
    pub live: bool,
}

/// Arguments of `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// This service alone, with each of its backends and containers
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `top`.
#[derive(Args, Debug)]
pub struct TopArgs {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// Draw once and end; so it does where there is no terminal
    #[arg(long)]
    pub once: bool,
}

/// Arguments of `events`.
#[derive(Args, Debug)]
pub struct EventsArgs {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// Those of this service alone
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Print JSON: an array, with --follow an event per line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `scale`.
#[derive(Args, Debug)]
pub struct ScaleArgs {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// The service and how many replicas it shall have; `auto` leaves it to the load
    #[arg(value_name = "SERVICE=N")]
    pub request: ScaleRequest,
    /// Wait until so many are ready, for so long at most: `60s`
    #[arg(long, value_name = "DURATION", value_parser = drain::duration)]
    pub wait: Option<Duration>,
}

/// Arguments of `drain`.
#[derive(Args, Debug)]
pub struct DrainArgs {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// The backend to take out, as `portway status` names it; without one, the whole process
    #[arg(value_name = "SERVICE/BACKEND")]
    pub backend: Option<BackendName>,
    /// Wait until nothing is in flight at it, for so long at most: `30s`
    #[arg(long, value_name = "DURATION", requires = "backend", value_parser = drain::duration)]
    pub wait: Option<Duration>,
}

/// Arguments of `undrain`.
#[derive(Args, Debug)]
pub struct UndrainArgs {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// The backend to put back
    #[arg(value_name = "SERVICE/BACKEND")]
    pub backend: BackendName,
}

/// Arguments of `reload`.
#[derive(Args, Debug)]
pub struct ReloadArgs {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `diff`.
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// The other configuration
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// Print the differences as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rollback`.
#[derive(Args, Debug)]
pub struct RollbackArgs {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// The generation to return to [default: the one before the active one]
    #[arg(value_name = "N")]
    pub generation: Option<u64>,
    /// Print the generations that are kept, and change nothing
    #[arg(long, conflicts_with = "generation")]
    pub list: bool,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `config show`.
#[derive(Args, Debug)]
pub struct ConfigShowArgs {
    /// Which configuration.
    #[command(flatten)]
    pub file: FileArgs,
    /// Print what was left out as well, with the values in force
    #[arg(long)]
    pub defaults: bool,
}

/// Arguments of `init`.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// The file to write; one that is there is never touched
    #[arg(value_name = "FILE", default_value = CONFIG_PATHS[0])]
    pub file: PathBuf,
}

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `healthcheck`.
#[derive(Args, Debug)]
pub struct HealthcheckArgs {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// Runs one command. `args` begins with the name of the program.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    memory::keep_pages_small();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // To standard output for --help, with code 0; else to standard error, with code 2. Nobody to tell if that fails.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Drain(args) => drain::drain(&args),
        Command::Undrain(args) => drain::undrain(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Config(ConfigCommand::Show(args)) => config_show::run(&args),
        Command::Schema => schema::run(),
        Command::Init(args) => init::run(&args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man => man::run(Cli::command()),
        Command::Healthcheck(args) => {
            args.instance.admin().map_or_else(|message| complain(&message), |admin| healthcheck::run(&admin))
        }
        Command::Version => version::run(),
    }
}

impl FileArgs {
    /// The file that was named, or the first that is there; an error that says where it was looked for.
    pub fn path(&self) -> Result<PathBuf, String> {
        // An empty variable is what Compose makes of one that is not set.
        if let Some(path) = self.config.as_ref().filter(|path| !path.as_os_str().is_empty()) {
            return Ok(path.clone());
        }
        let found = CONFIG_PATHS.iter().map(Path::new).find(|path| path.exists());
        let [first, second] = CONFIG_PATHS;
        found.map(Path::to_owned).ok_or_else(|| {
            format!("error: no configuration: neither ./{first} nor {second} is there\nname one with -c FILE, or write one with `portway init`")
        })
    }

    /// The configuration. If it is wrong, that is printed and the exit code comes back.
    pub fn load(&self) -> Result<Loaded, ExitCode> {
        let path = self.path().map_err(|message| complain(&message))?;
        load::read(&path, &ProcessEnvironment).map_err(|diagnostics| complain_of(&diagnostics))
    }
}

/// Colour for a stream: only on a terminal, and never with `NO_COLOR`. <https://no-color.org>.
pub fn color_for(stream: &impl IsTerminal) -> Color {
    let is_forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if stream.is_terminal() && !is_forbidden { Color::Always } else { Color::Never }
}

/// Prints diagnostics on standard error; the exit code of a configuration that is wrong.
pub fn complain_of(diagnostics: &Diagnostics) -> ExitCode {
    complain(&render::render(diagnostics, color_for(&io::stderr())))
}

/// Prints a failure on standard error; its exit code.
pub fn complain(message: &str) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::FAILURE
}

/// Prints a result on standard output. A reader that has seen enough (`| head`) is no failure.
pub fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => complain(&format!("error: cannot print: {error}")),
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_contract_is_there() {
        for line in [
            "run -c a.yaml",
            "demo",
            "check -c a.yaml --json --deny-warnings",
            "explain GET http://a/b -H k:v -H x:y",
            "status --json",
            "drain",
            "drain shop/10.0.0.1:5000 --wait 30s",
            "undrain shop/10.0.0.1:5000",
            "status shop --json",
            "top",
            "events shop --follow",
            "scale shop=3 --wait 60s",
            "scale shop=auto",
            "config show --defaults",
            "schema",
            "init",
            "completions bash",
            "man",
            "healthcheck",
            "version",
        ] {
            let args = std::iter::once("portway").chain(line.split(' '));
            assert!(Cli::try_parse_from(args).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_wrong_command_line_ends_with_two() {
        for line in [
            "portway",
            "portway rum",
            "portway check --jsno",
            "portway explain GET",
            "portway drain shop",
            "portway drain --wait 1s",
            "portway drain shop/a:1 --wait 5",
            "portway undrain",
            "portway scale shop",
            "portway scale shop=-1",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        assert_eq!(Cli::try_parse_from(["portway", "--help"]).unwrap_err().exit_code(), 0);
    }

    #[test]
    fn a_named_file_wins_over_the_usual_places() {
        let args = FileArgs { config: Some("x.yaml".into()) };
        assert_eq!(args.path(), Ok("x.yaml".into()));
    }
}
