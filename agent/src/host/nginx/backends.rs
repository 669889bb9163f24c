//! The connections nginx's workers have opened to what they pass requests to: each request that
//! PHP works on just now has one, and it closes after the response has been stored.
//!
//! Read from `/proc`: the sockets of the workers, less those they share with the master process
//! (listening sockets, the channels between the two) and less those visitors opened.

use std::collections::BTreeSet;
use std::fs;

use super::Nginx;

/// What the kernel calls a connected socket.
const CONNECTED: &str = "03";
const LISTENING: &str = "0A";
/// What the kernel calls a stream socket.
const STREAM: &str = "0001";

/// Sockets of nginx's workers as they were at one moment, whoever is at their other ends.
#[derive(Debug)]
pub struct OpenSockets {
    master: i32,
    /// Inodes of those that are a worker's alone.
    own: BTreeSet<u64>,
    /// Inodes of the master's.
    shared: BTreeSet<u64>,
}

impl Nginx {
    /// The sockets its workers have open now; `None` where the system does not tell.
    #[must_use]
    pub fn open_sockets(&self) -> Option<OpenSockets> {
        let master = self.master().ok()?;
        let shared = sockets(master)??;
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).ok()?;
        let mut own = BTreeSet::new();
        for worker in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // A worker that has gone has no connections.
            own.extend(sockets(worker)?.unwrap_or_default());
        }
        own.retain(|inode| !shared.contains(inode));
        Some(OpenSockets { master, own, shared })
    }
}

impl OpenSockets {
    /// Inodes of those that lead to backends and are open still; `None` where the system does not
    /// tell.
    #[must_use]
    pub fn backends(self) -> Option<BTreeSet<u64>> {
        let Self { master, mut own, shared } = self;
        if own.is_empty() {
            return Some(own);
        }
        let table = |name: &str| fs::read_to_string(format!("/proc/{master}/net/{name}"));
        let Unix { all, outgoing: mut backends } = unix(&table("unix").ok()?, &own);
        own.retain(|inode| !all.contains(inode));
        for name in ["tcp", "tcp6"] {
            // These tables take milliseconds to read: only while there is a socket to be found.
            if !own.is_empty() {
                // A kernel without IPv6 has no table of it.
                let Tcp { all, outgoing } = tcp(&table(name).unwrap_or_default(), &own, &shared);
                own.retain(|inode| !all.contains(inode));
                backends.extend(outgoing);
            }
        }
        Some(backends)
    }
}

/// Inodes of a process's sockets; `None` inside when it has gone, outside when it may not be
/// looked at.
fn sockets(pid: i32) -> Option<Option<BTreeSet<u64>>> {
    let listing = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(None),
        Err(_) => return None,
    };
    let inode = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Some(Some(listing.filter_map(Result::ok).filter_map(inode).collect()))
}

/// Unix sockets among those of the workers.
struct Unix {
    all: BTreeSet<u64>,
    /// Those that were connected to a socket elsewhere: whoever was connected to carries the path
    /// it listens at, whoever connected carries none.
    outgoing: BTreeSet<u64>,
}

fn unix(table: &str, own: &BTreeSet<u64>) -> Unix {
    let socket = |line: &str| {
        let mut fields = line.split_whitespace().skip(4);
        let (kind, state, inode) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?);
        let outgoing = kind == STREAM && state == CONNECTED && fields.next().is_none();
        own.contains(&inode).then_some((inode, outgoing))
    };
    let found: Vec<_> = table.lines().filter_map(socket).collect();
    let outgoing = found.iter().filter(|(_, outgoing)| *outgoing).map(|(inode, _)| *inode);
    Unix { outgoing: outgoing.collect(), all: found.iter().map(|(inode, _)| *inode).collect() }
}

/// TCP sockets among those of the workers.
struct Tcp {
    all: BTreeSet<u64>,
    /// Those that were not accepted at a port the master listens at.
    outgoing: BTreeSet<u64>,
}

fn tcp(table: &str, own: &BTreeSet<u64>, shared: &BTreeSet<u64>) -> Tcp {
    let socket = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (_, port) = fields.next()?.rsplit_once(':')?;
        let listens = fields.nth(1)? == LISTENING;
        let inode: u64 = fields.nth(5)?.parse().ok()?;
        let ours = own.contains(&inode) || listens && shared.contains(&inode);
        ours.then(|| (port.to_owned(), listens, inode))
    };
    let found: Vec<_> = table.lines().filter_map(socket).collect();
    let ports = found.iter().filter(|(_, listens, _)| *listens).map(|(port, _, _)| port);
    let ports: BTreeSet<_> = ports.collect();
    let accepted: Vec<_> = found.iter().filter(|(_, listens, _)| !listens).collect();
    let outgoing = accepted.iter().filter(|(port, _, _)| !ports.contains(port));
    Tcp {
        outgoing: outgoing.map(|(_, _, inode)| *inode).collect(),
        all: accepted.iter().map(|(_, _, inode)| *inode).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: &str = "Num       RefCount Protocol Flags    Type St Inode Path\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 100 /run/php.sock\n\
        0000000000000000: 00000003 00000000 00000000 0001 03 101 /run/php.sock\n\
        0000000000000000: 00000003 00000000 00000000 0001 03 102\n\
        0000000000000000: 00000003 00000000 00000000 0002 01 103\n\
        0000000000000000: 00000003 00000000 00000000 0001 03 104\n";
    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        \x20  0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 200 1\n\
        \x20  1: 0100007F:0050 0100007F:C001 01 00000000:00000000 00:00000000 00000000 0 0 201 1\n\
        \x20  2: 0100007F:C002 0100007F:2328 01 00000000:00000000 00:00000000 00000000 0 0 202 1\n\
        \x20  3: 0100007F:C003 0100007F:2328 01 00000000:00000000 00:00000000 00000000 0 0 203 1\n";

    #[test]
    fn connections_to_backends_are_told_from_those_of_visitors() {
        let own = BTreeSet::from([101, 102, 103, 201, 202]);
        let found = unix(UNIX, &own);
        assert_eq!(found.outgoing, BTreeSet::from([102]));
        assert_eq!(found.all, BTreeSet::from([101, 102, 103]));
        let found = tcp(TCP, &own, &BTreeSet::from([200]));
        assert_eq!(found.outgoing, BTreeSet::from([202]));
        assert_eq!(found.all, BTreeSet::from([201, 202]));
    }
}
