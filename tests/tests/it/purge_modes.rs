//! What visitors see of a purge in each mode, on a real nginx.

use hostler_protocol::job::{CacheStatus, PurgeMode, PurgeScope, ToggleResult};
use hostler_tests::servers::{SERVER_SECS_MAX, get, wait_for};

use crate::stand::{Options, Stand, entries, result, urls};

const NOT_FOUND: &str = "http_response_code(404); header('Cache-Control: no-cache, no-store');";

fn body(stand: &Stand, path: &str) -> String {
    get(stand.nginx.port, "shop.test", path, &[]).unwrap().body
}

/// Waits until a page is answered with that word; every answer until then must be one of `before`.
fn until(stand: &Stand, path: &str, before: &[&str], word: &str) {
    wait_for(&format!("{path} to be {word}"), SERVER_SECS_MAX, || {
        let answer = get(stand.nginx.port, "shop.test", path, &[]).unwrap();
        let seen = answer.header("X-Hostler-Cache").unwrap().to_owned();
        assert!(seen == word || before.contains(&seen.as_str()), "{path} was {seen}");
        (seen == word).then_some(())
    })
    .unwrap();
}

#[tokio::test]
async fn a_soft_purge_of_many_pages_says_how_many_were_not_asked() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    let list: Vec<String> = (0..101).map(|page| format!("http://shop.test/page-{page}")).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let purged = stand.purged(&shop, urls(&list), PurgeMode::Soft).await;
    assert_eq!(purged.mode_note, None, "none of them is stored, so nobody has to be asked");
    stand.fill(&shop, 101);
    let purged = stand.purged(&shop, urls(&list), PurgeMode::Soft).await;
    let note = purged.mode_note.unwrap();
    assert!(note.contains("1 pages were not asked"), "{note}");
}

#[tokio::test]
async fn soft_serves_the_old_page_while_one_visitor_has_it_made_anew() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    stand.status(&shop, "/?a");
    stand.status(&shop, "/?b");
    let old = body(&stand, "/?a");
    let purged = stand.purged(&shop, urls(&["http://shop.test/?a"]), PurgeMode::Soft).await;
    assert_eq!((purged.found, purged.softened, purged.removed), (1, 1, 0), "{purged:#?}");
    assert_eq!((purged.mode, purged.mode_note), (PurgeMode::Soft, None));
    assert_eq!(purged.urls[0].before, Some(CacheStatus::Hit));
    // The peek afterwards is answered from the stale entry, and has it made anew behind it.
    assert_eq!(purged.urls[0].after, Some(CacheStatus::Stale));
    until(&stand, "/?a", &["STALE", "UPDATING"], "HIT");
    assert_ne!(body(&stand, "/?a"), old, "the page was not made anew");
    assert_eq!(stand.status(&shop, "/?b"), "HIT", "another page was touched");

    let all = stand.purged(&shop, PurgeScope::All, PurgeMode::Soft).await;
    assert_eq!((all.found, all.softened), (2, 2), "{all:#?}");
    assert_eq!(stand.status(&shop, "/?b"), "STALE");
    until(&stand, "/?b", &["STALE", "UPDATING"], "HIT");
    let facts = stand.facts(&shop).await;
    assert_eq!(facts.soft_works, Some(true));
    assert_eq!((facts.entries, facts.unreadable), (2, 0), "the self-test left something");
}

#[tokio::test]
async fn soft_removes_pages_that_went_away_and_never_serves_them_longer_than_its_window() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    for path in ["/gone", "/there", "/late"] {
        assert_eq!(stand.status(&shop, path), "MISS");
    }
    stand.page(&shop, "/gone", NOT_FOUND);
    let scope = urls(&["http://shop.test/gone", "http://shop.test/there"]);
    let purged = stand.purged(&shop, scope, PurgeMode::Soft).await;
    assert_eq!((purged.found, purged.softened, purged.removed), (2, 1, 1), "{purged:#?}");
    assert!(purged.mode_note.unwrap().contains("1 pages are no longer there"));
    assert_eq!(stand.visit(&shop, "/gone"), (404, "MISS".to_owned()));

    // Not named by URL, so nobody asked: stale at first, and past its window PHP is asked.
    let all = stand.purged(&shop, PurgeScope::All, PurgeMode::Soft).await;
    assert_eq!(all.removed, 0);
    stand.page(&shop, "/late", NOT_FOUND);
    assert_eq!(stand.visit(&shop, "/late"), (200, "STALE".to_owned()));
    stand.age(&shop, "/late", 61);
    assert_eq!(stand.visit(&shop, "/late"), (404, "EXPIRED".to_owned()));
    assert_eq!(stand.visit(&shop, "/late"), (404, "EXPIRED".to_owned()));
}

