//! One test per job type holds both executors to the same end state and the same codes, and lets them
//! take turns on one environment.

use hostler_protocol::job::{
    CacheSet, EnvironmentDoc, JobSpec, Outcome, PurgeMode, PurgeResult, PurgeScope, PurgeSpec,
    Selection, StepState, ToggleResult, UrlWarm, WarmResult, WarmSpec,
};
use hostler_tests::servers::free_port;
use hostler_tests::servers::redis::Redis;

use super::by_playbook;
use crate::stand::{Options, Stand, entries, error, result};

const PASSWORD: &str = "sesame-open-9";

/// The three files, with what differs from run to run taken out.
fn files(environment: &EnvironmentDoc) -> [String; 3] {
    let nginx = &environment.nginx;
    let http = std::fs::read_to_string(&nginx.http_file).unwrap();
    let secret = http.split("\"effect:").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let generation = http.split("generation ").nth(1).unwrap().split('.').next().unwrap();
    let same = |text: &str| {
        let line = format!("return 200 \"{generation}\\n\";");
        text.replace(&secret, "SECRET")
            .replace(&format!("generation {generation}."), "generation N.")
            .replace(&line, "return 200 \"N\\n\";")
    };
    [&nginx.http_file, &nginx.server_file, &nginx.location_file]
        .map(|path| same(&std::fs::read_to_string(path).unwrap()))
}

/// Names and states of the steps, without those only one of the two can have.
fn steps(outcome: &Outcome) -> Vec<(String, StepState)> {
    outcome.steps.iter().map(|step| (step.step.clone(), step.state)).collect()
}

fn keys(redis: &Redis) -> Vec<String> {
    let mut connection = redis.connect().unwrap();
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    keys.sort();
    keys
}

fn fill(redis: &Redis, prefix: &str) {
    let mut connection = redis.connect().unwrap();
    for key in [format!("{prefix}1"), format!("{prefix}2"), "neighbour".to_owned()] {
        redis::cmd("SET").arg(key).arg("x").exec(&mut connection).unwrap();
    }
}

/// A site whose names and prefix Ansible would expand if it were let.
fn odd_site(stand: &Stand, redis: &Redis) -> EnvironmentDoc {
    let mut shop = stand.site("shop", &Options::default());
    shop.site =
        "{{ lookup('pipe', 'touch /tmp/hostler-injected') }} it's \"odd\"\n- x: y".to_owned();
    shop.name = "{% for x in y %}".to_owned();
    stand.with_redis(shop, redis.port, PASSWORD, "{{ 7 * 7 }}*:")
}

/// A toggle's result with its generation left out.
fn told(outcome: &Outcome) -> ToggleResult {
    ToggleResult { generation: 0, ..result(outcome) }
}

