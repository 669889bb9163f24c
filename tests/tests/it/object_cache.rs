//! Switching and purging a real Redis, and the ways it can be in the way.

use hostler_protocol::job::{
    AppKind, EnvironmentDoc, PurgeMode, PurgeResult, PurgeScope, Retry, ToggleResult,
};
use hostler_tests::servers::redis::Redis;
use hostler_tests::servers::{free_port, write};
use rustix::process::Signal;

use crate::stand::{Options, Stand, error, purge_spec, result};

fn set(redis: &Redis, keys: &[&str]) {
    let mut connection = redis.connect().unwrap();
    for key in keys {
        redis::cmd("SET").arg(key).arg("x").exec(&mut connection).unwrap();
    }
}

fn keys(redis: &Redis) -> Vec<String> {
    let mut keys: Vec<String> =
        redis::cmd("KEYS").arg("*").query(&mut redis.connect().unwrap()).unwrap();
    keys.sort();
    keys
}

/// An environment that has an object cache only.
fn without_pages(mut environment: EnvironmentDoc) -> EnvironmentDoc {
    environment.fastcgi = None;
    environment
}

#[tokio::test]
async fn a_prefix_with_glob_characters_is_taken_literally() {
    let stand = Stand::start("");
    let redis = Redis::start(Some("sesame"), "").unwrap();
    let shop = without_pages(stand.site("shop", &Options::default()));
    let shop = stand.with_redis(shop, redis.port, "sesame", "a*b[");
    set(&redis, &["a*b[1", "a*b[2", "axb[3", "a*b", "ab1"]);
    let switch = stand.dir().join("redis-switch.json");

    let on: ToggleResult = result(&stand.switch(&shop, true).await);
    let flag = on.redis.unwrap();
    assert_eq!((flag.enabled, flag.changed, flag.purged), (true, true, 2), "{flag:?}");
    assert_eq!(keys(&redis), ["a*b", "ab1", "axb[3"]);
    let text = std::fs::read_to_string(&switch).unwrap();
    assert_eq!(text, "{\"enabled\":true,\"prefix\":\"a*b[\"}\n");

    set(&redis, &["a*b[4"]);
    let again: ToggleResult = result(&stand.switch(&shop, true).await);
    assert!(!again.redis.unwrap().changed);
    let purged: PurgeResult = result(&stand.purge(&shop, PurgeScope::All, false).await);
    let counted = purged.redis.unwrap();
    assert_eq!((counted.found, counted.removed), (1, 1));
    assert!(counted.bytes > 0, "the memory of the key was not asked for: {counted:?}");
    redis::cmd("ACL")
        .arg(&["SETUSER", "default", "-memory|usage"])
        .exec(&mut redis.connect().unwrap())
        .unwrap();
    set(&redis, &["a*b[5"]);
    let unmeasured: PurgeResult = result(&stand.purge(&shop, PurgeScope::All, false).await);
    let counted = unmeasured.redis.unwrap();
    assert_eq!((counted.found, counted.removed, counted.bytes), (1, 1, 0));
    assert_eq!(keys(&redis), ["a*b", "ab1", "axb[3"]);

    let off: ToggleResult = result(&stand.switch(&shop, false).await);
    assert!(off.redis.unwrap().changed);
    assert!(std::fs::read_to_string(&switch).unwrap().contains("\"enabled\":false"));
}

#[tokio::test]
async fn a_purge_that_redis_refuses_touches_no_page() {
    let stand = Stand::start("");
    let redis = Redis::start(Some("sesame"), "user poor on >poor ~* +ping +scan\n").unwrap();
    let mut shop = stand.cached_site("shop").await;
    set(&redis, &["p:1"]);
    stand.status(&shop, "/");
    shop = stand.with_redis(shop, redis.port, "poor", "p:");
    shop.redis.as_mut().unwrap().url = format!("redis://poor@127.0.0.1:{}", redis.port);
    for mode in [PurgeMode::Hard, PurgeMode::Soft, PurgeMode::Refresh] {
        let outcome = stand.run(purge_spec(&shop, PurgeScope::All, mode)).await;
        assert_eq!(error(&outcome).0, "REDIS_DENIED", "{mode:?}");
        assert_eq!(stand.status(&shop, "/"), "HIT", "{mode:?}");
    }
    assert_eq!(keys(&redis), ["p:1"]);
}

