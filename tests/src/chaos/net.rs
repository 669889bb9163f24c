//! Networks of the chaos: a bridge the controllers listen on, and a namespace per host that is
//! joined to it. Nothing of it is seen outside the run's own namespaces.

use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::process::Stdio;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::servers::{ServerError, command};

/// Where the controllers listen, and the relay.
pub const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const BRIDGE_NAME: &str = "hchaos0";
const TABLE: &str = "hostler_chaos";

/// Makes the bridge, in the namespace this process is in.
///
/// # Errors
/// What `ip` said.
pub fn bridge() -> Result<(), ServerError> {
    run("ip", &["link", "set", "lo", "up"])?;
    // An address of its own: else it is that of one of its links, another one with each new host.
    run("ip", &["link", "add", BRIDGE_NAME, "address", "02:77:00:00:00:01", "type", "bridge"])?;
    run("ip", &["addr", "add", &format!("{BRIDGE}/16"), "dev", BRIDGE_NAME])?;
    run("ip", &["link", "set", BRIDGE_NAME, "up"])
}

/// A host's network.
#[derive(Debug)]
pub struct Net {
    name: String,
    link: String,
    inside: File,
    outside: File,
}

impl Drop for Net {
    fn drop(&mut self) {
        // The name alone: the namespace itself, with its link, goes with the last of its processes.
        drop(run("ip", &["netns", "del", &self.name]));
        drop(run("ip", &["link", "del", &self.link]));
    }
}

fn enter(namespace: &File) -> rustix::io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
}

/// Packets a host is to lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// 30 of a hundred, in each direction.
    Loss,
    /// All of UDP.
    Udp,
}

impl Net {
    /// Makes the namespace of host `number` and joins it to the bridge.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn make(number: usize) -> Result<Self, ServerError> {
        let name = format!("hchaos-{number}");
        let link = format!("hchaos-v{number}");
        run("ip", &["netns", "add", &name])?;
        let pair = ["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &name];
        run("ip", &pair)?;
        run("ip", &["link", "set", &link, "master", BRIDGE_NAME, "up"])?;
        let address = format!("10.77.{}.{}/16", 1 + number / 200, 1 + number % 200);
        run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
        run("ip", &["-n", &name, "addr", "add", &address, "dev", "eth0"])?;
        run("ip", &["-n", &name, "link", "set", "eth0", "up"])?;
        let open = |path: String| {
            File::open(&path).map_err(|error| ServerError::new(&format!("opening {path}"), error))
        };
        let inside = open(format!("/run/netns/{name}"))?;
        let outside = open("/proc/thread-self/ns/net".to_owned())?;
        Ok(Self { name, link, inside, outside })
    }

    /// Does something in the host's namespace: sockets and programs of it are the host's. The
    /// thread comes back whatever happens.
    ///
    /// # Errors
    /// When the namespace cannot be entered or left.
    pub fn within<T>(&self, act: impl FnOnce() -> T) -> Result<T, ServerError> {
        struct Back<'a>(&'a File);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                if enter(self.0).is_err() {
                    // In the wrong network this process would only do harm.
                    std::process::abort();
                }
            }
        }
        let back = Back(&self.outside);
        enter(&self.inside)
            .map_err(|error| ServerError::new(&format!("entering {}", self.name), error))?;
        let done = act();
        drop(back);
        Ok(done)
    }

    /// Takes the link down or brings it up.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn link_up(&self, up: bool) -> Result<(), ServerError> {
        run("ip", &["link", "set", &self.link, if up { "up" } else { "down" }])
    }

    /// Drops packets of the host from now on.
    ///
    /// # Errors
    /// What `nft` said.
    pub fn filter(&self, filter: Filter) -> Result<(), ServerError> {
        let rule = match filter {
            Filter::Loss => "oifname \"lo\" accept\n numgen random mod 100 < 30 drop",
            Filter::Udp => "oifname \"lo\" accept\n meta l4proto udp drop",
        };
        let inward = rule.replace("oifname", "iifname");
        let rules = format!(
            "table inet {TABLE} {{\n chain inward {{\n type filter hook input priority 0;\n \
             {inward}\n }}\n chain outward {{\n type filter hook output priority 0;\n {rule}\n \
             }}\n}}\n"
        );
        self.nft(&rules)
    }

    /// Lets every packet pass again.
    ///
    /// # Errors
    /// What `nft` said.
    pub fn unfilter(&self) -> Result<(), ServerError> {
        self.nft(&format!("table inet {TABLE}\ndelete table inet {TABLE}\n"))
    }

    fn nft(&self, rules: &str) -> Result<(), ServerError> {
        let failed = |error| ServerError::new("running nft", error);
        let mut nft = command("nft");
        nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.within(|| nft.spawn())?.map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(rules.as_bytes()).map_err(failed)?;
        }
        let out = child.wait_with_output().map_err(failed)?;
        if out.status.success() {
            return Ok(());
        }
        Err(ServerError::new("nft", String::from_utf8_lossy(&out.stderr)))
    }
}

/// Runs a program to its end.
pub(super) fn run(program: &str, args: &[&str]) -> Result<(), ServerError> {
    let told = format!("{program} {}", args.join(" "));
    let out = command(program).args(args).stdin(Stdio::null()).output();
    let out = out.map_err(|error| ServerError::new(&told, error))?;
    if out.status.success() {
        return Ok(());
    }
    Err(ServerError::new(&told, String::from_utf8_lossy(&out.stderr).trim()))
}
