//! A configuration file that is saved in every way there is: 17 to 21.
//! After each whole and valid save it is the configuration, within two seconds; what is half or wrong never is.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::version::{Version, Watcher};
use crate::stage::load::Load;
use crate::stage::scenario::{Form, Scenario, Stage};
use crate::support::{eventually, exchange};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "editor-saves",
        number: "17",
        fault: "200 saves as vim, nano, sed, mv, cp and shells do them, in two files, broken ones between",
        bar: "the last whole valid content is active within 2 s, nothing else ever",
        load: Load { rate: 50, ..Load::ORDINARY },
        full_rate: 200,
        play: |stage| Box::pin(editor_saves(stage)),
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "config-map",
        number: "18",
        fault: "200 swaps of `..data`, as Kubernetes does them, the old directory removed",
        bar: "each active within 2 s",
        load: Load { rate: 50, ..Load::ORDINARY },
        full_rate: 200,
        play: |stage| Box::pin(config_map(stage)),
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "partial-writes",
        number: "19",
        fault: "a file written in pieces over 3 s, cut short, removed with its directory",
        bar: "the old configuration stays until the file is whole; said once",
        load: Load { rate: 50, ..Load::ORDINARY },
        full_rate: 200,
        play: |stage| Box::pin(partial_writes(stage)),
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "bad-files",
        number: "20",
        fault: "syntax errors, unknown keys, a port in use, an alias bomb, 50 MB",
        bar: "422 with the place; no part applied, nobody notices",
        load: Load { rate: 100, ..Load::ORDINARY },
        full_rate: 200,
        play: |stage| Box::pin(bad_files(stage)),
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "lost-events",
        number: "21",
        fault: "inotify's queue overflows; no watch is to be had at all",
        bar: "a change is seen within 5 s all the same",
        load: Load { rate: 50, ..Load::ORDINARY },
        full_rate: 200,
        play: |stage| Box::pin(lost_events(stage)),
        ..Scenario::ORDINARY
    },
];

/// A save has to be active after so long.
const ACTIVE_WITHIN: Duration = Duration::from_secs(2);
/// The poll that finds what no event told, with the time of the look itself.
const POLLED_WITHIN: Duration = Duration::from_millis(6_500);

/// Ways to save a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Renames the old one away, writes a new one, removes the old one.
    Vim,
    /// Truncates and writes.
    Nano,
    /// A real `sed -i`.
    Sed,
    /// Renamed over from the same directory.
    Rename,
    /// A real `cp`.
    Copy,
    /// `: > file`, a pause, and then the content.
    TruncateFirst,
    /// Written, then `chmod` and `touch`.
    Touch,
    /// Removed, and there again after a while.
    Recreate,
}

impl Way {
    const ALL: [Way; 8] =
        [Way::Vim, Way::Nano, Way::Sed, Way::Rename, Way::Copy, Way::TruncateFirst, Way::Touch, Way::Recreate];