#[tokio::test]
async fn a_redis_that_cannot_be_used_is_told_by_code_and_nothing_is_switched() {
    let stand = Stand::start("");
    let redis = Redis::start(Some("sesame"), "user poor on >poor ~* +ping\n").unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let site = without_pages(stand.site("shop", &Options::default()));
    let mut poor = stand.with_redis(site.clone(), redis.port, "poor", "p:");
    poor.redis.as_mut().unwrap().url = format!("redis://poor@127.0.0.1:{}", redis.port);
    let (code, _) = error(&stand.switch(&poor, true).await);
    assert_eq!(code, "REDIS_DENIED");
    let cases = [
        (free_port().unwrap(), "sesame", "REDIS_UNREACHABLE"),
        (redis.port, "wrong", "REDIS_AUTH_FAILED"),
        (silent.local_addr().unwrap().port(), "sesame", "REDIS_TIMEOUT"),
    ];
    for (port, password, expected) in cases {
        let shop = stand.with_redis(site.clone(), port, password, "p:");
        let outcome = stand.switch(&shop, true).await;
        let (code, message) = error(&outcome);
        assert_eq!(code, expected, "{message}");
        let told = serde_json::to_string(&outcome).unwrap();
        assert!(!told.contains(password) || password == "wrong", "the password was told: {told}");
        assert!(!stand.dir().join("redis-switch.json").exists(), "it was switched nevertheless");
        let off = stand.switch(&shop, false).await;
        let off: ToggleResult = result(&off);
        assert!(off.redis.unwrap().proof.contains("stay for now"), "off must not need Redis");
        std::fs::remove_file(stand.dir().join("redis-switch.json")).unwrap();
    }
    let mut elsewhere = stand.with_redis(site, redis.port, "sesame", "p:");
    elsewhere.redis.as_mut().unwrap().url = "redis://192.0.2.1:6379".to_owned();
    assert_eq!(error(&stand.switch(&elsewhere, true).await).0, "POLICY_REFUSED");
}

#[tokio::test]
async fn an_object_cache_works_beside_a_page_cache_that_was_never_on() {
    let stand = Stand::start("");
    let redis = Redis::start(Some("sesame"), "").unwrap();
    let options = Options { includes_elsewhere: true, ..Options::default() };
    let shop = stand.with_redis(stand.site("shop", &options), redis.port, "sesame", "shop:");
    let spec = stand.toggle_spec(&shop, Some(false), Some(true));
    let on: ToggleResult = result(&stand.run(spec).await);
    assert!(on.redis.unwrap().enabled && !on.fastcgi.unwrap().enabled);

    set(&redis, &["shop:1", "shop:2", "blog:1"]);
    let dry: PurgeResult = result(&stand.purge(&shop, PurgeScope::All, true).await);
    assert_eq!((dry.redis.unwrap().found, dry.fastcgi.unwrap().found), (2, 0));
    assert_eq!(keys(&redis).len(), 3, "a dry run removed something");
    let purged: PurgeResult = result(&stand.purge(&shop, PurgeScope::All, false).await);
    let pages = purged.fastcgi.unwrap();
    assert_eq!((purged.redis.unwrap().removed, pages.removed, pages.counted), (2, 0, true));
    assert_eq!(keys(&redis), ["blog:1"]);
}

/// A WordPress in so far as a switch needs one, without a page cache; `index` is its front page.
fn wordpress(stand: &Stand, redis: &Redis, config: &str, index: &str) -> EnvironmentDoc {
    let mut shop = without_pages(stand.site("shop", &Options::default()));
    shop.kind = AppKind::Wordpress;
    let root = stand.dir().join("shop/public");
    write(&root.join("index.php"), index).unwrap();
    write(&root.join("wp-config.php"), config).unwrap();
    write(&root.join("wp-content/plugins/redis-cache/includes/object-cache.php"), DROPIN).unwrap();
    stand.with_redis(shop, redis.port, "sesame", "shop:")
}

#[tokio::test]
async fn a_wordpress_with_strict_types_goes_on_working() {
    let stand = Stand::start("");
    let redis = Redis::start(Some("sesame"), "").unwrap();
    let config = "<?php\n/** The base. */\ndeclare(strict_types=1);\n\ndefine( 'DB_NAME', 'x' );\n";
    let index = "<?php\nrequire __DIR__ . '/wp-config.php';\n\
        echo defined('WP_REDIS_DISABLED') ? var_export(WP_REDIS_DISABLED) : 'unset';\n";
    let shop = wordpress(&stand, &redis, config, index);
    let page = || {
        let answer = stand.nginx.get(&shop.domain, "/").unwrap();
        (answer.status, answer.body)
    };
    assert_eq!(page(), (200, "unset".to_owned()));
    let on = stand.switch(&shop, true).await;
    assert!(result::<ToggleResult>(&on).redis.unwrap().changed);
    assert_eq!(page(), (200, "false".to_owned()));
    let asked: Vec<_> = on.steps.iter().map(|step| step.step.as_str()).collect();
    assert!(asked.contains(&"health_before") && asked.contains(&"health_after"), "{asked:?}");
    result::<ToggleResult>(&stand.switch(&shop, false).await);
    assert_eq!(page(), (200, "true".to_owned()));
}

