//! Pages that were being rendered during a purge: the old page must not be served afterwards.

use std::path::PathBuf;

use hostler_protocol::job::{EnvironmentDoc, PurgeMode, PurgeScope, Selection};
use hostler_tests::bench::cache_files;
use hostler_tests::servers::{Answer, SERVER_SECS_MAX, get, wait_for};

use crate::stand::{Stand, entries, urls};

/// A page that PHP takes as long for as a test wants.
struct Slow {
    begun: PathBuf,
    gate: PathBuf,
    request: std::thread::JoinHandle<Answer>,
}

impl Slow {
    /// Asks for the page and waits until PHP works on it; it says what was current then.
    fn begin(stand: &Stand, environment: &EnvironmentDoc, path: &str) -> Self {
        let pages = stand.pages(environment);
        let (begun, gate) = (pages.join("begun"), pages.join("gate"));
        drop((std::fs::remove_file(&begun), std::fs::remove_file(&gate)));
        let lines = format!(
            "header('Surrogate-Key: slow'); $seen = file_get_contents('{pages}/content'); touch('{begun}'); \
             while (!file_exists('{gate}')) {{ usleep(5000); clearstatcache(); }} echo $seen, ' ';",
            pages = pages.display(),
            begun = begun.display(),
            gate = gate.display(),
        );
        stand.page(environment, path, &lines);
        let (port, host, path) = (stand.nginx.port, environment.domain.clone(), path.to_owned());
        let request = std::thread::spawn(move || get(port, &host, &path, &[]).unwrap());
        wait_for("PHP to begin", SERVER_SECS_MAX, || begun.exists().then_some(())).unwrap();
        Self { begun, gate, request }
    }

    /// Lets PHP finish; what the visitor got.
    fn end(self) -> Answer {
        std::fs::write(&self.gate, "").unwrap();
        let answer = self.request.join().unwrap();
        assert!(self.begun.exists());
        answer
    }
}

fn content(stand: &Stand, environment: &EnvironmentDoc, text: &str) {
    std::fs::write(stand.pages(environment).join("content"), text).unwrap();
}

