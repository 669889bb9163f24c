//! Turning the page cache on and off on a real nginx, and everything that may stop it.

use hostler_protocol::job::{AppKind, OutcomeState, Retry, StepState, ToggleResult};

use crate::stand::{Options, Stand, entries, error, files, result};

#[tokio::test]
async fn on_is_proven_by_a_hit_and_off_by_its_absence() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let outcome = stand.toggle(&shop, true).await;
    let on: ToggleResult = result(&outcome);
    let flag = on.fastcgi.unwrap();
    assert!(flag.enabled && flag.changed, "{flag:?}");
    assert!(flag.proof.contains("MISS then HIT"), "{flag:?}");
    assert_eq!(on.generation, 1);
    assert_eq!(
        entries(&shop.fastcgi.as_ref().unwrap().cache_dir).len(),
        0,
        "a probe's entry stayed"
    );
    assert_eq!([stand.status(&shop, "/"), stand.status(&shop, "/")], ["MISS", "HIT"]);

    let again: ToggleResult = result(&stand.toggle(&shop, true).await);
    assert_eq!((again.generation, again.fastcgi.unwrap().changed), (1, false));
    assert_eq!(stand.status(&shop, "/"), "HIT", "an idle toggle lost the cache");

    let off: ToggleResult = result(&stand.toggle(&shop, false).await);
    let flag = off.fastcgi.unwrap();
    assert_eq!((flag.enabled, flag.changed, flag.purged), (false, true, 1), "{flag:?}");
    assert_eq!([stand.status(&shop, "/"), stand.status(&shop, "/")], ["OFF", "OFF"]);

    let on: ToggleResult = result(&stand.toggle(&shop, true).await);
    assert!(on.fastcgi.unwrap().changed);
    assert_eq!(stand.status(&shop, "/"), "MISS", "an entry from before the gap was served");
}

#[tokio::test]
async fn a_cache_that_was_never_on_is_off_without_asking_anything_of_the_vhost() {
    let stand = Stand::start("");
    let options = Options { includes_elsewhere: true, ..Options::default() };
    let shop = stand.site("shop", &options);
    std::fs::create_dir(&shop.fastcgi.as_ref().unwrap().cache_dir).unwrap();
    let precious = format!("{}/precious", shop.fastcgi.as_ref().unwrap().cache_dir);
    std::fs::write(&precious, "x").unwrap();
    let off: ToggleResult = result(&stand.toggle(&shop, false).await);
    let flag = off.fastcgi.unwrap();
    assert_eq!((flag.enabled, flag.changed, flag.purged), (false, false, 0), "{flag:?}");
    assert_eq!(files(&shop), [None, None, None], "files were made");
    assert!(std::fs::exists(&precious).unwrap(), "a file that is not ours is gone");
}

#[tokio::test]
async fn a_cache_the_agent_has_no_memory_of_is_never_called_off() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    std::fs::remove_dir_all(stand.dir().join("state")).unwrap();
    stand.restart();
    assert_eq!(stand.status(&shop, "/"), "MISS");
    assert_eq!(error(&stand.toggle(&shop, false).await).0, "CACHE_DIR_NOT_OURS");
    std::fs::remove_dir_all(&shop.fastcgi.as_ref().unwrap().cache_dir).unwrap();
    let off: ToggleResult = result(&stand.toggle(&shop, false).await);
    assert!(off.fastcgi.unwrap().changed);
    assert_eq!(stand.status(&shop, "/"), "OFF");
}

#[tokio::test]
async fn personal_requests_pass_the_cache_by() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    assert_eq!(stand.status(&shop, "/"), "MISS");
    let signed = [("Authorization", "Basic eDp5")];
    assert_eq!(stand.status_with(&shop, "/", &signed), "BYPASS");
    assert_eq!(stand.status_with(&shop, "/", &[("X-Hostler-Probe", "peek:guess")]), "HIT");
}