    async fn save(self, file: &Path, text: &str, gone_for: Duration) {
        let beside = file.with_extension("beside");
        let written = |path: &Path| fs::write(path, text).expect("the scratch directory can be written");
        match self {
            Way::Vim => {
                fs::rename(file, file.with_extension("yaml~")).expect("it is there");
                written(file);
                fs::remove_file(file.with_extension("yaml~")).expect("just renamed");
            }
            Way::Nano => written(file),
            Way::Sed => {
                // The whole text comes from another file, through a real `sed -i`: temporary file, rename.
                written(&beside);
                let script = format!("1r {}\n1,$d", beside.display());
                run("sed", &["-i", "-e", &script, &file.display().to_string()]);
                if fs::read_to_string(file).unwrap_or_default() != text {
                    fs::rename(&beside, file).expect("both are in one directory");
                }
                fs::remove_file(&beside).ok();
            }
            Way::Rename => {
                written(&beside);
                fs::rename(&beside, file).expect("both are in one directory");
            }
            Way::Copy => {
                written(&beside);
                run("cp", &[&beside.display().to_string(), &file.display().to_string()]);
                fs::remove_file(&beside).expect("just written");
            }
            Way::TruncateFirst => {
                fs::write(file, "").expect("the scratch directory can be written");
                tokio::time::sleep(Duration::from_millis(50)).await;
                written(file);
            }
            Way::Touch => {
                written(file);
                run("chmod", &["640", &file.display().to_string()]);
                run("touch", &[&file.display().to_string()]);
            }
            Way::Recreate => {
                fs::remove_file(file).expect("it is there");
                tokio::time::sleep(gone_for).await;
                written(file);
            }
        }
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {arguments:?}");
}

/// The two files of these scenarios and what each says.
struct Files {
    main: PathBuf,
    included: PathBuf,
    numbers: [usize; 2],
}

/// Where each file says its number.
const NAMES: [&str; 2] = ["version", "included"];

impl Files {
    /// Writes both and waits until they are the configuration.
    async fn begin(stage: &mut Stage) -> Self {
        let directory = stage.front.portway().directory().to_owned();
        fs::create_dir_all(directory.join("more")).expect("the scratch directory can be written");
        let main = directory.join("portway.yaml");
        let files = Self { main, included: directory.join("more/included.yaml"), numbers: [1, 1] };
        stage.site.top += "\ninclude: [more/*.yaml]";
        fs::write(&files.included, files.text(stage, 1)).expect("the directory can be written");
        fs::write(&files.main, files.text(stage, 0)).expect("the directory can be written");
        for name in NAMES {
            let took = active_after(stage, name, 1, POLLED_WITHIN).await;
            stage.findings.require(took.is_some(), format!("the first save of {name} is not active"));
        }
        files
    }

    fn text(&self, stage: &mut Stage, idx: usize) -> String {
        let version = Version::service(NAMES[idx], self.numbers[idx]);
        if idx == 1 {
            return format!("services:\n{version}");
        }
        stage.site.more = version;
        stage.front.portway_text(&stage.site)
    }

