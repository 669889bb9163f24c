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

impl Nginx {
    /// Inodes of the sockets to backends that are open now; `None` where the system does not tell.
    #[must_use]
    pub fn backends(&self) -> Option<BTreeSet<u64>> {
        let master = self.master().ok()?;
        let shared = sockets(master)??;
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).ok()?;
        let mut own = BTreeSet::new();
        for worker in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // A worker that has gone has no connections.
            own.extend(sockets(worker)?.unwrap_or_default());
        }
        own.retain(|inode| !shared.contains(inode));
        let table = |name: &str| fs::read_to_string(format!("/proc/{master}/net/{name}"));
        let mut backends = unix(&table("unix").ok()?, &own);
        for name in ["tcp", "tcp6"] {
            // A kernel without IPv6 has no table of it.
            backends.extend(tcp(&table(name).unwrap_or_default(), &own, &shared));
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

/// Of these sockets those that were connected to a Unix socket elsewhere: whoever was connected to
/// carries the path it listens at, whoever connected carries none.
fn unix(table: &str, own: &BTreeSet<u64>) -> BTreeSet<u64> {
    let socket = |line: &str| {
        let mut fields = line.split_whitespace().skip(4);
        let (kind, state, inode) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?);
        let outgoing = kind == STREAM && state == CONNECTED && fields.next().is_none();
        (outgoing && own.contains(&inode)).then_some(inode)
    };
    table.lines().filter_map(socket).collect()
}

/// Of these sockets those that were not accepted at a port somebody listens at.
fn tcp(table: &str, own: &BTreeSet<u64>, shared: &BTreeSet<u64>) -> BTreeSet<u64> {
    let socket = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, port) = fields.get(1)?.rsplit_once(':')?;
        let inode: u64 = fields.get(9)?.parse().ok()?;
        Some((port.to_owned(), *fields.get(3)? == LISTENING, inode))
    };
    let all: Vec<_> = table.lines().filter_map(socket).collect();
    let listening: BTreeSet<_> = all
        .iter()
        .filter(|(_, listens, inode)| *listens && shared.contains(inode))
        .map(|(port, _, _)| port)
        .collect();
    let outgoing = |(port, listens, inode): &&(String, bool, u64)| {
        !listens && own.contains(inode) && !listening.contains(port)
    };
    all.iter().filter(outgoing).map(|(_, _, inode)| *inode).collect()
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
        assert_eq!(unix(UNIX, &own), BTreeSet::from([102]));
        assert_eq!(tcp(TCP, &own, &BTreeSet::from([200])), BTreeSet::from([202]));
    }
}
