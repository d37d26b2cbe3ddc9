//! The command line as a user meets it: every command, its exit code, and the messages that need no manual.
//! It runs the real binary in a folder of its own, with running instances where a command wants one. What the offline
//! commands print is in `cli`; what a command decides is tested next to its code.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Guarded, Metrics, Scratch, binary, eventually, exchange, free_address, get};

/// Every command with what makes it a whole command line.
const COMMANDS: [&str; 20] = [
    "run",
    "demo",
    "check",
    "explain",
    "status",
    "top",
    "events",
    "scale",
    "drain",
    "undrain",
    "reload",
    "diff",
    "rollback",
    "config show",
    "schema",
    "init",
    "completions",
    "man",
    "healthcheck",
    "version",
];

/// What a finished command left.
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(binary());
    command.args(line.split_whitespace()).current_dir(folder).stdin(Stdio::null());
    for variable in ["PORTWAY_CONFIG", "PORTWAY_ADMIN_TOKEN", "RUST_LOG", "PORTWAY_LOG_FORMAT"] {
        command.env_remove(variable);
    }
    command
}

/// Runs `portway LINE` to its end in `folder`.
fn portway(folder: &Path, line: &str) -> Done {
    let output = command(folder, line).output().expect("the binary can be started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Done {
    #[track_caller]
    fn assert(self, code: i32, words: &[&str]) -> Self {
        let Done { code: found, stdout, stderr } = &self;
        assert_eq!(*found, Some(code), "\nstdout: {stdout}\nstderr: {stderr}");
        for word in words {
            assert!(
                stdout.contains(word) || stderr.contains(word),
                "no {word:?} in\nstdout: {stdout}\nstderr: {stderr}"
            );
        }
        self
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_command_explains_itself() {
    let scratch = Scratch::new();
    let help = portway(&scratch.0, "--help").assert(0, &["Usage: portway <COMMAND>"]);
    for line in COMMANDS {
        let first = line.split(' ').next().expect("a word");
        assert!(help.stdout.lines().any(|text| text.trim_start().starts_with(first)), "{line} is not in --help");
        portway(&scratch.0, &format!("{line} --help")).assert(0, &[&format!("Usage: portway {line}")]);
    }
    let without = portway(&scratch.0, "").assert(2, &[]);
    assert!(without.stderr.contains("Usage: portway"), "{}", without.stderr);
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_two() {
    let scratch = Scratch::new();
    portway(&scratch.0, "chekc").assert(2, &["unrecognized subcommand 'chekc'", "'check'"]);
    portway(&scratch.0, "check --jsno").assert(2, &["--json"]);
    portway(&scratch.0, "explain get http://a/").assert(2, &["write GET instead of get"]);
    portway(&scratch.0, "demo --port 99999").assert(2, &["99999"]);
}

#[test]
fn every_configuration_that_ships_is_valid() {
    let mut n_files = 0;
    for entry in fs::read_dir(root().join("config")).expect("it is there") {
        let path = entry.expect("it can be listed").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let done = portway(root(), &format!("check --deny-warnings -c {}", path.display())).assert(0, &[": ok ("]);
        assert_eq!(done.stderr, "", "{}", path.display());
        let again = portway(root(), &format!("config show --defaults -c {}", path.display())).assert(0, &["listen:"]);
        let scratch = Scratch::new();
        fs::write(scratch.0.join("portway.yaml"), again.stdout).expect("it can be written");
        portway(&scratch.0, "check").assert(0, &[]);
        n_files += 1;
    }
    assert!(n_files >= 3, "only {n_files} files");
}

const FOUR_MISTAKES: &str = "\
services:
  shop:
    tiemout: 3s
    route: shop.example.com/
    balance: least_request
    backends:
      - 10.0.0.12
  shop-v2:
    route: shop.example.com/
    backends: [10.0.0.13:5000]
";

#[test]
fn all_mistakes_come_at_once_with_their_place_and_their_cure() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("portway.yaml"), FOUR_MISTAKES).expect("it can be written");
    let done = portway(&scratch.0, "check").assert(1, &[]);
    assert_eq!(done.stdout, "");
    for words in [
        "error: unknown key `tiemout` in service `shop`",
        "portway.yaml:3:5",
        "3 |     tiemout: 3s",
        "^^^^^^^ did you mean `timeout`?",
        "error: \"10.0.0.12\" has no port",
        "portway.yaml:7:9",
        "^^^^^^^^^ write it as 10.0.0.12:5000",
        "\"least_request\"",
        "portway.yaml:5:14",
        "least_requests",
        "error: two routes are the same: `shop` and `shop-v2` both take shop.example.com/",
        "portway.yaml:9:12",
        "first here",
        "to tell them apart",
        "portway.yaml: 4 errors, 0 warnings",
    ] {
        assert!(done.stderr.contains(words), "no {words:?} in\n{}", done.stderr);
    }
    assert!(!done.stderr.contains('\u{1b}'), "colour without a terminal");
    portway(&scratch.0, "run").assert(1, &["did you mean `timeout`?", "4 errors"]);
}

#[test]
fn a_new_user_gets_from_init_to_an_explained_request() {
    let scratch = Scratch::new();
    portway(&scratch.0, "check").assert(1, &["no configuration", "portway init"]);
    portway(&scratch.0, "init").assert(0, &["wrote portway.yaml", "portway check"]);
    let written = fs::read_to_string(scratch.0.join("portway.yaml")).expect("it was written");
    portway(&scratch.0, "init").assert(1, &["is there already", "portway init FILE"]);
    assert_eq!(fs::read_to_string(scratch.0.join("portway.yaml")).expect("still there"), written);
    portway(&scratch.0, "check").assert(0, &["portway.yaml: ok (1 service, 1 backend, 1 route, 1 listener)"]);
    let admin = free_address();
    let line = format!("explain --admin {admin} GET http://anything.example/x?y=1");
    portway(&scratch.0, &line).assert(0, &["service `web`", "GET /x?y=1", "127.0.0.1:5000", "as configured"]);
    portway(&scratch.0, &format!("status --admin {admin}")).assert(1, &["nothing answers at", "portway run"]);
    portway(&scratch.0, &format!("healthcheck --admin {admin}")).assert(1, &["nothing answers at"]);
}

#[test]
fn a_request_without_a_route_ends_with_one_and_names_the_nearest() {
    let front_door = root().join("config/front-door.yaml");
    let line = format!("explain -c {} --admin 127.0.0.1:1 GET http://nobody.example/x", front_door.display());
    portway(root(), &line).assert(1, &["404 no_route", "nearest:", "needs host shop.example.com"]);
}

#[test]
fn a_running_instance_is_asked_where_its_configuration_says_and_with_its_token() {
    let scratch = Scratch::new();
    let (address, admin) = (free_address(), free_address());
    let yaml = format!(
        "listen: \"{address}\"\nadmin: {{ address: \"{admin}\", token: s3cret }}\nservices: {{ web: {{ backends: [\"127.0.0.1:1\"] }} }}\n"
    );
    fs::write(scratch.0.join("portway.yaml"), yaml).expect("it can be written");
    let log = || fs::File::create(scratch.0.join("log")).expect("it can be written");
    let mut running = command(&scratch.0, "run");
    let mut running = Guarded(running.stdout(log()).stderr(log()).spawn().expect("it can be started"));
    // Docker does the same: it asks until the answer is 0.
    for _ in 0..500 {
        if portway(&scratch.0, "healthcheck").code == Some(0) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(portway(&scratch.0, "healthcheck").stderr, "");
    portway(&scratch.0, "status").assert(0, &["portway.yaml", "ready", "SERVICE", "web"]);
    let json = portway(&scratch.0, "status --json").assert(0, &[]).stdout;
    let status: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(status["services"][0]["name"], "web");
    portway(&scratch.0, "status web").assert(0, &["backends as written", "127.0.0.1:1", "IN FLIGHT"]);
    portway(&scratch.0, "status wep").assert(1, &["there is no service `wep`; there are: web"]);
    portway(&scratch.0, "top").assert(0, &["ready", "SERVICE", "web", "EVENTS"]);
    portway(&scratch.0, "events").assert(0, &["ready  generation=1"]);
    portway(&scratch.0, "scale wep=2").assert(1, &["there is no service `wep`; did you mean `web`?"]);
    portway(&scratch.0, "scale web=2").assert(1, &["Portway does not scale service `web`: add `autoscale:"]);
    portway(&scratch.0, "explain GET /x").assert(0, &["127.0.0.1:1", "ready", "in flight 0"]);
    portway(&scratch.0, "explain --live GET /x").assert(0, &["127.0.0.1:1", "ready", "← would be picked"]);
    portway(&scratch.0, &format!("status --admin {admin}")).assert(1, &["wants another token", "--token"]);
    portway(&scratch.0, &format!("status --admin {admin} --token s3cret")).assert(0, &["ready"]);
    portway(&scratch.0, &format!("status --admin {address}")).assert(1, &["error: "]);
    running.signal(Signal::TERM);
    assert_eq!(running.0.wait().expect("it ends").code(), Some(0));
}

#[test]
fn what_is_printed_for_other_programs_is_what_they_read() {
    let scratch = Scratch::new();
    let schema = portway(&scratch.0, "schema").assert(0, &[]);
    let schema: serde_json::Value = serde_json::from_str(&schema.stdout).expect("it is JSON");
    assert!(schema["properties"]["services"].is_object(), "{schema}");
    portway(&scratch.0, "man").assert(0, &[".TH portway 1", ".SH PORTWAY RUN", ".SH EXIT STATUS"]);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        portway(&scratch.0, &format!("completions {shell}")).assert(0, &["healthcheck"]);
    }
    let version = format!("portway {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(portway(&scratch.0, "version").stdout, version);
    assert_eq!(portway(&scratch.0, "--version").stdout, version);
}

#[test]
fn a_taken_port_says_whose_fault_it_is_and_what_to_do() {
    let scratch = Scratch::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let yaml = format!("listen: \"{address}\"\nadmin: off\nservices: {{ web: {{ backends: [\"127.0.0.1:1\"] }} }}\n");
    fs::write(scratch.0.join("portway.yaml"), yaml).expect("it can be written");
    portway(&scratch.0, "run")
        .assert(1, &[&format!("cannot listen on {address}"), "Another process is using it", "ss -ltnp"]);
}

/// A running demo with what it has printed.
struct Demo {
    child: Guarded,
    lines: BufReader<std::process::ChildStdout>,
    printed: String,
}

impl Demo {
    fn start(folder: &Path, line: &str) -> Self {
        let mut child: Child = command(folder, line).stdout(Stdio::piped()).spawn().expect("it can be started");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child: Guarded(child), lines, printed: String::new() }
    }

    /// Reads on until a line has these words.
    fn until(&mut self, words: &str) -> String {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let n_bytes = self.lines.read_line(&mut line).expect("it prints UTF-8");
            assert!(n_bytes > 0, "no {words:?} in\n{}", self.printed);
            self.printed += &line;
        }
        line
    }

    /// The address behind `http://` in the first line that has these words.
    fn address(&mut self, words: &str) -> SocketAddr {
        let line = self.until(words);
        let (_, rest) = line.split_once("http://").expect("a URL");
        rest[..rest.find('/').expect("a path")].parse().expect("an address")
    }
}

#[tokio::test]
async fn the_demo_needs_nothing_shows_what_happens_and_ends_with_zero() {
    let scratch = Scratch::new();
    let mut demo = Demo::start(&scratch.0, "demo --port 0 --rate 40");
    demo.until("services: { web: { backends: [");
    let folder = demo.until("portway.yaml, access.log");
    let folder = folder.split_whitespace().nth(2).expect("the folder").trim_end_matches(':').to_owned();
    let front = demo.address("the front door");
    let admin = demo.address("the dashboard");
    let control = demo.address("curl -X POST");
    let first = demo.until("last second");
    assert!(first.contains("steady") && first.contains("slow") && first.contains("flaky"), "{first}");

    let answer = get(front, "/").await;
    assert!([200, 500].contains(&answer.status), "{answer:?}");
    assert!(answer.get("x-backend").is_some(), "{answer:?}");
    assert!(get(admin, "/").await.text().contains("<html"));
    portway(&scratch.0, &format!("status --admin {admin}")).assert(0, &["3/3 ready", "web"]);
    portway(&scratch.0, &format!("healthcheck --admin {admin}")).assert(0, &[]);
    let line = format!("explain -c {folder}/portway.yaml GET http://{front}/");
    portway(&scratch.0, &line)
        .assert(0, &["service `web`", "in flight", &format!("as the instance at {admin} has them")]);

    // A backend goes and comes back: the front door serves on, and its share goes to the others.
    let switch =
        |word: &str| exchange(control, format!("POST /steady/{word} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    assert!(String::from_utf8_lossy(&switch("stop").await.0).contains("steady is stopped"));
    eventually(Duration::from_secs(10), "a retry at another backend", || async {
        let answer = get(front, "/").await;
        assert!([200, 500].contains(&answer.status), "{answer:?}");
        let metrics = Metrics::parse(get(admin, "/metrics").await.text());
        metrics.sum("portway_retries_total", &[("reason", "connect_refused")]) > 0.0
    })
    .await;
    assert!(String::from_utf8_lossy(&switch("start").await.0).contains("steady is serving"));
    // It may have been ejected meanwhile, for ten seconds.
    eventually(Duration::from_secs(40), "an answer of steady", || async {
        get(front, "/").await.get("x-backend") == Some("steady")
    })
    .await;
    switch("hang").await;

    demo.child.signal(Signal::INT);
    let mut rest = String::new();
    demo.lines.read_to_string(&mut rest).expect("it prints UTF-8");
    let status = demo.child.0.wait().expect("it ends");
    assert_eq!(status.code(), Some(0), "{}{rest}", demo.printed);
    assert!(!Path::new(&folder).exists(), "{folder} was left behind");
}

#[test]
fn the_demo_takes_another_port_if_its_own_is_taken() {
    let scratch = Scratch::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let mut demo = Demo::start(&scratch.0, &format!("demo --rate 0 --port {port}"));
    demo.until(&format!("port {port} is taken: using"));
    demo.until("the front door");
    demo.child.signal(Signal::TERM);
    assert_eq!(demo.child.0.wait().expect("it ends").code(), Some(0));
}

/// The fenced blocks of a Markdown text in this language.
fn blocks(markdown: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if line.trim() == format!("```{language}") {
            blocks.push(
                lines
                    .by_ref()
                    .take_while(|line| line.trim() != "```")
                    .fold(String::new(), |text, line| text + line + "\n"),
            );
        }
    }
    blocks
}

#[test]
fn every_configuration_in_the_readme_is_valid() {
    let blocks = blocks(&read("README.md"), "yaml");
    assert!(!blocks.is_empty());
    for yaml in blocks {
        let scratch = Scratch::new();
        fs::write(scratch.0.join("portway.yaml"), &yaml).expect("it can be written");
        portway(&scratch.0, "check --deny-warnings").assert(0, &[": ok ("]);
    }
}

#[test]
fn every_command_in_the_readme_exists() {
    let readme = read("README.md");
    let scratch = Scratch::new();
    let lines = blocks(&readme, "sh");
    let in_blocks = lines.iter().flat_map(|block| block.lines());
    let inline = readme.split('`').skip(1).step_by(2);
    let mut n_commands = 0;
    for text in in_blocks.chain(inline) {
        let text = text.replace("cargo run --release -- ", "portway ");
        let Some(line) = text.trim().strip_prefix("portway ") else { continue };
        let words: Vec<&str> =
            line.split_whitespace().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase())).collect();
        let known = COMMANDS.iter().any(|command| words.join(" ").starts_with(command));
        assert!(known, "the README names `portway {line}`");
        n_commands += 1;
    }
    assert!(n_commands >= COMMANDS.len() - 2, "only {n_commands} commands in the README");
    portway(&scratch.0, "version").assert(0, &[]);
}

#[test]
fn the_changelog_has_an_entry_for_this_version() {
    let heading = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(read("CHANGELOG.md").lines().any(|line| line.starts_with(&heading)), "no {heading}");
}

#[test]
fn the_top_level_holds_what_it_is_agreed_to_hold() {
    const AGREED: [&str; 10] = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "config",
        "tests",
        "benches",
        "docker",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
    ];
    for entry in fs::read_dir(root()).expect("it can be listed") {
        let name = entry.expect("it can be listed").file_name().to_string_lossy().into_owned();
        let is_output = name == "target";
        assert!(name.starts_with('.') || is_output || AGREED.contains(&name.as_str()), "{name} at the top level");
    }
}