#[tokio::test]
async fn soft_leaves_a_site_in_trouble_its_old_pages() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    stand.status(&shop, "/page");
    stand.page(&shop, "/page", "http_response_code(500);");
    let scope = urls(&["http://shop.test/page"]);
    let purged = stand.purged(&shop, scope, PurgeMode::Soft).await;
    assert_eq!((purged.softened, purged.removed), (1, 0), "{purged:#?}");
    assert_eq!(stand.visit(&shop, "/page").0, 200);
}

#[tokio::test]
async fn soft_becomes_hard_where_it_cannot_be_tried_and_says_so() {
    let stand = Stand::start("");
    let mut shop = stand.site("shop", &Options::default());
    shop.health.path = "/?private".to_owned();
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    stand.status(&shop, "/page");
    let scope = urls(&["http://shop.test/page"]);
    let purged = stand.purged(&shop, scope, PurgeMode::Soft).await;
    assert_eq!((purged.softened, purged.removed), (0, 1), "{purged:#?}");
    assert_eq!(purged.mode, PurgeMode::Soft);
    let note = purged.mode_note.unwrap();
    assert!(note.contains("could not be tried") && note.contains("not stored"), "{note}");
    assert_eq!(stand.facts(&shop).await.soft_works, None);
}

#[tokio::test]
async fn the_self_test_at_start_finds_out_by_itself() {
    let mut stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    stand.status(&shop, "/");
    stand.restart();
    stand.actions.recover().await;
    let deadline = hostler_tests::servers::instant() + std::time::Duration::from_secs(20);
    while stand.facts(&shop).await.soft_works.is_none() {
        assert!(hostler_tests::servers::instant() < deadline, "soft purges were never tried");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let facts = stand.facts(&shop).await;
    assert_eq!((facts.soft_works, facts.entries, facts.fresh), (Some(true), 1, 1));
    assert_eq!(stand.status(&shop, "/"), "HIT", "the self-test touched a visitor's entry");
}

#[tokio::test]
async fn files_of_an_older_agent_are_purged_hard_until_reconciled() {
    let mut stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    let state = stand.dir().join(format!("state/environments/{}.json", shop.id));
    let text = std::fs::read_to_string(&state).unwrap();
    assert!(text.contains("\"rendering\": 3"), "{text}");
    std::fs::write(&state, text.replace("\"rendering\": 3", "\"rendering\": 1")).unwrap();
    stand.restart();
    for mode in [PurgeMode::Soft, PurgeMode::Refresh] {
        stand.status(&shop, "/page");
        let purged = stand.purged(&shop, urls(&["http://shop.test/page"]), mode).await;
        assert_eq!((purged.removed, purged.found), (1, 1), "{purged:#?}");
        assert!(purged.mode_note.unwrap().contains("reconcile"));
    }
}

#[tokio::test]
async fn refresh_makes_pages_anew_and_no_visitor_misses() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    for path in ["/a", "/b", "/b?x=1"] {
        stand.status(&shop, path);
    }
    let old = body(&stand, "/b");
    let scope = urls(&["http://shop.test/b", "https://shop.test/never"]);
    let purged = stand.purged(&shop, scope, PurgeMode::Refresh).await;
    assert_eq!((purged.found, purged.refreshed, purged.removed), (1, 1, 0), "{purged:#?}");
    assert_eq!((purged.mode_note.as_deref(), purged.urls[1].found), (None, 0));
    let page = &purged.urls[0];
    assert_eq!((page.before, page.after), (Some(CacheStatus::Hit), Some(CacheStatus::Hit)));
    assert_ne!(body(&stand, "/b"), old, "the page was not made anew");
    assert_eq!(stand.status(&shop, "/b"), "HIT");

    let old = ["/a", "/b", "/b?x=1"].map(|path| body(&stand, path));
    let all = stand.purged(&shop, PurgeScope::All, PurgeMode::Refresh).await;
    assert_eq!((all.found, all.refreshed), (3, 3), "{all:#?}");
    for (path, old) in ["/a", "/b", "/b?x=1"].iter().zip(old) {
        let answer = get(stand.nginx.port, "shop.test", path, &[]).unwrap();
        assert_eq!(answer.header("X-Hostler-Cache"), Some("HIT"), "{path}");
        assert_ne!(answer.body, old, "{path}");
    }
}

