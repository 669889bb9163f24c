//! The toggle by `env-cache-toggle.yml`. What the agent alone can know it still sees to: what other
//! environments own, what was applied before, and, until the state is saved, that everything can be
//! put back even if the playbook is killed. So both executors may take turns on one environment.

use std::path::PathBuf;

use hostler_protocol::job::{Code, FlagResult, RedisDoc, ToggleResult};
use serde_json::{Map, Value, json};

use super::{Page, SwitchPlan, Toggle, never_on};
use crate::host::ansible::{Ansible, Play};
use crate::steps::effect;
use crate::steps::live::Live;
use crate::steps::made;
use crate::steps::nginx;
use crate::steps::object_cache;
use crate::steps::playbook::{self, Told};
use crate::steps::purge::bin_name;
use crate::steps::run::{Failure, Run};
use crate::steps::state::AppliedNginx;

const PLAYBOOK: &str = "env-cache-toggle.yml";

impl Toggle<'_> {
    pub(super) async fn apply_by(
        &mut self,
        run: &mut Run,
        ansible: &Ansible,
    ) -> Result<ToggleResult, Failure> {
        let switch = self.plan_switch().await?;
        let page = self.claim().await?;
        ansible.ready(PLAYBOOK)?;
        let enabled = match page {
            Some(Page::Toggle { enabled }) => Some(enabled),
            Some(Page::NeverOn) | None => None,
        };
        let next = self.next(enabled.unwrap_or_default());
        let secrets = self.secrets(&next, switch.as_ref()).await?;
        self.watch(enabled.is_some(), switch.as_ref()).await?;
        let play = Play {
            playbook: PLAYBOOK,
            name: bin_name(self.tools, run),
            variables: self.variables(enabled),
            files: vec![("hostler_secret_file", next.secret.clone().into_bytes())],
            secrets,
        };
        let mut told = Told::default();
        if enabled.is_some() || switch.is_some() {
            let played = playbook::play(self.tools, ansible, run, play, &mut told).await;
            self.reloaded = told.began("reload");
            if let Err(failure) = played {
                return Err(self.after(failure, &told).await);
            }
        }
        let redis = switch.map(|(enabled, _, plan)| self.redis_result(enabled, &plan, &told));
        let fastcgi = match page {
            Some(Page::Toggle { enabled }) => Some(self.page_result(enabled, next, &told).await?),
            Some(Page::NeverOn) => Some(never_on(run)),
            None => None,
        };
        self.commit(run).await?;
        Ok(self.result(fastcgi, redis))
    }

    /// Texts that stand nowhere in what the playbook says: the probe secrets, the Redis password.
    async fn secrets(
        &self,
        next: &AppliedNginx,
        switch: Option<&(bool, RedisDoc, SwitchPlan)>,
    ) -> Result<Vec<String>, Failure> {
        let mut secrets = vec![next.secret.clone()];
        secrets.extend(self.old.iter().filter_map(|old| Some(old.nginx.as_ref()?.secret.clone())));
        if let Some((enabled, doc, _)) = switch {
            match object_cache::target(self.tools, doc).await {
                Ok(target) => secrets.extend(target.password),
                Err(failure) if *enabled => return Err(failure.at_step("redis_ping")),
                // Redis may go off because it cannot be used.
                Err(_) => {}
            }
        }
        Ok(secrets)
    }

    /// Makes everything the playbook may change durable.
    async fn watch(
        &mut self,
        page: bool,
        switch: Option<&(bool, RedisDoc, SwitchPlan)>,
    ) -> Result<(), Failure> {
        if page {
            let environment = &self.spec.environment;
            let paths = nginx::paths(environment);
            let cache = environment.fastcgi.as_ref();
            let cache = cache.map(|fastcgi| PathBuf::from(&fastcgi.cache_dir));
            let mut made = Vec::new();
            let needed = [paths.as_slice(), cache.as_slice()].concat();
            let parents = made::parents(self.tools, &needed, &mut made).await;
            made::remember(self.tools, &mut self.new, &made).await?;
            parents?;
            self.swap.watch(&paths).await?;
            self.swap.watch(&self.moved()).await?;
            self.save_claim().await?;
        }
        let changes = switch.map(|(_, _, plan)| plan.changes.as_slice()).unwrap_or_default();
        let paths: Vec<_> = changes.iter().map(|change| change.path.clone()).collect();
        self.swap.watch(&paths).await
    }

    fn variables(&self, fastcgi_enabled: Option<bool>) -> Map<String, Value> {
        let (spec, tools) = (self.spec, self.tools);
        let mut told = playbook::variables(tools, &spec.environment, &self.new.cache_dirs);
        let mut tell = |name: &str, value: Value| told.insert(name.to_owned(), value);
        let applied = self.old.as_ref().and_then(|old| old.nginx.as_ref());
        tell("hostler_applied_generation", json!(applied.map_or(0, |nginx| nginx.generation)));
        tell("hostler_generation", json!(spec.generation));
        if let Some(enabled) = fastcgi_enabled {
            tell("hostler_fastcgi_enabled", json!(enabled));
        }
        if let Some(enabled) = spec.redis_enabled {
            tell("hostler_redis_enabled", json!(enabled));
        }
        let moved: Vec<_> = self.moved().iter().map(|path| path.display().to_string()).collect();
        tell("hostler_moved_files", json!(moved));
        if let Some(left) = self.left_cache() {
            tell("hostler_left_cache_dir", json!(left.cache_dir));
        }
        told
    }

    /// A playbook that failed has put everything back itself: only if it has not is there more to do.
    async fn after(&mut self, failure: Failure, told: &Told) -> Failure {
        let undone = ["rolled_back", "none"].map(|state| told.ended_as("rollback", state));
        if !undone.contains(&true) {
            return failure;
        }
        match self.swap.undo().await {
            Ok(changed) if changed.is_empty() => match self.swap.finish().await {
                Ok(()) => failure,
                Err(second) => second.after(&failure),
            },
            // The caller rolls back, and says so.
            Ok(_) | Err(_) => failure,
        }
    }

    fn redis_result(&mut self, enabled: bool, plan: &SwitchPlan, told: &Told) -> FlagResult {
        self.note_redis(enabled, plan);
        let mut proof = plan.switch.clone();
        if enabled {
            proof = format!("PING answered PONG; {proof}");
        }
        if let Some(why) = told.ignored("redis_purge") {
            proof = format!("{proof}; its keys stay for now: {why}");
        }
        let purged = told.sum("redis_purge", "removed");
        FlagResult { enabled, changed: !plan.changes.is_empty(), proof, purged }
    }

    /// The result of the page cache, whose generation the agent itself asks for once more.
    async fn page_result(
        &mut self,
        enabled: bool,
        next: AppliedNginx,
        told: &Told,
    ) -> Result<FlagResult, Failure> {
        let changed = !told.ended_as("swap", "skipped");
        let applied = match changed {
            true => Some(next),
            false => self.old.as_ref().and_then(|old| old.nginx.clone()),
        };
        let applied = applied.ok_or_else(|| playbook::silent("swap"))?;
        let proof = told.last("effect", "proof").and_then(Value::as_str);
        let proof = proof.ok_or_else(|| playbook::silent("effect"))?.to_owned();
        let environment = &self.spec.environment;
        let live = Live::new(environment, self.tools.origin(environment)?, &applied);
        let answered = effect::generation(&live).await?;
        if answered != Some(applied.generation) {
            let found = answered.map_or("none".to_owned(), |found| found.to_string());
            let wanted = applied.generation;
            let message = format!("the playbook says generation {wanted} is live; {found} answers");
            self.reloaded = true;
            return Err(Failure::new(Code::NginxReloadNotApplied, message).at_step("generation"));
        }
        self.new.nginx = Some(applied);
        Ok(FlagResult { enabled, changed, proof, purged: told.sum("cache_purge", "removed") })
    }
}
