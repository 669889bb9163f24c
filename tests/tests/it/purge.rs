//! Purging a real nginx cache: exactly what was asked, at once.

use hostler_protocol::job::{CacheStatus, PurgeResult, PurgeScope, ToggleResult};

use crate::stand::{Options, Stand, entries, error, result, urls};

#[tokio::test]
async fn all_takes_every_entry_and_leaves_the_neighbour_s() {
    let stand = Stand::start("");
    let (shop, blog) =
        (stand.site("shop", &Options::default()), stand.site("blog", &Options::default()));
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    result::<ToggleResult>(&stand.toggle(&blog, true).await);
    for path in ["/", "/?a", "/?b"] {
        stand.status(&shop, path);
        stand.status(&blog, path);
    }
    let dry: PurgeResult = result(&stand.purge(&shop, PurgeScope::All, true).await);
    let counted = dry.fastcgi.unwrap();
    assert_eq!((dry.dry_run, counted.found, counted.removed), (true, 3, 0));
    assert_eq!(stand.status(&shop, "/"), "HIT", "a dry run removed something");

    let purged: PurgeResult = result(&stand.purge(&shop, PurgeScope::All, false).await);
    let purged = purged.fastcgi.unwrap();
    assert_eq!((purged.found, purged.removed, purged.bytes), (3, 3, counted.bytes));
    assert!(purged.counted && purged.bytes > 0);
    for path in ["/", "/?a", "/?b"] {
        assert_eq!(stand.status(&shop, path), "MISS", "{path} survived");
        assert_eq!(stand.status(&blog, path), "HIT", "the neighbour lost {path}");
    }
}

#[tokio::test]
async fn a_url_goes_with_all_its_variants_and_nothing_else() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let variants = [[("X-Variant", "a")], [("X-Variant", "b")], [("X-Variant", "c")]];
    for variant in &variants {
        assert_eq!(stand.status_with(&shop, "/?vary", variant), "MISS");
        assert_eq!(stand.status_with(&shop, "/?vary", variant), "HIT");
    }
    stand.status(&shop, "/?other");
    let scope = urls(&["http://shop.test/?vary", "https://SHOP.test:443/?absent#top"]);
    let purged: PurgeResult = result(&stand.purge(&shop, scope, false).await);
    let purged = purged.fastcgi.unwrap();
    assert_eq!((purged.found, purged.removed), (3, 3), "{purged:#?}");
    let [first, second] = purged.urls.as_slice() else { panic!("{purged:#?}") };
    assert_eq!((first.found, first.removed, second.found), (3, 3, 0));
    assert_eq!(first.after, Some(CacheStatus::Miss));
    for variant in &variants {
        assert_eq!(stand.status_with(&shop, "/?vary", variant), "MISS", "{variant:?} survived");
    }
    assert_eq!(stand.status(&shop, "/?other"), "HIT", "another page was lost");
}

#[tokio::test]
async fn a_key_may_begin_with_a_letter() {
    let stand = Stand::start("");
    let mut shop = stand.site("shop", &Options::default());
    shop.fastcgi.as_mut().unwrap().key_format = "v1_$host$request_uri".to_owned();
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let left = entries(&shop.fastcgi.as_ref().unwrap().cache_dir);
    assert!(left.is_empty(), "the probe's entry was looked for under another key: {left:?}");
    assert_eq!([stand.status(&shop, "/"), stand.status(&shop, "/")], ["MISS", "HIT"]);
    let purged: PurgeResult =
        result(&stand.purge(&shop, urls(&["http://shop.test/"]), false).await);
    assert_eq!(purged.fastcgi.unwrap().removed, 1);
    assert_eq!(stand.status(&shop, "/"), "MISS");
}

#[tokio::test]
async fn variants_whose_first_entry_was_evicted_go_too() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let variants = [[("X-Variant", "a")], [("X-Variant", "b")], [("X-Variant", "c")]];
    let cache_dir = &shop.fastcgi.as_ref().unwrap().cache_dir;
    stand.status_with(&shop, "/?vary", &variants[0]);
    let first = entries(cache_dir);
    for variant in &variants {
        stand.status_with(&shop, "/?vary", variant);
    }
    std::fs::remove_file(&first[0]).unwrap();
    let scope = urls(&["http://shop.test/?vary"]);
    let purged: PurgeResult = result(&stand.purge(&shop, scope, false).await);
    assert_eq!(purged.fastcgi.unwrap().removed, 2);
    for variant in &variants {
        assert_eq!(stand.status_with(&shop, "/?vary", variant), "MISS", "{variant:?} survived");
    }
}