#[tokio::test]
async fn a_switch_the_site_does_not_survive_is_put_back_without_a_page_cache_too() {
    let stand = Stand::start("");
    let redis = Redis::start(Some("sesame"), "").unwrap();
    let index = "<?php\nrequire __DIR__ . '/wp-config.php';\n\
        if (defined('WP_REDIS_DISABLED')) { http_response_code(500); exit; }\necho 'well';\n";
    let shop = wordpress(&stand, &redis, "<?php\ndefine( 'DB_NAME', 'x' );\n", index);
    let (code, message) = error(&stand.switch(&shop, true).await);
    assert_eq!(code, "HEALTH_FAILED");
    assert!(message.contains("answered 200 before the change, 500 now"), "{message}");
    assert_eq!(stand.nginx.get(&shop.domain, "/").unwrap().body, "well");
    let root = stand.dir().join("shop/public");
    let config = std::fs::read_to_string(root.join("wp-config.php")).unwrap();
    assert_eq!(config, "<?php\ndefine( 'DB_NAME', 'x' );\n");
    assert!(!root.join("wp-content/object-cache.php").exists(), "the drop-in stays");
}

#[tokio::test]
async fn a_document_root_that_leads_to_a_release_is_switched_there() {
    use hostler_protocol::job::{CheckResult, Severity};
    use std::os::unix::fs::symlink;
    let stand = Stand::start("");
    let redis = Redis::start(Some("sesame"), "").unwrap();
    let bare = "<?php\ndefine( 'DB_NAME', 'x' );\n";
    let shop = wordpress(&stand, &redis, bare, "<?php\necho 'well';\n");
    let site = stand.dir().join("shop");
    let release = site.join("releases/1");
    std::fs::create_dir(site.join("releases")).unwrap();
    std::fs::rename(site.join("public"), &release).unwrap();
    symlink("releases/1", site.join("public")).unwrap();
    let docroot = async || {
        let checked: CheckResult = result(&stand.check(&shop).await);
        checked.findings.into_iter().find(|finding| finding.check == "docroot").unwrap()
    };
    let found = docroot().await;
    assert_eq!(found.severity, Severity::Ok, "{found:?}");
    assert!(found.message.contains(release.to_str().unwrap()), "{found:?}");
    assert!(result::<ToggleResult>(&stand.switch(&shop, true).await).redis.unwrap().changed);
    let text = std::fs::read_to_string(release.join("wp-config.php")).unwrap();
    assert!(text.contains("define( 'WP_REDIS_DISABLED', false );"), "{text}");
    assert!(site.join("public").is_symlink(), "the link became a directory");

    // A link the site's user made to another site.
    let other = stand.dir().join("blog/public");
    write(&other.join("wp-config.php"), bare).unwrap();
    std::fs::remove_file(site.join("public")).unwrap();
    symlink(&other, site.join("public")).unwrap();
    assert_eq!(docroot().await.severity, Severity::Error);
    assert_eq!(error(&stand.switch(&shop, false).await).0, "PATH_IS_SYMLINK");
    assert_eq!(std::fs::read_to_string(other.join("wp-config.php")).unwrap(), bare);

    // What is written is no link itself.
    std::fs::remove_file(site.join("public")).unwrap();
    symlink("releases/1", site.join("public")).unwrap();
    std::fs::rename(release.join("wp-config.php"), site.join("common.php")).unwrap();
    symlink("../../common.php", release.join("wp-config.php")).unwrap();
    assert_eq!(error(&stand.switch(&shop, false).await).0, "PATH_IS_SYMLINK");
}

#[tokio::test]
async fn a_document_root_nobody_needs_is_no_error() {
    use hostler_protocol::job::{CheckResult, Severity};
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let public = stand.dir().join("shop/public");
    std::fs::rename(&public, stand.dir().join("pages")).unwrap();
    std::os::unix::fs::symlink(stand.dir().join("pages"), &public).unwrap();
    let checked: CheckResult = result(&stand.check(&shop).await);
    let finding = checked.findings.iter().find(|finding| finding.check == "docroot").unwrap();
    assert_eq!((finding.severity, checked.ok), (Severity::Warning, true), "{checked:#?}");
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
}

