//! What counts as proof of a reload, and where the status header goes.

use super::*;
use crate::host::nginx::tree::Level;

/// Tools for an nginx that answers its n-th generation probe by `answer(n)`; `None` breaks the
/// connection.
async fn answering(
    answer: impl Fn(u32) -> Option<u64> + Send + 'static,
) -> (tempfile::TempDir, Tools, Live) {
    use crate::clock::Clock;
    use crate::host::fake::Faults;
    use crate::host::probe::Origin;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut asked = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            asked += 1;
            let Some(generation) = answer(asked) else { continue };
            let mut request = [0; 1024];
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{generation}\n");
            if stream.read(&mut request).await.is_ok() {
                stream.write_all(text.as_bytes()).await.ok();
            }
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let tools = Tools::new(
        crate::policy::Policy::default(),
        directory.path().to_owned(),
        Duration::from_millis(4 * STEADY_MS),
        Clock::system(),
        Faults::default(),
    );
    let live = Live {
        environment: render::tests::environment(hostler_protocol::job::AppKind::Php),
        origin: Origin { tls: false, host: "127.0.0.1".to_owned(), port },
        generation: 7,
        secret: String::new(),
        enabled: true,
        current: true,
    };
    (directory, tools, live)
}

#[tokio::test]
async fn a_probe_that_fails_once_is_no_proof_that_a_generation_is_gone() {
    let (_dir, tools, live) = answering(|asked| (asked > 1).then_some(7)).await;
    assert!(!gone(&tools, &live).await, "the old generation was called gone");
}

#[tokio::test]
async fn answers_of_two_configurations_prove_neither() {
    for answers in [true, false] {
        let (_dir, tools, live) = answering(|asked| Some(7 + u64::from(asked % 4 == 0))).await;
        let failure = steady(&tools, &live, answers).await.unwrap_err();
        assert_eq!(failure.code(), "NGINX_RELOAD_NOT_APPLIED");
    }
    let (_dir, tools, live) = answering(|asked| Some(7 + u64::from(asked == 3))).await;
    assert!(steady(&tools, &live, true).await.is_ok(), "one that came late is gone by now");
    let (_dir, tools, live) = answering(|_| None).await;
    assert!(steady(&tools, &live, false).await.is_ok(), "nobody answers");
}

fn sighting(adding: &[&str]) -> Sighting {
    let level = |name: &str| Level {
        name: name.to_owned(),
        args: Vec::new(),
        server_names: Vec::new(),
        listens: Vec::new(),
        adds_headers: adding.contains(&name),
        passes_fastcgi: true,
        fastcgi_pass: None,
        caches: false,
    };
    let levels = ["http", "server", "location"].map(level).to_vec();
    Sighting { file: PathBuf::new(), levels }
}

#[test]
fn the_header_goes_where_it_takes_none_away() {
    let cases: [(&[&str], HeaderLevel); 5] = [
        (&[], HeaderLevel::Server),
        (&["http"], HeaderLevel::Http),
        (&["server"], HeaderLevel::Server),
        (&["http", "server"], HeaderLevel::Server),
        (&["server", "location"], HeaderLevel::Location),
    ];
    for (adding, expected) in cases {
        assert_eq!(header_level(&[&sighting(adding)]), Ok(expected), "{adding:?}");
    }
    let both = [&sighting(&["server"]), &sighting(&["location"])];
    assert_eq!(header_level(&both).unwrap_err().code(), "NGINX_HEADERS_DROPPED");
    let same = [&sighting(&["server"]), &sighting(&[])];
    assert_eq!(header_level(&same), Ok(HeaderLevel::Server));
}
