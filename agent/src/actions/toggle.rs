//! `env_cache_toggle`: make both caches of an environment be as the flags say, and prove it.
//!
//! Order: look at everything that could refuse first, change nothing until then; Redis before
//! the page cache; the page cache is purged before it comes on and after it went off. Until the
//! state is saved, any failure, cancellation or kill puts every file back. By a playbook the same is
//! done in the same order: see [`playbook`].

mod playbook;

use std::path::PathBuf;

use hostler_protocol::job::{
    Code, FastcgiDoc, FlagResult, RedisDoc, StepState, ToggleResult, ToggleSpec,
};

use crate::host::ansible::Ansible;
use crate::host::fs::Look;
use crate::steps::effect;
use crate::steps::health;
use crate::steps::leftover;
use crate::steps::live::Live;
use crate::steps::made;
use crate::steps::nginx;
use crate::steps::object_cache;
use crate::steps::purge;
use crate::steps::redis_switch::{self, Plan as SwitchPlan};
use crate::steps::render::{self, HeaderLevel, RENDERING, Rendered};
use crate::steps::run::{Failure, Run};
use crate::steps::state::{self, Applied, AppliedNginx, AppliedRedis};
use crate::steps::swap::Swap;
use crate::steps::tools::Tools;

/// Requests that must all be answered by the recorded generation before it counts as live.
const LIVE_PROBES: usize = 4;

/// Runs the job.
pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &ToggleSpec,
    by: Option<&Ansible>,
) -> Result<ToggleResult, Failure> {
    let environment = &spec.environment;
    let _alone = tools.nginx_lock.lock().await;
    leftover::clear(tools, run, &environment.id).await?;
    let old = state::load(tools, &environment.id).await?;
    let secret = hex::encode(tools.clock.random::<12>());
    let mut toggle = Toggle {
        tools,
        spec,
        swap: Swap::new(tools, &environment.id, spec.generation).with_secret(&secret),
        secret,
        new: old.clone().unwrap_or_else(|| Applied::new(environment.clone())),
        old,
        reloaded: false,
    };
    toggle.new.environment = environment.clone();
    let applied = match by {
        None => Box::pin(toggle.apply(run)).await,
        Some(ansible) => Box::pin(toggle.apply_by(run, ansible)).await,
    };
    match applied {
        Ok(result) => Ok(result),
        Err(failure) => Err(toggle.roll_back(run, failure).await),
    }
}

/// What is to become of the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Toggle {
        enabled: bool,
    },
    /// It is off, and nothing of ours was ever put in force.
    NeverOn,
}

struct Toggle<'a> {
    tools: &'a Tools,
    spec: &'a ToggleSpec,
    /// What a probe of the new configuration presents.
    secret: String,
    swap: Swap,
    old: Option<Applied>,
    new: Applied,
    /// Whether nginx has been told of the new files.
    reloaded: bool,
}