#[tokio::test]
async fn a_purge_whose_redis_cannot_be_used_removes_nothing() {
    let stand = Stand::start("");
    let mut redis = Redis::start(Some("sesame"), "").unwrap();
    let site = stand.site("shop", &Options::default());
    let shop = stand.with_redis(site.clone(), redis.port, "sesame", "p:");
    let on = stand.toggle_spec(&shop, Some(true), Some(true));
    result::<ToggleResult>(&stand.run(on).await);
    set(&redis, &["p:1", "p:2", "q:1"]);
    assert_eq!([stand.status(&shop, "/"), stand.status(&shop, "/")], ["MISS", "HIT"]);
    let wrong = stand.with_redis(site.clone(), redis.port, "wrong", "p:");
    let (code, _) = error(&stand.purge(&wrong, PurgeScope::All, false).await);
    assert_eq!(code, "REDIS_AUTH_FAILED");
    let down = stand.with_redis(site.clone(), free_port().unwrap(), "sesame", "p:");
    let outcome = stand.purge(&down, PurgeScope::All, false).await;
    assert_eq!(error(&outcome).0, "REDIS_UNREACHABLE");
    assert_eq!(outcome.error.unwrap().retry, Retry::Later, "it may be up again by then");
    // So slow that it does not answer at all: the same server, stopped in its tracks.
    let slow = stand.with_redis(site, redis.port, "sesame", "p:");
    redis.process().signal(Signal::STOP);
    let outcome = stand.purge(&slow, PurgeScope::All, false).await;
    redis.process().signal(Signal::CONT);
    assert_eq!(error(&outcome).0, "REDIS_TIMEOUT");
    assert_eq!(outcome.error.unwrap().retry, Retry::Later);
    assert_eq!(keys(&redis), ["p:1", "p:2", "q:1"], "half a purge was made");
    assert_eq!(stand.status(&shop, "/"), "HIT", "half a purge was made");

    let purged: PurgeResult = result(&stand.purge(&slow, PurgeScope::All, false).await);
    assert_eq!((purged.redis.unwrap().removed, purged.fastcgi.unwrap().removed), (2, 1));
    assert_eq!(keys(&redis), ["q:1"]);
}

const CONFIG: &str = "<?php\ndefine( 'DB_PASSWORD', 'x' );\nrequire_once 'wp-settings.php';\n";
const DROPIN: &str = "<?php\n/*\nPlugin Name: Redis Object Cache Drop-In\n*/\n";

#[tokio::test]
async fn wordpress_is_switched_by_its_constant_and_the_plugin_s_drop_in() {
    let stand = Stand::start("");
    let redis = Redis::start(Some("sesame"), "").unwrap();
    let mut shop = without_pages(stand.site("shop", &Options::default()));
    shop.kind = AppKind::Wordpress;
    let shop = stand.with_redis(shop, redis.port, "sesame", "shop:");
    let root = stand.dir().join("shop/public");
    let (config, dropin) = (root.join("wp-config.php"), root.join("wp-content/object-cache.php"));
    write(&config, CONFIG).unwrap();
    std::fs::create_dir_all(root.join("wp-content")).unwrap();

    assert_eq!(error(&stand.switch(&shop, true).await).0, "DROPIN_MISSING");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), CONFIG, "half a switch was made");

    write(&root.join("wp-content/plugins/redis-cache/includes/object-cache.php"), DROPIN).unwrap();
    write(&dropin, "<?php\n/*\nPlugin Name: Memcached\n*/\n").unwrap();
    let (code, message) = error(&stand.switch(&shop, true).await);
    assert_eq!((code.as_str(), message.contains("Memcached")), ("DROPIN_FOREIGN", true));
    assert!(std::fs::read_to_string(&dropin).unwrap().contains("Memcached"));
    std::fs::remove_file(&dropin).unwrap();

    let on: ToggleResult = result(&stand.switch(&shop, true).await);
    assert!(on.redis.unwrap().changed);
    assert_eq!(std::fs::read_to_string(&dropin).unwrap(), DROPIN);
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("define( 'WP_REDIS_DISABLED', false );"), "{text}");

    let off: ToggleResult = result(&stand.switch(&shop, false).await);
    assert!(off.redis.unwrap().changed);
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("define( 'WP_REDIS_DISABLED', true );"), "{text}");

    let removed = stand.remove(&shop).await;
    let removed: hostler_protocol::job::RemoveResult = result(&removed);
    assert_eq!(removed.files.len(), 2, "{removed:?}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), CONFIG);
    assert!(!dropin.exists(), "the drop-in Hostler copied stays");

    write(&config, "<?php\ndefine( 'WP_REDIS_DISABLED', false );\n").unwrap();
    assert_eq!(error(&stand.switch(&shop, true).await).0, "WP_CONFIG_FOREIGN");
}
