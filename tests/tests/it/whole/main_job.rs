//! The main job, end to end.

use hostler_tests::system::{Site, SiteOptions, System};
use serde_json::json;

#[test]
fn a_toggle_and_purges_travel_from_the_request_to_nginx_and_redis_and_back() {
    let system = System::start().unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    let neighbour = Site::create(&system.controller, &system.host, "blog").unwrap();
    for site in [&site, &neighbour] {
        let job = site.set_caches(&system.controller, true, true).unwrap();
        assert_eq!(job["state"], "succeeded", "{job:#}\n{}", system.host.agent_log());
        assert_eq!(site.cache_status("/").unwrap(), "MISS");
        assert_eq!(site.cache_status("/").unwrap(), "HIT");
        assert_eq!(site.cache_status("/other").unwrap(), "MISS");
    }
    let mut redis = system.host.redis.connect().unwrap();
    for key in ["shop:1", "shop:2", "blog:1"] {
        redis::cmd("SET").arg(key).arg("x").exec(&mut redis).unwrap();
    }

    let one = json!({ "urls": [site.url("/")] });
    let job = site.purge(&system.controller, Some(&one)).unwrap();
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let url = &job["result"]["fastcgi"]["urls"][0];
    assert_eq!(
        (&url["removed"], &url["before"], &url["after"]),
        (&json!(1), &json!("HIT"), &json!("MISS")),
        "{job:#}"
    );
    assert_eq!(site.cache_status("/other").unwrap(), "HIT", "another URL was purged too");
    assert_eq!(site.cache_status("/").unwrap(), "MISS");

    let job = site.purge(&system.controller, None).unwrap();
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert_eq!(job["result"]["fastcgi"]["removed"], 2, "{job:#}");
    assert_eq!(job["result"]["redis"]["removed"], 2, "{job:#}");
    assert_eq!(site.cache_status("/").unwrap(), "MISS");
    assert_eq!(neighbour.cache_status("/").unwrap(), "HIT", "the neighbour's cache was touched");
    let left: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).unwrap();
    assert_eq!(left, ["blog:1"]);

    let job = site.set_caches(&system.controller, false, false).unwrap();
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let first = site.get("/").unwrap().body;
    assert_ne!(first, site.get("/").unwrap().body, "a page was cached while the cache is off");
}

#[test]
fn a_site_in_https_alone_is_toggled_and_purged_like_any_other() {
    let system = System::start().unwrap();
    let options = SiteOptions { tls: true, ..SiteOptions::default() };
    let site = Site::create_with(&system.controller, &system.host, "shop", &options).unwrap();
    let path = format!("/api/environments/{}/check", site.environment);
    let job = system.controller.run_job("POST", &path, None).unwrap();
    assert_eq!(job["result"]["ok"], true, "{job:#}");
    let job = site.set_caches(&system.controller, true, true).unwrap();
    assert_eq!(job["state"], "succeeded", "{job:#}\n{}", system.host.agent_log());
    assert_eq!(site.cache_status("/").unwrap(), "MISS");
    assert_eq!(site.cache_status("/").unwrap(), "HIT");
    let one = json!({ "urls": [site.url("/")] });
    let job = site.purge(&system.controller, Some(&one)).unwrap();
    let url = &job["result"]["fastcgi"]["urls"][0];
    assert_eq!(
        (&url["removed"], &url["before"], &url["after"]),
        (&json!(1), &json!("HIT"), &json!("MISS")),
        "{job:#}"
    );
    assert_eq!(site.cache_status("/").unwrap(), "MISS");
    let job = site.set_caches(&system.controller, false, false).unwrap();
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert_eq!(site.cache_status("/").unwrap(), "OFF");
}