#[tokio::test]
async fn wordpress_s_personal_pages_pass_the_cache_by() {
    let stand = Stand::start("");
    let mut shop = stand.site("shop", &Options::default());
    shop.kind = AppKind::Wordpress;
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    assert_eq!([stand.status(&shop, "/"), stand.status(&shop, "/")], ["MISS", "HIT"]);
    assert_eq!([stand.status(&shop, "/a/post/"), stand.status(&shop, "/a/post/")], ["MISS", "HIT"]);
    let personal = [
        "/wp-admin/",
        "/wp-login.php",
        "/blog/wp-json/x",
        "/xmlrpc.php",
        "/feed",
        "/a/feed/",
        "/cart/",
        "/checkout",
        "/my-account/orders",
        "/?rest_route=/x",
    ];
    std::fs::copy(
        stand.dir().join("shop/public/index.php"),
        stand.dir().join("shop/public/wp-login.php"),
    )
    .unwrap();
    std::fs::copy(
        stand.dir().join("shop/public/index.php"),
        stand.dir().join("shop/public/xmlrpc.php"),
    )
    .unwrap();
    for path in personal {
        assert_eq!(stand.status(&shop, path), "BYPASS", "{path}");
    }
    for path in ["/cartoon/", "/feedback", "/wp-content-is-king/"] {
        assert_eq!(stand.status(&shop, path), "MISS", "{path}");
    }
    for cookie in ["wordpress_logged_in_1=x", "wordpress_0a=x", "a=b; comment_author_1=x"] {
        assert_eq!(stand.status_with(&shop, "/", &[("Cookie", cookie)]), "BYPASS", "{cookie}");
    }
    let harmless = [("Cookie", "wordpress_test_cookie=1; _ga=2")];
    assert_eq!(stand.status_with(&shop, "/", &harmless), "HIT");
}

#[tokio::test]
async fn a_page_that_must_not_be_stored_still_proves_the_cache() {
    let stand = Stand::start("");
    let mut shop = stand.site("shop", &Options::default());
    shop.health.path = "/?private".to_owned();
    let on: ToggleResult = result(&stand.toggle(&shop, true).await);
    let proof = on.fastcgi.unwrap().proof;
    assert!(proof.contains("MISS then MISS") && proof.contains("engaged"), "{proof}");
}

#[tokio::test]
async fn a_configuration_broken_before_is_told_and_left_alone() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    stand.nginx.write_conf("broken.conf", "nonsense on;\n").unwrap();
    let outcome = stand.toggle(&shop, true).await;
    let (code, message) = error(&outcome);
    assert_eq!(code, "NGINX_CONFIG_BROKEN");
    assert!(message.contains("unknown directive \"nonsense\""), "{message}");
    let told = outcome.error.unwrap();
    assert_eq!(told.exit_status, Some(1));
    assert!(told.command.is_some() && told.step.as_deref() == Some("nginx_test_before"));
    assert_eq!(files(&shop), [None, None, None], "files were left behind");
}

#[tokio::test]
async fn files_nginx_refuses_are_put_back() {
    let stand = Stand::start("");
    let options = Options { location_lines: "fastcgi_cache_key $uri;", ..Options::default() };
    let shop = stand.site("shop", &options);
    let outcome = stand.toggle(&shop, true).await;
    let (code, message) = error(&outcome);
    assert_eq!(code, "NGINX_TEST_FAILED");
    assert!(message.contains("duplicate"), "{message}");
    let last = outcome.steps.last().unwrap();
    assert_eq!((last.step.as_str(), last.state), ("rollback", StepState::RolledBack));
    assert_eq!(files(&shop), [None, None, None], "files were left behind");
    assert_eq!(stand.status(&shop, "/"), "none");
}

