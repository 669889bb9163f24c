//! What happens, part after part; each proves what it says or ends the demo.

use std::time::Duration;

use hostler_tests::bench::stats::time;
use hostler_tests::servers::ServerError;
use hostler_tests::servers::git::Change;
use serde_json::{Value, json};

use super::repository::{HOSTS, SHOP_HOST, STACKS, app, files, settings};
use super::show::{Running, Show, ensure, is_synced};

/// Lines of a list that are shown.
const LINES: usize = 6;
/// How often it is said how far the first sync is.
const SAY_AGAIN: Duration = Duration::from_secs(15);
/// The stack that is broken, and the one that is changed with it.
const BROKEN: usize = 7;
const BESIDE: usize = 8;

/// The first push of everything.
pub(crate) struct First {
    /// The look at the repository it led to.
    pub(crate) refresh: Value,
    /// From the push to all stacks synced.
    pub(crate) took: Duration,
    pub(crate) containers: usize,
}

/// One push of all stacks, and nothing runs yet.
pub(crate) fn push_all(show: &mut Show<'_>) -> Result<First, ServerError> {
    for (path, text) in files() {
        show.system.work.set(&path, Change::File(text.as_bytes()))?;
    }
    let pushed = show.push(&format!("Bring {STACKS} stacks"))?;
    show.teller.say(&format!("pushed {STACKS} stacks over {HOSTS} hosts; GitHub's webhook: 202"));
    let mut said = pushed.0;
    show.until("every stack to be synced", || {
        let stacks = show.stacks()?;
        let synced = stacks.iter().filter(|stack| is_synced(stack)).count();
        let failed = stacks.iter().find(|stack| stack["failed_hosts"] != 0);
        if let Some(failed) = failed {
            let path = failed["path"].as_str().unwrap_or_default();
            let whole = show.system.stack(path)?.unwrap_or_default();
            return Err(ServerError(format!("a sync failed: {whole:#}")));
        }
        if said.elapsed() >= SAY_AGAIN {
            said += SAY_AGAIN;
            show.teller.say(&format!("{synced} of {STACKS} stacks are synced"));
        }
        Ok((synced == STACKS).then_some(()))
    })?;
    let took = pushed.0.elapsed();
    let containers = show.running()?.len();
    ensure(containers == STACKS + 1, || format!("{containers} containers run"))?;
    show.teller.say(&format!("all {STACKS} synced, {containers} containers run"));
    let refreshes = show.system.controller.call("GET", "/api/refreshes", None)?.expect(200)?;
    let items = refreshes["items"].as_array().cloned().unwrap_or_default();
    let refresh = items.into_iter().find(|refresh| refresh["revision"] == pushed.1.as_str());
    show.hostler(&["refresh", "status"], usize::MAX)?;
    show.hostler(&["stack", "list"], LINES)?;
    Ok(First { refresh: refresh.unwrap_or_default(), took, containers })
}

/// One mounted file changes: first asked what a sync would do, then synced.
pub(crate) fn change_a_mounted_file(show: &mut Show<'_>) -> Result<(), ServerError> {
    show.teller
        .say("a page of the shop changes; the shop is suspended to ask first what would happen");
    let before = show.running()?;
    show.quietly(&["stack", "suspend", "shop"])?;
    show.system.work.set("shop/www/index.html", Change::File(b"the shop is open\n"))?;
    let pushed = show.push("Open the shop")?;
    show.until("the push to be read", || {
        let stack = show.system.stack("shop")?.unwrap_or_default();
        Ok((stack["revision"] == pushed.1.as_str()).then_some(()))
    })?;
    show.hostler(&["stack", "plan", "shop"], usize::MAX)?;
    ensure(show.running()? == before, || "a plan changed what runs".to_owned())?;
    show.quietly(&["stack", "resume", "shop"])?;
    let (shop, _) = show.synced("shop", &pushed)?;
    show.hostler(&["stack", "show", "shop"], usize::MAX)?;
    let services = &shop["on"][0]["last"]["services"];
    let web = services.as_array().into_iter().flatten().find(|one| one["service"] == "web");
    ensure(web.is_some_and(|web| web["action"] == "restarted"), || format!("{services:#}"))?;
    let touched = differing(&before, &show.running()?);
    ensure(touched == 1, || format!("{touched} containers are not what they were"))?;
    show.teller.say(&format!(
        "of {} containers on {HOSTS} engines, one was restarted: the shop's web",
        before.len()
    ));
    Ok(())
}

/// Containers that came, went, or were started again.
fn differing(before: &Running, after: &Running) -> usize {
    let changed = after.iter().filter(|(id, at)| before.get(*id) != Some(at)).count();
    changed + before.keys().filter(|id| !after.contains_key(*id)).count()
}

