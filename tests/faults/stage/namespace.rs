//! A network of its own for one backend, so that its packets can vanish like those of a host whose cable was pulled.
//! It promises silence, not errors: no reset, no ICMP. It needs root and iproute2, and says so where they are missing.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

/// A network namespace with one address, and the way to it; both go with the value.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    outside: Ipv4Addr,
    inside: Ipv4Addr,
    /// The hardware address inside: known beforehand, since nobody will answer for it while it is cut off.
    hardware: String,
}

impl Namespace {
    /// Makes one, or says why it cannot.
    pub(crate) fn make() -> Result<Self, String> {
        let id = std::process::id();
        let (high, low) = (u8::try_from(id / 64 % 256).unwrap_or(0), u8::try_from(id % 64 * 4).unwrap_or(0));
        let name = format!("pwf{id}");
        let namespace = Self {
            outside: Ipv4Addr::new(10, 213, high, low + 1),
            inside: Ipv4Addr::new(10, 213, high, low + 2),
            hardware: "02:00:00:0f:a0:17".to_owned(),
            name,
        };
        // A failure half-way drops the value, which takes away what is there.
        namespace.set_up().map(|()| namespace)
    }

    fn set_up(&self) -> Result<(), String> {
        let Self { name, outside, inside, hardware } = self;
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {name}o type veth peer name {name}i address {hardware} netns {name}"))?;
        ip(&format!("addr add {outside}/30 dev {name}o"))?;
        ip(&format!("link set {name}o up"))?;
        ip(&format!("-n {name} addr add {inside}/30 dev {name}i"))?;
        ip(&format!("-n {name} link set {name}i up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("neigh replace {inside} lladdr {hardware} dev {name}o nud permanent"))
    }

    /// Where a backend inside listens.
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        (self.inside, port).into()
    }

    /// Both ways: what arrives is for nobody, and nothing leaves.
    pub(crate) fn cut(&self) {
        let Self { name, inside, .. } = self;
        ip(&format!("-n {name} addr del {inside}/30 dev {name}i")).expect("it has that address");
    }

    /// One way: what arrives is heard, and the answer lost.
    pub(crate) fn silence(&self) {
        let Self { name, outside, .. } = self;
        ip(&format!("-n {name} route add blackhole {outside}/32")).expect("there is no such route yet");
    }

    /// As at the beginning.
    pub(crate) fn heal(&self) {
        let Self { name, inside, outside, .. } = self;
        ip(&format!("-n {name} addr replace {inside}/30 dev {name}i")).expect("an address can be given");
        ip(&format!("-n {name} route del blackhole {outside}/32")).ok();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&format!("link del {}o", self.name)).ok();
        ip(&format!("netns del {}", self.name)).ok();
    }
}

fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split(' ')).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`ip {words}`: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
