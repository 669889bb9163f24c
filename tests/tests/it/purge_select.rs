//! Which entries a purge finds: by prefix, by tag, by query; and what is refused.

use hostler_protocol::job::{
    FastcgiPurge, PurgeMode, PurgeResult, PurgeScope, Selection, ToggleResult,
};

use crate::stand::{Options, Stand, entries, error, purge_spec, result, urls};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn prefixes(list: &[&str]) -> PurgeScope {
    PurgeScope::Select(Selection { prefixes: texts(list), ..Selection::default() })
}

fn tags(list: &[&str]) -> PurgeScope {
    PurgeScope::Select(Selection { tags: texts(list), ..Selection::default() })
}

fn removed(purged: &FastcgiPurge) -> (u64, u64) {
    (purged.found, purged.removed)
}

#[tokio::test]
async fn a_prefix_takes_what_begins_so_on_this_host_only() {
    let stand = Stand::start("");
    let (shop, blog) = (stand.cached_site("shop").await, stand.cached_site("blog").await);
    let inside = ["/news/", "/news/1?a=b", "/news/2", "/newsletter"];
    let outside = ["/", "/old/news/", "/?to=/news/", "/New"];
    for path in inside.iter().chain(&outside) {
        stand.status(&shop, path);
        stand.status(&blog, path);
    }
    let scope = prefixes(&["https://shop.test/news"]);
    let dry: PurgeResult = result(&stand.purge(&shop, scope.clone(), true).await);
    assert_eq!(removed(&dry.fastcgi.unwrap()), (4, 0));
    let purged = stand.purged(&shop, scope, PurgeMode::Hard).await;
    assert_eq!(removed(&purged), (4, 4), "{purged:#?}");
    for path in inside {
        assert_eq!(stand.status(&shop, path), "MISS", "{path} survived");
        assert_eq!(stand.status(&blog, path), "HIT", "the neighbour lost {path}");
    }
    for path in outside {
        assert_eq!(stand.status(&shop, path), "HIT", "{path} was lost");
    }
}

#[tokio::test]
async fn a_prefix_never_reaches_another_host_in_the_same_cache() {
    let stand = Stand::start("");
    let options =
        Options { server_lines: "server_name shop.test.evil xshop.test;", ..Options::default() };
    let shop = stand.site("shop", &options);
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    for host in ["shop.test", "shop.test.evil", "xshop.test"] {
        stand.nginx.get(host, "/a").unwrap();
    }
    let purged = stand.purged(&shop, prefixes(&["http://shop.test"]), PurgeMode::Hard).await;
    assert_eq!(removed(&purged), (1, 1), "{purged:#?}");
    for host in ["shop.test.evil", "xshop.test"] {
        let answer = stand.nginx.get(host, "/a").unwrap();
        assert_eq!(answer.header("X-Hostler-Cache"), Some("HIT"), "{host}");
    }
}

#[tokio::test]
async fn tags_are_words_of_the_stored_header() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    stand.page(&shop, "/a", "header('Surrogate-Key: home post-1');");
    stand.page(
        &shop,
        "/b",
        "header('X-Long: ' . str_repeat('x', 2000)); header('surrogate-key: post-12 menu');",
    );
    stand.page(&shop, "/c", "header('X-Tag: post-1');");
    for path in ["/a", "/b", "/c"] {
        stand.status(&shop, path);
    }
    let purged = stand.purged(&shop, tags(&["post-1", "none"]), PurgeMode::Hard).await;
    assert_eq!(removed(&purged), (1, 1), "{purged:#?}");
    let seen = ["/a", "/b", "/c"].map(|path| stand.status(&shop, path));
    assert_eq!(seen, ["MISS", "HIT", "HIT"]);
    let union = PurgeScope::Select(Selection {
        urls: texts(&["http://shop.test/c"]),
        tags: texts(&["menu"]),
        prefixes: texts(&["http://shop.test/zzz"]),
        query_variants: false,
    });
    let purged = stand.purged(&shop, union, PurgeMode::Soft).await;
    assert_eq!((purged.found, purged.softened), (2, 2), "{purged:#?}");
    assert_eq!((purged.urls.len(), purged.urls[0].softened), (1, 1));
}