#[tokio::test]
async fn a_reload_that_does_not_take_is_noticed() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    stand.settle_off(&shop).await;
    let before = files(&shop);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let server = format!("server {{ listen 127.0.0.1:{port}; return 204; }}\n");
    stand.nginx.write_conf("taken.conf", &server).unwrap();
    let outcome = stand.toggle(&shop, true).await;
    let (code, message) = error(&outcome);
    assert_eq!(code, "NGINX_RELOAD_NOT_APPLIED");
    assert!(message.contains("bind() to") && message.contains("[emerg]"), "{message}");
    assert_eq!(files(&shop), before, "the old files were not put back");
    assert_eq!(stand.status(&shop, "/"), "OFF");
}

#[tokio::test]
async fn a_reload_nginx_never_heard_of_is_noticed() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    stand.settle_off(&shop).await;
    stand.faults.pretend("reload");
    let (code, message) = error(&stand.toggle(&shop, true).await);
    assert_eq!(code, "NGINX_RELOAD_NOT_APPLIED");
    assert!(message.contains("no generation"), "{message}");
    assert_eq!(stand.status(&shop, "/"), "OFF");
}

#[tokio::test]
async fn an_nginx_that_does_not_run_is_told_before_anything_is_touched() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    stand.nginx.stop();
    let outcome = stand.toggle(&shop, true).await;
    let (code, message) = error(&outcome);
    assert_eq!(code, "NGINX_RELOAD_FAILED");
    assert!(message.contains("nginx is not running"), "{message}");
    let failure = outcome.error.unwrap();
    assert_eq!(failure.retry, Retry::Later);
    assert!(failure.hint.unwrap().starts_with("Start nginx"));
    assert_eq!(files(&shop), [None, None, None]);
    let touched = outcome.steps.iter().any(|step| step.step == "rollback");
    assert!(!touched, "{:#?}", outcome.steps);
    stand.nginx.run().unwrap();
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let before = files(&shop);
    stand.nginx.stop();
    let removed = stand.remove(&shop).await;
    assert_eq!((error(&removed).0.as_str(), files(&shop)), ("NGINX_RELOAD_FAILED", before));
    stand.nginx.run().unwrap();
    assert_eq!(stand.status(&shop, "/"), "MISS");
}

#[tokio::test]
async fn an_nginx_that_ends_during_a_toggle_finds_the_old_files_when_it_starts() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    stand.settle_off(&shop).await;
    let before = files(&shop);
    // nginx never hears of the new files and ends while their generation is waited for.
    stand.faults.pretend("reload");
    let spec = stand.toggle_spec(&shop, Some(true), None);
    let outcome = stand.stop_nginx_at("generation", spec).await;
    assert_eq!(error(&outcome).0, "NGINX_RELOAD_FAILED", "{outcome:#?}");
    assert_eq!(outcome.error.as_ref().unwrap().retry, Retry::Later);
    let last = outcome.steps.last().unwrap();
    assert_eq!((last.step.as_str(), last.state), ("rollback", StepState::RolledBack));
    assert!(last.message.contains("will load them when it starts"), "{last:?}");
    assert_eq!(files(&shop), before, "the old files were not put back");
    stand.faults.clear();
    stand.nginx.run().unwrap();
    assert_eq!(stand.status(&shop, "/"), "OFF");
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
}

#[tokio::test]
async fn a_cancelled_toggle_is_undone() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    stand.settle_off(&shop).await;
    let before = files(&shop);
    for step in ["stage", "swap", "nginx_test", "reload", "generation", "effect"] {
        let outcome = stand.cancel_at(step, stand.toggle_spec(&shop, Some(true), None)).await;
        assert_eq!(outcome.state, OutcomeState::Cancelled, "cancelled at {step}: {outcome:#?}");
        assert_eq!(outcome.error.unwrap().code, "CANCELLED");
        assert_eq!(files(&shop), before, "cancelled at {step}");
        assert_eq!(stand.status(&shop, "/"), "OFF", "cancelled at {step}");
    }
}