#[tokio::test]
async fn both_toggle_alike_and_may_take_turns() {
    let stand = Stand::start("");
    let redis = Redis::start(Some(PASSWORD), "").unwrap();
    let shop = odd_site(&stand, &redis);
    let prefix = &shop.redis.as_ref().unwrap().prefix;
    let cache_dir = &shop.fastcgi.as_ref().unwrap().cache_dir;
    let switch = || std::fs::read_to_string(stand.dir().join("redis-switch.json")).unwrap();
    let toggle = |on: bool| stand.toggle_spec(&shop, Some(on), Some(on));

    fill(&redis, prefix);
    let native_on = stand.run(toggle(true)).await;
    let expected = (told(&native_on), files(&shop), switch(), keys(&redis));
    assert_eq!([stand.status(&shop, "/"), stand.status(&shop, "/")], ["MISS", "HIT"]);
    fill(&redis, prefix);
    let native_off = stand.run(toggle(false)).await;
    let expected_off = (told(&native_off), files(&shop), switch(), keys(&redis));
    result::<hostler_protocol::job::RemoveResult>(&stand.remove(&shop).await);

    fill(&redis, prefix);
    let on = stand.run_doc(by_playbook(toggle(true))).await;
    assert_eq!((told(&on), files(&shop), switch(), keys(&redis)), expected, "{on:#?}");
    assert_eq!(steps(&on), steps(&native_on));
    assert_eq!([stand.status(&shop, "/"), stand.status(&shop, "/")], ["MISS", "HIT"]);
    assert!(!std::path::Path::new("/tmp/hostler-injected").exists(), "a name was expanded");
    let all = format!("{}{:?}", serde_json::to_string(&on).unwrap(), on);
    assert!(!all.contains(PASSWORD), "the password was told: {all}");
    let runs = stand.dir().join("state/runs");
    assert_eq!(std::fs::read_dir(runs).unwrap().count(), 0, "a run's directory stays");

    // What one has put, the other finds put.
    let again: ToggleResult = result(&stand.run(toggle(true)).await);
    assert!(!again.fastcgi.unwrap().changed && !again.redis.unwrap().changed);
    assert_eq!(stand.status(&shop, "/"), "HIT", "an idle toggle lost the cache");
    let idle = stand.run_doc(by_playbook(toggle(true))).await;
    let again: ToggleResult = result(&idle);
    assert!(!again.fastcgi.unwrap().changed && !again.redis.unwrap().changed, "{idle:#?}");
    let skipped = |step: &str| steps(&idle).contains(&(step.to_owned(), StepState::Skipped));
    assert!(skipped("swap") && skipped("redis_switch"), "{idle:#?}");
    assert_eq!(stand.status(&shop, "/"), "HIT", "an idle toggle lost the cache");

    fill(&redis, prefix);
    let off = stand.run_doc(by_playbook(toggle(false))).await;
    assert_eq!((told(&off), files(&shop), switch(), keys(&redis)), expected_off, "{off:#?}");
    assert_eq!(steps(&off), steps(&native_off));
    assert_eq!(stand.status(&shop, "/"), "OFF");
    assert!(entries(cache_dir).is_empty(), "pages stay in a cache that is off");
}

fn purge(environment: &EnvironmentDoc, scope: PurgeScope, dry_run: bool) -> JobSpec {
    purge_in(PurgeMode::Hard, environment, scope, dry_run)
}

fn purge_in(
    mode: PurgeMode,
    environment: &EnvironmentDoc,
    scope: PurgeScope,
    dry_run: bool,
) -> JobSpec {
    let caches = CacheSet { fastcgi: true, redis: environment.redis.is_some() };
    let environment = environment.clone();
    JobSpec::CachePurge(PurgeSpec { environment, caches, scope, mode, dry_run })
}

/// A purge's result, without what only the agent's own engine does.
fn purged(outcome: &Outcome) -> PurgeResult {
    let mut purged: PurgeResult = result(outcome);
    if let Some(fastcgi) = &mut purged.fastcgi {
        fastcgi.watched_secs = 0;
    }
    purged
}

/// Warms a few pages, one of them in three variants.
fn visit(stand: &Stand, environment: &EnvironmentDoc) {
    for variant in ["a", "b", "c"] {
        stand.status_with(environment, "/?vary", &[("X-Variant", variant)]);
    }
    for path in ["/", "/?a", "/%c3%bc"] {
        stand.status(environment, path);
    }
}

#[tokio::test]
async fn both_purge_alike() {
    let stand = Stand::start("");
    let redis = Redis::start(Some(PASSWORD), "").unwrap();
    let shop = odd_site(&stand, &redis);
    let prefix = &shop.redis.as_ref().unwrap().prefix;
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let urls = ["http://shop.test/?vary", "https://SHOP.test/%C3%BC", "http://shop.test/absent"];
    let urls = || PurgeScope::Urls { urls: urls.map(str::to_owned).to_vec() };
    for (scope, dry_run) in [(urls(), false), (PurgeScope::All, true), (PurgeScope::All, false)] {
        visit(&stand, &shop);
        fill(&redis, prefix);
        let native = stand.run(purge(&shop, scope.clone(), dry_run)).await;
        let expected = (
            purged(&native),
            keys(&redis),
            entries(&shop.fastcgi.as_ref().unwrap().cache_dir).len(),
        );
        visit(&stand, &shop);
        fill(&redis, prefix);
        let outcome = stand.run_doc(by_playbook(purge(&shop, scope.clone(), dry_run))).await;
        let found = (
            purged(&outcome),
            keys(&redis),
            entries(&shop.fastcgi.as_ref().unwrap().cache_dir).len(),
        );
        assert_eq!(found, expected, "{scope:?}");
        assert_eq!(steps(&outcome), steps(&native), "{scope:?}");
    }
}