/// Waits until a visitor is served the new page from the cache.
async fn served_new(stand: &Stand, path: &str) {
    let deadline = hostler_tests::servers::instant() + std::time::Duration::from_secs(20);
    loop {
        let answer = get(stand.nginx.port, "shop.test", path, &[]).unwrap();
        let hit = answer.header("X-Hostler-Cache") == Some("HIT");
        if hit && answer.body.starts_with("new") {
            return;
        }
        let late = hostler_tests::servers::instant() >= deadline;
        assert!(!late, "still served: {answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Waits until there are so many files in the cache of that site.
async fn left(environment: &EnvironmentDoc, count: usize) {
    let deadline = hostler_tests::servers::instant() + std::time::Duration::from_secs(20);
    let cache_dir = &environment.fastcgi.as_ref().unwrap().cache_dir;
    while entries(cache_dir).len() != count {
        let late = hostler_tests::servers::instant() >= deadline;
        assert!(!late, "{:?}", entries(cache_dir));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn with_nothing_under_way_there_is_nothing_to_watch() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    stand.status(&shop, "/");
    let purged = stand.purged(&shop, urls(&["http://shop.test/"]), PurgeMode::Hard).await;
    assert_eq!(purged.watched_secs, 0);
}

#[tokio::test]
async fn an_old_page_that_lands_in_place_of_a_refreshed_one_is_not_taken_for_it() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    content(&stand, &shop, "old");
    let slow = Slow::begin(&stand, &shop, "/slow");
    stand.store(&shop, &cache_files::key(&shop.domain, "/slow"));
    // From now on the page is nobody else's, and takes as long as the test wants.
    let pages = stand.pages(&shop);
    let (begun, gate) = (pages.join("begun-new"), pages.join("gate-new"));
    let lines = format!(
        "touch('{}'); while (!file_exists('{}')) {{ usleep(5000); clearstatcache(); }} \
         header('Cache-Control: no-store'); echo 'new';",
        begun.display(),
        gate.display(),
    );
    stand.page(&shop, "/slow", &lines);
    let landing = async {
        let deadline = hostler_tests::servers::instant() + std::time::Duration::from_secs(20);
        while !begun.exists() {
            assert!(hostler_tests::servers::instant() < deadline, "PHP did not begin");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(slow.end().body.starts_with("old"));
        std::fs::write(&gate, "").unwrap();
    };
    let purging = stand.purged(&shop, urls(&["http://shop.test/slow"]), PurgeMode::Refresh);
    tokio::join!(purging, landing);
    left(&shop, 0).await;
    let answer = get(stand.nginx.port, "shop.test", "/slow", &[]).unwrap();
    assert!(answer.body.starts_with("new"), "{answer:?}");
}

#[tokio::test]
async fn an_old_page_that_lands_after_a_purge_is_purged_again_whatever_named_it() {
    let scopes = [
        PurgeScope::All,
        PurgeScope::Select(Selection {
            prefixes: vec!["http://shop.test/slow".to_owned()],
            ..Selection::default()
        }),
        PurgeScope::Select(Selection { tags: vec!["slow".to_owned()], ..Selection::default() }),
        urls(&["http://shop.test/slow"]),
    ];
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    for scope in scopes {
        content(&stand, &shop, "old");
        let slow = Slow::begin(&stand, &shop, "/slow");
        content(&stand, &shop, "new");
        let purged = stand.purged(&shop, scope.clone(), PurgeMode::Hard).await;
        assert_eq!(purged.watched_secs, 30, "{scope:?}");
        let answer = slow.end();
        assert!(answer.body.starts_with("old"), "{answer:?}");
        left(&shop, 0).await;
        served_new(&stand, "/slow").await;
        stand.purged(&shop, PurgeScope::All, PurgeMode::Hard).await;
    }
}

#[tokio::test]
async fn soft_and_refresh_do_it_in_their_own_way() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    for mode in [PurgeMode::Soft, PurgeMode::Refresh] {
        content(&stand, &shop, "old");
        let slow = Slow::begin(&stand, &shop, "/slow");
        content(&stand, &shop, "new");
        let scope = PurgeScope::Select(Selection {
            prefixes: vec!["http://shop.test/slow".to_owned()],
            ..Selection::default()
        });
        let purged = stand.purged(&shop, scope, mode).await;
        assert_eq!(purged.watched_secs, 30, "{mode:?}: {purged:?}");
        assert!(slow.end().body.starts_with("old"));
        served_new(&stand, "/slow").await;
        stand.purged(&shop, PurgeScope::All, PurgeMode::Hard).await;
    }
}

#[tokio::test]
async fn it_goes_on_after_a_restart_of_the_agent() {
    let mut stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    content(&stand, &shop, "old");
    let slow = Slow::begin(&stand, &shop, "/slow");
    content(&stand, &shop, "new");
    stand.purged(&shop, PurgeScope::All, PurgeMode::Hard).await;
    let watches = stand.dir().join("state/watches");
    assert_eq!(entries(watches.to_str().unwrap()).len(), 1);
    stand.restart();
    stand.actions.recover().await;
    assert!(slow.end().body.starts_with("old"));
    served_new(&stand, "/slow").await;
    let deadline = hostler_tests::servers::instant() + std::time::Duration::from_secs(20);
    while !entries(watches.to_str().unwrap()).is_empty() {
        assert!(hostler_tests::servers::instant() < deadline, "its file stays");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn pages_made_after_the_purge_are_left_alone_once_the_slow_ones_are_over() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    content(&stand, &shop, "old");
    let slow = Slow::begin(&stand, &shop, "/slow");
    stand.purged(&shop, PurgeScope::All, PurgeMode::Hard).await;
    slow.end();
    left(&shop, 0).await;
    assert_eq!(stand.status(&shop, "/other"), "MISS");
    for _ in 0..30 {
        assert_eq!(stand.status(&shop, "/other"), "HIT");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