#[tokio::test]
async fn a_first_toggle_that_is_undone_is_proven_to_be_gone() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    for step in ["reload", "generation", "effect"] {
        let outcome = stand.cancel_at(step, stand.toggle_spec(&shop, Some(true), None)).await;
        assert_eq!(outcome.error.unwrap().code, "CANCELLED");
        let rollback = outcome.steps.last().unwrap();
        assert_eq!((rollback.step.as_str(), rollback.state), ("rollback", StepState::RolledBack));
        assert!(rollback.message.contains("answers no more"), "at {step}: {rollback:?}");
        assert_eq!(files(&shop), [None, None, None], "cancelled at {step}");
        assert_eq!(stand.status(&shop, "/"), "none", "cancelled at {step}");
    }
    // nginx does not take the old files back, for a reason that came meanwhile.
    let spec = stand.toggle_spec(&shop, Some(true), None);
    let breaks = || stand.nginx.write_conf("broken.conf", "nonsense on;\n").unwrap();
    let outcome = stand.cancel_when("effect", breaks, spec).await;
    let (code, message) = error(&outcome);
    assert_eq!(code, "NGINX_ROLLBACK_FAILED");
    assert!(message.contains("unknown directive \"nonsense\""), "{message}");
    assert_ne!(stand.status(&shop, "/"), "none", "what the error says is not so");
    stand.nginx.write_conf("broken.conf", "").unwrap();
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
}

#[tokio::test]
async fn a_missing_include_names_the_line_to_add() {
    let stand = Stand::start("");
    let options = Options { includes_elsewhere: true, ..Options::default() };
    let shop = stand.site("shop", &options);
    std::fs::remove_dir(stand.dir().join("shop/nginx")).unwrap();
    let (code, message) = error(&stand.toggle(&shop, true).await);
    assert_eq!(code, "NGINX_NOT_INCLUDED");
    assert!(!stand.dir().join("shop/nginx").exists(), "a directory was left behind");
    let line = format!("add `include {};` to the `http` block", shop.nginx.http_file);
    assert!(message.contains(&line), "{message}");
    assert_eq!(files(&shop), [None, None, None], "files were left behind");
}

#[tokio::test]
async fn a_vhost_that_names_files_which_do_not_exist_yet_is_not_broken() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let conf = stand.nginx.dir().join("conf.d/shop.test.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, text.replace("*.conf;", ".conf;")).unwrap();
    std::fs::remove_dir(stand.dir().join("shop/nginx")).unwrap();
    let on: ToggleResult = result(&stand.toggle(&shop, true).await);
    assert!(on.fastcgi.unwrap().changed);
}

#[tokio::test]
async fn files_and_cache_directory_may_move() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let mut moved = shop.clone();
    for path in
        [&mut moved.nginx.http_file, &mut moved.nginx.server_file, &mut moved.nginx.location_file]
    {
        *path = path.replace(".conf", "-new.conf");
    }
    moved.fastcgi.as_mut().unwrap().cache_dir.push_str("-new");
    let on: ToggleResult = result(&stand.toggle(&moved, true).await);
    assert!(on.fastcgi.unwrap().changed);
    assert_eq!([stand.status(&moved, "/"), stand.status(&moved, "/")], ["MISS", "HIT"]);
    assert_eq!(files(&shop), vec![Some(String::new()); 3], "the old files still say something");
}

#[tokio::test]
async fn a_cache_that_comes_back_to_a_directory_finds_it_empty() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let mut moved = shop.clone();
    moved.fastcgi.as_mut().unwrap().cache_dir.push_str("-new");
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    assert_eq!([stand.status(&shop, "/"), stand.status(&shop, "/")], ["MISS", "HIT"]);
    let there: ToggleResult = result(&stand.toggle(&moved, true).await);
    assert_eq!(there.fastcgi.unwrap().purged, 1, "the entry of the directory left behind stays");
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    assert_eq!(stand.status(&shop, "/"), "MISS", "a page of before the move was served");
}

