//! Against real controllers and, for jobs, a whole system.

use hostler_tests::system::{Controller, Site, System};
use serde_json::{Value, json};

use super::run;

#[test]
fn sites_and_tokens_live_their_lives() {
    let controller = Controller::start(None).unwrap();
    let port = controller.api_port;
    run(port, &["site", "create", "shop"]).expect(0);
    let taken = run(port, &["site", "create", "shop"]).expect(5);
    assert!(taken.stderr.contains("code: "), "{}", taken.stderr);
    run(port, &["site", "create", "Not A Name"]).expect(5);
    run(port, &["site", "rename", "shop", "store"]).expect(0);
    let sites = run(port, &["site", "list", "-o", "json"]).expect(0).json();
    assert_eq!(sites[0]["name"], "store", "{sites}");
    let shown = run(port, &["site", "show", "store"]).expect(0);
    assert!(shown.stdout.contains("ENVIRONMENT"), "{}", shown.stdout);
    let unknown = run(port, &["env", "show", "stroe/production"]).expect(3);
    assert!(unknown.stderr.contains("no environment is called"), "{}", unknown.stderr);
    run(port, &["site", "delete", "store", "--yes"]).expect(0);
    run(port, &["site", "show", "store"]).expect(3);

    let join = run(port, &["token", "create", "--name", "web1"]).expect(0).stdout;
    assert!(join.starts_with("hostler1."), "{join}");
    let tokens = run(port, &["token", "list", "-o", "json"]).expect(0).json();
    assert_eq!(tokens[0]["state"], "waiting", "{tokens}");
    let id = tokens[0]["id"].as_str().unwrap();
    run(port, &["token", "delete", id, "--yes"]).expect(0);
    assert_eq!(run(port, &["token", "list", "-o", "json"]).expect(0).json(), json!([]));
    run(port, &["job", "show", "job_01kah2m3n4p5q6r7s8t9v0w1x2"]).expect(3);
}

#[test]
fn an_environment_is_operated_from_the_command_line() {
    let system = System::start().unwrap();
    let site = Site::create(&system.controller, &system.host, "clishop").unwrap();
    let port = system.controller.api_port;
    let name = "clishop/production";
    let hosts = run(port, &["host", "list"]).expect(0);
    assert!(hosts.stdout.contains("web1") && hosts.stdout.contains("yes"), "{}", hosts.stdout);

    let on = run(port, &["cache", "set", name, "--fastcgi", "on", "--wait"]).expect(0);
    assert!(on.stdout.contains("succeeded env_cache_toggle"), "{}", on.stdout);
    assert!(on.stderr.contains("done        "), "steps are told as they end:\n{}", on.stderr);
    let state = run(port, &["cache", "show", name, "-o", "json"]).expect(0).json();
    assert_eq!(state["fastcgi"]["applied"], true, "{state}");
    let check = run(port, &["env", "check", name]).expect(0);
    assert!(check.stdout.contains("succeeded env_check"), "{}", check.stdout);

    site.get("/a").unwrap();
    assert_eq!(site.cache_status("/a").unwrap(), "HIT");
    let url = site.url("/a");
    let counted = run(port, &["cache", "purge", name, "--url", &url, "--dry-run"]).expect(0);
    assert!(counted.stdout.contains("dry run"), "{}", counted.stdout);
    assert_eq!(site.cache_status("/a").unwrap(), "HIT", "a dry run removes nothing");
    let purged = run(port, &["cache", "purge", name, "--url", &url, "--wait", "-o", "json"]);
    let purged: Value = purged.expect(0).json();
    assert_eq!(purged["result"]["fastcgi"]["urls"][0]["removed"], 1, "{purged:#}");
    assert_eq!(site.cache_status("/a").unwrap(), "MISS");

    let jobs = run(port, &["job", "list", "--env", name, "--limit", "2", "-o", "json"]);
    assert_eq!(jobs.expect(0).json()[0]["id"], purged["id"], "newest first");
    let id = purged["id"].as_str().unwrap();
    let shown = run(port, &["job", "show", id]).expect(0);
    assert!(shown.stdout.contains("STEP") && shown.stdout.contains(&url), "{}", shown.stdout);
    run(port, &["job", "cancel", id]).expect(5);

    run(port, &["cache", "set", name, "--fastcgi", "off", "--wait"]).expect(0);
    run(port, &["env", "delete", name, "--yes", "--wait"]).expect(0);
    run(port, &["env", "show", name]).expect(3);
}