#[tokio::test]
async fn refresh_removes_what_is_not_stored_any_more_and_keeps_what_cannot_be_answered() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    for path in ["/gone", "/cookie", "/broken", "/fine"] {
        stand.status(&shop, path);
    }
    let cache_dir = shop.fastcgi.as_ref().unwrap().cache_dir.clone();
    stand.head(&shop, "/fine");
    assert_eq!(entries(&cache_dir).len(), 5, "the answer to HEAD is not stored");
    stand.page(&shop, "/gone", NOT_FOUND);
    stand.page(&shop, "/cookie", "header('Set-Cookie: a=b');");
    stand.page(&shop, "/broken", "http_response_code(503);");
    let purged = stand.purged(&shop, PurgeScope::All, PurgeMode::Refresh).await;
    let counts = (purged.found, purged.refreshed, purged.removed, purged.failed);
    assert_eq!(counts, (5, 1, 3, 1), "{purged:#?}");
    let note = purged.mode_note.unwrap();
    assert!(note.contains("2 removed: the page is not stored any more"), "{note}");
    assert!(note.contains("1 removed: answers to HEAD"), "{note}");
    assert_eq!(stand.visit(&shop, "/gone"), (404, "MISS".to_owned()));
    assert_eq!(stand.visit(&shop, "/cookie"), (200, "MISS".to_owned()));
    assert_eq!(stand.visit(&shop, "/broken"), (200, "HIT".to_owned()));
    assert_eq!(stand.visit(&shop, "/fine"), (200, "HIT".to_owned()));
}

#[tokio::test]
async fn refresh_of_a_page_that_varies_makes_one_variant_anew_and_leaves_no_old_one() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    stand.page(&shop, "/vary", "header('Vary: Accept-Encoding');");
    stand.page(&shop, "/by-visitor", "header('Vary: X-Variant');");
    let browser = [("Accept-Encoding", "gzip, deflate, br, zstd")];
    for headers in [&browser[..], &[("Accept-Encoding", "identity")]] {
        assert_eq!(stand.status_with(&shop, "/vary", headers), "MISS");
    }
    stand.status_with(&shop, "/by-visitor", &[("X-Variant", "a")]);
    let scope = urls(&["http://shop.test/vary", "http://shop.test/by-visitor"]);
    let purged = stand.purged(&shop, scope, PurgeMode::Refresh).await;
    let counts = (purged.found, purged.refreshed, purged.removed);
    assert_eq!(counts, (3, 1, 2), "{purged:#?}");
    assert!(purged.mode_note.unwrap().contains("2 removed: variants"));
    assert_eq!(stand.status_with(&shop, "/vary", &browser), "HIT");
    assert_eq!(stand.status_with(&shop, "/vary", &[("Accept-Encoding", "identity")]), "MISS");
    assert_eq!(stand.status_with(&shop, "/by-visitor", &[("X-Variant", "a")]), "MISS");
}

#[tokio::test]
async fn a_cache_that_is_off_is_purged_hard() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    result::<ToggleResult>(&stand.toggle(&shop, false).await);
    for mode in [PurgeMode::Soft, PurgeMode::Refresh] {
        let purged = stand.purged(&shop, urls(&["http://shop.test/"]), mode).await;
        assert!(purged.mode_note.unwrap().contains("the cache is off"));
    }
}