    fn path(&self, idx: usize) -> &Path {
        if idx == 0 { &self.main } else { &self.included }
    }
}

/// How long it takes until `/NAME` says `number`; `None` if it is longer than `limit`.
async fn active_after(stage: &Stage, name: &str, number: usize, limit: Duration) -> Option<Duration> {
    let began_at = Instant::now();
    while Version::at(stage.front.address, name).await != Some(number) {
        if began_at.elapsed() > limit {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Some(began_at.elapsed())
}

async fn editor_saves(stage: &mut Stage) {
    let mut files = Files::begin(stage).await;
    let watchers = NAMES.map(|name| Watcher::start(stage.front.address, name));
    let mut slowest = Duration::ZERO;
    let n_rounds = stage.pick(Way::ALL.len(), 200);
    for round in 0..n_rounds {
        let way = Way::ALL[round % Way::ALL.len()];
        let idx = stage.random.usize(0..2);
        let gone_for = stage.pick(Duration::from_millis(300), Duration::from_secs(5));
        if stage.random.bool() {
            spoil(stage, &files, idx, way, gone_for).await;
        }
        files.numbers[idx] += 1;
        let text = files.text(stage, idx);
        way.save(files.path(idx), &text, gone_for).await;
        match active_after(stage, NAMES[idx], files.numbers[idx], ACTIVE_WITHIN * 3).await {
            Some(took) => slowest = slowest.max(took),
            None => stage.findings.require(false, format!("round {round}: {way:?} of {} is never active", NAMES[idx])),
        }
        for (watcher, number) in watchers.iter().zip(files.numbers) {
            let seen = watcher.take().await;
            // A file of a directory that is included as a whole may go: that is how its services are removed.
            let may_be_gone = way == Way::Recreate && idx == 1;
            let is_known = |seen: &Option<usize>| match seen {
                Some(seen) => *seen == number || seen + 1 == number,
                None => may_be_gone,
            };
            stage.findings.require(seen.iter().all(is_known), format!("round {round}, {way:?}: saw {seen:?}"));
        }
    }
    for watcher in watchers {
        watcher.stop().await;
    }
    stage.findings.measure(format!("{n_rounds} saves, each active after {slowest:.0?} at most"));
    stage.findings.require(slowest <= ACTIVE_WITHIN, format!("a save was active only after {slowest:?}"));
}

/// Saves something that is no configuration, and leaves it there for longer than a look takes.
async fn spoil(stage: &mut Stage, files: &Files, idx: usize, way: Way, gone_for: Duration) {
    let text = files.text(stage, idx);
    let broken = match stage.random.u8(0..4) {
        0 => text[..text.len() / 2].to_owned() + "\n  : [",
        1 => text.replace("redirect", "redirekt"),
        2 => format!("{text}\n\tx: 1\n"),
        _ => format!("{text}\nservices: {{}}\n"),
    };
    way.save(files.path(idx), &broken, gone_for).await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    let seen = Version::at(stage.front.address, NAMES[idx]).await;
    let is_known = seen == Some(files.numbers[idx]) || (way == Way::Recreate && idx == 1 && seen.is_none());
    stage.findings.require(is_known, format!("{seen:?} after broken content by {way:?}"));
}

/// kubelet's AtomicWriter: the payload in a directory of its own, `..data` renamed over to point to it.
async fn config_map(stage: &mut Stage) {
    let file = stage.front.portway().directory().join("portway.yaml");
    let volume = stage.front.portway().directory().join("volume");
    fs::create_dir_all(&volume).expect("the scratch directory can be written");
    let (mut former, mut slowest) = (None::<PathBuf>, Duration::ZERO);
    let n_swaps = stage.pick(6, 200);
    for number in 1..=n_swaps {
        let payload = volume.join(format!("..{number}"));
        fs::create_dir(&payload).expect("the scratch directory can be written");
        stage.site.more = Version::service("version", number);
        let text = stage.front.portway_text(&stage.site);
        fs::write(payload.join("portway.yaml"), text).expect("the scratch directory can be written");
        symlink(payload.file_name().expect("it has one"), volume.join("..data_tmp")).expect("a link can be made");
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("both are in one directory");
        if number == 1 {
            // From a plain file to a link to a link, as a Pod sees it.
            symlink("..data/portway.yaml", volume.join("portway.yaml")).expect("a link can be made");
            symlink("volume/portway.yaml", file.with_extension("link")).expect("a link can be made");
            fs::rename(file.with_extension("link"), &file).expect("both are in one directory");
        }
        match active_after(stage, "version", number, ACTIVE_WITHIN * 3).await {
            Some(took) => slowest = slowest.max(took),
            None => stage.findings.require(false, format!("swap {number} is never active")),
        }
        if let Some(former) = former.replace(payload) {
            stage.rest(Duration::from_millis(50), Duration::from_millis(500)).await;
            fs::remove_dir_all(former).expect("nobody else removes it");
        }
    }
    stage.findings.measure(format!("{n_swaps} swaps, each active after {slowest:.0?} at most"));
    stage.findings.require(slowest <= ACTIVE_WITHIN, format!("a swap was active only after {slowest:?}"));
}

async fn partial_writes(stage: &mut Stage) {
    let file = stage.front.portway().directory().join("portway.yaml");
    stage.site.more = Version::service("version", 1);
    fs::write(&file, stage.front.portway_text(&stage.site)).expect("the scratch directory can be written");
    active_after(stage, "version", 1, POLLED_WITHIN).await;
    let watcher = Watcher::start(stage.front.address, "version");

    for number in 2..=stage.pick(2, 6) {
        // Valid YAML wherever it is cut, but for the number at its end: a part that is applied answers without one.
        let filler: String = (0..300).map(|n| format!("# {n} a line that says nothing at all\n")).collect();
        stage.site.more = format!("{filler}{}", Version::service("version", number));
        let text = stage.front.portway_text(&stage.site);
        write_slowly(&file, &text, stage.pick(Duration::from_millis(50), Duration::from_millis(250))).await;
        let took = active_after(stage, "version", number, ACTIVE_WITHIN * 3).await;
        stage.findings.require(took.is_some_and(|took| took <= ACTIVE_WITHIN), format!("active after {took:?}"));
    }
    let current = stage.pick(2, 6);
    lose_the_file(stage, &file, current).await;
    let seen = watcher.take().await;
    watcher.stop().await;
    let is_known = |seen: &Option<usize>| seen.is_some_and(|seen| seen <= current + 1);
    stage.findings.require(seen.iter().all(is_known), format!("saw {seen:?}: a part of a file was applied"));
}

/// In pieces of 1 KiB, the file open all the while, as a slow program or a network file system does.
async fn write_slowly(file: &Path, text: &str, pause: Duration) {
    let mut open = OpenOptions::new().write(true).truncate(true).open(file).expect("it is there");
    for piece in text.as_bytes().chunks(1_024) {
        open.write_all(piece).expect("the scratch directory can be written");
        tokio::time::sleep(pause).await;
    }
}

/// A write that ended early, as on a full disk; then the file away for longer than a poll; then all is well.
async fn lose_the_file(stage: &mut Stage, file: &Path, current: usize) {
    let text = stage.front.portway_text(&stage.site);
    fs::write(file, &text[..text.len() - 4]).expect("the scratch directory can be written");
    stage.rest(Duration::from_millis(500), Duration::from_secs(12)).await;
    fs::rename(file, file.with_extension("away")).expect("both are in one directory");
    stage.rest(Duration::from_millis(500), Duration::from_secs(12)).await;
    let seen = Version::at(stage.front.address, "version").await;
    stage.findings.require(seen == Some(current), format!("{seen:?} while the file is away"));
    stage.site.more = Version::service("version", current + 1);
    fs::write(file, stage.front.portway_text(&stage.site)).expect("the scratch directory can be written");
    let took = active_after(stage, "version", current + 1, POLLED_WITHIN).await;
    stage.findings.require(took.is_some(), "not active once the file was whole again");
    let stderr = stage.front.stderr();
    let n_said = stderr.matches("portway.yaml").count();
    stage.findings.measure(format!("{n_said} words about the file in the log"));
    stage.findings.require(n_said <= 60, format!("the log repeats itself:\n{stderr}"));
}

async fn bad_files(stage: &mut Stage) {
    let file = stage.front.portway().directory().join("portway.yaml");
    stage.site.more = Version::service("version", 1);
    let site = stage.site.clone();
    stage.front.apply(&site).await;
    let good = stage.front.portway_text(&stage.site);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    for (what, bad) in bad_texts(&good, taken.local_addr().expect("bound"), stage.form) {
        fs::write(&file, bad).expect("the scratch directory can be written");
        let began_at = Instant::now();
        let answer = ask_to_reload(stage).await;
        let took = began_at.elapsed();
        stage.findings.require(answer.starts_with("HTTP/1.1 422 "), format!("{what}: {answer}"));
        stage.findings.require(took <= Duration::from_secs(10), format!("{what}: the answer took {took:?}"));
        let seen = Version::at(stage.front.address, "version").await;
        stage.findings.require(seen == Some(1), format!("{what}: {seen:?} answers"));
    }
    let success = stage.front.portway().metrics().await.sum("portway_config_last_reload_success", &[]);
    stage.findings.require(success == 0.0, "the gauge does not show that the last reload failed");
    stage.site.more = Version::service("version", 2);
    let site = stage.site.clone();
    stage.front.apply(&site).await;
    let seen = Version::at(stage.front.address, "version").await;
    stage.findings.require(seen == Some(2), format!("{seen:?} after the mistakes were mended"));
}

/// Every kind of mistake, with its name.
fn bad_texts(good: &str, taken: std::net::SocketAddr, form: Form) -> Vec<(&'static str, String)> {
    let listen = good.lines().next().expect("a file begins with a line");
    let without_listen = good.replacen(listen, "", 1);
    let address = listen.trim_start_matches("listen: ");
    let mut bomb = String::from("x-a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..=9 {
        let alias = format!("*a{}, ", n - 1).repeat(9);
        bomb += &format!("x-a{n}: &a{n} [{}]\n", alias.trim_end_matches(", "));
    }
    let mut texts = vec![
        ("half a file", good[..good.len() / 2].to_owned() + "\n  : ["),
        ("an unknown key", format!("{good}\nwat: 1\n")),
        ("a duplicate key", format!("{good}\nservices: {{}}\n")),
        ("an empty file", String::new()),
        ("a listener twice", format!("listen: [{address}, {address}]\n{without_listen}")),
        ("a port in use", format!("listen: [{address}, \"{taken}\"]\n{without_listen}")),
        ("a service without backends", format!("{good}\n  empty: {{ route: /empty }}\n")),
        ("an include that is not there", format!("{good}\ninclude: [nowhere.yaml]\n")),
        ("an alias bomb", format!("{bomb}x-b: *a9\n{good}")),
        ("NUL bytes", format!("{good}\n\0\0\0")),
        ("ten thousand levels", format!("x-deep: {}\n{good}", "[".repeat(10_000))),
    ];
    if form == Form::Full {
        texts.push(("50 MB", format!("{good}\nx-large: \"{}\"\n", "y".repeat(50 << 20))));
    }
    texts
}

async fn ask_to_reload(stage: &mut Stage) -> String {
    let admin = stage.front.portway().admin;
    let reload = "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    String::from_utf8_lossy(&exchange(admin, reload).await.0).into_owned()
}

async fn lost_events(stage: &mut Stage) {
    let file = stage.front.portway().directory().join("portway.yaml");
    let crowd = stage.front.portway().directory().join("crowd");
    let mut slowest = Duration::ZERO;
    for number in 1..=stage.pick(1, 5) {
        // A process that does not run does not read its events; the kernel keeps some thousand and drops the rest.
        stage.front.signal(Signal::STOP);
        for _ in 0..stage.pick(20_000, 50_000) {
            fs::write(&crowd, "").expect("the scratch directory can be written");
            fs::remove_file(&crowd).expect("just written");
        }
        stage.site.more = Version::service("version", number);
        fs::write(&file, stage.front.portway_text(&stage.site)).expect("the scratch directory can be written");
        stage.front.signal(Signal::CONT);
        match active_after(stage, "version", number, POLLED_WITHIN * 2).await {
            Some(took) => slowest = slowest.max(took),
            None => stage.findings.require(false, format!("change {number} is never active")),
        }
    }
    stage.findings.measure(format!("active after {slowest:.1?} at most though the queue overflowed"));
    stage.findings.require(slowest <= POLLED_WITHIN, format!("active only after {slowest:?}"));
    without_watches(stage).await;
}

/// In a user namespace of its own, which may have no watch at all.
async fn without_watches(stage: &mut Stage) {
    let scratch = stage.directory().join("unwatched");
    fs::create_dir_all(&scratch).expect("the scratch directory can be written");
    let file = scratch.join("portway.yaml");
    let (address, admin) = (crate::support::free_address(), crate::support::free_address());
    let text = |number| {
        let version = Version::service("version", number);
        let web = stage.site.backends[0];
        format!(
            "listen: \"{address}\"\nadmin: \"{admin}\"\naccess_log: off\nservices:\n  web: {{ backends: [\"{web}\"] }}\n{version}"
        )
    };
    fs::write(&file, text(1)).expect("the scratch directory can be written");
    let mut command = Command::new("unshare");
    let script = "echo 0 > /proc/sys/user/max_inotify_watches && echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" run -c \"$1\"";
    command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(crate::support::binary()).arg(&file);
    let log = fs::File::create(scratch.join("log")).expect("the scratch directory can be written");
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(log);
    let Ok(child) = command.spawn() else {
        stage.findings.skipped.push("no watch at all: there is no `unshare`".to_owned());
        return;
    };
    let mut child = crate::support::Guarded(child);
    let began_at = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        if child.exit_status().is_some() || began_at.elapsed() > Duration::from_secs(10) {
            stage.findings.skipped.push("no watch at all: user namespaces are not allowed here".to_owned());
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let says = |number| async move { Version::at(address, "version").await == Some(number) };
    eventually(Duration::from_secs(5), "the first version", || says(1)).await;
    // Not within the first look at what changed while it started.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fs::write(&file, text(2)).expect("the scratch directory can be written");
    let saved_at = Instant::now();
    eventually(Duration::from_secs(20), "the change without any watch", || says(2)).await;
    let took = saved_at.elapsed();
    stage.findings.measure(format!("{took:.1?} without any watch"));
    stage.findings.require(took <= POLLED_WITHIN, format!("active only {took:?} after the save, without any watch"));
}