#[test]
fn a_purge_warms_what_it_took_and_the_host_tells_of_its_cache() {
    let system = System::start().unwrap();
    let site = Site::create(&system.controller, &system.host, "warmshop").unwrap();
    let port = system.controller.api_port;
    let name = "warmshop/production";
    run(port, &["cache", "set", name, "--fastcgi", "on", "--wait"]).expect(0);
    for page in ["/blog/a", "/blog/b", "/other"] {
        site.get(page).unwrap();
    }
    let shown = run(port, &["cache", "show", name, "-o", "json"]).expect(0).json();
    assert_eq!(shown["facts"]["entries"], 3, "{shown}");
    let table = run(port, &["cache", "show", name]).expect(0);
    assert!(table.stdout.contains("ENTRIES"), "{}", table.stdout);

    let prefix = site.url("/blog/");
    let url = site.url("/blog/a");
    let arguments = ["cache", "purge", name, "--prefix", &prefix, "--url", &url, "--warm"];
    let purged = run(port, &[&arguments[..], &["--wait", "-o", "json"]].concat()).expect(0);
    let child = purged.json()["children"][0].as_str().unwrap().to_owned();
    assert!(purged.stderr.contains(&child), "{}", purged.stderr);
    assert_eq!(purged.json()["result"]["fastcgi"]["removed"], 2, "{}", purged.stdout);
    let warmed = run(port, &["job", "watch", &child, "-o", "json"]).expect(0).json();
    assert_eq!(warmed["parent_id"], purged.json()["id"]);
    let urls = json!([site.url("/"), url]);
    assert_eq!(warmed["request"]["urls"], urls, "{warmed}");
    assert_eq!(warmed["result"]["warmed"], 2, "{warmed}");
    for (page, status) in [("/blog/a", "HIT"), ("/", "HIT"), ("/other", "HIT"), ("/blog/b", "MISS")]
    {
        assert_eq!(site.cache_status(page).unwrap(), status, "{page}");
    }

    let explained = run(port, &["cache", "explain", &url]).expect(0);
    assert!(explained.stdout.contains("HIT (HTTP 200)"), "{}", explained.stdout);
    let again = run(port, &["cache", "warm", name, "--url", &url, "--wait"]).expect(0);
    assert!(again.stdout.contains("succeeded cache_warm"), "{}", again.stdout);
    let children = run(port, &["job", "list", "--parent", purged.json()["id"].as_str().unwrap()]);
    assert!(children.expect(0).stdout.contains(&child));

    // Without its host the switches are shown all the same.
    drop(site);
    let System { controller, host } = system;
    drop(host);
    let alone = run(controller.api_port, &["cache", "show", name]).expect(0);
    assert!(alone.stdout.contains("fastcgi"), "{}", alone.stdout);
    assert!(alone.stderr.contains("no figures from the host"), "{}", alone.stderr);
}

#[test]
fn many_environments_are_operated_at_once() {
    let system = System::start().unwrap();
    let sites = ["one", "two", "three"]
        .map(|name| Site::create(&system.controller, &system.host, name).unwrap());
    let port = system.controller.api_port;
    run(port, &["env", "label", "one/production", "tier=prod"]).expect(0);
    run(port, &["env", "label", "two/production", "tier=prod", "x=1"]).expect(0);
    run(port, &["host", "label", "web1", "rack=b7"]).expect(0);
    let listed =
        run(port, &["env", "list", "--label", "tier=prod", "--label", "rack=b7"]).expect(0);
    assert!(listed.stdout.contains("two/production"), "{}", listed.stdout);
    assert!(!listed.stdout.contains("three/production"), "{}", listed.stdout);

    let on = ["batch", "set", "--all", "--fastcgi", "on", "--canary", "1", "--wait"];
    let on = run(port, &on).expect(0);
    assert!(on.stdout.contains("3 of 3: 3 succeeded"), "{}", on.stdout);
    for site in &sites {
        site.get("/a").unwrap();
        assert_eq!(site.cache_status("/a").unwrap(), "HIT");
    }
    let plan = ["batch", "purge", "--label", "tier=prod", "--url", "/a", "--dry-run"];
    let plan = run(port, &plan).expect(0);
    assert!(plan.stdout.contains("one/production"), "{}", plan.stdout);
    assert!(!plan.stdout.contains("three/production"), "{}", plan.stdout);
    assert_eq!(sites[0].cache_status("/a").unwrap(), "HIT", "a dry run does nothing");
    let purge = ["batch", "purge", "--label", "tier=prod", "--url", "/a", "--wait", "-o", "json"];
    let purged = run(port, &purge).expect(0).json();
    assert_eq!(purged["counts"]["succeeded"], 2, "{purged:#}");
    let served = sites.each_ref().map(|site| site.cache_status("/a").unwrap());
    assert_eq!(served, ["MISS", "MISS", "HIT"], "only what carries the label was purged");

    let id = purged["id"].as_str().unwrap();
    let targets = run(port, &["batch", "show", id, "--targets"]).expect(0);
    assert!(targets.stdout.contains("two/production"), "{}", targets.stdout);
    let jobs = run(port, &["job", "list", "--batch", id, "-o", "json"]).expect(0).json();
    assert_eq!(jobs.as_array().unwrap().len(), 2, "{jobs:#}");
    let all = run(port, &["batch", "list"]).expect(0);
    assert!(all.stdout.contains("purge") && all.stdout.contains("set"), "{}", all.stdout);
    run(port, &["batch", "cancel", id]).expect(5);
    run(port, &["batch", "purge", "--url", "/a"]).expect(2);
    run(port, &["batch", "purge", "--label", "tier=none"]).expect(5);
}