#[tokio::test]
async fn an_unpublished_page_is_gone_at_the_next_request_in_every_mode() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    for (mode, path) in
        [(PurgeMode::Hard, "/a"), (PurgeMode::Soft, "/b"), (PurgeMode::Refresh, "/c")]
    {
        assert_eq!([stand.status(&shop, path), stand.status(&shop, path)], ["MISS", "HIT"]);
        stand.page(&shop, path, NOT_FOUND);
        let url = format!("http://shop.test{path}");
        let purged = stand.purged(&shop, urls(&[&url]), mode).await;
        assert_eq!((purged.found, purged.removed), (1, 1), "{mode:?}: {purged:#?}");
        assert_eq!(stand.visit(&shop, path), (404, "MISS".to_owned()), "{mode:?}");
    }
}

#[tokio::test]
async fn a_neighbour_that_breaks_the_configuration_keeps_no_purge_from_working() {
    let stand = Stand::start("");
    let (shop, blog) = (stand.cached_site("shop").await, stand.cached_site("blog").await);
    stand.nginx.write_conf("broken.conf", "nonsense on;\n").unwrap();
    stand.nginx.reload();
    for (mode, seen) in
        [(PurgeMode::Hard, "MISS"), (PurgeMode::Soft, "STALE"), (PurgeMode::Refresh, "HIT")]
    {
        until(&stand, "/x", &["MISS", "STALE", "UPDATING"], "HIT");
        stand.status(&blog, "/x");
        let purged = stand.purged(&shop, PurgeScope::All, mode).await;
        assert_eq!((purged.found, purged.mode_note), (1, None), "{mode:?}");
        assert_eq!(stand.status(&shop, "/x"), seen, "{mode:?}");
        assert_eq!(stand.status(&blog, "/x"), "HIT", "{mode:?} touched the neighbour");
    }
}

#[tokio::test]
async fn an_open_file_cache_delays_no_mode() {
    let stand = Stand::start(
        "open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s; open_file_cache_min_uses 1;",
    );
    let shop = stand.cached_site("shop").await;
    for (mode, seen) in [(PurgeMode::Hard, "MISS"), (PurgeMode::Soft, "STALE")] {
        until(&stand, "/x", &["MISS", "STALE", "UPDATING"], "HIT");
        assert_eq!(stand.status(&shop, "/x"), "HIT");
        stand.purged(&shop, PurgeScope::All, mode).await;
        assert_eq!(stand.status(&shop, "/x"), seen, "{mode:?}");
    }
    until(&stand, "/x", &["STALE", "UPDATING"], "HIT");
    let old = body(&stand, "/x");
    stand.purged(&shop, PurgeScope::All, PurgeMode::Refresh).await;
    let answer = get(stand.nginx.port, "shop.test", "/x", &[]).unwrap();
    assert_eq!(answer.header("X-Hostler-Cache"), Some("HIT"));
    assert_ne!(answer.body, old);
}

#[tokio::test]
async fn refresh_never_stores_an_error_over_a_page_even_if_the_site_says_for_how_long() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    for status in [500, 503, 429] {
        stand.page(&shop, "/a", "");
        stand.purged(&shop, PurgeScope::All, PurgeMode::Hard).await;
        assert_eq!(stand.status(&shop, "/a"), "MISS");
        let old = body(&stand, "/a");
        let error = format!("http_response_code({status}); header('Cache-Control: max-age=300');");
        stand.page(&shop, "/a", &error);
        let purged = stand.purged(&shop, urls(&["http://shop.test/a"]), PurgeMode::Refresh).await;
        assert_eq!((purged.failed, purged.refreshed), (1, 0), "{status}: {purged:#?}");
        assert_eq!(stand.visit(&shop, "/a"), (200, "HIT".to_owned()), "{status}");
        assert_eq!(body(&stand, "/a"), old, "{status}");
    }
}
