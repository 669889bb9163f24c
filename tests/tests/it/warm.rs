//! Warming a real nginx cache: what visitors see meanwhile, what a site in trouble is spared, and
//! what is left to do after a kill.

use std::path::Path;
use std::time::Duration;

use hostler_agent::clock::Clock;
use hostler_agent::host::fpm::{Address, workers};
use hostler_protocol::job::{
    EnvironmentDoc, JobSpec, OutcomeState, PurgeResult, PurgeScope, ToggleResult, UrlWarm,
    WarmResult, WarmSpec, WarmState,
};
use hostler_tests::servers::php::PhpFpm;
use hostler_tests::servers::{SERVER_SECS_MAX, get, wait_for, write};

use crate::stand::{Options, Stand, error, result};

/// Notes each rendering; takes its time, fails or forbids storing as the query says.
const PAGE: &str = "<?php\nfile_put_contents(__DIR__ . '/../rendered', $_SERVER['REQUEST_URI'] . \"\\n\", FILE_APPEND | LOCK_EX);\n\
    if (isset($_GET['slow'])) usleep(1000 * (int) $_GET['slow']);\n\
    if (isset($_GET['hold'])) while (file_exists(__DIR__ . '/../hold')) { usleep(2000); clearstatcache(); }\n\
    if (isset($_GET['fail']) || file_exists(__DIR__ . '/../down')) http_response_code(500);\n\
    if (isset($_GET['private'])) header('Cache-Control: no-store');\n\
    if (isset($_GET['encoded'])) header('Vary: Accept-Encoding');\n\
    echo 'made at ', hrtime(true), \"\\n\";\n";

/// A site with its cache on, whose pages are counted.
async fn site(stand: &Stand) -> EnvironmentDoc {
    let shop = stand.site("shop", &Options::default());
    let docroot = Path::new(&shop.docroot);
    write(&docroot.join("index.php"), PAGE).unwrap();
    let notes = docroot.join("../rendered");
    write(&notes, "").unwrap();
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&notes, everyone).unwrap();
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    shop
}

/// How often the page was rendered.
fn rendered(shop: &EnvironmentDoc, uri: &str) -> usize {
    let notes = std::fs::read_to_string(Path::new(&shop.docroot).join("../rendered")).unwrap();
    notes.lines().filter(|line| *line == uri).count()
}

fn switch(shop: &EnvironmentDoc, name: &str, on: bool) {
    let path = Path::new(&shop.docroot).join("..").join(name);
    if on { write(&path, "").unwrap() } else { std::fs::remove_file(&path).unwrap() }
}

fn now_us() -> i64 {
    Clock::system().now_us()
}

/// Warm these, all of which are wanted newer than at `wanted_at_us`.
fn spec(shop: &EnvironmentDoc, uris: &[String], wanted_at_us: i64) -> JobSpec {
    let urls = uris.iter().map(|uri| format!("http://shop.test{uri}")).collect();
    JobSpec::CacheWarm(WarmSpec {
        environment: shop.clone(),
        urls,
        wanted_at_us,
        sent_at_us: Some(now_us()),
    })
}

/// Long before anything was stored.
const EVER: i64 = 0;

fn uris(uris: &[&str]) -> Vec<String> {
    uris.iter().map(|uri| (*uri).to_owned()).collect()
}

fn states(warmed: &WarmResult) -> Vec<WarmState> {
    warmed.urls.iter().map(|url: &UrlWarm| url.state).collect()
}

#[tokio::test]
async fn pages_are_stored_and_each_tells_what_became_of_it() {
    let stand = Stand::start("");
    let shop = site(&stand).await;
    assert_eq!(stand.status(&shop, "/?there"), "MISS");
    let asked = uris(&["/?a", "/?there", "/?private", "/?fail", "/?b=1&utm_source=x"]);
    let warmed: WarmResult = result(&stand.run(spec(&shop, &asked, EVER)).await);
    assert_eq!(
        states(&warmed),
        [
            WarmState::Warmed,
            WarmState::Fresh,
            WarmState::NotStored,
            WarmState::Failed,
            WarmState::Warmed
        ],
        "{warmed:#?}"
    );
    let counts = [warmed.warmed, warmed.fresh, warmed.not_stored, warmed.failed, warmed.dropped];
    assert_eq!(counts, [2, 1, 1, 1, 0]);
    let failed = &warmed.urls[3];
    assert_eq!((failed.status, failed.note.as_deref()), (Some(500), Some("the site answered 500")));
    assert!(warmed.urls[2].note.as_ref().unwrap().contains("no-store"), "{warmed:#?}");
    assert_eq!(rendered(&shop, "/?there"), 1, "a warm page was rendered again");
    for page in ["/?a", "/?b=1"] {
        assert_eq!(stand.status(&shop, page), "HIT", "{page} is not warm for visitors");
    }
}

