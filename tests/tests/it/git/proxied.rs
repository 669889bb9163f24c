//! A repository that is reached through an HTTP proxy.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use hostler_controller::git::{Class, ProxyUrl};
use hostler_tests::servers::free_port;
use hostler_tests::servers::git::GitServer;

use super::{Rig, try_once};

/// A proxy that makes tunnels, or answers each request for one with a status.
struct Tunnels {
    port: u16,
    /// The first lines and headers of all that was asked of it.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    fn start(refuse_with: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&asked);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let told = Arc::clone(&told);
                std::thread::spawn(move || serve(client, refuse_with, &told));
            }
        });
        Self { port, asked }
    }

    fn url(&self) -> Option<ProxyUrl> {
        Some(ProxyUrl::parse(&format!("http://127.0.0.1:{}", self.port)).unwrap())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(client: TcpStream, refuse_with: Option<&str>, told: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
    }
    told.lock().unwrap().push(request.clone());
    let mut client = client;
    if let Some(status) = refuse_with {
        write!(client, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").ok();
        return;
    }
    let target = request.split(' ').nth(1).unwrap().to_owned();
    let server = TcpStream::connect(target).unwrap();
    write!(client, "HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    let (mut up, mut back) = (server.try_clone().unwrap(), server);
    let sending = std::thread::spawn(move || {
        std::io::copy(&mut reader, &mut up).ok();
        up.shutdown(Shutdown::Write).ok();
    });
    std::io::copy(&mut back, &mut client).ok();
    client.shutdown(Shutdown::Both).ok();
    sending.join().unwrap();
}

#[test]
fn a_repository_is_fetched_through_a_proxy_that_sees_no_credentials() {
    let rig = Rig::over(GitServer::https(Some(("ada", "s3cret"))).unwrap());
    let proxy = Tunnels::start(None);
    let mut settings = rig.settings();
    settings.proxy = proxy.url();
    assert_eq!(settings.validate(), Vec::<String>::new());
    assert_eq!(try_once(settings).unwrap().revision, rig.first);
    let asked = proxy.asked();
    let port = rig.server.web().unwrap().port();
    assert!(!asked.is_empty(), "nobody asked the proxy");
    for request in asked {
        assert!(request.starts_with(&format!("CONNECT localhost:{port} ")), "{request}");
        let lower = request.to_ascii_lowercase();
        assert!(!lower.contains("authorization"), "{request}");
    }
}

#[test]
fn a_proxy_that_refuses_or_is_not_there_is_said() {
    let rig = Rig::https();
    let refusing = Tunnels::start(Some("403 Forbidden"));
    let nobody = ProxyUrl::parse(&format!("http://127.0.0.1:{}", free_port().unwrap())).unwrap();
    for proxy in [refusing.url(), Some(nobody)] {
        let mut settings = rig.settings();
        settings.proxy = proxy;
        let error = try_once(settings).unwrap_err();
        assert_eq!(error.class(), Class::Network, "{error}");
    }
    assert_eq!(refusing.asked().len(), 1);
    assert_eq!(rig.server.web().unwrap().asked(), [], "the server was asked past the proxy");
}
