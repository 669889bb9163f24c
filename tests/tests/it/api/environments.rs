//! Environments through the API: everything wrong is said at once, nothing overlaps.

use hostler_controller::domain::{Change, EnvironmentState, HostState};
use hostler_protocol::job::{Code, JobError, Outcome, OutcomeState};
use serde_json::{Value, json};

use super::jobs::{World, succeeded};
use super::rig::{Answer, Rig, environment};

struct Place {
    rig: Rig,
    /// Where environments of the site are made.
    path: String,
    host: String,
}

impl Place {
    async fn new() -> Self {
        let rig = Rig::new().await;
        let site = rig.site("shop").await;
        let host = rig.host("web1", false).await.to_string();
        Self { rig, path: format!("/api/sites/{site}/environments"), host }
    }

    async fn make(&self, body: Value) -> Answer {
        self.rig.post(&self.path, body).await
    }

    fn right(&self) -> Value {
        environment("shop", &self.host)
    }
}

fn with(mut body: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap()[field] = value;
    body
}

#[tokio::test]
async fn what_is_left_out_gets_its_default() {
    let place = Place::new().await;
    let made = place.make(with(place.right(), "/host", json!("web1"))).await.expect(201);
    let file = |kind: &str| format!("/etc/nginx/hostler/shop-production/{kind}.conf");
    assert_eq!(made.body["nginx"]["http_file"], file("http"));
    assert_eq!(made.body["nginx"]["probe_origin"], "http://127.0.0.1:80");
    assert_eq!(made.body["fastcgi"]["cache_dir"], "/var/cache/nginx/hostler/shop-production");
    assert_eq!(made.body["fastcgi"]["key_format"], "$scheme$request_method$host$request_uri");
    assert_eq!(made.body["health"], json!({ "path": "/", "status": 200, "timeout_ms": 5000 }));
    let off = json!({ "desired": false, "applied": null, "applied_at": null, "last_error": null });
    assert_eq!(made.body["cache"]["fastcgi"], off);
    assert_eq!(
        (made.body["site"].as_str(), made.body["state"].as_str()),
        (Some("shop"), Some("active"))
    );
    let shown = place.rig.get(made.header("location")).await.expect(200);
    assert_eq!(shown.body, made.body);
    let list = format!("/api/environments?host={}", place.host);
    assert_eq!(place.rig.get(&list).await.expect(200).body["items"][0], made.body);
    let bare = json!({ "name": "bare", "host": "web1", "domain": "bare.example", "kind": "wordpress",
                       "docroot": "/srv/bare", "user": "www-data" });
    let bare = place.make(bare).await.expect(201);
    assert_eq!((&bare.body["fastcgi"], &bare.body["redis"]), (&json!(null), &json!(null)));
}

#[tokio::test]
async fn everything_wrong_is_said_at_once() {
    let place = Place::new().await;
    let wrong = json!({
        "name": "Prod", "host": "web1", "domain": "Shop example", "kind": "php",
        "docroot": "var/www", "user": "0root",
        "nginx": { "http_file": "/a/../b", "server_file": "/a b", "location_file": "/a;b",
                   "probe_origin": "https://x" },
        "fastcgi": { "cache_dir": "/c/", "key_format": "$cookie_a", "zone_mib": 0 },
        "redis": { "url": "redis://:secret@h:1", "prefix": "" },
        "health": { "path": "x", "status": 99, "timeout_ms": 1 }
    });
    let answer = place.make(wrong).await.expect(400);
    let wanted = [
        "/name",
        "/domain",
        "/docroot",
        "/user",
        "/nginx/http_file",
        "/nginx/server_file",
        "/nginx/location_file",
        "/nginx/probe_origin",
        "/fastcgi/cache_dir",
        "/fastcgi/key_format",
        "/fastcgi/zone_mib",
        "/redis/url",
        "/redis/prefix",
        "/redis/switch_file",
        "/health/path",
        "/health/status",
        "/health/timeout_ms",
    ];
    let mut pointers = answer.pointers();
    pointers.dedup();
    assert_eq!(pointers, wanted, "{}", answer.text);
    assert!(!answer.text.contains("secret"), "an answer repeats a password: {}", answer.text);
    assert!(answer.text.contains("password_file"), "{}", answer.text);
}

