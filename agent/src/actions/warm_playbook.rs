//! `cache_warm` by `cache-warm.yml`: pages fetched past the cache and stored over what is there.

use hostler_protocol::job::{Code, WARM_URLS_MAX, WarmResult, WarmSpec};
use serde_json::json;

use crate::host::ansible::{Ansible, Play};
use crate::steps::playbook::{self, Told};
use crate::steps::purge;
use crate::steps::run::{Failure, Run};
use crate::steps::state;
use crate::steps::tools::Tools;
use crate::steps::warm;

const PLAYBOOK: &str = "cache-warm.yml";

/// Runs the job.
pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &WarmSpec,
    ansible: &Ansible,
) -> Result<WarmResult, Failure> {
    let environment = &spec.environment;
    if environment.fastcgi.is_none() {
        let message = "the environment has no FastCGI cache to warm";
        return Err(Failure::new(Code::SpecInvalid, message));
    }
    // By the clock as it was when the job was handed over.
    let wanted_sec = warm::wanted_sec(spec, tools.clock.now_us());
    purge::pages(&environment.domain, &spec.urls, WARM_URLS_MAX)?;
    let applied = state::load(tools, &environment.id).await?;
    let live = warm::live(tools, environment, applied.as_ref())?;
    let cache_dirs = applied.map(|applied| applied.cache_dirs).unwrap_or_default();
    let mut variables = playbook::variables(tools, environment, &cache_dirs);
    variables.insert("hostler_urls".to_owned(), json!(spec.urls));
    variables.insert("hostler_wanted_at".to_owned(), json!(wanted_sec));
    let name = purge::bin_name(tools, run);
    let play =
        Play { playbook: PLAYBOOK, name, variables, files: Vec::new(), secrets: vec![live.secret] };
    let mut told = Told::default();
    playbook::play(tools, ansible, run, play, &mut told).await?;
    told.document("cache_warm")
}
