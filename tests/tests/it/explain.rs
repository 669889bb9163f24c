//! What the agent says of a cache and of one URL, and that saying it changes nothing.

use std::os::unix::fs::FileExt as _;

use hostler_protocol::job::{AppKind, CacheStatus, ExplainResult, ToggleResult};

use crate::stand::{Options, Stand, entries, result};

fn first(explained: &ExplainResult) -> &str {
    &explained.reasons[0].code
}

#[tokio::test]
async fn facts_count_fresh_and_stale_entries_and_what_is_none() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let cache_dir = shop.fastcgi.as_ref().unwrap().cache_dir.clone();
    let nothing = stand.facts(&shop).await;
    assert_eq!((nothing.entries, nothing.whole, nothing.oldest_secs), (0, true, None));
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    for path in ["/a", "/b", "/c"] {
        stand.status(&shop, path);
    }
    stand.age(&shop, "/b", 700);
    let beside = entries(&cache_dir)[0].with_file_name("f".repeat(32));
    std::fs::write(beside, "rubbish").unwrap();
    let facts = stand.facts(&shop).await;
    assert_eq!((facts.entries, facts.fresh, facts.stale), (3, 2, 1), "{facts:?}");
    assert_eq!((facts.unreadable, facts.whole, facts.soft_works), (1, true, None));
    let bytes: u64 = entries(&cache_dir).iter().map(|p| p.metadata().unwrap().len()).sum();
    assert_eq!(facts.bytes, bytes - 7);
    assert!(facts.oldest_secs.unwrap() >= 700 && facts.newest_secs.unwrap() < 60, "{facts:?}");
}

#[tokio::test]
async fn a_stored_page_is_told_with_its_file_and_a_new_one_with_its_prospects() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    stand.page(&shop, "/page", "header('Surrogate-Key: home p1'); header('Vary: X-Variant');");
    let before = stand.explain(&shop, "/page").await;
    assert_eq!((before.status, before.http_status), (CacheStatus::Miss, Some(200)));
    assert_eq!((before.cacheable, first(&before)), (true, "storable"), "{before:#?}");
    assert!(before.reasons[0].message.contains("600 s"), "{before:#?}");
    let cache_dir = shop.fastcgi.as_ref().unwrap().cache_dir.clone();
    assert_eq!(entries(&cache_dir).len(), 0, "explaining stored something");

    stand.status(&shop, "/page");
    stand.status_with(&shop, "/page", &[("X-Variant", "b")]);
    let stored = stand.explain(&shop, "/page?utm_source=x").await;
    assert_eq!((stored.status, first(&stored)), (CacheStatus::Hit, "stored"), "{stored:#?}");
    assert_eq!(stored.entries.len(), 2, "{stored:#?}");
    let entry = &stored.entries[0];
    assert_eq!(entry.key, "httpGETshop.test/page");
    assert!(std::path::Path::new(&entry.file).is_file());
    assert_eq!(
        (entry.vary.as_slice(), entry.tags.as_slice()),
        (["X-Variant".to_owned()].as_slice(), ["home".to_owned(), "p1".to_owned()].as_slice())
    );
    assert!(entry.age_secs < 60 && (500..=600).contains(&entry.fresh_secs), "{entry:?}");
    assert_eq!(entries(&cache_dir).len(), 2, "explaining stored something");
}

#[tokio::test]
async fn what_keeps_a_page_from_being_stored_is_the_first_reason() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    let cases = [
        ("http_response_code(404);", "status"),
        ("header('Set-Cookie: a=b');", "set_cookie"),
        ("header('Cache-Control: private');", "cache_control"),
        ("header('Cache-Control: max-age=0');", "cache_control"),
        ("header('Expires: Wed, 11 Jan 1984 05:00:00 GMT');", "expires"),
        ("header('X-Accel-Expires: 0');", "x_accel_expires"),
        ("header('Vary: *');", "vary_any"),
    ];
    for (lines, expected) in cases {
        stand.page(&shop, "/page", lines);
        let explained = stand.explain(&shop, "/page").await;
        assert_eq!((explained.cacheable, first(&explained)), (false, expected), "{explained:#?}");
        assert!(explained.entries.is_empty());
    }
    stand.page(&shop, "/page", "header('X-Accel-Expires: 77'); http_response_code(404);");
    let explained = stand.explain(&shop, "/page").await;
    assert_eq!((explained.cacheable, first(&explained)), (true, "storable"), "{explained:#?}");
}

#[tokio::test]
async fn what_never_comes_to_the_cache_is_told_too() {
    let stand = Stand::start("");
    let mut shop = stand.site("shop", &Options::default());
    shop.kind = AppKind::Wordpress;
    assert_eq!(first(&stand.explain(&shop, "/").await), "not_set_up");
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let explained = stand.explain(&shop, "/cart/").await;
    assert_eq!((explained.status, first(&explained)), (CacheStatus::Bypass, "bypass_uri"));
    let explained = stand.explain(&shop, "/").await;
    assert!(explained.reasons.iter().any(|reason| reason.code == "bypass_cookie"));
    std::fs::write(stand.dir().join("shop/public/plain.txt"), "x").unwrap();
    assert_eq!(first(&stand.explain(&shop, "/plain.txt").await), "not_cached_here");
    result::<ToggleResult>(&stand.toggle(&shop, false).await);
    assert_eq!(first(&stand.explain(&shop, "/").await), "cache_off");
}

/// The site's own user may write what it likes into the files.
#[tokio::test]
async fn times_that_cannot_be_are_told_without_a_stumble() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    stand.page(&shop, "/page", "");
    stand.status(&shop, "/page");
    let cache_dir = shop.fastcgi.as_ref().unwrap().cache_dir.clone();
    let file = entries(&cache_dir).remove(0);
    for (time, fresh) in [(i64::MIN, 0), (i64::MAX, 1)] {
        let open = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
        for at in [8, 40] {
            open.write_all_at(&time.to_le_bytes(), at).unwrap();
        }
        let facts = stand.facts(&shop).await;
        assert_eq!((facts.entries, facts.fresh, facts.stale), (1, fresh, 1 - fresh), "{facts:?}");
        let explained = stand.explain(&shop, "/page").await;
        assert_eq!(explained.entries[0].fresh_secs > 0, fresh == 1, "{explained:#?}");
    }
}