#[tokio::test]
async fn query_variants_are_every_entry_of_the_path() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    let same = ["/a", "/a?x=1", "/a?y", "/a?"];
    for path in same.iter().chain(&["/a/", "/ab?x=1"]) {
        stand.status(&shop, path);
    }
    let scope = |query_variants| {
        let urls = texts(&["http://shop.test/a", "http://shop.test/absent"]);
        PurgeScope::Select(Selection { urls, query_variants, ..Selection::default() })
    };
    let exact: PurgeResult = result(&stand.purge(&shop, scope(false), true).await);
    assert_eq!(exact.fastcgi.unwrap().found, 1);
    let purged = stand.purged(&shop, scope(true), PurgeMode::Hard).await;
    assert_eq!(removed(&purged), (4, 4), "{purged:#?}");
    assert_eq!((purged.urls[0].removed, purged.urls[1].found), (4, 0));
    for path in ["/a/", "/ab?x=1"] {
        assert_eq!(stand.status(&shop, path), "HIT", "{path} was lost");
    }
}

#[tokio::test]
async fn ten_thousand_urls_go_in_one_purge() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    stand.fill(&shop, 10_000);
    stand.page(&shop, "/varies", "header('Vary: X-Variant');");
    for variant in ["a", "b", "c"] {
        stand.status_with(&shop, "/varies", &[("X-Variant", variant)]);
    }
    let mut list: Vec<_> = (0..9_999).map(|n| format!("http://shop.test/page-{n}")).collect();
    list.push("http://shop.test/varies".to_owned());
    let scope = PurgeScope::Urls { urls: list.clone() };
    let purged = stand.purged(&shop, scope, PurgeMode::Hard).await;
    assert_eq!(removed(&purged), (10_002, 10_002));
    assert_eq!((purged.urls.len(), purged.urls[9_999].removed), (10_000, 3));
    assert_eq!(stand.facts(&shop).await.entries, 1);
    list.push("http://shop.test/one-too-many".to_owned());
    let outcome = stand.purge(&shop, PurgeScope::Urls { urls: list }, false).await;
    assert_eq!(error(&outcome).0, "SPEC_INVALID");
}

/// Where a million small files fit in memory a million, else a hundred thousand on disk.
fn many_entries() -> (tempfile::TempDir, usize) {
    const NEEDED_KIB: u64 = 10 * 1024 * 1024;
    let memory = std::path::Path::new("/dev/shm");
    let free_kib = rustix::fs::statvfs(memory).map_or(0, |fs| fs.f_bavail * fs.f_frsize / 1024);
    let told = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    let available_kib: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    if free_kib.min(available_kib) >= NEEDED_KIB {
        let name = tempfile::Builder::new().prefix("hostler-million-").to_owned();
        return (name.tempdir_in(memory).unwrap(), 1_000_000);
    }
    (tempfile::tempdir().unwrap(), 100_000)
}

#[tokio::test]
async fn a_cache_of_a_million_entries_is_counted_and_purged_by_prefix_and_whole() {
    let mut stand = Stand::start("");
    let (place, count) = many_entries();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path(), open).unwrap();
    stand.permit(place.path());
    let mut shop = stand.site("shop", &Options::default());
    // nginx counts what it finds there a minute after its start, and throws out what is too much.
    let fastcgi = shop.fastcgi.as_mut().unwrap();
    fastcgi.cache_dir = place.path().join("cache").to_str().unwrap().to_owned();
    (fastcgi.zone_mib, fastcgi.size_mib_max) = (256, 64 * 1024);
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    stand.fill(&shop, count);
    let all = count as u64;
    let facts = stand.facts(&shop).await;
    assert_eq!((facts.entries, facts.fresh, facts.whole), (all, all, true));
    assert!(facts.bytes > 0 && facts.oldest_secs.is_some());
    let scope = prefixes(&["http://shop.test/page-9999"]);
    let purged = stand.purged(&shop, scope, PurgeMode::Hard).await;
    // `/page-9999`, and those with one digit more, and with two.
    let found = if count > 100_000 { 111 } else { 11 };
    assert_eq!(removed(&purged), (found, found));
    let purged = stand.purged(&shop, PurgeScope::All, PurgeMode::Hard).await;
    // All at once; of very many only the first are counted, and that is said.
    assert_eq!(purged.counted, purged.removed == all - found, "{purged:#?}");
    assert!(purged.removed >= (all - found).min(200_000), "{purged:#?}");
    assert_eq!(stand.facts(&shop).await.entries, 0);
}

