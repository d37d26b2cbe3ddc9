//! The dashboard in a real browser: Chromium, without a screen, over the real admin listener.
//! It checks what a person would read there and that the page's own policy lets it work. Where there is no Chromium, it
//! says so and checks nothing (`PORTWAY_REQUIRE=chromium` makes that a failure).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Launch, Origin, PATIENCE, Portway, Scratch, eventually, free_address, require};

/// Long enough for two looks of the page, in its own time.
const VIRTUAL_TIME: &str = "--virtual-time-budget=5000";

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found =
        std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|p| p.is_file());
    require("chromium", found.ok_or_else(|| format!("none of {} is in PATH", names.join(", "))))
}

/// What stands in the page after its script has run, without the script, and what it complained of.
fn opened(chromium: &Path, scratch: &Scratch, url: &str) -> (String, String) {
    let mut command = Command::new("timeout");
    command.arg("60").arg(chromium);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args(["--enable-logging=stderr", VIRTUAL_TIME, "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", scratch.0.join("browser").display())).arg(url);
    let output = command.stdin(Stdio::null()).output().expect("`timeout` is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let complaints = text(&output.stderr);
    let complaints: Vec<&str> = complaints.lines().filter(|line| line.contains("CONSOLE")).collect();
    let page = text(&output.stdout);
    let seen = page.split("<script>").next().unwrap_or_default().to_owned();
    (seen, complaints.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_services_their_state_and_events_and_complains_of_nothing() {
    let Some(chromium) = chromium() else { return };
    let origin = Origin::hello("hello").await;
    let yaml = format!(
        "services:\n  shop: {{ route: /shop, backends: [\"{}\"] }}\n  www: {{ route: {{ host: www.example.com, redirect: \"https://shop.example.com/\" }} }}\n",
        origin.address
    );
    let portway = Portway::start(&yaml).await;
    assert_eq!(portway.get("/shop").await.status, 200);
    let scratch = Scratch::new();
    let (page, complaints) = opened(&chromium, &scratch, &format!("http://{}/", portway.admin));
    for part in ["1/1 ready", ">shop<", ">/shop<", &origin.address.to_string(), ">www<", "generation 1", ">ready<"] {
        assert!(page.contains(part), "no {part:?} in\n{page}");
    }
    assert!(page.contains("generation=1"), "no events in\n{page}");
    assert!(page.contains("<div id=\"notice\" role=\"status\"></div>"), "something is noted in\n{page}");
    assert_eq!(complaints, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_asked_for_the_token() {
    let Some(chromium) = chromium() else { return };
    let admin = free_address();
    let yaml = format!(
        "admin: {{ address: \"{admin}\", token: s3cret }}\nservices: {{ web: {{ backends: [\"127.0.0.1:1\"] }} }}\n"
    );
    let _portway = Portway::spawn(Launch { yaml: &yaml, ..Launch::default() });
    eventually(PATIENCE, "the admin listener", || async { tokio::net::TcpStream::connect(admin).await.is_ok() }).await;
    let (page, _) = opened(&chromium, &Scratch::new(), &format!("http://{admin}/"));
    assert!(page.contains("admin token") && !page.contains(">web<"), "{page}");
}
