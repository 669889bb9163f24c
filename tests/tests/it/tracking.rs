//! Tracking arguments in cache keys: what the agent computes and what nginx does are the same.

use std::collections::BTreeSet;

use hostler_agent::steps::keys::KeyFormat;
use hostler_agent::steps::tracking::canonical;
use hostler_protocol::job::{KEY_FORMAT_DEFAULT, PurgeMode, ToggleResult};
use hostler_tests::servers::{get, write};

use crate::stand::{Options, Stand, entries, result, urls};

const QUERIES: [&str; 34] = [
    "/t",
    "/t?",
    "/t?a=1",
    "/t?utm_source=x",
    "/t?utm_source",
    "/t?utm_=",
    "/t?utm_source=x&utm_medium=y&fbclid=z",
    "/t?a=1&utm_source=x",
    "/t?utm_source=x&a=1",
    "/t?a=1&gclid=x&b=2",
    "/t?a=1&gclid=x&utm_id=1&b=2&_ga=3&c=4&mc_eid=5&d=6&yclid=7&e=8&twclid=9&f=10",
    "/t?_ga=1&a=1&_gl=2&b=2&wbraid=3",
    "/t?&utm_source=x",
    "/t?utm_source=x&",
    "/t?utm_source=x&&a",
    "/t?a&&utm_source=x",
    "/t?&&",
    "/t?a=utm_source",
    "/t?a=utm_source=x",
    "/t?Utm_source=x",
    "/t?xutm_source=x",
    "/t?fbclidx=1",
    "/t?fbclid=1=2",
    "/t?fbclid=1?utm_source=2",
    "/t?a=1?utm_source=2",
    "/t?fbclid[]=1",
    "/t?gclid=%26&a=%C3%BC",
    "/t?utm%5Fsource=x",
    "/t?a=1;utm_source=x",
    "/t?utm_source=x%20y&q=a+b",
    "/t/utm_source=x?msclkid=1",
    "/utm_source=x&a",
    "/t?mc_cid=1&mc_eid=2&srsltid=3&a=$1",
    "/t?=1&utm_a=2",
];

/// The keys of what is stored, read from the files themselves.
fn stored_keys(cache_dir: &str) -> BTreeSet<String> {
    let key = |path| {
        let bytes = std::fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&bytes[342..]).into_owned();
        text.lines().next().unwrap().to_owned()
    };
    entries(cache_dir).into_iter().map(key).collect()
}

#[tokio::test]
async fn nginx_and_the_agent_compute_the_same_keys() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    let format = KeyFormat::parse(KEY_FORMAT_DEFAULT).unwrap();
    let cache_dir = &shop.fastcgi.as_ref().unwrap().cache_dir;
    let mut expected = BTreeSet::new();
    for query in QUERIES {
        let answer = stand.nginx.get("shop.test", query).unwrap();
        assert_eq!(answer.status, 200, "{query}");
        expected.insert(format.expand("http", "GET", "shop.test", &canonical(query)));
        assert_eq!(stored_keys(cache_dir), expected, "after {query}");
    }
}

#[tokio::test]
async fn a_visitor_from_a_campaign_shares_the_page_and_php_sees_the_whole_query() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    let first = stand.nginx.get("shop.test", "/page?utm_source=mail&utm_medium=x").unwrap();
    assert_eq!(first.header("X-Hostler-Cache"), Some("MISS"));
    assert!(first.body.starts_with("/page?utm_source=mail&utm_medium=x "), "{}", first.body);
    assert_eq!(stand.status(&shop, "/page"), "HIT");
    assert_eq!(stand.status(&shop, "/page?fbclid=1"), "HIT");
    assert_eq!(stand.status(&shop, "/page?a=1&fbclid=1"), "MISS");
    assert_eq!(stand.status(&shop, "/page?a=1"), "HIT");
    let scope = urls(&["http://shop.test/page?utm_campaign=z"]);
    let purged = stand.purged(&shop, scope, PurgeMode::Hard).await;
    assert_eq!(purged.removed, 1, "{purged:#?}");
    assert_eq!(stand.status(&shop, "/page"), "MISS");
}

#[tokio::test]
async fn keys_of_older_files_are_found_too() {
    let stand = Stand::start("");
    let shop = stand.cached_site("shop").await;
    let raw = "httpGETshop.test/page?utm_source=x";
    stand.store(&shop, raw);
    let scope = urls(&["http://shop.test/page?utm_source=x"]);
    let purged = stand.purged(&shop, scope, PurgeMode::Hard).await;
    assert_eq!(purged.removed, 1, "{purged:#?}");
}

#[tokio::test]
async fn what_a_vhost_captures_in_its_location_is_left_as_it_was() {
    let stand = Stand::start("");
    let mut shop = stand.site("shop", &Options::default());
    shop.kind = hostler_protocol::job::AppKind::Wordpress;
    let conf = stand.nginx.dir().join("conf.d/shop.test.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let with_capture = text.replace(
        "location ~ \\.php$ {",
        "location ~ ^/(cap[a-z]*)$ {\n include HOSTLER/location*.conf;\n \
         include /etc/nginx/fastcgi_params;\n fastcgi_param CAPTURED $1;\n \
         fastcgi_param SCRIPT_FILENAME $document_root/index.php;\n fastcgi_pass unix:SOCKET;\n }\n \
         location ~ \\.php$ {",
    );
    let with_capture = with_capture
        .replace("HOSTLER", stand.dir().join("shop/nginx").to_str().unwrap())
        .replace("SOCKET", stand.php_socket().to_str().unwrap());
    write(&conf, &with_capture).unwrap();
    stand.page(&shop, "/capture", "echo $_SERVER['CAPTURED'], ' ';");
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let logged_in = [("Cookie", "wordpress_logged_in_1=x")];
    for (path, headers) in [("/capture?a=1&utm_source=x", &[][..]), ("/capture", &logged_in)] {
        let answer = get(stand.nginx.port, "shop.test", path, headers).unwrap();
        assert!(answer.body.starts_with("capture "), "{path}: {}", answer.body);
    }
}
