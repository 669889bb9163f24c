//! What this host is, as far as a `Hello` tells: cheap facts, read once at start.

use std::path::Path;

use hostler_protocol::FACTS_BYTES_MAX;
use serde::Serialize;

/// The facts document. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    pub hostname: String,
    /// The operating system's own name (`Debian GNU/Linux 12 (bookworm)`).
    pub os: String,
    pub kernel: String,
    pub arch: String,
    /// The agent's version.
    pub agent: String,
    /// Programs found where packages put them, by name.
    pub programs: Vec<Program>,
}

/// A program the agent may work with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    pub name: &'static str,
    pub path: String,
}

const PROGRAMS: [(&str, &[&str]); 2] = [
    ("nginx", &["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/local/nginx/sbin/nginx"]),
    ("redis-server", &["/usr/bin/redis-server", "/usr/local/bin/redis-server"]),
];

impl Facts {
    /// Looks at the host.
    #[must_use]
    pub fn gather() -> Self {
        let uname = rustix::system::uname();
        let os = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self {
            hostname: uname.nodename().to_string_lossy().into_owned(),
            os: pretty_name(&os).unwrap_or_else(|| std::env::consts::OS.to_owned()),
            kernel: uname.release().to_string_lossy().into_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            programs: PROGRAMS.iter().filter_map(|(name, paths)| find(name, paths)).collect(),
        }
    }

    /// The document, never larger than a `Hello` may carry.
    #[must_use]
    pub fn document(&self) -> Vec<u8> {
        let bytes = hostler_protocol::job::write(self);
        if bytes.len() <= FACTS_BYTES_MAX { bytes } else { b"{}".to_vec() }
    }
}

fn find(name: &'static str, paths: &[&str]) -> Option<Program> {
    let path = paths.iter().find(|path| Path::new(path).exists())?;
    Some(Program { name, path: (*path).to_owned() })
}

/// `PRETTY_NAME` of an os-release file
/// (<https://www.freedesktop.org/software/systemd/man/latest/os-release.html>).
fn pretty_name(os_release: &str) -> Option<String> {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let name = line.trim().trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| name.chars().take(128).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_system_is_found_in_its_release_file() {
        let debian = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(debian).unwrap(), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"\"\n"), None);
        assert_eq!(pretty_name(""), None);
    }

    #[test]
    fn facts_are_gathered_and_fit_a_hello() {
        let facts = Facts::gather();
        assert!(!facts.hostname.is_empty() && !facts.kernel.is_empty());
        let value: serde_json::Value = serde_json::from_slice(&facts.document()).unwrap();
        assert_eq!(value["agent"], env!("CARGO_PKG_VERSION"));
    }
}
