//! Sites that differ from the usual one, by both executors: one whose cache was never on, one in HTTPS
//! alone, one that is asked for elsewhere than it listens.

use hostler_protocol::job::{
    CacheSet, JobSpec, PurgeMode, PurgeResult, PurgeScope, PurgeSpec, StepState, ToggleResult,
    WarmResult, WarmSpec, WarmState,
};
use hostler_tests::servers::redis::Redis;
use hostler_tests::servers::tls::Tls;

use super::by_playbook;
use crate::stand::{Options, Stand, entries, error, result};

const PASSWORD: &str = "sesame-open-9";

#[tokio::test]
async fn a_cache_that_was_never_on_is_off_and_empty() {
    let stand = Stand::start("");
    let redis = Redis::start(Some(PASSWORD), "").unwrap();
    let site = stand.site("shop", &Options { includes_elsewhere: true, ..Options::default() });
    let shop = stand.with_redis(site, redis.port, PASSWORD, "shop:");
    let mut connection = redis.connect().unwrap();
    redis::cmd("SET").arg("shop:1").arg("x").exec(&mut connection).unwrap();
    let purge = || {
        let caches = CacheSet { fastcgi: true, redis: true };
        let scope = PurgeScope::Urls { urls: vec!["http://shop.test/".to_owned()] };
        let (environment, mode) = (shop.clone(), PurgeMode::Hard);
        JobSpec::CachePurge(PurgeSpec { environment, caches, scope, mode, dry_run: false })
    };
    let by: PurgeResult = result(&stand.run_doc(by_playbook(purge())).await);
    assert_eq!(by.redis.as_ref().unwrap().removed, 1);
    redis::cmd("SET").arg("shop:1").arg("x").exec(&mut connection).unwrap();
    let native: PurgeResult = result(&stand.run(purge()).await);
    assert_eq!(by, native);
    assert_eq!(by.fastcgi.unwrap().urls.len(), 1);

    for flags in [(Some(false), None), (Some(false), Some(false))] {
        let spec = || stand.toggle_spec(&shop, flags.0, flags.1);
        let native: ToggleResult = result(&stand.run(spec()).await);
        let outcome = stand.run_doc(by_playbook(spec())).await;
        let by: ToggleResult = result(&outcome);
        assert_eq!(by.fastcgi, native.fastcgi, "{outcome:#?}");
        let swap = outcome.steps.iter().find(|step| step.step == "swap").unwrap();
        assert_eq!(swap.state, StepState::Skipped);
        let left = entries(stand.dir().join("shop/nginx").to_str().unwrap());
        assert!(left.is_empty(), "files were made for nothing: {left:?}");
    }
}

#[tokio::test]
async fn a_site_in_https_alone_is_toggled_and_warmed_at_an_https_origin() {
    let stand = Stand::start("");
    let tls = Tls::self_signed(stand.dir(), "other.test").unwrap();
    let mut shop = stand.site("shop", &Options { tls: Some(&tls), ..Options::default() });
    let outcome = stand.run_doc(by_playbook(stand.toggle_spec(&shop, Some(true), None))).await;
    assert_eq!(error(&outcome).0, "PROBE_ORIGIN_WRONG", "{outcome:#?}");
    assert!(outcome.error.unwrap().hint.unwrap().contains("https://127.0.0.1:"));
    let left = entries(stand.dir().join("shop/nginx").to_str().unwrap());
    assert!(left.is_empty(), "files were left behind: {left:?}");

    shop.nginx.probe_origin = format!("https://127.0.0.1:{}", tls.port);
    let outcome = stand.run_doc(by_playbook(stand.toggle_spec(&shop, Some(true), None))).await;
    let toggled: ToggleResult = result(&outcome);
    assert!(toggled.fastcgi.unwrap().proof.contains("MISS then HIT"), "{outcome:#?}");
    let urls = vec!["https://shop.test/?a&utm_source=mail".to_owned()];
    let (environment, wanted_at_us) = (shop.clone(), 0);
    let spec = WarmSpec { environment, urls, wanted_at_us, sent_at_us: None };
    let outcome = stand.run_doc(by_playbook(JobSpec::CacheWarm(spec.clone()))).await;
    let warmed: WarmResult = result(&outcome);
    assert_eq!(warmed.urls[0].state, WarmState::Warmed, "{outcome:#?}");
    assert_eq!(stand.status_tls(&tls, "shop.test", "/?a").await, "HIT");
    // The native executor finds the page where the playbook stored it.
    let again: WarmResult = result(&stand.run(JobSpec::CacheWarm(spec)).await);
    assert_eq!(again.urls[0].state, WarmState::Fresh);
}