#[tokio::test]
async fn visitors_get_the_old_page_until_the_new_one_is_stored() {
    let stand = Stand::start("");
    let shop = site(&stand).await;
    let body = || get(stand.nginx.port, "shop.test", "/?hold", &[]).unwrap();
    let old = body().body;
    switch(&shop, "hold", true);
    let asked = uris(&["/?hold"]);
    // Everything stored before tomorrow is too old.
    let warming = stand.run(spec(&shop, &asked, now_us() + 86_400_000_000));
    let visiting = async {
        wait_until(|| rendered(&shop, "/?hold") == 2).await;
        for _ in 0..20 {
            let seen = body();
            assert_eq!((seen.header("X-Hostler-Cache"), &seen.body), (Some("HIT"), &old));
        }
        switch(&shop, "hold", false);
    };
    let (outcome, ()) = tokio::join!(warming, visiting);
    assert_eq!(result::<WarmResult>(&outcome).warmed, 1);
    let new = body();
    assert_eq!(new.header("X-Hostler-Cache"), Some("HIT"));
    assert_ne!(new.body, old);
    assert_eq!(rendered(&shop, "/?hold"), 2, "a visitor rendered it too");
}

async fn wait_until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(SERVER_SECS_MAX), waiting).await;
    in_time.expect("it never came to be so");
}

#[tokio::test]
async fn what_browsers_ask_for_is_what_is_warmed() {
    let stand = Stand::start("");
    let shop = site(&stand).await;
    let browser = [("Accept-Encoding", "gzip, deflate, br, zstd")];
    let asked = uris(&["/?encoded"]);
    let warmed: WarmResult = result(&stand.run(spec(&shop, &asked, EVER)).await);
    assert_eq!(states(&warmed), [WarmState::Warmed], "{warmed:#?}");
    assert_eq!(stand.status_with(&shop, "/?encoded", &browser), "HIT");
    // The variant at the page's place is made anew, whoever asked for it.
    let again: WarmResult = result(&stand.run(spec(&shop, &asked, now_us())).await);
    assert_eq!(states(&again), [WarmState::Warmed], "{again:#?}");
    stand.purge(&shop, PurgeScope::All, false).await;
    let odd = [("Accept-Encoding", "x-odd")];
    assert_eq!(stand.status_with(&shop, "/?encoded", &odd), "MISS");
    let odd: WarmResult = result(&stand.run(spec(&shop, &asked, now_us())).await);
    assert_eq!(states(&odd), [WarmState::NotStored], "{odd:#?}");
    assert!(odd.urls[0].note.as_ref().unwrap().contains("cannot be asked for"), "{odd:#?}");
}

#[tokio::test]
async fn a_site_in_trouble_is_left_alone() {
    let stand = Stand::start("");
    let shop = site(&stand).await;
    let asked: Vec<String> = (0..60).map(|n| format!("/?page={n}")).collect();
    switch(&shop, "down", true);
    let failed = stand.run(spec(&shop, &asked, EVER)).await;
    let (code, message) = error(&failed);
    assert_eq!(code, "WARM_FAILED");
    assert!(message.contains("the site answered 500"), "{message}");
    let asked_for = asked.iter().filter(|uri| rendered(&shop, uri) > 0).count();
    assert!((10..20).contains(&asked_for), "{asked_for} pages were asked for");
    assert_eq!(failed.error.unwrap().retry, hostler_protocol::job::Retry::Later);
    switch(&shop, "down", false);
    let few = uris(&["/?fail=1", "/?fail=2"]);
    let all_bad = stand.run(spec(&shop, &few, EVER)).await;
    assert_eq!(error(&all_bad).0, "WARM_FAILED");
}

#[tokio::test]
async fn a_warm_up_that_was_killed_goes_on_where_it_was() {
    let stand = Stand::start("");
    let shop = site(&stand).await;
    let asked: Vec<String> = (0..20).map(|n| format!("/?page={n}&slow=20")).collect();
    let wanted = now_us() - 2_000_000;
    let killed = stand.run(spec(&shop, &asked, wanted));
    let half = wait_until(|| rendered(&shop, &asked[9]) > 0);
    tokio::select! {
        outcome = killed => panic!("it was not killed: {outcome:?}"),
        () = half => {}
    }
    let again: WarmResult = result(&stand.run(spec(&shop, &asked, wanted)).await);
    assert!(again.fresh >= 8, "{again:#?}");
    assert_eq!((again.fresh + again.warmed, again.failed), (20, 0), "{again:#?}");
    let twice = asked.iter().filter(|uri| rendered(&shop, uri) > 1).count();
    assert!(twice <= 2, "{twice} pages were rendered again");
    for uri in &asked {
        assert_eq!(stand.status(&shop, uri), "HIT", "{uri}");
    }
}