/// A directory goes: its project goes with it, its volumes stay.
pub(crate) fn remove_a_directory(show: &mut Show<'_>) -> Result<(), ServerError> {
    show.teller.say("the shop's directory is deleted");
    let before = show.running()?;
    for file in ["docker-compose.yml", "www/index.html"] {
        show.system.work.set(format!("shop/{file}"), Change::Gone)?;
    }
    let pushed = show.push("Close the shop")?;
    show.until("the shop to be gone", || Ok(show.system.stack("shop")?.is_none().then_some(())))?;
    let took = pushed.0.elapsed().as_secs_f64();
    let host = show.system.hosts.iter().find(|host| host.name == SHOP_HOST);
    let host = host.ok_or_else(|| ServerError(format!("no host is called {SHOP_HOST}")))?;
    let left = host.containers("shop")?;
    ensure(left.is_empty(), || format!("containers of the shop are left: {left:?}"))?;
    let gone = differing(&before, &show.running()?);
    ensure(gone == 2, || format!("{gone} containers are not what they were"))?;
    let volumes = host.engine.docker(&["volume", "ls", "--quiet"])?;
    ensure(volumes.contains("shop_orders"), || format!("volumes left: {volumes}"))?;
    show.teller.say(&format!(
        "gone {} after the push: its two containers and nothing else; volume left on {SHOP_HOST}: {}",
        time(took),
        volumes.trim()
    ));
    Ok(())
}

/// A compose file is broken in the same commit that changes another stack.
pub(crate) fn break_a_compose_file(show: &mut Show<'_>) -> Result<(), ServerError> {
    let (broken, beside) = (app(BROKEN), app(BESIDE));
    show.teller.say(&format!("a commit breaks {broken} and changes {beside}"));
    let before = show.running()?;
    show.system.work.set(format!("{broken}/docker-compose.yml"), Change::File(b"services: [\n"))?;
    let text = settings(BESIDE, usize::MAX);
    show.system.work.set(format!("{beside}/settings.conf"), Change::File(text.as_bytes()))?;
    let pushed = show.push("Break one, change one")?;
    let (_, took) = show.synced(&beside, &pushed)?;
    let stacks = show.stacks()?;
    let with_problem: Vec<&Value> =
        stacks.iter().filter(|stack| stack["problem"] != Value::Null).collect();
    let says_so = with_problem.iter().map(|stack| &stack["path"]).eq([&json!(broken)]);
    ensure(says_so, || format!("{with_problem:#?}"))?;
    let problem = &with_problem[0]["problem"];
    let text = |key: &str| problem[key].as_str().unwrap_or_default();
    show.teller.say(&format!("{beside} is synced after {}", time(took.as_secs_f64())));
    show.teller.say(&format!("{broken} alone says: {}: {}", text("code"), text("message")));
    let touched = differing(&before, &show.running()?);
    ensure(touched == 1, || format!("{touched} containers are not what they were"))?;
    show.teller.say("what it ran runs on; one container was touched, of the stack beside it");
    Ok(())
}

/// The repository is away for a while.
pub(crate) fn pull_the_plug(show: &mut Show<'_>) -> Result<(), ServerError> {
    show.teller.say("the repository goes away");
    let (before, stacks) = (show.running()?, show.stacks()?.len());
    let here = show.system.git.path("config");
    let away = here.with_extension("away");
    let failed = |error| ServerError::new("moving the repository", error);
    std::fs::rename(&here, &away).map_err(failed)?;
    let looked = show.system.refresh()?;
    ensure(looked["status"] == "failed", || format!("{looked:#}"))?;
    show.hostler(&["refresh", "status"], usize::MAX)?;
    show.hostler(&["stack", "list"], LINES)?;
    let page = show.system.controller.call("GET", "/api/stacks", None)?.expect(200)?;
    ensure(page["stale"] == true, || format!("{page:#}"))?;
    ensure(show.stacks()?.len() == stacks, || "stacks were forgotten".to_owned())?;
    ensure(show.running()? == before, || "what runs was touched".to_owned())?;
    show.teller
        .say(&format!("stale, and all is kept: {stacks} stacks, {} containers", before.len()));
    std::fs::rename(&away, &here).map_err(failed)?;
    let looked = show.system.refresh()?;
    ensure(looked["status"] == "completed", || format!("{looked:#}"))?;
    let page = show.system.controller.call("GET", "/api/stacks", None)?.expect(200)?;
    ensure(page["stale"] == false, || format!("{page:#}"))?;
    show.teller.say("it is back: the next look completes, and nothing is stale");
    Ok(())
}
