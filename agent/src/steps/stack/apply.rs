//! Making a stack run as a bundle says, once it is known what that means.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hostler_protocol::OUTPUT_TAIL_BYTES_MAX;
use hostler_protocol::job::{
    Code, FileChange, HEALTH_SECS_MAX, PullPolicy, ServiceAction, ServiceChange,
};

use super::contents::{Contents, links};
use super::decide::{Intents, Look, Remount, decide};
use super::health::{Baseline, Verdict, judge, ran_ms};
use super::observe::{self, outcome};
use super::ops::{Ground, Start, owned};
use super::resolved::Resolved;
use super::site::Site;
use super::state::{Applied, Seen};
use super::stopped::Stopped;
use crate::host::docker::{Container, Generation};
use crate::host::process::redact;
use crate::steps::bundle::{self, Opened};
use crate::steps::run::{Failure, Run};

/// How often containers are looked at while they are waited for.
const POLL: Duration = Duration::from_millis(400);

/// What is applied, and in which way.
#[derive(Debug)]
pub struct Applying<'a> {
    pub desired: &'a str,
    pub bundle: &'a str,
    pub opened: &'a Opened,
    pub directory: &'a str,
    pub compose_files: &'a [String],
    /// What was applied before, if that is known.
    pub before: Option<&'a Applied>,
    /// Files that running containers have not seen yet, from earlier attempts.
    pub changed: BTreeSet<String>,
    pub containers: &'a [Container],
    /// How they were before the job had done anything.
    pub baseline: &'a Baseline,
    pub pull: PullPolicy,
    pub health_secs: u32,
    /// What somebody stopped, where it stays so.
    pub respected: Option<&'a Stopped>,
}

/// What applying came to.
#[derive(Debug)]
pub struct Done {
    pub applied: Applied,
    pub services: Vec<ServiceChange>,
    pub containers: Vec<Container>,
}

impl Applying<'_> {
    /// What has to become of each service once these files have changed.
    ///
    /// # Errors
    /// `DOCKER_UNAVAILABLE`.
    pub async fn intents(
        &self,
        site: &Site,
        resolved: &Resolved,
        changed: &BTreeSet<String>,
    ) -> Result<Intents, Failure> {
        let mut images = BTreeMap::new();
        for image in resolved.services.values().filter_map(|service| service.image.as_ref()) {
            if let Some(id) = site.engine.image(image).await? {
                images.insert(image.clone(), id);
            }
        }
        let manifest = self.opened.manifest();
        let links = links(manifest, |sha256| site.bundles().blob(sha256));
        Ok(decide(&Look {
            before: self.before,
            now: resolved,
            contents: Contents { manifest, links: &links },
            changed,
            containers: self.containers,
            images: &images,
            respected: self.respected,
        }))
    }

    fn seen(&self, site: &Site, resolved: &Resolved) -> BTreeMap<String, Seen> {
        let manifest = self.opened.manifest();
        let links = links(manifest, |sha256| site.bundles().blob(sha256));
        resolved.seen(&Contents { manifest, links: &links })
    }

    /// What placing would change, or did, together with what was changed before.
    #[must_use]
    pub fn unseen(&self, changes: &[FileChange]) -> BTreeSet<String> {
        let mut unseen = self.changed.clone();
        unseen.extend(changes.iter().map(|change| change.path.clone()));
        unseen
    }
}

/// Places the files, has compose start what is to run, makes the services see files that changed,
/// and waits until all are well.
///
/// # Errors
/// Those of bundles, of compose, and `STACK_UNHEALTHY`; files and containers are left as they are
/// then.
pub async fn apply(
    site: &Site,
    run: &mut Run,
    what: &Applying<'_>,
    resolved: &Resolved,
) -> Result<Done, Failure> {
    let placed = run
        .step("stack_files", async {
            let files = site.home.files();
            let placed = bundle::place(site.bundles(), what.opened, None, &files).await?;
            let message = format!("{} files changed", placed.changes.len());
            Ok((placed, message))
        })
        .await?;
    let intents = what.intents(site, resolved, &what.unseen(&placed.changes)).await?;
    let ground = site.ground(&site.home.files(), what.directory, what.compose_files).await?;
    rebuild(site, run, &ground, resolved, &intents).await?;
    run.step("stack_up", async {
        clear_leftovers(site).await?;
        if resolved.services.is_empty() {
            // All of them have profiles, say. Compose refuses to start nothing.
            remove_former(site, what.before).await?;
            return Ok(((), "no service is to run".to_owned()));
        }
        let start = to_run(&intents);
        let up = || site.up(&ground, resolved, what.pull, &start);
        if let Err(failure) = up().await {
            // What a killed compose had asked the engine for may have come only since.
            if !is_name_taken(&failure) || clear_leftovers(site).await? == 0 {
                return Err(failure);
            }
            up().await?;
        }
        Ok(((), site.compose.name()))
    })
    .await?;
    remount(site, run, &ground, resolved, what, &intents).await?;
    let after = run
        .step("stack_health", async {
            let after = wait(site, what, resolved, &intents).await?;
            let message = health_message(&after, what.baseline);
            Ok((after, message))
        })
        .await?;
    let mut services = what.seen(site, resolved);
    for (name, seen) in &mut services {
        let left_out = intents.get(name).is_some_and(|intent| intent.left_out);
        observe::remember(seen, name, &after, left_out);
    }
    let applied = Applied {
        desired: what.desired.to_owned(),
        bundle: what.bundle.to_owned(),
        directory: what.directory.to_owned(),
        compose_files: what.compose_files.to_vec(),
        host_env: ground.host_env,
        services,
        at_us: site.tools.clock.now_us(),
    };
    let services = outcome(what.containers, &after, &intents);
    Ok(Done { applied, services, containers: after })
}

