//! Whether probes come to the server block that includes our files. Pure.
//!
//! A site that speaks TLS alone has two server blocks: one that redirects, and the real one. A
//! probe that connects to the first proves nothing about the second.

use hostler_protocol::job::{Code, EnvironmentDoc};

use super::run::Failure;
use crate::host::nginx::listen::Listen;
use crate::host::nginx::tree::Sighting;
use crate::host::probe::{Answer, Origin};

/// Whether a server block of the domain that includes our server file listens at the probe origin.
///
/// # Errors
/// `PROBE_ORIGIN_WRONG` naming an origin that it listens at.
pub fn reaches(environment: &EnvironmentDoc, sightings: &[Sighting]) -> Result<(), Failure> {
    let (nginx, domain) = (&environment.nginx, &environment.domain);
    let Some(origin) = Origin::parse(&nginx.probe_origin) else { return Ok(()) };
    let listens: Vec<&Listen> = sightings
        .iter()
        .filter(|sighting| sighting.file.as_os_str() == nginx.server_file.as_str())
        .filter_map(|sighting| sighting.server().filter(|server| server.answers_for(domain)))
        .flat_map(|server| &server.listens)
        .collect();
    if listens.is_empty() || listens.iter().any(|listen| listen.reached_by(&origin)) {
        return Ok(());
    }
    let best = listens.iter().find(|listen| listen.tls()).or(listens.first());
    let other = best.map_or_else(String::new, |listen| listen.origin());
    let why = format!("the server of {domain} that includes our files does not listen there");
    Err(wrong(&nginx.probe_origin, &why, &other))
}

/// The origin an answer redirects to, if that speaks another scheme.
#[must_use]
pub fn elsewhere(origin: &Origin, answer: &Answer) -> Option<String> {
    let redirects = (300..400).contains(&answer.status);
    let location = answer.values("location").next().filter(|_| redirects)?;
    let uri: http::Uri = location.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| *scheme != origin.scheme())?;
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    let host =
        if origin.host.contains(':') { format!("[{}]", origin.host) } else { origin.host.clone() };
    Some(format!("{scheme}://{host}:{port}"))
}

/// The failure of an origin that redirects to another.
#[must_use]
pub fn redirects(environment: &EnvironmentDoc, other: &str) -> Failure {
    wrong(&environment.nginx.probe_origin, "what answers there redirects to another scheme", other)
}

fn wrong(origin: &str, why: &str, other: &str) -> Failure {
    let message = format!("the probe origin {origin} is not where the site is: {why}");
    Failure::new(Code::ProbeOriginWrong, message)
        .with_hint(format!("Set the environment's probe origin to {other}."))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use hostler_protocol::job::AppKind;

    use super::*;
    use crate::host::nginx::tree::sightings;
    use crate::steps::render::tests::environment;

    fn asked(servers: &str) -> Result<(), Failure> {
        let shop = environment(AppKind::Php);
        let dump = format!("# configuration file /etc/nginx/nginx.conf:\nhttp {{ {servers} }}\n");
        reaches(&shop, &sightings(&dump, &[PathBuf::from(&shop.nginx.server_file)]))
    }

    #[test]
    fn the_server_with_our_files_is_the_one_to_ask() {
        let ours = "server_name shop.test; include /etc/nginx/hostler/shop/server.conf;";
        for good in [
            format!("server {{ {ours} }}"),
            format!("server {{ listen 80; {ours} }}"),
            format!("server {{ listen 443 ssl; listen [::]:80; listen 80; {ours} }}"),
            format!("server {{ listen 443 ssl; {ours} }} server {{ listen 80; {ours} }}"),
        ] {
            assert_eq!(asked(&good), Ok(()), "{good}");
        }
        let redirect = "server { listen 80; server_name shop.test; return 301 https://$host; }";
        for (servers, other) in [
            (format!("{redirect} server {{ listen 443 ssl; {ours} }}"), "https://127.0.0.1:443"),
            (format!("server {{ listen 8080; listen 443 ssl; {ours} }}"), "https://127.0.0.1:443"),
            (format!("server {{ listen [::]:80; {ours} }}"), "http://[::1]:80"),
        ] {
            let error = asked(&servers).unwrap_err().into_error();
            assert_eq!(error.code, "PROBE_ORIGIN_WRONG", "{servers}");
            assert!(error.hint.unwrap().contains(other), "{servers}");
        }
    }

    #[test]
    fn only_a_redirect_to_another_scheme_leads_elsewhere() {
        let origin = Origin::parse("http://127.0.0.1").unwrap();
        for (status, location, expected) in [
            (301, Some("https://shop.test/"), Some("https://127.0.0.1:443")),
            (308, Some("https://shop.test:8443/x"), Some("https://127.0.0.1:8443")),
            (301, Some("http://www.shop.test/"), None),
            (302, Some("/login"), None),
            (200, Some("https://shop.test/"), None),
            (301, None, None),
        ] {
            let location = location.map(|value| ("location".to_owned(), value.to_owned()));
            let headers = location.into_iter().collect();
            let answer = Answer { status, cache: None, headers, body: Vec::new() };
            assert_eq!(elsewhere(&origin, &answer).as_deref(), expected, "{answer:?}");
        }
    }
}