fn warm(environment: &EnvironmentDoc, paths: &[&str], wanted_at_us: i64) -> JobSpec {
    let url = |path: &&str| format!("http://shop.test{path}");
    let urls = paths.iter().map(url).collect();
    JobSpec::CacheWarm(WarmSpec {
        environment: environment.clone(),
        urls,
        wanted_at_us,
        sent_at_us: None,
    })
}

#[tokio::test]
async fn both_warm_alike() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let off = stand.run(warm(&shop, &["/"], 0)).await;
    let by = stand.run_doc(by_playbook(warm(&shop, &["/"], 0))).await;
    assert_eq!(failure(&off).0, "CACHE_OFF");
    assert_eq!((failure(&by), steps(&by)), (failure(&off), steps(&off)));

    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    stand.page(&shop, "/gone", "http_response_code(404);");
    stand.page(&shop, "/down", "http_response_code(503);");
    stand.page(&shop, "/cookie", "header('Set-Cookie: a=b');");
    stand.page(&shop, "/any", "header('Vary: *');");
    let told = |outcome: &Outcome| {
        let warmed: WarmResult = result(outcome);
        let line = |url: UrlWarm| (url.url, url.state, url.status, url.note);
        let counts =
            [warmed.warmed, warmed.fresh, warmed.not_stored, warmed.failed, warmed.dropped];
        (counts, warmed.urls.into_iter().map(line).collect::<Vec<_>>())
    };
    let paths = ["/?a", "/?b#c", "/?private", "/gone", "/down", "/cookie", "/any", "/.vhost"];
    // Of an empty cache, then of what is stored by now.
    let native = [(); 2].map(|()| warm(&shop, &paths, 0));
    let by = native.clone().map(by_playbook);
    let mut expected = Vec::new();
    for spec in native {
        expected.push(stand.run(spec).await);
    }
    result::<PurgeResult>(&stand.run(purge(&shop, PurgeScope::All, false)).await);
    for (doc, native) in by.into_iter().zip(expected) {
        let by = stand.run_doc(doc).await;
        assert_eq!(told(&by), told(&native));
        assert_eq!(steps(&by), steps(&native));
        assert_eq!([stand.status(&shop, "/?a"), stand.status(&shop, "/?b")], ["HIT", "HIT"]);
    }
    let native = stand.run(warm(&shop, &["/down"], 0)).await;
    let by = stand.run_doc(by_playbook(warm(&shop, &["/down"], 0))).await;
    assert_eq!(failure(&native).0, "WARM_FAILED");
    assert_eq!((failure(&by), steps(&by)), (failure(&native), steps(&native)));
    let cache_dir = &shop.fastcgi.as_ref().unwrap().cache_dir;
    std::fs::remove_dir_all(cache_dir).unwrap();
    let native = stand.run(warm(&shop, &["/"], 0)).await;
    let by = stand.run_doc(by_playbook(warm(&shop, &["/"], 0))).await;
    assert_eq!(failure(&native).0, "CACHE_DIR_MISSING");
    assert_eq!((failure(&by), steps(&by)), (failure(&native), steps(&native)));
}

/// Code and step of a failure.
fn failure(outcome: &Outcome) -> (String, Option<String>) {
    let (code, _) = error(outcome);
    (code, outcome.error.as_ref().unwrap().step.clone())
}