/// How many there were.
async fn clear_leftovers(site: &Site) -> Result<usize, Failure> {
    let containers = site.containers().await?;
    let leftovers: Vec<_> = observe::leftovers(&containers).collect();
    for leftover in &leftovers {
        site.engine.remove_container(&leftover.id).await?;
    }
    Ok(leftovers.len())
}

/// Removes what ran of a stack none of whose services is to run now. What else there is was started
/// by a person, from a profile.
async fn remove_former(site: &Site, before: Option<&Applied>) -> Result<(), Failure> {
    for own in site.containers().await? {
        if before.is_some_and(|before| before.services.contains_key(own.service())) {
            site.engine.remove_container(&own.id).await?;
        }
    }
    Ok(())
}

/// How many containers are well, and which are not but were left alone.
fn health_message(containers: &[Container], baseline: &Baseline) -> String {
    let ill: Vec<_> = containers.iter().filter(|own| baseline.is_left_ill(own)).collect();
    let well = format!("{} containers are as they should be", containers.len() - ill.len());
    if ill.is_empty() {
        return well;
    }
    let names: Vec<&str> = ill.iter().map(|own| own.name()).collect();
    format!("{well}; not well before, and left as they were: {}", names.join(", "))
}

fn is_name_taken(failure: &Failure) -> bool {
    failure.code() == Code::ContainerNameTaken.as_str()
}

/// What compose is to start.
fn to_run(intents: &Intents) -> Start {
    if !intents.values().any(|intent| intent.left_out) {
        return Start::All;
    }
    let runs = |(name, intent): (&String, &super::decide::Intent)| {
        let named = !intent.left_out && intent.action != ServiceAction::Removed;
        named.then(|| name.clone())
    };
    let named: Vec<_> = intents.iter().filter_map(runs).collect();
    if named.is_empty() { Start::Nothing } else { Start::These(named) }
}

async fn rebuild(
    site: &Site,
    run: &mut Run,
    ground: &Ground,
    resolved: &Resolved,
    intents: &Intents,
) -> Result<(), Failure> {
    let rebuilt: Vec<_> =
        intents.iter().filter(|(_, intent)| intent.rebuild).map(|(name, _)| name.clone()).collect();
    if rebuilt.is_empty() {
        return Ok(());
    }
    run.step("stack_build", async {
        let message = format!("built {}", rebuilt.join(", "));
        let mut arguments = owned(&["build"]);
        arguments.extend(rebuilt);
        site.work(ground, &resolved.secrets, arguments).await?;
        Ok(((), message))
    })
    .await
}

/// Restarts, or makes anew, the services whose files changed and that compose left as they were.
async fn remount(
    site: &Site,
    run: &mut Run,
    ground: &Ground,
    resolved: &Resolved,
    what: &Applying<'_>,
    intents: &Intents,
) -> Result<(), Failure> {
    if intents.values().all(|intent| intent.remount.is_none()) {
        return Ok(());
    }
    run.step("stack_remount", async {
        let baseline = Baseline::unproven(what.containers);
        let after = site.containers().await?;
        let (mut restart, mut recreate) = (Vec::new(), Vec::new());
        for (name, intent) in intents {
            // Compose may have left alone one of several containers.
            let untouched = after
                .iter()
                .any(|own| own.service() == name && own.is_running() && baseline.is_untouched(own));
            match intent.remount.filter(|_| untouched) {
                Some(Remount::Restart) => restart.push(name.clone()),
                Some(Remount::Recreate) => recreate.push(name.clone()),
                None => {}
            }
        }
        let message = format!("{} restarted, {} made anew", restart.len(), recreate.len());
        if !recreate.is_empty() {
            let mut arguments = owned(&["up", "--detach", "--force-recreate"]);
            if site.compose.generation() == Generation::First {
                // It would make anew what they depend on, too. Later ones do not, and with this
                // option they would put down a definition that the next `up` takes for another.
                arguments.extend(owned(&["--no-deps"]));
            }
            arguments.extend(recreate);
            site.work(ground, &resolved.secrets, arguments).await?;
        }
        if !restart.is_empty() {
            let mut arguments = owned(&["restart"]);
            arguments.extend(restart);
            site.work(ground, &resolved.secrets, arguments).await?;
        }
        Ok(((), message))
    })
    .await
}

