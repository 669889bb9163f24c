//! Switching and purging a real Redis, and the ways it can be in the way.

use hostler_protocol::job::{
    AppKind, EnvironmentDoc, PurgeMode, PurgeResult, PurgeScope, ToggleResult,
};
use hostler_tests::servers::redis::Redis;
use hostler_tests::servers::{free_port, write};

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
