//! Datagrams the system dropped because nobody read them in time: what a small receive buffer costs,
//! and what no program that reads from it can see.

use std::net::SocketAddr;

/// Where Linux tells of each UDP socket, its drops last (`Documentation/networking/proc_net_tcp.rst`
/// describes the columns they share).
const TABLES: [&str; 2] = ["/proc/net/udp", "/proc/net/udp6"];

/// Drops at a port since its socket was made; `None` where the system does not tell.
pub(super) fn at(address: SocketAddr) -> Option<u64> {
    let table = TABLES[usize::from(address.is_ipv6())];
    let text = std::fs::read_to_string(table).ok()?;
    drops(&text, address.port())
}

/// Adds up what a table says of a port.
fn drops(table: &str, port: u16) -> Option<u64> {
    let wanted = format!(":{port:04X}");
    let of_port = |line: &str| {
        let local = line.split_whitespace().nth(1)?;
        local.ends_with(&wanted).then(|| line.split_whitespace().last()?.parse::<u64>().ok())?
    };
    table.lines().skip(1).filter_map(of_port).reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_of_the_port_counts() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
            uid  timeout inode ref pointer drops\n \
            271: 0100007F:1D25 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 \
            31337 2 0000000000000000 12\n \
            272: 00000000:1D26 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 \
            31338 2 0000000000000000 0\n";
        assert_eq!(drops(table, 0x1D25), Some(12));
        assert_eq!(drops(table, 0x1D26), Some(0));
        assert_eq!(drops(table, 1), None);
    }

    #[test]
    fn a_socket_of_this_process_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(at(socket.local_addr().unwrap()), Some(0));
    }
}