impl Toggle<'_> {
    async fn apply(&mut self, run: &mut Run) -> Result<ToggleResult, Failure> {
        let switch = self.plan_switch().await?;
        let page = self.claim().await?;
        let toggled = match page {
            Some(Page::Toggle { enabled }) => Some((enabled, self.survey(run).await?)),
            Some(Page::NeverOn) | None => None,
        };
        let mut redis_result = None;
        if let Some((enabled, doc, plan)) = &switch {
            redis_result = Some(self.switch_redis(run, *enabled, doc, plan).await?);
        }
        let mut fastcgi_result = (page == Some(Page::NeverOn)).then(|| never_on(run));
        if let Some((enabled, level)) = toggled {
            fastcgi_result = Some(self.toggle_page_cache(run, enabled, level).await?);
        }
        self.commit(run).await?;
        Ok(self.result(fastcgi_result, redis_result))
    }

    async fn commit(&mut self, run: &mut Run) -> Result<(), Failure> {
        self.new.committed = self.spec.generation;
        run.step("commit", async {
            state::save(self.tools, &self.new).await?;
            self.swap.finish().await?;
            Ok(((), "remembered as applied".to_owned()))
        })
        .await
    }

    fn result(&self, fastcgi: Option<FlagResult>, redis: Option<FlagResult>) -> ToggleResult {
        let generation = self.new.nginx.as_ref().map_or(self.spec.generation, |n| n.generation);
        ToggleResult { generation, fastcgi, redis }
    }

    /// What Redis is to become and which files that changes.
    async fn plan_switch(&self) -> Result<Option<(bool, RedisDoc, SwitchPlan)>, Failure> {
        let environment = &self.spec.environment;
        match (self.spec.redis_enabled, &environment.redis) {
            (Some(enabled), Some(doc)) => {
                let plan = redis_switch::plan(self.tools, environment, doc, enabled).await?;
                Ok(Some((enabled, doc.clone(), plan)))
            }
            (Some(_), None) => Err(absent("Redis")),
            (None, _) => Ok(None),
        }
    }

    /// What the page cache is to become, once it is known that its files can be rendered and its
    /// directory is, or can be, this environment's own.
    async fn claim(&mut self) -> Result<Option<Page>, Failure> {
        let (tools, environment) = (self.tools, &self.spec.environment);
        let Some(enabled) = self.spec.fastcgi_enabled else { return Ok(None) };
        let Some(fastcgi) = &environment.fastcgi else { return Err(absent("FastCGI cache")) };
        // An application may have its object cache alone: nothing is asked of its vhost then.
        if !enabled && self.new.nginx.is_none() && nginx::untouched(tools, environment).await? {
            return Ok(Some(Page::NeverOn));
        }
        render::check(environment, fastcgi)?;
        purge::claim(tools, environment, fastcgi, &mut self.new).await?;
        Ok(Some(Page::Toggle { enabled }))
    }

    /// Everything about nginx that could refuse, before anything is changed.
    async fn survey(&mut self, run: &mut Run) -> Result<HeaderLevel, Failure> {
        let (tools, environment) = (self.tools, &self.spec.environment);
        let mut made = Vec::new();
        let level = nginx::survey(tools, run, environment, &mut self.swap, &mut made).await;
        made::remember(tools, &mut self.new, &made).await?;
        level
    }

    async fn switch_redis(
        &mut self,
        run: &mut Run,
        enabled: bool,
        doc: &RedisDoc,
        plan: &SwitchPlan,
    ) -> Result<FlagResult, Failure> {
        let tools = self.tools;
        let changed = !plan.changes.is_empty();
        let mut purged = 0;
        let mut proof = plan.switch.clone();
        if enabled {
            object_cache::ping(tools, run, doc).await?;
            proof = format!("PING answered PONG; {proof}");
        }
        if changed {
            let asked = self.asked()?;
            let before = health::before(tools, run, &asked).await;
            if enabled {
                // What lies there is from before the gap.
                purged = object_cache::purge(tools, run, doc, false).await?.removed;
            }
            redis_switch::put(run, &mut self.swap, plan).await?;
            health::after(tools, run, &asked, before, plan.changes_code()).await?;
            if !enabled {
                // Best effort: Redis may be off because it is down, and turning it on purges too.
                match object_cache::purge(tools, run, doc, false).await {
                    Ok(removed) => purged = removed.removed,
                    Err(failure) if failure.is_cancelled() => return Err(failure),
                    Err(failure) => {
                        proof = format!("{proof}; its keys stay for now: {}", failure.message());
                    }
                }
            }
        } else {
            run.skip("redis_switch", "it stands as wanted");
        }
        self.note_redis(enabled, plan);
        Ok(FlagResult { enabled, changed, proof, purged })
    }

    fn note_redis(&mut self, enabled: bool, plan: &SwitchPlan) {
        let kept = self.old.as_ref().and_then(|old| old.redis.clone()).and_then(|r| r.dropin);
        let dropin = plan.dropin.clone().or(kept);
        self.new.redis = Some(AppliedRedis { enabled, dropin });
    }

    /// Whom the health page is asked of: past the page cache where one is applied.
    fn asked(&self) -> Result<Live, Failure> {
        if let Some(live) = self.old_live() {
            return Ok(live);
        }
        let environment = &self.spec.environment;
        Ok(Live::plain(environment, self.tools.origin(environment)?))
    }

    fn old_live(&self) -> Option<Live> {
        self.old.as_ref().and_then(|old| Live::of(self.tools, &old.environment, old))
    }

    fn new_live(&self) -> Option<Live> {
        let environment = &self.spec.environment;
        let origin = self.tools.origin(environment).ok()?;
        Some(Live::coming(environment, origin, self.spec.generation, self.secret.clone()))
    }

    async fn toggle_page_cache(
        &mut self,
        run: &mut Run,
        enabled: bool,
        level: HeaderLevel,
    ) -> Result<FlagResult, Failure> {
        let tools = self.tools;
        if let Some(result) = self.already(run, enabled, level).await? {
            return Ok(result);
        }
        let environment = &self.spec.environment;
        let was_on =
            self.old.as_ref().and_then(|old| old.nginx.as_ref()).is_some_and(|n| n.enabled);
        let applied = self.next(enabled);
        let files = self.rendered(&applied, level);
        self.put(run, files).await?;
        nginx::test_after(tools, run).await?;
        let mut purged = 0;
        let left = self.left_cache();
        if enabled && (!was_on || left.is_some()) {
            // What lies there is from before the gap, or from before the cache moved away.
            purged += self.purge(run).await?;
        }
        let live = Live::new(environment, tools.origin(environment)?, &applied);
        self.reloaded = true;
        nginx::reload(tools, run, &live).await?;
        let proof = prove(tools, run, &live, enabled).await?;
        if !enabled {
            purged += self.purge(run).await?;
        }
        if let Some(left) = left {
            // nginx no longer knows that directory: nobody else would ever empty it.
            purged += purge::all_step(tools, run, &left, &self.new).await?;
        }
        self.new.nginx = Some(applied);
        Ok(FlagResult { enabled, changed: true, proof, purged })
    }

    /// What this attempt brings in.
    fn next(&self, enabled: bool) -> AppliedNginx {
        let (generation, secret) = (self.spec.generation, self.secret.clone());
        AppliedNginx { generation, secret, enabled, rendering: RENDERING }
    }

    /// The result if the host does already what is wanted: the files are what would be rendered
    /// with the recorded generation, and that generation answers.
    async fn already(
        &self,
        run: &mut Run,
        enabled: bool,
        level: HeaderLevel,
    ) -> Result<Option<FlagResult>, Failure> {
        let tools = self.tools;
        let Some(applied) = self.old.as_ref().and_then(|old| old.nginx.clone()) else {
            return Ok(None);
        };
        let wanted = self.rendered(&applied, level);
        let [http, server, location] = nginx::read_files(tools, &self.spec.environment).await?;
        let same = applied.enabled == enabled
            && http.as_deref() == Some(wanted.http.as_bytes())
            && server.as_deref() == Some(wanted.server.as_bytes())
            && location.as_deref() == Some(wanted.location.as_bytes());
        if !same {
            return Ok(None);
        }
        let environment = &self.spec.environment;
        let live = Live::new(environment, tools.origin(environment)?, &applied);
        // More than once: after a reload that was cut off, workers of two configurations may answer
        // for a moment. Where they do, a generation of its own tells the new one from both.
        for _ in 0..LIVE_PROBES {
            let answered = effect::generation(&live).await;
            if !matches!(answered, Ok(Some(found)) if found == live.generation) {
                return Ok(None);
            }
        }
        run.skip("swap", "the files are as wanted and live");
        let proof = prove(tools, run, &live, enabled).await?;
        Ok(Some(FlagResult { enabled, changed: false, proof, purged: 0 }))
    }

    fn rendered(&self, applied: &AppliedNginx, header: HeaderLevel) -> Rendered {
        let environment = &self.spec.environment;
        let empty =
            Rendered { http: String::new(), server: String::new(), location: String::new() };
        environment.fastcgi.as_ref().map_or(empty, |fastcgi| {
            render::render(&render::Plan {
                environment,
                fastcgi,
                enabled: applied.enabled,
                generation: applied.generation,
                secret: &applied.secret,
                header,
            })
        })
    }

    async fn put(&mut self, run: &mut Run, files: Rendered) -> Result<(), Failure> {
        let paths = nginx::paths(&self.spec.environment);
        let moved = self.moved();
        run.step("stage", async {
            self.save_claim().await?;
            self.swap.watch(&paths).await?;
            self.swap.watch(&moved).await?;
            Ok(((), "the previous files are kept".to_owned()))
        })
        .await?;
        let generation = self.spec.generation;
        run.step("swap", async {
            let [http, server, location] = paths;
            // The http file declares what the others name, and holds the secret.
            let secret = Look { mode: 0o640, owner: None };
            let public = Look { mode: 0o644, owner: None };
            self.swap.put(&http, files.http.into_bytes(), secret).await?;
            self.swap.put(&server, files.server.into_bytes(), public).await?;
            self.swap.put(&location, files.location.into_bytes(), public).await?;
            for path in &moved {
                // Emptied, not removed: a vhost may still name it.
                self.swap.put(path, Vec::new(), public).await?;
            }
            Ok(((), format!("three files carry generation {generation}")))
        })
        .await
    }

    /// Files of before the environment named others, which would declare the maps twice.
    fn moved(&self) -> Vec<PathBuf> {
        let paths = nginx::paths(&self.spec.environment);
        let old = self.old.as_ref().filter(|old| old.nginx.is_some());
        let old = old.map(|old| nginx::paths(&old.environment)).into_iter().flatten();
        old.filter(|path| !paths.contains(path)).collect()
    }

    /// From here on the directory counts as ours, whatever becomes of this attempt: entries may
    /// come into it from the moment nginx reads the new files.
    async fn save_claim(&self) -> Result<(), Failure> {
        let blank = || Applied::new(self.spec.environment.clone());
        let mut claimed = self.old.clone().unwrap_or_else(blank);
        claimed.cache_dirs.clone_from(&self.new.cache_dirs);
        claimed.made_dirs.clone_from(&self.new.made_dirs);
        state::save(self.tools, &claimed).await
    }

    /// The cache as it was applied, if the environment names another directory now.
    fn left_cache(&self) -> Option<FastcgiDoc> {
        let old = self.old.as_ref().filter(|old| old.nginx.is_some())?;
        let (before, now) =
            (old.environment.fastcgi.as_ref()?, self.spec.environment.fastcgi.as_ref()?);
        (before.cache_dir != now.cache_dir).then(|| before.clone())
    }

    async fn purge(&self, run: &mut Run) -> Result<u64, Failure> {
        let Some(fastcgi) = &self.spec.environment.fastcgi else { return Ok(0) };
        purge::all_step(self.tools, run, fastcgi, &self.new).await
    }

    /// Undoes what this attempt did, down to the directories it made.
    async fn roll_back(&mut self, run: &mut Run, failure: Failure) -> Failure {
        let failure = self.put_back(run, failure).await;
        let kept = self.old.as_ref().map(|old| old.made_dirs.as_slice()).unwrap_or_default();
        let mut made = self.new.made_dirs.clone();
        made.retain(|dir| !kept.contains(dir));
        made::undo(self.tools, made, self.new.cache_dirs.clone()).await;
        failure
    }

    /// Puts every file back and, if nginx has heard of the new ones, tells it of the old.
    async fn put_back(&mut self, run: &mut Run, failure: Failure) -> Failure {
        if self.swap.is_empty() {
            return failure;
        }
        let (tools, old, new) = (self.tools, self.old_live(), self.new_live());
        let reloaded = self.reloaded;
        let swap = &mut self.swap;
        let undone = run.settle("rollback", StepState::RolledBack, async {
            let changed = swap.undo().await?;
            let proof = match reloaded {
                true => nginx::reload_old(tools, old.as_ref(), new.as_ref()).await?,
                false => "nginx has not heard of the new ones".to_owned(),
            };
            swap.finish().await?;
            Ok(((), format!("{} files are as they were; {proof}", changed.len())))
        });
        match undone.await {
            Ok(()) => failure,
            Err(second) => {
                let message = second.message().to_owned();
                Failure::new(Code::NginxRollbackFailed, message).at_step("rollback").after(&failure)
            }
        }
    }
}

async fn prove(
    tools: &Tools,
    run: &mut Run,
    live: &Live,
    enabled: bool,
) -> Result<String, Failure> {
    run.step("effect", async {
        let observed = effect::prove(tools, live, enabled).await?;
        let proof = effect::proof(live, observed, enabled);
        Ok((proof.clone(), proof))
    })
    .await
}

/// The result of a page cache that nothing was asked for.
fn never_on(run: &mut Run) -> FlagResult {
    run.skip("swap", "the page cache was never on");
    let proof = "none of its nginx files says anything".to_owned();
    FlagResult { enabled: false, changed: false, proof, purged: 0 }
}

fn absent(what: &str) -> Failure {
    Failure::new(Code::SpecInvalid, format!("the environment has no {what} to switch"))
}