#[tokio::test]
async fn cancelling_ends_it_at_once() {
    let stand = Stand::start("");
    let shop = site(&stand).await;
    switch(&shop, "hold", true);
    let outcome = stand.cancel_at("cache_warm", spec(&shop, &uris(&["/?hold"]), EVER)).await;
    assert_eq!(outcome.state, OutcomeState::Cancelled, "{outcome:#?}");
    switch(&shop, "hold", false);
}

#[tokio::test]
async fn what_nobody_wants_any_more_is_dropped() {
    let stand = Stand::start("");
    let shop = site(&stand).await;
    let asked: Vec<String> = (0..200).map(|n| format!("/?page={n}&slow=50")).collect();
    let warming = stand.run(spec(&shop, &asked, EVER));
    let off = async {
        wait_until(|| rendered(&shop, &asked[0]) > 0).await;
        result::<ToggleResult>(&stand.toggle(&shop, false).await)
    };
    let (outcome, _) = tokio::join!(warming, off);
    let dropped: WarmResult = result(&outcome);
    assert_eq!(dropped.dropped_because.as_deref(), Some("the cache was switched off"));
    assert!(dropped.dropped > 0, "{dropped:#?}");
    assert_eq!(dropped.urls.len(), 200);
    assert_eq!(dropped.urls.last().unwrap().state, WarmState::Dropped);
    let refused = stand.run(spec(&shop, &asked, EVER)).await;
    assert_eq!(error(&refused).0, "CACHE_OFF");
}

#[tokio::test]
async fn only_pages_of_the_environment_are_asked_for() {
    let stand = Stand::start("");
    let shop = site(&stand).await;
    let urls = |urls: &[&str]| {
        let JobSpec::CacheWarm(warm) = spec(&shop, &[], EVER) else { panic!("another job") };
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        JobSpec::CacheWarm(WarmSpec { urls, ..warm })
    };
    let foreign = urls(&["http://shop.test/?a", "http://shop.test.evil/"]);
    assert_eq!(error(&stand.run(foreign).await).0, "URL_FOREIGN");
    assert_eq!(error(&stand.run(urls(&["/?a"])).await).0, "SPEC_INVALID");
    assert_eq!(rendered(&shop, "/?a"), 0, "a refused warm-up asked for a page");
    let bare = EnvironmentDoc { fastcgi: None, ..shop.clone() };
    assert_eq!(error(&stand.run(spec(&bare, &uris(&["/?a"]), EVER)).await).0, "SPEC_INVALID");
}

#[tokio::test]
async fn as_many_pages_at_once_as_php_has_workers_to_spare() {
    let stand = Stand::with_workers("", 5);
    // The machine the tests run on is busy with them.
    stand.faults.pretend("idle_cpus");
    let shop = site(&stand).await;
    let asked: Vec<String> = (0..12).map(|n| format!("/?page={n}&slow=100")).collect();
    let warmed: WarmResult = result(&stand.run(spec(&shop, &asked, EVER)).await);
    // A worker that has just answered may still count as busy.
    assert!(warmed.warmed == 12 && [3, 4].contains(&warmed.concurrency), "{warmed:#?}");

    let small = Stand::start("");
    small.faults.pretend("idle_cpus");
    let shop = site(&small).await;
    let warmed: WarmResult = result(&small.run(spec(&shop, &asked, EVER)).await);
    assert_eq!(warmed.concurrency, 1, "the last worker is the visitors': {warmed:#?}");
}

#[tokio::test]
async fn a_purged_cache_is_warm_again_after_its_warm_up() {
    let stand = Stand::start("");
    let shop = site(&stand).await;
    let asked = uris(&["/?a", "/?b"]);
    let wanted = now_us();
    result::<PurgeResult>(&stand.purge(&shop, PurgeScope::All, false).await);
    result::<WarmResult>(&stand.run(spec(&shop, &asked, wanted)).await);
    for uri in &asked {
        assert_eq!(stand.status(&shop, uri), "HIT");
        assert_eq!(rendered(&shop, uri), 1);
    }
}

#[test]
fn a_pool_tells_of_its_workers() {
    let php = PhpFpm::start(3).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let timeout = Duration::from_secs(5);
    let address = Address::Unix(php.socket.clone());
    let ask = |path: &str| runtime.block_on(workers(&address, path, timeout));
    // Workers come up one after the other.
    let all = wait_for("three workers", SERVER_SECS_MAX, || {
        ask("/status").ok().filter(|said| said.idle + said.active == 3)
    });
    let all = all.unwrap();
    assert_eq!((all.active, all.queued), (1, 0), "the one that answers is busy with it");
    assert!(ask("/elsewhere").is_err());
    let nobody = Address::Unix(php.dir().join("nobody.sock"));
    assert!(runtime.block_on(workers(&nobody, "/status", timeout)).is_err());
}