#[tokio::test]
async fn unknown_and_revoked_hosts_take_no_environment() {
    let place = Place::new().await;
    for host in ["nobody", "host_00000000000000000000000000"] {
        let answer = place.make(with(place.right(), "/host", json!(host))).await.expect(400);
        assert_eq!(answer.pointers(), ["/host"], "{host}");
    }
    let nowhere = "/api/sites/site_00000000000000000000000000/environments";
    place.rig.post(nowhere, place.right()).await.expect(404);
    let host = format!("/api/hosts/{}", place.host);
    place.rig.delete(&host).await.expect(409);
    let revoked = place.rig.call(axum::http::Method::POST, &format!("{host}/revoke"), None).await;
    assert_eq!(revoked.expect(200).body["state"], "revoked");
    assert_eq!(place.make(place.right()).await.expect(409).code(), "HOST_REVOKED");
    place.rig.delete(&host).await.expect(204);
    place.rig.get(&host).await.expect(404);
}

#[tokio::test]
async fn two_environments_never_share_a_place() {
    let place = Place::new().await;
    place.make(place.right()).await.expect(201);
    let second = environment("other", &place.host);
    let second = with(second, "/name", json!("staging"));
    let claims = [
        ("/domain", json!("shop.example"), "/domain"),
        ("/docroot", json!("/var/www/shop"), "/docroot"),
        ("/docroot", json!("/var/www/shop/public"), "/docroot"),
        ("/docroot", json!("/var/www"), "/docroot"),
        (
            "/fastcgi/cache_dir",
            json!("/var/cache/nginx/hostler/shop-production"),
            "/fastcgi/cache_dir",
        ),
        ("/fastcgi/cache_dir", json!("/var/cache/nginx/hostler"), "/fastcgi/cache_dir"),
        ("/fastcgi/cache_dir", json!("/var/www/shop/cache"), "/fastcgi/cache_dir"),
        ("/redis/prefix", json!("shop:"), "/redis/prefix"),
        ("/redis/prefix", json!("shop:x:"), "/redis/prefix"),
        ("/redis/prefix", json!("sh"), "/redis/prefix"),
        ("/redis/switch_file", json!("/var/lib/hostler/shop.json"), "/redis/switch_file"),
    ];
    for (pointer, value, named) in claims {
        let answer = place.make(with(second.clone(), pointer, value.clone())).await.expect(409);
        assert_eq!(answer.code(), "OVERLAP", "{pointer} {value}");
        assert!(answer.pointers().contains(&named), "{pointer} {value}: {}", answer.text);
        assert!(answer.text.contains("shop/production"), "it does not say whose: {}", answer.text);
    }
    let file = json!({ "http_file": "/etc/nginx/hostler/shop-production/server.conf" });
    let answer = place.make(with(second.clone(), "/nginx", file)).await.expect(409);
    assert_eq!(answer.pointers(), ["/nginx/http_file"]);
    let twin = with(second.clone(), "/name", json!("production"));
    let twin = with(
        twin,
        "/nginx",
        json!({ "http_file": "/a/1.conf", "server_file": "/a/2.conf", "location_file": "/a/3.conf" }),
    );
    let twin = with(twin, "/fastcgi/cache_dir", json!("/var/cache/nginx/x"));
    assert_eq!(place.make(twin).await.expect(409).code(), "NAME_TAKEN");
    place.make(second).await.expect(201);
}