#[tokio::test]
async fn what_cannot_be_selected_is_refused_before_anything_goes() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    stand.status(&shop, "/");
    let huge = format!("http://shop.test/{}", "x".repeat(9000));
    let cases = [
        (urls(&["http://shop.test/", &huge]), "SPEC_INVALID"),
        (urls(&["http://shop.test/", "http://shop.test.evil/"]), "URL_FOREIGN"),
        (prefixes(&["http://shop.test/", "http://blog.test/"]), "URL_FOREIGN"),
        (prefixes(&["http:///"]), "SPEC_INVALID"),
        (tags(&["fine", "two words"]), "SPEC_INVALID"),
        (PurgeScope::Select(Selection::default()), "SPEC_INVALID"),
    ];
    for mode in [PurgeMode::Hard, PurgeMode::Soft, PurgeMode::Refresh] {
        for (scope, expected) in &cases {
            let outcome = stand.run(purge_spec(&shop, scope.clone(), mode)).await;
            let (code, message) = error(&outcome);
            assert_eq!(code, *expected, "{scope:?}");
            assert!(message.len() < 400, "{message}");
        }
    }
    assert_eq!(stand.status(&shop, "/"), "HIT", "a refused purge removed something");
}

#[tokio::test]
async fn an_unknown_format_is_purged_exactly_and_as_a_whole_and_no_other_way() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    let cache_dir = shop.fastcgi.as_ref().unwrap().cache_dir.clone();
    for path in ["/", "/a"] {
        stand.status(&shop, path);
    }
    let make_foreign = || {
        for path in entries(&cache_dir) {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[0] = 6;
            std::fs::write(&path, bytes).unwrap();
        }
    };
    make_foreign();
    let tagged = tags(&["x"]);
    for (scope, mode) in [
        (prefixes(&["http://shop.test/"]), PurgeMode::Hard),
        (tagged, PurgeMode::Hard),
        (PurgeScope::All, PurgeMode::Soft),
        (urls(&["http://shop.test/a"]), PurgeMode::Soft),
    ] {
        let (code, message) = error(&stand.run(purge_spec(&shop, scope.clone(), mode)).await);
        assert_eq!(code, "CACHE_FORMAT_UNKNOWN", "{scope:?} {mode:?}: {message}");
        assert_eq!(entries(&cache_dir).len(), 2, "{scope:?} {mode:?}");
    }
    let facts = stand.facts(&shop).await;
    assert_eq!((facts.entries, facts.unreadable), (0, 2));
    let exact = stand.purged(&shop, urls(&["http://shop.test/a"]), PurgeMode::Hard).await;
    assert_eq!(removed(&exact), (1, 1), "{exact:#?}");
    let all = stand.purged(&shop, PurgeScope::All, PurgeMode::Hard).await;
    assert_eq!(removed(&all), (1, 1));
    assert_eq!(entries(&cache_dir).len(), 0);
}

#[tokio::test]
async fn a_planted_link_never_keeps_an_old_page_behind_a_purge_that_says_it_succeeded() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    let cache_dir = std::path::PathBuf::from(&shop.fastcgi.as_ref().unwrap().cache_dir);
    let elsewhere = stand.nginx.dir().join("elsewhere");
    let prefix = prefixes(&["http://shop.test/"]);
    // A link in place of an entry, of a directory of each level.
    for up in 0..3 {
        assert_eq!(stand.status(&shop, "/page"), "MISS");
        let entry = entries(cache_dir.to_str().unwrap()).pop().unwrap();
        let planted = entry.ancestors().nth(up).unwrap().to_owned();
        std::fs::rename(&planted, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &planted).unwrap();
        assert_eq!(stand.status(&shop, "/page"), "HIT", "{up}: nginx follows no such link");
        for scope in [prefix.clone(), tags(&["x"])] {
            let (code, message) = error(&stand.purge(&shop, scope, false).await);
            assert_eq!(code, "PATH_IS_SYMLINK", "{up}: {message}");
        }
        result::<PurgeResult>(&stand.purge(&shop, PurgeScope::All, false).await);
        assert_eq!(stand.status(&shop, "/page"), "MISS", "{up}");
        assert!(elsewhere.exists(), "{up}: a link was followed");
        result::<PurgeResult>(&stand.purge(&shop, PurgeScope::All, false).await);
        // It is a file or a directory.
        drop((std::fs::remove_file(&elsewhere), std::fs::remove_dir_all(&elsewhere)));
    }
}
