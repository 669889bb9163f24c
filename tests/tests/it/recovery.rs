//! The agent killed in the middle of a toggle: at its next start everything is old, or new.

use hostler_protocol::job::{
    Executor, JobDoc, JobSpec, Outcome, PurgeMode, PurgeScope, RemoveResult, StepState, Subject,
    ToggleResult,
};

use crate::stand::{Options, Stand, entries, purge_spec, result};

#[tokio::test]
async fn a_kill_at_any_step_leaves_the_old_state() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    stand.settle_off(&shop).await;
    let files = || {
        let nginx = &shop.nginx;
        [&nginx.http_file, &nginx.server_file, &nginx.location_file]
            .map(|path| std::fs::read_to_string(path).unwrap())
    };
    let before = files();
    let steps =
        ["stage", "swap", "nginx_test", "cache_purge", "reload", "generation", "effect", "commit"];
    for step in steps {
        let spec = stand.toggle_spec(&shop, Some(true), None);
        stand.kill_at(step, spec).await;
        stand.restart();
        let reports = stand.actions.recover().await;
        assert_eq!(files(), before, "killed at {step}: {reports:#?}");
        assert_eq!(stand.status(&shop, "/"), "OFF", "killed at {step}: {reports:#?}");
        let again = stand.actions.recover().await;
        assert!(again.is_empty(), "killed at {step}, the second recovery did more: {again:#?}");
    }
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    assert_eq!([stand.status(&shop, "/"), stand.status(&shop, "/")], ["MISS", "HIT"]);
}

#[tokio::test]
async fn a_kill_at_any_step_of_a_removal_leaves_the_old_state() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let files = || {
        let nginx = &shop.nginx;
        [&nginx.http_file, &nginx.server_file, &nginx.location_file]
            .map(|path| std::fs::read_to_string(path).ok())
    };
    let before = files();
    for step in ["swap", "nginx_test", "reload", "cache_purge", "remove", "commit"] {
        let spec = stand.remove_spec(&shop);
        stand.kill_at(step, spec).await;
        stand.restart();
        let reports = stand.actions.recover().await;
        assert_eq!(files(), before, "killed at {step}: {reports:#?}");
        assert_ne!(stand.status(&shop, "/"), "none", "killed at {step}: {reports:#?}");
    }
    result::<RemoveResult>(&stand.remove(&shop).await);
    assert_eq!(files(), [None, None, None]);
}

/// What an agent that starts again would be told of this job by its host.
async fn proven(stand: &Stand, spec: &JobSpec) -> Option<Outcome> {
    let doc = JobDoc { executor: Executor::Native, probe: true, spec: spec.clone() };
    stand.actions.probe(&doc).await
}

#[tokio::test]
async fn a_kill_after_the_last_step_is_a_success_that_the_host_proves() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let on = stand.toggle_spec(&shop, Some(true), None);
    stand.kill_at("commit", on).await;
    stand.restart();
    stand.actions.recover().await;
    let on = stand.toggle_spec(&shop, Some(true), None);
    assert_eq!(proven(&stand, &on).await, None, "it was put back");

    let told = result::<ToggleResult>(&stand.run(on.clone()).await);
    stand.restart();
    stand.actions.recover().await;
    let outcome = proven(&stand, &on).await.expect("what was committed is done");
    let again = result::<ToggleResult>(&outcome);
    assert_eq!(
        (again.generation, again.fastcgi.map(|flag| flag.enabled)),
        (told.generation, Some(true))
    );
    let purge = purge_spec(&shop, PurgeScope::All, PurgeMode::Hard);
    assert_eq!(proven(&stand, &purge).await, None, "of a purge nothing can be told afterwards");

    // A newer toggle says otherwise: the older one is not what the host does.
    result::<ToggleResult>(&stand.toggle(&shop, false).await);
    assert_eq!(proven(&stand, &on).await, None);
    let remove = stand.remove_spec(&shop);
    assert_eq!(proven(&stand, &remove).await, None);
    result::<RemoveResult>(&stand.run(remove.clone()).await);
    assert!(proven(&stand, &remove).await.is_some(), "it is gone, and nothing of ours is there");
}