#[tokio::test]
async fn a_shared_redis_is_compared_from_any_host_and_a_local_one_is_not() {
    let place = Place::new().await;
    let shared = |body: Value| with(body, "/redis/url", json!("redis://10.0.0.9:6379/1"));
    place.make(shared(place.right())).await.expect(201);
    let other = place.rig.host("web2", false).await;
    let mut second = environment("shop", other.as_str());
    second["name"] = json!("staging");
    let answer = place.make(shared(second.clone())).await.expect(409);
    assert_eq!((answer.code(), answer.pointers()), ("OVERLAP", vec!["/redis/prefix"]));
    let elsewhere = with(second.clone(), "/redis/url", json!("redis://10.0.0.9:6379/2"));
    place.make(elsewhere).await.expect(201);
    let mut third = environment("shop", other.as_str());
    third["name"] = json!("third");
    third["domain"] = json!("third.example");
    third["docroot"] = json!("/srv/third");
    third["redis"]["switch_file"] = json!("/var/lib/hostler/third.json");
    place.make(third).await.expect(201);
}

#[tokio::test]
async fn a_change_is_validated_like_a_creation() {
    let place = Place::new().await;
    let made = place.make(place.right()).await.expect(201);
    let path = made.header("location").to_owned();
    let change = async |body: Value| place.rig.patch(&path, body).await;
    assert_eq!(change(json!({})).await.expect(400).code(), "INVALID_REQUEST");
    let partly = change(json!({ "health": { "path": "/up" } })).await.expect(200);
    assert_eq!(partly.body["health"], json!({ "path": "/up", "status": 200, "timeout_ms": 5000 }));
    assert_eq!(partly.body["version"], 2);
    let same = change(json!({ "health": { "path": "/up" } })).await.expect(200);
    assert_eq!(same.body["version"], 2, "a change that changes nothing counted");
    let wrong = change(json!({ "docroot": "x", "fastcgi": { "zone_mib": 0 } })).await.expect(400);
    assert_eq!(wrong.pointers(), ["/docroot", "/fastcgi/zone_mib"]);
    assert_eq!(change(json!({ "domain": null })).await.expect(400).pointers(), ["/domain"]);
    let without = change(json!({ "redis": null })).await.expect(200);
    assert_eq!(
        (&without.body["redis"], &without.body["cache"]["redis"]),
        (&json!(null), &json!(null))
    );
    let lacking = change(json!({ "redis": { "prefix": "a:" } })).await.expect(400);
    assert!(lacking.pointers().contains(&"/redis/url"), "{}", lacking.text);
}

#[tokio::test]
async fn what_would_leave_a_cache_behind_waits_until_it_is_off() {
    let place = Place::new().await;
    let made = place.make(place.right()).await.expect(201);
    let path = made.header("location").to_owned();
    place.rig.host("web2", false).await;
    let on = json!({ "fastcgi_cache_enabled": true, "redis_cache_enabled": true });
    place.rig.patch(&format!("{path}/cache"), on).await.expect(202);
    let changes = [
        (json!({ "fastcgi": { "cache_dir": "/var/cache/nginx/new" } }), "/fastcgi/cache_dir"),
        (json!({ "fastcgi": null }), "/fastcgi"),
        (json!({ "redis": null }), "/redis"),
        (json!({ "host": "web2" }), "/host"),
        (json!({ "fastcgi": { "key_format": "$host$request_uri" } }), "/fastcgi/key_format"),
        (json!({ "redis": { "switch_file": "/srv/other.json" } }), "/redis/switch_file"),
        (json!({ "nginx": { "http_file": "/etc/nginx/x.conf" } }), "/nginx"),
    ];
    for (body, pointer) in changes {
        let answer = place.rig.patch(&path, body.clone()).await.expect(409);
        assert_eq!((answer.code(), answer.pointers()), ("CACHES_ON", vec![pointer]), "{body}");
    }
    let off = json!({ "fastcgi_cache_enabled": false, "redis_cache_enabled": false });
    let job = place.rig.patch(&format!("{path}/cache"), off).await.expect(202);
    let answer = place.rig.patch(&path, json!({ "host": "web2" })).await.expect(409);
    assert_eq!(answer.code(), "JOBS_WAITING");
    let job = format!("/api/jobs/{}/cancel", job.job_id());
    place.rig.call(axum::http::Method::POST, &job, None).await.expect(200);
    let moved = place.rig.patch(&path, json!({ "host": "web2" })).await.expect(200);
    let shown = place.rig.get(&path).await.expect(200);
    assert_eq!(shown.body["host_id"], moved.body["host_id"], "the answer says what was not kept");
    assert_ne!(shown.body["host_id"], made.body["host_id"], "it did not move");
    let dir = json!({ "fastcgi": { "cache_dir": "/var/cache/nginx/new" } });
    place.rig.patch(&path, dir).await.expect(200);
}

