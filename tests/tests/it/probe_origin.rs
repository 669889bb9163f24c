//! Where probes come to, and sites that speak TLS.

use hostler_protocol::job::{
    CacheStatus, CheckFinding, CheckResult, EnvironmentDoc, Outcome, PurgeResult, PurgeScope,
    Severity, ToggleResult,
};
use hostler_tests::servers::tls::Tls;

use crate::stand::{Options, RELOAD_SECS_MAX, Stand, entries, error, files, result};

fn origin_finding(outcome: &Outcome) -> Option<CheckFinding> {
    let checked: CheckResult = result(outcome);
    checked.findings.into_iter().find(|finding| finding.check == "probe_origin")
}

#[tokio::test]
async fn a_site_behind_tls_is_probed_as_one() {
    let stand = Stand::start("");
    let tls = Tls::self_signed(stand.dir(), "other.test").unwrap();
    let lines = tls.lines();
    let options = Options { server_lines: &lines, ..Options::default() };
    let mut shop = stand.site("shop", &options);
    shop.nginx.probe_origin = format!("https://127.0.0.1:{}", tls.port);
    let on: ToggleResult = result(&stand.toggle(&shop, true).await);
    let proof = on.fastcgi.unwrap().proof;
    assert!(proof.contains("MISS then HIT"), "{proof}");
    let left = entries(&shop.fastcgi.as_ref().unwrap().cache_dir);
    assert!(left.is_empty(), "the probe's entry was looked for under another key: {left:?}");
}

#[tokio::test]
async fn a_site_that_speaks_tls_alone_is_worked_on_where_it_does() {
    let stand = Stand::start("");
    let tls = Tls::self_signed(stand.dir(), "other.test").unwrap();
    let mut shop = stand.site("shop", &Options { tls: Some(&tls), ..Options::default() });
    let right = format!("https://127.0.0.1:{}", tls.port);
    let finding = origin_finding(&stand.check(&shop).await).unwrap();
    assert_eq!(finding.severity, Severity::Error);
    assert!(finding.hint.as_ref().unwrap().contains(&right), "{finding:?}");
    let outcome = stand.toggle(&shop, true).await;
    assert_eq!(error(&outcome).0, "PROBE_ORIGIN_WRONG");
    assert!(outcome.error.as_ref().unwrap().hint.as_ref().unwrap().contains(&right));
    assert!(!outcome.steps.iter().any(|step| step.step == "reload"), "{outcome:#?}");
    assert_eq!(files(&shop), [None, None, None], "files were left behind");

    shop.nginx.probe_origin = right;
    let checked = stand.check(&shop).await;
    assert!(result::<CheckResult>(&checked).ok, "{checked:#?}");
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    for expected in ["MISS", "HIT"] {
        assert_eq!(stand.status_tls(&tls, &shop.domain, "/").await, expected);
    }
    let scope = PurgeScope::Urls { urls: vec!["https://shop.test/".to_owned()] };
    let purged: PurgeResult = result(&stand.purge(&shop, scope, false).await);
    let page = &purged.fastcgi.unwrap().urls[0];
    assert_eq!((page.removed, page.before), (1, Some(CacheStatus::Hit)), "{page:?}");
    assert_eq!(page.after, Some(CacheStatus::Miss));
    assert_eq!(stand.status_tls(&tls, &shop.domain, "/").await, "MISS");
    result::<ToggleResult>(&stand.toggle(&shop, false).await);
    assert_eq!(stand.status_tls(&tls, &shop.domain, "/").await, "OFF");
}

#[tokio::test]
async fn the_status_of_an_entry_the_origin_does_not_see_is_unknown() {
    let stand = Stand::start("");
    let tls = Tls::self_signed(stand.dir(), "other.test").unwrap();
    let lines = tls.lines();
    let shop = stand.site("shop", &Options { server_lines: &lines, ..Options::default() });
    let mut behind = shop.clone();
    behind.nginx.probe_origin = format!("https://127.0.0.1:{}", tls.port);
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let purge = async |environment: &EnvironmentDoc, url: &str| {
        let scope = PurgeScope::Urls { urls: vec![url.to_owned()] };
        let purged: PurgeResult = result(&stand.purge(environment, scope, false).await);
        let page = purged.fastcgi.unwrap().urls.remove(0);
        (page.removed, page.before.unwrap(), page.after.unwrap())
    };
    let (hit, miss, unknown) = (CacheStatus::Hit, CacheStatus::Miss, CacheStatus::Unknown);
    let https = "https://shop.test/";
    assert_eq!(stand.status_tls(&tls, &shop.domain, "/").await, "MISS");
    assert_eq!(purge(&shop, https).await, (1, unknown, unknown));
    assert_eq!(stand.status_tls(&tls, &shop.domain, "/").await, "MISS");
    assert_eq!(purge(&behind, https).await, (1, hit, miss));
    // As behind a proxy that ends TLS: the entry is the one the origin sees.
    assert_eq!(stand.status(&shop, "/"), "MISS");
    assert_eq!(purge(&shop, https).await, (1, hit, miss));
    assert_eq!(purge(&shop, https).await, (0, miss, miss));
}

#[tokio::test]
async fn a_server_that_redirects_what_comes_without_tls_is_noticed_at_once() {
    let stand = Stand::start("");
    let tls = Tls::self_signed(stand.dir(), "other.test").unwrap();
    // One server for both, as many are written; the harness asks for one page without TLS.
    let lines = format!(
        "{} set $away \"\"; if ($scheme = http) {{ set $away 1; }}\n\
         if ($uri = /.vhost) {{ set $away \"\"; }}\n\
         if ($away) {{ return 301 https://$host:{}$request_uri; }}\n",
        tls.lines(),
        tls.port
    );
    let mut shop = stand.site("shop", &Options { server_lines: &lines, ..Options::default() });
    let right = format!("https://127.0.0.1:{}", tls.port);
    let finding = origin_finding(&stand.check(&shop).await).unwrap();
    assert_eq!(finding.severity, Severity::Error);
    assert!(finding.hint.as_ref().unwrap().contains(&right), "{finding:?}");
    let outcome = stand.toggle(&shop, true).await;
    assert_eq!(error(&outcome).0, "PROBE_ORIGIN_WRONG", "{outcome:#?}");
    let waited = outcome.steps.iter().find(|step| step.step == "generation").unwrap();
    assert!(waited.took_us < RELOAD_SECS_MAX * 1_000_000, "it waited in vain: {waited:?}");
    assert!(outcome.error.as_ref().unwrap().hint.as_ref().unwrap().contains(&right));
    assert_eq!(files(&shop), [None, None, None], "files were left behind");
    shop.nginx.probe_origin = right;
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    assert_eq!(stand.status_tls(&tls, &shop.domain, "/").await, "MISS");
}
