//! Where a server block listens, and whether a probe comes to it there.

use std::net::IpAddr;

use crate::host::probe::Origin;

/// Port of a `listen` that names none, or of a server without one.
const PORT_DEFAULT: u16 = 80;

/// One `listen` of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    at: Address,
    /// First and last.
    ports: (u16, u16),
    tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    /// Every IPv4 address.
    Any,
    /// Every IPv6 address, and every IPv4 address if the socket takes both.
    Any6 {
        both: bool,
    },
    Ip(IpAddr),
    /// A host name; which addresses it has is not asked.
    Name,
}

impl Listen {
    /// Reads the arguments of a `listen`; `None` for one no probe can come to, such as a Unix
    /// socket or QUIC.
    #[must_use]
    pub fn parse(args: &[String]) -> Option<Self> {
        let (place, flags) = args.split_first()?;
        let flag = |name: &str| flags.iter().any(|flag| flag == name);
        if place.starts_with("unix:") || flag("quic") {
            return None;
        }
        let (host, port) = match place.rsplit_once(':') {
            // The colon is one of an IPv6 address.
            Some((_, rest)) if rest.ends_with(']') => (place.as_str(), None),
            Some((host, port)) => (host, Some(port)),
            None if place.starts_with(|c: char| c.is_ascii_digit()) && !place.contains('.') => {
                ("*", Some(place.as_str()))
            }
            None => (place.as_str(), None),
        };
        let ports = match port {
            None => (PORT_DEFAULT, PORT_DEFAULT),
            Some(port) => {
                let (first, last) = port.split_once('-').unwrap_or((port, port));
                (first.parse().ok()?, last.parse().ok()?)
            }
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let at = match bare.parse::<IpAddr>() {
            _ if bare == "*" => Address::Any,
            Ok(IpAddr::V4(ip)) if ip.is_unspecified() => Address::Any,
            Ok(IpAddr::V6(ip)) if ip.is_unspecified() => {
                Address::Any6 { both: flag("ipv6only=off") }
            }
            Ok(ip) => Address::Ip(ip),
            Err(_) => Address::Name,
        };
        Some(Self { at, ports, tls: flag("ssl") })
    }

    /// Where a server without any `listen` does.
    #[must_use]
    pub fn usual() -> Self {
        Self { at: Address::Any, ports: (PORT_DEFAULT, PORT_DEFAULT), tls: false }
    }

    /// Whether a connection to the origin comes here, as far as can be told. A socket may speak
    /// TLS because another server says so, so only what surely cannot be counts as a no.
    #[must_use]
    pub fn reached_by(&self, origin: &Origin) -> bool {
        let here = match (&self.at, origin.host.parse::<IpAddr>()) {
            (Address::Name, _) | (_, Err(_)) => true,
            (Address::Any, Ok(ip)) => ip.is_ipv4(),
            (Address::Any6 { both }, Ok(ip)) => ip.is_ipv6() || *both,
            (Address::Ip(own), Ok(ip)) => *own == ip,
        };
        let (first, last) = self.ports;
        here && (first..=last).contains(&origin.port) && (origin.tls || !self.tls)
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// A probe origin that comes here.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let host = match &self.at {
            Address::Any | Address::Name => "127.0.0.1".to_owned(),
            Address::Any6 { .. } => "[::1]".to_owned(),
            Address::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
            Address::Ip(ip) => ip.to_string(),
        };
        format!("{scheme}://{host}:{}", self.ports.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(line: &str) -> Option<Listen> {
        Listen::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_listen_says_who_comes_to_it() {
        let plain = ["http://127.0.0.1", "http://[::1]", "https://127.0.0.1", "https://[::1]"];
        for (line, reached) in [
            ("80", vec![0]),
            ("*:80 default_server", vec![0]),
            ("0.0.0.0", vec![0]),
            ("127.0.0.1", vec![0]),
            ("127.0.0.1:80", vec![0]),
            ("localhost:80", vec![0, 1]),
            ("79-81", vec![0]),
            ("[::]:80", vec![1]),
            ("[::]:80 ipv6only=off", vec![0, 1]),
            ("[::1]", vec![1]),
            ("443 ssl", vec![2]),
            // Another server may make it one that speaks TLS.
            ("443", vec![2]),
            ("[::]:443 ssl", vec![3]),
            ("192.0.2.1:443 ssl", vec![]),
            ("80 ssl", vec![]),
            ("8080", vec![]),
        ] {
            let listen = listen(line).unwrap();
            let found: Vec<_> = (0..plain.len())
                .filter(|at| listen.reached_by(&Origin::parse(plain[*at]).unwrap()))
                .collect();
            assert_eq!(found, reached, "{line}");
        }
        for line in ["unix:/run/nginx.sock", "443 quic reuseport", "127.0.0.1:port"] {
            assert_eq!(listen(line), None, "{line}");
        }
    }

    #[test]
    fn the_origin_it_suggests_comes_to_it() {
        for (line, expected) in [
            ("443 ssl", "https://127.0.0.1:443"),
            ("[::]:8443 ssl", "https://[::1]:8443"),
            ("192.0.2.1:80", "http://192.0.2.1:80"),
            ("[2001:db8::1]:80", "http://[2001:db8::1]:80"),
        ] {
            let listen = listen(line).unwrap();
            assert_eq!(listen.origin(), expected);
            assert!(listen.reached_by(&Origin::parse(expected).unwrap()), "{line}");
        }
    }
}