#[tokio::test]
async fn the_status_before_and_after_is_the_visitors_and_stores_nothing() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    assert_eq!(stand.status(&shop, "/?page"), "MISS");
    let scope = urls(&["http://shop.test/?page"]);
    let purged: PurgeResult = result(&stand.purge(&shop, scope, false).await);
    let page = &purged.fastcgi.unwrap().urls[0];
    assert_eq!((page.before, page.after), (Some(CacheStatus::Hit), Some(CacheStatus::Miss)));
    let cache_dir = &shop.fastcgi.as_ref().unwrap().cache_dir;
    assert_eq!(entries(cache_dir).len(), 0, "a probe stored something");
}

#[tokio::test]
async fn an_open_file_cache_does_not_keep_purged_pages() {
    let stand = Stand::start(
        "open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s; open_file_cache_min_uses 1;",
    );
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    for scope in [urls(&["http://shop.test/?x"]), PurgeScope::All] {
        for _ in 0..4 {
            stand.status(&shop, "/?x");
        }
        assert_eq!(stand.status(&shop, "/?x"), "HIT");
        result::<PurgeResult>(&stand.purge(&shop, scope.clone(), false).await);
        assert_eq!(stand.status(&shop, "/?x"), "MISS", "{scope:?}");
    }
}

#[tokio::test]
async fn a_cache_that_is_not_there_is_an_empty_one() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let cache_dir = shop.fastcgi.as_ref().unwrap().cache_dir.clone();
    let empty = async |scope: PurgeScope, dry_run: bool| {
        let purged: PurgeResult = result(&stand.purge(&shop, scope, dry_run).await);
        let purged = purged.fastcgi.unwrap();
        assert_eq!((purged.found, purged.removed, purged.counted), (0, 0, true), "{purged:?}");
        purged.urls
    };
    let page = urls(&["http://shop.test/", "http://shop.test/?x"]);
    for dry_run in [true, false] {
        assert!(empty(PurgeScope::All, dry_run).await.is_empty());
        let asked: Vec<_> = empty(page.clone(), dry_run).await.into_iter().map(|u| u.url).collect();
        assert_eq!(asked, ["http://shop.test/", "http://shop.test/?x"]);
    }
    // Never on, and the directory is somebody else's: nothing in it is ours to count.
    std::fs::create_dir_all(format!("{cache_dir}/a/bc")).unwrap();
    std::fs::write(format!("{cache_dir}/a/bc/precious"), "x").unwrap();
    empty(PurgeScope::All, false).await;
    assert_eq!(entries(&cache_dir).len(), 1, "a file that is not ours is gone");
    std::fs::remove_dir_all(&cache_dir).unwrap();
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    std::fs::remove_dir_all(&cache_dir).unwrap();
    empty(PurgeScope::All, false).await;
}

#[tokio::test]
async fn what_cannot_be_purged_says_why() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let cache_dir = shop.fastcgi.as_ref().unwrap().cache_dir.clone();
    let code = |outcome| error(&outcome).0;
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let mut moved = shop.clone();
    moved.fastcgi.as_mut().unwrap().cache_dir.push_str("-new");
    assert_eq!(code(stand.purge(&moved, PurgeScope::All, false).await), "CACHE_DIR_MISSING");
    std::fs::create_dir(format!("{cache_dir}-new")).unwrap();
    assert_eq!(code(stand.purge(&moved, PurgeScope::All, false).await), "CACHE_DIR_NOT_OURS");
    assert_eq!(stand.status(&shop, "/"), "MISS");
    let foreign = urls(&["http://shop.test/", "http://blog.test/"]);
    assert_eq!(code(stand.purge(&shop, foreign, false).await), "URL_FOREIGN");
    let nonsense = urls(&["/path/only"]);
    assert_eq!(code(stand.purge(&shop, nonsense, false).await), "SPEC_INVALID");
    assert_eq!(stand.status(&shop, "/"), "HIT", "a refused purge removed something");
    let mut outside = shop.clone();
    outside.fastcgi.as_mut().unwrap().cache_dir = "/var/cache/elsewhere".to_owned();
    let outside = stand.purge(&outside, PurgeScope::All, false).await;
    assert_eq!(code(outside), "PATH_OUTSIDE_ROOTS");
    std::fs::rename(&cache_dir, format!("{cache_dir}-real")).unwrap();
    std::os::unix::fs::symlink(format!("{cache_dir}-real"), &cache_dir).unwrap();
    assert_eq!(code(stand.purge(&shop, PurgeScope::All, false).await), "PATH_IS_SYMLINK");
}