#[tokio::test]
async fn a_site_s_own_headers_survive() {
    let own = "add_header X-Frame-Options DENY always;";
    let cases = [
        ("", Options { server_lines: own, ..Options::default() }),
        ("", Options { location_lines: own, ..Options::default() }),
        (own, Options::default()),
    ];
    for (http_lines, options) in cases {
        let stand = Stand::start(http_lines);
        let shop = stand.site("shop", &options);
        result::<ToggleResult>(&stand.toggle(&shop, true).await);
        let answer = stand.nginx.get(&shop.domain, "/").unwrap();
        let seen = (answer.header("X-Frame-Options"), answer.header("X-Hostler-Cache"));
        assert_eq!(seen, (Some("DENY"), Some("MISS")), "{}", answer.head);
        let neighbour = stand.nginx.get("127.0.0.1", "/.nonce").unwrap();
        assert_eq!(neighbour.header("X-Hostler-Cache"), None, "a neighbour carries the header");
    }
}

#[tokio::test]
async fn a_cache_directory_that_is_not_ours_is_refused() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let cache_dir = &shop.fastcgi.as_ref().unwrap().cache_dir;
    std::fs::create_dir(cache_dir).unwrap();
    std::fs::write(format!("{cache_dir}/precious"), "x").unwrap();
    assert_eq!(error(&stand.toggle(&shop, true).await).0, "CACHE_DIR_NOT_OURS");
    std::fs::remove_dir_all(cache_dir).unwrap();
    std::os::unix::fs::symlink("/var/tmp", cache_dir).unwrap();
    assert_eq!(error(&stand.toggle(&shop, true).await).0, "PATH_IS_SYMLINK");
    let mut outside = shop.clone();
    outside.fastcgi.as_mut().unwrap().cache_dir = "/var/tmp/shop".to_owned();
    assert_eq!(error(&stand.toggle(&outside, true).await).0, "PATH_OUTSIDE_ROOTS");
    assert_eq!(files(&shop), [None, None, None], "files were left behind");
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_never_overwritten() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let precious = "# the operator's own\n";
    std::fs::write(&shop.nginx.server_file, precious).unwrap();
    assert_eq!(error(&stand.toggle(&shop, true).await).0, "FILE_FOREIGN");
    assert_eq!(error(&stand.remove(&shop).await).0, "FILE_FOREIGN");
    assert_eq!(files(&shop), [None, Some(precious.to_owned()), None]);
    let mut script = shop.clone();
    script.nginx.http_file = shop.nginx.http_file.replace(".conf", ".php");
    assert_eq!(error(&stand.toggle(&script, true).await).0, "SPEC_INVALID");
}

#[tokio::test]
async fn another_environment_s_cache_directory_is_refused() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let mut blog = stand.site("blog", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    blog.fastcgi.as_mut().unwrap().cache_dir =
        format!("{}/below", shop.fastcgi.as_ref().unwrap().cache_dir);
    assert_eq!(error(&stand.toggle(&blog, true).await).0, "CACHE_DIR_NOT_OURS");
}

#[tokio::test]
async fn a_check_changes_nothing_and_names_what_is_wrong() {
    use hostler_protocol::job::{CheckResult, Severity};
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let checked: CheckResult = result(&stand.check(&shop).await);
    assert!(checked.ok, "{checked:#?}");
    assert_eq!(files(&shop), [None, None, None], "a check wrote files");
    let options = Options { includes_elsewhere: true, ..Options::default() };
    let blog = stand.site("blog", &options);
    let checked: CheckResult = result(&stand.check(&blog).await);
    let wrong: Vec<_> = checked
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| finding.check.as_str())
        .collect();
    assert_eq!((checked.ok, wrong), (false, vec!["nginx_include"]), "{checked:#?}");
}
