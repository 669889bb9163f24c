//! An `https` server: whom the CLI trusts, and what it says of the others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use hostler_controller::clock::Clock;
use hostler_tests::system::Controller;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::fake::{Fake, Say, page};
use super::samples::{event, job};
use super::{Ran, finish, hostler};

/// An authority with its certificate in a file.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Self { certificate: certificate.der().clone(), issuer, file }
    }

    fn path(&self) -> &str {
        self.file.path().to_str().unwrap()
    }

    /// A server's certificate for that name, good until then.
    fn sign(&self, name: &str, until: OffsetDateTime) -> ServerConfig {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = until - Duration::days(30);
        params.not_after = until;
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone(), self.certificate.clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap()
    }
}

/// A proxy in front of a controller that ends TLS; runs until the test does.
fn terminate(config: ServerConfig, behind: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            // A client that does not go through with it is what some tests want.
            std::thread::spawn(move || relay(stream, config, behind).ok());
        }
    });
    port
}

/// One request and its answer.
fn relay(stream: TcpStream, config: Arc<ServerConfig>, behind: u16) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut client = BufReader::new(StreamOwned::new(connection, stream));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let length = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    let mut server = TcpStream::connect(("127.0.0.1", behind))?;
    server.write_all(head.as_bytes())?;
    server.write_all(&body)?;
    let mut client = client.into_inner();
    std::io::copy(&mut server, &mut client)?;
    client.conn.send_close_notify();
    client.flush()
}

/// So many days from now.
fn in_days(days: i64) -> OffsetDateTime {
    let now_secs = Clock::system().now().0 / 1_000_000;
    OffsetDateTime::from_unix_timestamp(now_secs).unwrap() + Duration::days(days)
}

fn over_tls(port: u16, arguments: &[&str]) -> Command {
    let mut command = hostler(port, arguments);
    command.env("HOSTLER_SERVER", format!("https://localhost:{port}"));
    command.env("HOSTLER_TOKEN", "the-token");
    command
}

#[test]
fn a_server_under_the_named_authority_is_trusted() {
    let fake = Fake::start(|seen, _| match seen.line().as_str() {
        "GET /api/sites" => page(json!([])),
        line if line.ends_with("/events") => {
            Say::Stream(event(1, "job.succeeded", &json!({})) + "event: end\ndata: {}\n\n")
        }
        _ => Say::Json(200, job("succeeded")),
    });
    let authority = Authority::new("ours");
    let port = terminate(authority.sign("localhost", in_days(1)), fake.port);
    let mut list = over_tls(port, &["site", "list", "--ca-file", authority.path()]);
    let ran = finish(&mut list).expect(0);
    assert!(!ran.stderr.contains("unencrypted"), "{}", ran.stderr);
    assert_eq!(fake.seen()[0].header("authorization"), Some("Bearer the-token"));
    // By the variable too, also for a change, and for a stream of events.
    let id = job("queued")["id"].as_str().unwrap().to_owned();
    for arguments in [["job", "release", &id, "--wait"].as_slice(), &["job", "watch", &id]] {
        let mut command = over_tls(port, arguments);
        finish(command.env("HOSTLER_CA_FILE", authority.path())).expect(0);
    }
    // The system's own authorities, here read from where their variable says.
    let mut command = over_tls(port, &["site", "list"]);
    finish(command.env("SSL_CERT_FILE", authority.path())).expect(0);
}

/// The run failed in TLS, and the token was not sent.
#[track_caller]
fn untrusted(fake: &Fake, ran: Ran, parts: &[&str]) {
    let ran = ran.expect(9);
    for part in parts {
        assert!(ran.stderr.contains(part), "{part} is missing:\n{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("the-token"), "{}", ran.stderr);
    assert_eq!(fake.seen().len(), 0, "a request was sent: {:?}", fake.seen());
}

#[test]
fn a_certificate_that_cannot_be_trusted_is_named_and_gets_no_token() {
    let fake = Fake::start(|_, _| page(json!([])));
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let good = terminate(authority.sign("localhost", in_days(1)), fake.port);
    let list = |port: u16| over_tls(port, &["site", "list", "--ca-file", authority.path()]);

    let mut foreign = over_tls(good, &["site", "list", "--ca-file", other.path()]);
    let ran = finish(&mut foreign);
    untrusted(&fake, ran, &["is not trusted", "UnknownIssuer", "--ca-file"]);
    let mut system = over_tls(good, &["site", "list"]);
    let ran = finish(system.env("SSL_CERT_FILE", other.path()));
    untrusted(&fake, ran, &["is not trusted", "UnknownIssuer", "--ca-file"]);

    let elsewhere = terminate(authority.sign("other.example", in_days(1)), fake.port);
    untrusted(&fake, finish(&mut list(elsewhere)), &["is not trusted", "other.example"]);
    let expired = terminate(authority.sign("localhost", in_days(-1)), fake.port);
    untrusted(&fake, finish(&mut list(expired)), &["is not trusted", "expired"]);
}

#[test]
fn https_to_a_server_without_tls_says_so() {
    let plain = Controller::start(None).unwrap();
    let authority = Authority::new("ours");
    let mut list = over_tls(plain.api_port, &["site", "list", "--ca-file", authority.path()]);
    let ran = finish(&mut list).expect(9);
    for part in ["does not speak TLS", "http://"] {
        assert!(ran.stderr.contains(part), "{part} is missing:\n{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("the-token"), "{}", ran.stderr);
}

#[test]
fn a_file_of_certificates_that_holds_none_is_a_usage_error() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let missing = PathBuf::from("/nonexistent/ca.pem");
    for (file, why) in [(empty.path(), "no certificates"), (missing.as_path(), "cannot read")] {
        let arguments = ["site", "list", "--ca-file", file.to_str().unwrap()];
        let ran = finish(&mut over_tls(1, &arguments)).expect(2);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
}
