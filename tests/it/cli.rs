//! The commands that need no running instance, as a shell sees them: what they print where, and how they exit.
//! What the messages say is tested beside the language; here it is the real binary, and the time it takes.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::Scratch;

/// The promise for a release build is one second; a debug build on a busy machine gets more.
const MOMENT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 40 } else { 1 });

fn portway(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
    command.args(line.split_whitespace()).current_dir(folder);
    for name in ["PORTWAY_CONFIG", "NO_COLOR", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.output().expect("the binary can be run")
}

/// Exit code, standard output and standard error.
fn run(folder: &Path, line: &str) -> (i32, String, String) {
    let output = portway(folder, line);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("portway prints UTF-8");
    (output.status.code().expect("it exits"), text(output.stdout), text(output.stderr))
}

fn folder_with(text: &str) -> Scratch {
    let folder = Scratch::new();
    std::fs::write(folder.0.join("portway.yaml"), text).expect("the file can be written");
    folder
}

const GOOD: &str = "services: { web: { backends: [\"127.0.0.1:5000\"] } }\n";
const ODD: &str = "services: { web: { backends: [\"127.0.0.1:5000\"], queue: { size: 500 } } }\n";

#[test]
fn check_says_what_a_good_file_holds() {
    let folder = folder_with(GOOD);
    let want = "portway.yaml: ok (1 service, 1 backend, 1 route, 1 listener)\n";
    assert_eq!(run(&folder.0, "check"), (0, want.to_owned(), String::new()));
}

#[test]
fn check_draws_mistakes_on_standard_error_without_colour() {
    let folder = folder_with("services:\n  shop:\n    helth: /x\n    backends: [a:1]\n");
    let want = "\
error: unknown key `helth` in service `shop`
 --> portway.yaml:3:5
  |
3 |     helth: /x
  |     ^^^^^ did you mean `health`?
  |
  = at: services.shop.helth
portway.yaml: 1 error, 0 warnings
";
    assert_eq!(run(&folder.0, "check"), (1, String::new(), want.to_owned()));
    assert_eq!(run(&folder.0, "run"), (1, String::new(), want.to_owned()), "run refuses what check refuses");
}

#[test]
fn check_prints_json_for_machines() {
    let folder = folder_with("services: { shop: { helth: /x, backends: \"a:1\" } }\n");
    let (code, stdout, stderr) = run(&folder.0, "check --json");
    assert_eq!((code, stderr.as_str()), (1, ""));
    let json: serde_json::Value = serde_json::from_str(&stdout).expect("it is JSON");
    let want = serde_json::json!([{
        "severity": "error", "path": "services.shop.helth", "file": "portway.yaml", "line": 1, "column": 21,
        "message": "unknown key `helth` in service `shop`", "help": "did you mean `health`?",
    }]);
    assert_eq!(json, want);
    assert_eq!(run(&folder_with(GOOD).0, "check --json"), (0, "[]\n".to_owned(), String::new()));
}

#[test]
fn warnings_fail_only_on_request() {
    let folder = folder_with(ODD);
    let (code, stdout, stderr) = run(&folder.0, "check");
    assert_eq!(code, 0);
    assert!(stdout.starts_with("portway.yaml: ok ("), "{stdout}");
    assert!(stderr.contains("warning: this queue is never used"), "{stderr}");
    let (code, stdout, _) = run(&folder.0, "check --deny-warnings");
    assert_eq!((code, stdout.as_str()), (1, ""));
}

#[test]
fn the_file_is_named_by_option_then_environment_then_place() {
    let folder = folder_with(GOOD);
    std::fs::write(folder.0.join("other.yaml"), ODD).expect("the file can be written");
    assert!(run(&folder.0, "check -c other.yaml").1.starts_with("other.yaml: ok"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
    command.arg("check").current_dir(&folder.0).env("PORTWAY_CONFIG", "other.yaml");
    let output = command.output().expect("the binary can be run");
    assert!(output.stdout.starts_with(b"other.yaml: ok"));
    let (code, _, stderr) = run(&folder.0, "check -c nowhere.yaml");
    assert_eq!(code, 1);
    assert!(stderr.starts_with("error: cannot read nowhere.yaml: no such file or directory\n"), "{stderr}");
    let empty = Scratch::new();
    let (code, _, stderr) = run(&empty.0, "check");
    if !Path::new("/etc/portway/portway.yaml").exists() {
        assert_eq!(code, 1);
        assert!(stderr.contains("neither ./portway.yaml nor /etc/portway/portway.yaml is there"), "{stderr}");
    }
}

#[test]
fn a_wrong_command_line_exits_with_two() {
    let folder = Scratch::new();
    for line in ["", "chekc", "check --jsn", "explain GET", "completions cobol"] {
        let (code, stdout, stderr) = run(&folder.0, line);
        assert_eq!((code, stdout.as_str()), (2, ""), "{line}");
        assert!(stderr.contains("Usage") || stderr.contains("--help"), "{stderr}");
    }
    assert_eq!(run(&folder.0, "--help").0, 0);
    assert_eq!(run(&folder.0, "--version").1, run(&folder.0, "version").1);
}

#[test]
fn init_writes_a_file_that_check_takes_and_never_overwrites_one() {
    let folder = Scratch::new();
    let (code, stdout, _) = run(&folder.0, "init");
    assert_eq!(code, 0);
    assert!(stdout.contains("wrote portway.yaml"), "{stdout}");
    assert_eq!(run(&folder.0, "check").0, 0);
    let (code, _, stderr) = run(&folder.0, "init");
    assert_eq!(code, 1);
    assert!(stderr.starts_with("error: portway.yaml is there already"), "{stderr}");
    assert!(run(&folder.0, "init more.yaml").1.contains("portway check -c more.yaml"));
}

#[test]
fn what_config_show_prints_is_a_configuration() {
    let folder = folder_with(ODD);
    for line in ["config show", "config show --defaults"] {
        let (code, stdout, _) = run(&folder.0, line);
        assert_eq!(code, 0);
        std::fs::write(folder.0.join("shown.yaml"), &stdout).expect("the file can be written");
        assert_eq!(run(&folder.0, "check -c shown.yaml").0, 0, "{stdout}");
        assert_eq!(run(&folder.0, &format!("{line} -c shown.yaml")).1, stdout);
    }
}

#[test]
fn schema_completions_and_manual_go_to_standard_output() {
    let folder = Scratch::new();
    let (code, schema, _) = run(&folder.0, "schema");
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("the schema is JSON");
    assert_eq!((code, &schema["title"]), (0, &"Portway configuration".into()));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, script, _) = run(&folder.0, &format!("completions {shell}"));
        assert!(code == 0 && script.contains("healthcheck"), "{shell}");
    }
    let (code, page, _) = run(&folder.0, "man");
    assert!(code == 0 && page.contains(".TH portway 1"), "{page}");
}

#[test]
fn a_thousand_services_are_checked_in_a_moment() {
    let mut text = "services:\n".to_owned();
    for n in 0..1_000 {
        let port = 1_000 + n;
        let backends = format!("10.0.0.1:{port}, 10.0.0.2:{port}, 10.0.0.3:{port}");
        writeln!(text, "  s{n}:\n    route: s{n}.example.com/\n    timeout: 5s\n    backends: [{backends}]")
            .expect("it fits");
    }
    let folder = folder_with(&text);
    let begun = tokio::time::Instant::now();
    let want = "portway.yaml: ok (1000 services, 3000 backends, 1000 routes, 1 listener)\n";
    assert_eq!(run(&folder.0, "check").1, want);
    assert!(begun.elapsed() < MOMENT, "{:?}", begun.elapsed());
}

#[test]
fn hostile_files_end_in_an_error_in_a_moment() {
    let nine = |name: &str| vec![format!("*{name}"); 9].join(",");
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for pair in ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"] {
        let (last, name) = pair.split_at(1);
        writeln!(bomb, "{name}: &{name} [{}]", nine(last)).expect("it fits");
    }
    let files: [(&str, Vec<u8>); 8] = [
        ("10,000 deep", "[".repeat(10_000).into_bytes()),
        ("a megabyte deep", "{a: ".repeat(1 << 18).into_bytes()),
        ("50 MB", b"services: {}\n".repeat(4 << 20)),
        ("alias bomb", bomb.into_bytes()),
        ("one line", format!("services: {{ a: {{ backends: [{}] }} }}", "h,".repeat(400_000)).into_bytes()),
        ("duplicates", b"a: 1\n".repeat(200_000)),
        ("unknown keys", (0..80_000).map(|n| format!("k{n}: 1\n")).collect::<String>().into_bytes()),
        ("NUL", b"services: \0".to_vec()),
    ];
    for (name, bytes) in files {
        let folder = Scratch::new();
        std::fs::write(folder.0.join("portway.yaml"), bytes).expect("the file can be written");
        let begun = tokio::time::Instant::now();
        let (code, _, stderr) = run(&folder.0, "check");
        assert!(begun.elapsed() < MOMENT, "{name}: {:?}", begun.elapsed());
        assert_eq!(code, 1, "{name}");
        assert!(stderr.starts_with("error: ") && stderr.contains(" portway.yaml:"), "{name}: {stderr}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = folder_with(GOOD);
    let line = format!("{} schema | head -c 1; echo \"${{PIPESTATUS[0]}}\"", env!("CARGO_BIN_EXE_portway"));
    let output = Command::new("bash").args(["-c", &line]).current_dir(&folder.0).output().expect("bash is there");
    assert_eq!((String::from_utf8_lossy(&output.stdout).as_ref(), output.stderr.as_slice()), ("{0\n", &b""[..]));
}