#[tokio::test]
async fn both_fail_alike_and_put_everything_back() {
    let stand = Stand::start("");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let occupied = format!("server {{ listen 127.0.0.1:{port}; return 204; }}\n");
    let refused = Options { location_lines: "fastcgi_cache_key $uri;", ..Options::default() };
    let elsewhere = Options { includes_elsewhere: true, ..Options::default() };
    let mut unproven = stand.site("unproven", &Options::default());
    unproven.health.path = "/.vhost".to_owned();
    let cases = [
        (stand.site("refused", &refused), "NGINX_TEST_FAILED", ""),
        (stand.site("elsewhere", &elsewhere), "NGINX_NOT_INCLUDED", ""),
        (unproven, "CACHE_EFFECT_MISSING", ""),
        (
            stand.site("occupied", &Options::default()),
            "NGINX_RELOAD_NOT_APPLIED",
            occupied.as_str(),
        ),
    ];
    for (site, code, conf) in cases {
        stand.nginx.write_conf("more.conf", conf).unwrap();
        let native = stand.toggle(&site, true).await;
        let by = stand.run_doc(by_playbook(stand.toggle_spec(&site, Some(true), None))).await;
        assert_eq!(failure(&native).0, code);
        assert_eq!(failure(&by), failure(&native), "{by:#?}");
        assert_eq!(steps(&by), steps(&native));
        let (told, expected) = (by.error.unwrap(), native.error.unwrap());
        assert_eq!((told.command, told.exit_status), (expected.command, expected.exit_status));
        let left = entries(stand.dir().join(&site.site).join("nginx").to_str().unwrap());
        assert!(left.is_empty(), "{code}: files were left behind: {left:?}");
    }
}

#[tokio::test]
async fn both_refuse_redis_alike() {
    let stand = Stand::start("");
    let redis = Redis::start(Some(PASSWORD), "user poor on >poor ~* +ping\n").unwrap();
    let mut site = stand.site("shop", &Options::default());
    site.fastcgi = None;
    let mut poor = stand.with_redis(site.clone(), redis.port, "poor", "p:");
    poor.redis.as_mut().unwrap().url = format!("redis://poor@127.0.0.1:{}", redis.port);
    let cases = [
        (poor, "poor", "REDIS_DENIED"),
        (stand.with_redis(site.clone(), redis.port, "wrong", "p:"), "wrong", "REDIS_AUTH_FAILED"),
        (
            stand.with_redis(site, free_port().unwrap(), PASSWORD, "p:"),
            PASSWORD,
            "REDIS_UNREACHABLE",
        ),
    ];
    for (site, password, code) in cases {
        std::fs::write(stand.dir().join("redis-password"), password).unwrap();
        let native = stand.switch(&site, true).await;
        let by = stand.run_doc(by_playbook(stand.toggle_spec(&site, None, Some(true)))).await;
        assert_eq!(failure(&native).0, code);
        assert_eq!((failure(&by), steps(&by)), (failure(&native), steps(&native)));
        assert!(!stand.dir().join("redis-switch.json").exists(), "it was switched nevertheless");
    }
}

#[tokio::test]
async fn what_a_playbook_cannot_do_is_left_to_the_agent() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let with = |mode, scope| purge_in(mode, &shop, scope, false);
    let select = |selection| PurgeScope::Select(selection);
    let tags = Selection { tags: vec!["post-1".to_owned()], ..Selection::default() };
    let prefixes = Selection { prefixes: vec!["http://shop.test/a".to_owned()], ..tags.clone() };
    let refused = [
        with(PurgeMode::Soft, PurgeScope::All),
        with(PurgeMode::Refresh, PurgeScope::All),
        with(PurgeMode::Hard, select(tags)),
        with(PurgeMode::Hard, select(prefixes)),
        JobSpec::EnvCheck(hostler_protocol::job::CheckSpec { environment: shop.clone() }),
        stand.remove_spec(&shop),
    ];
    for spec in refused {
        let outcome = stand.run_doc(by_playbook(spec)).await;
        assert_eq!(error(&outcome).0, "MODE_NOT_SUPPORTED", "{outcome:#?}");
    }
    let foreign = PurgeScope::Urls { urls: vec!["http://blog.test/".to_owned()] };
    let outcome = stand.run_doc(by_playbook(purge(&shop, foreign, false))).await;
    assert_eq!(error(&outcome).0, "URL_FOREIGN");
    let mut other = shop.clone();
    other.fastcgi.as_mut().unwrap().cache_dir.push_str("-not-ours");
    std::fs::create_dir(&other.fastcgi.as_ref().unwrap().cache_dir).unwrap();
    let outcome = stand.run_doc(by_playbook(purge(&other, PurgeScope::All, false))).await;
    assert_eq!(failure(&outcome), ("CACHE_DIR_NOT_OURS".into(), Some("cache_purge".into())));
}