/// Waits until every container is well; see [`Baseline::is_left_ill`] for those that need not be.
async fn wait(
    site: &Site,
    what: &Applying<'_>,
    resolved: &Resolved,
    intents: &Intents,
) -> Result<Vec<Container>, Failure> {
    let clock = &site.tools.clock;
    let baseline = what.baseline;
    let started_ms = clock.monotonic_ms();
    let limit_ms = u64::from(what.health_secs.min(HEALTH_SECS_MAX)) * 1000;
    // Since when each container has been started as it is now.
    let mut since: BTreeMap<(String, String), u64> = BTreeMap::new();
    loop {
        let containers = site.containers().await?;
        let now_ms = clock.monotonic_ms();
        let (mut waiting, mut failed) = (Vec::new(), Vec::new());
        for own in &containers {
            let left_out = intents.get(own.service()).is_some_and(|intent| intent.left_out);
            if left_out || baseline.is_left_ill(own) {
                continue;
            }
            let start = (own.id.clone(), own.state.started_at.clone());
            let seen_ms = now_ms.saturating_sub(*since.entry(start).or_insert(now_ms));
            // Of one that nobody touched the engine tells how long it has been running already.
            let told_ms = if baseline.is_untouched(own) { ran_ms(own, clock.now_us()) } else { 0 };
            let running_ms = seen_ms.max(told_ms);
            match judge(own, baseline, running_ms) {
                Verdict::Well => {}
                Verdict::Wait(why) => waiting.push((own, why)),
                Verdict::Failed(why) => failed.push((own, why)),
            }
        }
        if failed.is_empty() && waiting.is_empty() {
            return Ok(containers);
        }
        if failed.is_empty() && now_ms.saturating_sub(started_ms) >= limit_ms {
            failed = waiting;
        }
        if !failed.is_empty() {
            return Err(unhealthy(site, resolved, &failed).await);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = site.cancel.cancelled() => {
                return Err(Failure::new(Code::Cancelled, "the job was cancelled"));
            }
        }
    }
}

/// What is wrong, and what the services said last.
async fn unhealthy(site: &Site, resolved: &Resolved, failed: &[(&Container, String)]) -> Failure {
    let mut said = String::new();
    for (own, _) in failed {
        // A container that went meanwhile has nothing to say.
        let text = site.engine.said(own).await.unwrap_or_default();
        said.push_str(&format!("== {}\n{}\n", own.name(), text.trim_end()));
    }
    let said = redact(&said, &resolved.secrets);
    let mut from = said.len().saturating_sub(OUTPUT_TAIL_BYTES_MAX);
    while !said.is_char_boundary(from) {
        from += 1;
    }
    let why: Vec<&str> = failed.iter().map(|(_, why)| why.as_str()).collect();
    Failure::new(Code::StackUnhealthy, why.join(", ")).with_output(said[from..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::decide::Intent;
    use super::*;

    #[test]
    fn what_is_left_out_is_not_started_though_it_is_all_there_is() {
        let own = |action, left_out| Intent {
            action,
            reasons: Vec::new(),
            remount: None,
            left_out,
            rebuild: false,
        };
        let unchanged = own(ServiceAction::Unchanged, false);
        let of = |own: &[(&str, &Intent)]| -> Intents {
            own.iter().map(|(name, own)| ((*name).to_owned(), (*own).clone())).collect()
        };
        let left_out = own(ServiceAction::Unchanged, true);
        let removed = own(ServiceAction::Removed, false);
        assert_eq!(to_run(&of(&[("db", &unchanged), ("old", &removed)])), Start::All);
        let started = Start::These(vec!["db".to_owned()]);
        let mixed = [("db", &unchanged), ("old", &removed), ("web", &left_out)];
        assert_eq!(to_run(&of(&mixed)), started);
        assert_eq!(to_run(&of(&[("web", &left_out)])), Start::Nothing);
        assert_eq!(to_run(&of(&[("old", &removed), ("web", &left_out)])), Start::Nothing);
    }
}
