//! Where a running instance is asked: as named, as its configuration says, or at the default address.
//! Promises to read a configuration only if nobody named the address, and to send a token nowhere but where it belongs.
//! It asks nothing itself: that is `admin_client`.

use std::net::ToSocketAddrs as _;
use std::path::Path;

use clap::Args;

use super::FileArgs;
use crate::config::checked::{Admin, ListenAddress};
use crate::config::defaults;
use crate::config::expand::ProcessEnvironment;
use crate::config::load;

/// Which running instance.
#[derive(Args, Clone, Debug, Default)]
pub struct InstanceArgs {
    /// Its configuration, which says where its admin listener is.
    #[command(flatten)]
    pub file: FileArgs,
    /// The address of its admin listener, in place of the one in the configuration
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// The token of its admin listener, if it has one; without --admin, the configuration knows it
    #[arg(long, value_name = "TOKEN", env = "PORTWAY_ADMIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

impl InstanceArgs {
    /// Where the instance is asked. The message is for people and whole.
    pub fn admin(&self) -> Result<Admin, String> {
        if let Some(address) = &self.admin {
            return Ok(Admin { address: admin_address(address)?, token: self.token() });
        }
        let Ok(path) = self.file.path() else {
            return Ok(Admin { address: admin_address(defaults::ADMIN)?, token: self.token() });
        };
        let admin = configured(&path)?;
        Ok(Admin { token: self.token().or(admin.token), ..admin })
    }

    /// An empty variable is what Compose makes of one that is not set.
    fn token(&self) -> Option<String> {
        self.token.clone().filter(|token| !token.is_empty())
    }
}

fn configured(path: &Path) -> Result<Admin, String> {
    let file = path.display();
    let diagnostics = match load::read(path, &ProcessEnvironment) {
        Ok(loaded) => {
            return loaded
                .config
                .admin
                .ok_or_else(|| format!("error: {file} says `admin: off`, so there is nobody to ask"));
        }
        Err(diagnostics) => diagnostics,
    };
    let first = diagnostics.list.first().map(ToString::to_string).unwrap_or_default();
    // When the file is wrong, people need the instance that goes on with the last one that was right.
    match load::admin(path, &ProcessEnvironment) {
        Some(admin) => {
            eprintln!("warning: {first}\nthe instance at {} is asked all the same", admin.address);
            Ok(admin)
        }
        None => Err(format!(
            "error: {first}\nsee all of it with `portway check -c {file}`, or say where to ask with `--admin ADDRESS`"
        )),
    }
}

fn admin_address(text: &str) -> Result<ListenAddress, String> {
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(ListenAddress::Unix(path.into()));
    }
    // What is copied from a browser is understood as well.
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let address = bare.strip_prefix(':').map_or_else(|| bare.to_owned(), |port| format!("127.0.0.1:{port}"));
    if let Ok(address) = address.parse() {
        return Ok(ListenAddress::Tcp(address));
    }
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !has_port {
        return Err(format!("error: {text:?} is no admin address: write host:port, :port or unix:PATH"));
    }
    let resolved = address.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    resolved.map(ListenAddress::Tcp).ok_or_else(|| format!("error: {text:?} cannot be resolved to an address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_admin_address_is_understood() {
        for (text, expected) in [
            ("127.0.0.1:9900", "127.0.0.1:9900"),
            (":9900", "127.0.0.1:9900"),
            ("[::1]:9900", "[::1]:9900"),
            ("http://127.0.0.1:9900/", "127.0.0.1:9900"),
            ("unix:/run/portway.sock", "unix:/run/portway.sock"),
        ] {
            assert_eq!(admin_address(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "9900", "localhost", "host:99999", "unix:"] {
            assert!(admin_address(text).unwrap_err().contains("is no admin address"), "{text}");
        }
    }

    #[test]
    fn a_named_address_needs_no_configuration() {
        let file = FileArgs { config: Some("/nowhere/portway.yaml".into()) };
        let args = InstanceArgs { file, admin: Some(":1".to_owned()), token: Some("t".to_owned()) };
        let admin = args.admin().unwrap();
        assert_eq!((admin.address.to_string().as_str(), admin.token.as_deref()), ("127.0.0.1:1", Some("t")));
    }

    #[test]
    fn a_configuration_that_cannot_be_read_says_what_else_to_do() {
        let file = FileArgs { config: Some("/nowhere/portway.yaml".into()) };
        let message = InstanceArgs { file, ..InstanceArgs::default() }.admin().unwrap_err();
        assert!(message.contains("cannot read /nowhere/portway.yaml"), "{message}");
        assert!(message.contains("--admin"), "{message}");
    }
}
