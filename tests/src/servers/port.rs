//! Ports for servers that are told a number, where they cannot be handed a socket.
//!
//! A port that was bound to 0 and let go again is the kernel's to give away: to the next that
//! binds to 0, and to every connection going out. So these come from outside of the range the
//! kernel gives from, a block of them to each process of ours, and stay that process's even
//! while their server is stopped and started again.

use std::net::{TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Mutex;

use super::ServerError;

/// So many ports are a process's own at once; the first of them is held as the sign of it.
const BLOCK_PORTS: u16 = 256;
/// Below are the ports of services people know.
const PORT_MIN: u16 = 10_000;
/// With fewer ports than these outside of the kernel's range, its own are used as well.
const PORTS_MIN: u16 = 16 * BLOCK_PORTS;
/// The kernel's range where it does not say (`ip_local_port_range` in ip-sysctl).
const LOCAL_DEFAULT: RangeInclusive<u16> = 32_768..=60_999;

/// A block of ports, the process's own while its first one is held.
#[derive(Debug)]
struct Block {
    #[expect(dead_code, reason = "held, so that no other process takes the block")]
    sign: TcpListener,
    next: u16,
    end: u16,
}

static LEASED: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// A port of loopback nobody uses, for TCP and for UDP, and which nobody is given again as long
/// as this process lives and there are others left.
///
/// # Errors
/// When all ports are taken.
pub fn free_port() -> Result<u16, ServerError> {
    let mut leased = LEASED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    loop {
        if let Some(block) = leased.last_mut() {
            while block.next < block.end {
                let port = block.next;
                block.next += 1;
                if is_free(port) {
                    return Ok(port);
                }
            }
        }
        let block = lease().or_else(|| begin_anew(&mut leased));
        leased.push(block.ok_or_else(|| ServerError("all ports of loopback are taken".into()))?);
    }
}

/// A block no living process holds. Processes begin at different ones, so that what a killed one
/// left behind does not come to the next one's servers.
fn lease() -> Option<Block> {
    let ports = apart(&local_range());
    let mut firsts: Vec<u16> = ports.clone().step_by(usize::from(BLOCK_PORTS)).collect();
    let begin = std::process::id() as usize % firsts.len().max(1);
    firsts.rotate_left(begin);
    firsts.into_iter().find_map(|first| {
        let end = first.checked_add(BLOCK_PORTS).filter(|end| end - 1 <= *ports.end())?;
        let sign = TcpListener::bind(("127.0.0.1", first)).ok()?;
        Some(Block { sign, next: first + 1, end })
    })
}

/// The block given out longest ago that has a free port, once more.
fn begin_anew(leased: &mut Vec<Block>) -> Option<Block> {
    let first = |block: &Block| block.end - (BLOCK_PORTS - 1);
    let at = leased.iter().position(|block| (first(block)..block.end).any(is_free))?;
    let mut oldest = leased.remove(at);
    oldest.next = first(&oldest);
    Some(oldest)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok()
}

/// The ports the kernel gives away by itself.
fn local_range() -> RangeInclusive<u16> {
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let mut ends = text.split_whitespace().map(str::parse);
        Some(ends.next()?.ok()?..=ends.next()?.ok()?)
    };
    read().unwrap_or(LOCAL_DEFAULT)
}

/// The longer of the ranges below and above the kernel's, or all there is.
fn apart(local: &RangeInclusive<u16>) -> RangeInclusive<u16> {
    let below = PORT_MIN..=local.start().saturating_sub(1);
    let above = local.end().saturating_add(1).max(PORT_MIN)..=u16::MAX;
    let longer = if below.len() >= above.len() { below } else { above };
    if longer.len() >= usize::from(PORTS_MIN) { longer } else { PORT_MIN..=u16::MAX }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ports_come_from_outside_of_what_the_kernel_gives_away() {
        assert_eq!(apart(&LOCAL_DEFAULT), 10_000..=32_767);
        assert_eq!(apart(&(10_000..=40_000)), 40_001..=65_535);
        assert_eq!(apart(&(1_024..=65_535)), 10_000..=65_535);
        assert_eq!(apart(&(1_024..=65_000)), 10_000..=65_535);
    }

    #[test]
    fn no_port_is_given_twice() {
        // More than a block, so that a second one is leased.
        let given: Vec<u16> = (0..BLOCK_PORTS + 10).map(|_| free_port().unwrap()).collect();
        let different: HashSet<u16> = given.iter().copied().collect();
        assert_eq!(different.len(), given.len());
        let apart = apart(&local_range());
        assert!(given.iter().all(|port| apart.contains(port)), "{apart:?}: {given:?}");
    }

    #[test]
    fn one_in_use_is_passed_over() {
        let taken = free_port().unwrap();
        assert!(is_free(taken));
        let tcp = TcpListener::bind(("127.0.0.1", taken)).unwrap();
        assert!(!is_free(taken));
        drop(tcp);
        let _udp = UdpSocket::bind(("127.0.0.1", taken)).unwrap();
        assert!(!is_free(taken));
    }

    #[test]
    fn what_was_given_is_given_again_when_nothing_else_is_left() {
        let one = lease().unwrap();
        let first = one.next;
        let mut leased = vec![Block { next: one.end, ..one }];
        let _taken = TcpListener::bind(("127.0.0.1", first)).unwrap();
        assert_eq!(begin_anew(&mut leased).unwrap().next, first);
        assert!(begin_anew(&mut leased).is_none());
    }

    #[test]
    fn two_leases_have_nothing_in_common() {
        let (one, other) = (lease().unwrap(), lease().unwrap());
        assert!(one.end < other.next || other.end < one.next, "{one:?} {other:?}");
    }
}