#[tokio::test]
async fn a_renamed_site_is_renamed_in_its_environments() {
    let place = Place::new().await;
    let made = place.make(place.right()).await.expect(201);
    let site = format!("/api/sites/{}", made.body["site_id"].as_str().unwrap());
    place.rig.patch(&site, json!({ "name": "store" })).await.expect(200);
    let shown = place.rig.get(made.header("location")).await.expect(200);
    assert_eq!(shown.body["site"], "store");
    assert_eq!(place.rig.delete(&site).await.expect(409).code(), "SITE_NOT_EMPTY");
}

#[tokio::test]
async fn deleting_cancels_what_waits_and_waits_for_the_host() {
    let place = Place::new().await;
    let made = place.make(place.right()).await.expect(201);
    let path = made.header("location").to_owned();
    let purge =
        place.rig.call(axum::http::Method::POST, &format!("{path}/cache/purge"), None).await;
    let purge = format!("/api/jobs/{}", purge.expect(202).job_id());
    let deleting = place.rig.delete(&path).await.expect(202);
    let ended = place.rig.get(&purge).await.expect(200);
    let why = (ended.body["state"].as_str(), ended.body["reason"].as_str());
    assert_eq!(why, (Some("cancelled"), Some("ENVIRONMENT_DELETED")));
    let again = place.rig.delete(&path).await.expect(202);
    assert_eq!(again.job_id(), deleting.job_id(), "a second deletion made a second job");
    let job = place.rig.get(deleting.header("location")).await.expect(200);
    assert_eq!(job.body["type"], "env_delete");
    assert_eq!(job.body["waits_for"][0]["kind"], "host", "{}", job.text);
    assert_eq!(place.rig.get(&path).await.expect(200).body["state"], "deleting");
    for (method, end) in [("PATCH", ""), ("POST", "/check"), ("POST", "/cache/purge")] {
        let body = (method == "PATCH").then(|| json!({ "user": "x" }));
        let method = method.parse().unwrap();
        let answer = place.rig.call(method, &format!("{path}{end}"), body).await.expect(409);
        assert_eq!(answer.code(), "ENVIRONMENT_DELETING", "{end}");
    }
}

#[tokio::test]
async fn on_a_revoked_host_an_environment_goes_at_once() {
    let place = Place::new().await;
    let made = place.make(place.right()).await.expect(201);
    let path = made.header("location").to_owned();
    let job = place.rig.call(axum::http::Method::POST, &format!("{path}/check"), None).await;
    let job = job.expect(202).header("location").to_owned();
    let host = format!("/api/hosts/{}", place.host);
    let revoke = format!("{host}/revoke");
    place.rig.call(axum::http::Method::POST, &revoke, None).await.expect(200);
    let ended = place.rig.get(&job).await.expect(200);
    assert_eq!(ended.body["reason"], "HOST_REVOKED");
    let purge =
        place.rig.call(axum::http::Method::POST, &format!("{path}/cache/purge"), None).await;
    assert_eq!(purge.expect(409).code(), "HOST_REVOKED");
    assert_eq!(place.rig.delete(&host).await.expect(409).code(), "HOST_NOT_EMPTY");
    place.rig.delete(&path).await.expect(204);
    place.rig.get(&path).await.expect(404);
    place.rig.delete(&host).await.expect(204);
}