#[tokio::test]
async fn a_host_that_serves_something_else_proves_nothing() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let on = stand.toggle_spec(&shop, Some(true), None);
    result::<ToggleResult>(&stand.run(on.clone()).await);
    std::fs::write(&shop.nginx.server_file, "").unwrap();
    stand.nginx.reload_and_wait().unwrap();
    assert_eq!(proven(&stand, &on).await, None);
}

#[tokio::test]
async fn a_kill_during_the_first_toggle_leaves_no_file() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    for step in ["includes", "nginx_test", "generation", "effect", "commit"] {
        let spec = stand.toggle_spec(&shop, Some(true), None);
        stand.kill_at(step, spec).await;
        stand.restart();
        let reports = stand.actions.recover().await;
        let left = entries(stand.dir().join("shop/nginx").to_str().unwrap());
        assert!(left.is_empty(), "killed at {step}, these stay: {left:?}");
        let proven = reports[0].message.contains("answers no more");
        assert_eq!(proven, step != "includes", "killed at {step}: {reports:#?}");
        assert_eq!(stand.status(&shop, "/"), "none", "killed at {step}: {reports:#?}");
    }
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
}

#[tokio::test]
async fn what_a_kill_left_is_put_back_although_nginx_does_not_run() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    stand.settle_off(&shop).await;
    let spec = stand.toggle_spec(&shop, Some(true), None);
    stand.kill_at("reload", spec).await;
    stand.nginx.stop();
    stand.restart();
    let reports = stand.actions.recover().await;
    let [report] = reports.as_slice() else { panic!("{reports:#?}") };
    assert_eq!(report.state, StepState::RolledBack, "{report:?}");
    assert!(report.message.contains("will load them when it starts"), "{report:?}");
    stand.nginx.run().unwrap();
    assert_eq!(stand.status(&shop, "/"), "OFF");
    assert!(stand.actions.recover().await.is_empty(), "the second recovery did more");
}

#[tokio::test]
async fn the_next_job_puts_right_what_a_dropped_one_left() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    stand.settle_off(&shop).await;
    let spec = stand.toggle_spec(&shop, Some(true), None);
    stand.kill_at("generation", spec).await;
    stand.faults.clear();
    let outcome = stand.toggle(&shop, false).await;
    let off: ToggleResult = result(&outcome);
    assert!(outcome.steps.iter().any(|step| step.step == "rollback"), "{outcome:#?}");
    // The old generation answers again; or, where a worker of the reload that was cut off still
    // answered, a newer one was put in force over both. Never the one that was dropped.
    let ended = (off.generation, off.fastcgi.unwrap().changed);
    assert!([(2, false), (4, true)].contains(&ended), "{ended:?}: {outcome:#?}");
    assert_eq!(stand.status(&shop, "/"), "OFF");
}

#[tokio::test]
async fn what_a_job_left_that_was_cut_off_is_put_right_without_a_restart() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    stand.settle_off(&shop).await;
    let spec = stand.toggle_spec(&shop, Some(true), None);
    stand.kill_at("effect", spec).await;
    stand.faults.clear();
    assert_eq!(stand.status(&shop, "/"), "MISS", "the new configuration was live");
    let steps = stand.actions.put_right(&Subject::Environment(shop.id.clone())).await;
    assert_eq!(steps.len(), 1, "{steps:#?}");
    assert_eq!(stand.status(&shop, "/"), "OFF", "{steps:#?}");
    assert!(stand.actions.put_right(&Subject::Environment(shop.id.clone())).await.is_empty());
}

#[tokio::test]
async fn trash_of_a_killed_purge_is_cleared_away() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let trash = stand.nginx.dir().join("cache/.hostler-trash");
    std::fs::create_dir_all(trash.join("job/a/bc")).unwrap();
    std::fs::write(trash.join("job/a/bc/entry"), "x").unwrap();
    stand.actions.recover().await;
    assert!(!trash.exists(), "the trash is still there");
    stand.purge(&shop, PurgeScope::All, false).await;
}