#[tokio::test]
async fn a_failed_environment_takes_no_cache_job() {
    let place = Place::new().await;
    let made = place.make(place.right()).await.expect(201);
    let path = made.header("location").to_owned();
    let id = made.id().parse().unwrap();
    let mut row = place.rig.app.store.environment(&id).await.unwrap().unwrap();
    row.state = EnvironmentState::Failed;
    row.version += 1;
    place.rig.write(Change::UpdateEnvironment(Box::new(row))).await;
    let on = json!({ "fastcgi_cache_enabled": true });
    let answer = place.rig.patch(&format!("{path}/cache"), on).await.expect(409);
    assert_eq!(answer.code(), "ENVIRONMENT_FAILED");
    let host = place.rig.app.store.host(&place.host.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(host.state, HostState::Enrolled);
    place.rig.delete(&path).await.expect(202);
}

#[tokio::test]
async fn only_files_the_agent_would_write_are_taken() {
    let place = Place::new().await;
    for (pointer, value) in [
        ("/nginx", json!({ "http_file": "/etc/cron.d/job" })),
        ("/nginx", json!({ "server_file": "/etc/nginx/nginx.conf.bak" })),
        ("/nginx", json!({ "location_file": "/etc/nginx/.conf" })),
        ("/redis/switch_file", json!("/srv/shop/index.php")),
    ] {
        let named = match value.as_object().and_then(|object| object.keys().next()) {
            Some(field) => format!("{pointer}/{field}"),
            None => pointer.to_owned(),
        };
        let answer = place.make(with(place.right(), pointer, value)).await.expect(400);
        assert_eq!(answer.pointers(), [named], "{}", answer.text);
    }
    let made = place.make(place.right()).await.expect(201);
    let path = made.header("location");
    let change = json!({ "nginx": { "http_file": "/etc/profile" } });
    let answer = place.rig.patch(path, change).await.expect(400);
    assert_eq!(answer.pointers(), ["/nginx/http_file"]);
}

#[tokio::test]
async fn an_environment_leaves_a_revoked_host_with_its_caches_on() {
    let world = World::new().await;
    let caches = format!("{}/cache", world.environment);
    world.rig.patch(&caches, json!({ "fastcgi_cache_enabled": true })).await.expect(202);
    let running = world.claim().await.remove(0);
    let result =
        json!({ "generation": 1, "fastcgi": { "enabled": true, "changed": true, "proof": "" } });
    world.settle(&running, succeeded(result)).await;
    world.rig.host("web2", false).await;
    let to = json!({ "host": "web2" });
    assert_eq!(
        world.rig.patch(&world.environment, to.clone()).await.expect(409).code(),
        "CACHES_ON"
    );
    let environment = world.rig.get(&world.environment).await.expect(200);
    let host = environment.body["host_id"].as_str().unwrap().to_owned();
    world.rig.post(&format!("/api/hosts/{host}/revoke"), json!({})).await.expect(200);
    // Nobody can turn it off there any more; of the new host nothing is claimed yet.
    let moved = world.rig.patch(&world.environment, to).await.expect(200);
    assert_ne!(moved.body["host_id"], json!(host));
    let flags = world.rig.get(&caches).await.expect(200);
    assert_eq!(flags.body["fastcgi"]["applied"], json!(null));
}

#[tokio::test]
async fn what_a_toggle_under_way_may_switch_on_cannot_be_taken_away() {
    let world = World::new().await;
    let caches = format!("{}/cache", world.environment);
    world.rig.patch(&caches, json!({ "fastcgi_cache_enabled": true })).await.expect(202);
    let running = world.claim().await.remove(0);
    // The flags say off again while the host is at work switching it on.
    world.rig.patch(&caches, json!({ "fastcgi_cache_enabled": false })).await.expect(202);
    for body in [
        json!({ "fastcgi": null }),
        json!({ "fastcgi": { "cache_dir": "/var/cache/nginx/new" } }),
        json!({ "nginx": { "http_file": "/etc/nginx/x.conf" } }),
        json!({ "redis": null }),
    ] {
        let answer = world.rig.patch(&world.environment, body.clone()).await.expect(409);
        assert_eq!(answer.code(), "JOBS_WAITING", "{body}");
    }
    let result =
        json!({ "generation": 1, "fastcgi": { "enabled": true, "changed": true, "proof": "" } });
    world.settle(&running, succeeded(result)).await;
    let gone = world.rig.patch(&world.environment, json!({ "fastcgi": null })).await.expect(409);
    assert_eq!(gone.code(), "CACHES_ON", "it is on by now");
}

#[tokio::test]
async fn what_could_not_be_put_back_may_be_on() {
    let world = World::new().await;
    let caches = format!("{}/cache", world.environment);
    for (on, code) in [(true, Code::NginxRollbackFailed), (false, Code::NginxTestFailed)] {
        world.rig.patch(&caches, json!({ "fastcgi_cache_enabled": on })).await.expect(202);
        let running = world.claim().await.remove(0);
        world.settle(&running, failed(code)).await;
    }
    // The second toggle failed before it changed anything: but what is known is still nothing.
    let shown = world.rig.get(&caches).await.expect(200);
    assert_eq!(shown.body["fastcgi"]["applied"], json!(null));
    world.rig.patch(&caches, json!({ "fastcgi_cache_enabled": true })).await.expect(202);
    let running = world.claim().await.remove(0);
    world.settle(&running, failed(Code::NginxRollbackFailed)).await;
    world.rig.patch(&caches, json!({ "fastcgi_cache_enabled": false })).await.expect(202);
    let gone = world.rig.patch(&world.environment, json!({ "fastcgi": null })).await.expect(409);
    assert_eq!(gone.code(), "CACHES_ON");
}

fn failed(code: Code) -> Outcome {
    Outcome {
        state: OutcomeState::Failed,
        result: None,
        error: Some(JobError::new(code, "no")),
        steps: Vec::new(),
        started_at_us: 1,
        finished_at_us: 2,
    }
}

#[tokio::test]
async fn a_site_in_https_alone_is_probed_there() {
    let place = Place::new().await;
    let origin = json!("https://127.0.0.1:443");
    let body = with(place.right(), "/nginx", json!({ "probe_origin": origin }));
    let made = place.make(body).await.expect(201);
    assert_eq!(made.body["nginx"]["probe_origin"], origin);
    for bad in
        ["ftp://127.0.0.1:80", "https://127.0.0.1", "127.0.0.1:443", "https://127.0.0.1:443/x"]
    {
        let body = with(place.right(), "/nginx", json!({ "probe_origin": bad }));
        assert_eq!(place.make(body).await.expect(400).pointers(), ["/nginx/probe_origin"], "{bad}");
    }
}

#[tokio::test]
async fn what_the_agent_could_never_render_is_refused() {
    let place = Place::new().await;
    for (pointer, value) in [
        ("/fastcgi/cache_dir", "/var/cache/nginx/a(b)=c"),
        ("/fastcgi/cache_dir", "/var/cache/nginx/größe"),
        ("/fastcgi/key_format", "$scheme$request_uri"),
    ] {
        let body = with(place.right(), pointer, json!(value));
        assert_eq!(place.make(body).await.expect(400).pointers(), [pointer], "{value}");
    }
}

#[tokio::test]
async fn a_redis_socket_may_be_the_server_of_any_local_address() {
    let place = Place::new().await;
    place.make(place.right()).await.expect(201);
    let mut second = environment("blog", &place.host);
    second["name"] = json!("staging");
    second["redis"]["prefix"] = json!("shop:x");
    for (url, status) in [
        ("unix:///run/redis/redis.sock", 409),
        ("redis://localhost:6379", 409),
        ("redis://127.0.0.1:6379/1", 201),
    ] {
        second["redis"]["url"] = json!(url);
        let answer = place.make(second.clone()).await.expect(status);
        if status == 409 {
            assert_eq!((answer.code(), answer.pointers()), ("OVERLAP", vec!["/redis/prefix"]));
        }
    }
}
