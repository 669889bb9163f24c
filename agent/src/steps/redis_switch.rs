//! Turning an application's use of Redis on or off by the least invasive switch.
//!
//! `php`: a JSON file the application reads. `wordpress`: the constant `WP_REDIS_DISABLED` in a
//! marked block of `wp-config.php`, and the drop-in that the installed Redis Object Cache plugin
//! brings. A drop-in or a constant that is somebody else's is never touched. The document root may
//! be a link to a release ([`links`]); what is written is never reached through another.

use std::path::{Path, PathBuf};

use hostler_protocol::job::{AppKind, Code, EnvironmentDoc, RedisDoc};
use sha2::{Digest as _, Sha256};

use super::php;
use super::run::{Failure, Run, blocking};
use super::swap::{FILE_BYTES_MAX, Swap};
use super::tools::Tools;
use super::wp_config;
use crate::host::fs::{Content, FsError, Look, Roots};
use crate::host::links;

const READABLE: Look = Look { mode: 0o644, owner: None };
const DROPIN: &str = "wp-content/object-cache.php";
const PLUGIN_DROPIN: &str = "wp-content/plugins/redis-cache/includes/object-cache.php";

/// Files to change so that the switch stands as wanted; none when it does already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub changes: Vec<Change>,
    /// What the switch is, in words.
    pub switch: String,
    /// SHA-256 of the drop-in if this plan puts one there.
    pub dropin: Option<String>,
}

impl Plan {
    /// Whether it changes code, which PHP may go on running for a moment as it was.
    #[must_use]
    pub fn changes_code(&self) -> bool {
        self.changes.iter().any(|change| change.path.extension().is_some_and(|end| end == "php"))
    }
}

/// One file to write, or to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: PathBuf,
    /// `None`: remove it.
    pub bytes: Option<Vec<u8>>,
    pub look: Look,
}

/// Looks at the switch and says what to change.
///
/// # Errors
/// `POLICY_REFUSED`, `WP_CONFIG_FOREIGN`, `DROPIN_FOREIGN`, `DROPIN_MISSING`, and those of files.
pub async fn plan(
    tools: &Tools,
    environment: &EnvironmentDoc,
    redis: &RedisDoc,
    enabled: bool,
) -> Result<Plan, Failure> {
    let (roots, environment, redis) = (tools.roots.clone(), environment.clone(), redis.clone());
    let may_edit = tools.policy.edit_wp_config;
    blocking(move || match environment.kind {
        AppKind::Php => plan_file(&roots, &redis, enabled),
        AppKind::Wordpress => plan_wordpress(&roots, &environment, enabled, may_edit),
    })
    .await
}

fn plan_file(roots: &Roots, redis: &RedisDoc, enabled: bool) -> Result<Plan, Failure> {
    let path = redis.switch_file.as_ref().ok_or_else(|| {
        Failure::new(Code::SpecInvalid, "a `php` environment with Redis needs a `switch_file`")
    })?;
    let document = serde_json::json!({ "enabled": enabled, "prefix": redis.prefix });
    let bytes = format!("{document}\n").into_bytes();
    let switch = format!("{path} says {document}");
    let now = roots.place(path.as_ref())?.read(FILE_BYTES_MAX)?;
    if let Some(content) = &now {
        check_switch(path, &content.bytes)?;
    }
    let same = now.as_ref().is_some_and(|content| content.bytes == bytes);
    let look = now.map_or(READABLE, |content| content.look);
    let change = Change { path: path.into(), bytes: Some(bytes), look };
    Ok(Plan { changes: if same { Vec::new() } else { vec![change] }, switch, dropin: None })
}

/// Whether a file is a switch as Hostler writes it, or empty.
fn check_switch(path: &str, bytes: &[u8]) -> Result<(), Failure> {
    let document: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let ours = document
        .is_some_and(|document| document["enabled"].is_boolean() && document["prefix"].is_string());
    if ours || bytes.trim_ascii().is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::FileForeign, format!("{path} is not a switch file")))
}

fn plan_wordpress(
    roots: &Roots,
    environment: &EnvironmentDoc,
    enabled: bool,
    may_edit: bool,
) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let root = links::resolve(roots, environment.docroot.as_ref())?;
    let (path, config) = wp_config_file(roots, &root)?;
    let text = String::from_utf8(config.bytes)
        .map_err(|_| Failure::new(Code::FileFailed, format!("{} is not UTF-8", path.display())))?;
    let wanted = wp_config::with_switch(&text, !enabled)?;
    plan.switch = format!("{} defines WP_REDIS_DISABLED as {}", path.display(), !enabled);
    if wanted != text {
        if !may_edit {
            let message = "this host does not permit changes of wp-config.php";
            return Err(Failure::new(Code::PolicyRefused, message));
        }
        plan.changes.push(Change { path, bytes: Some(wanted.into_bytes()), look: config.look });
    }
    let dropin = root.join(DROPIN);
    match roots.place(&dropin)?.read(FILE_BYTES_MAX)? {
        Some(content) if wp_config::is_redis_cache(&content.bytes) => {}
        Some(content) if enabled => {
            let name = wp_config::plugin_name(&content.bytes);
            let whose = name.unwrap_or_else(|| "a drop-in without a name".to_owned());
            let message = format!("{} is {whose}", dropin.display());
            return Err(Failure::new(Code::DropinForeign, message));
        }
        None if enabled => {
            let bytes = plugin_dropin(roots, &root.join(PLUGIN_DROPIN))?;
            plan.dropin = Some(hex::encode(Sha256::digest(&bytes)));
            let look = Look { mode: 0o644, owner: config.look.owner };
            plan.changes.push(Change { path: dropin, bytes: Some(bytes), look });
        }
        Some(_) | None => {}
    }
    Ok(plan)
}

/// Whether `wp-config.php` sets the key prefix to the environment's; looks, changes nothing.
///
/// # Errors
/// Those of files.
pub async fn prefix_is_set(
    tools: &Tools,
    environment: &EnvironmentDoc,
    redis: &RedisDoc,
) -> Result<bool, Failure> {
    let (roots, environment, redis) = (tools.roots.clone(), environment.clone(), redis.clone());
    blocking(move || -> Result<_, Failure> {
        let root = links::resolve(&roots, environment.docroot.as_ref())?;
        let (_, config) = wp_config_file(&roots, &root)?;
        let text = String::from_utf8_lossy(&config.bytes).into_owned();
        let quoted = ['\'', '"'].iter().any(|q| text.contains(&format!("{q}{}{q}", redis.prefix)));
        Ok(quoted && php::defines(&text, "WP_REDIS_PREFIX"))
    })
    .await
}

/// WordPress reads its configuration from the docroot or, if there is none, from right above it.
fn wp_config_file(roots: &Roots, root: &Path) -> Result<(PathBuf, Content), Failure> {
    for directory in [root].into_iter().chain(root.parent()) {
        let path = directory.join("wp-config.php");
        match roots.place(&path).and_then(|place| place.read(FILE_BYTES_MAX)) {
            Ok(Some(content)) => return Ok((path, content)),
            Ok(None) => {}
            // Above the docroot may be above the roots.
            Err(FsError::Outside { .. }) if directory != root => {}
            Err(error) => return Err(error.into()),
        }
    }
    let message = format!("there is no wp-config.php in {} nor above it", root.display());
    Err(Failure::new(Code::PathMissing, message))
}

fn plugin_dropin(roots: &Roots, path: &Path) -> Result<Vec<u8>, Failure> {
    let read = roots.place(path).and_then(|place| place.read(FILE_BYTES_MAX));
    match read {
        Ok(Some(content)) => Ok(content.bytes),
        Ok(None) | Err(FsError::Missing { .. }) => {
            let message = format!("{} does not exist", path.display());
            Err(Failure::new(Code::DropinMissing, message))
        }
        Err(error) => Err(error.into()),
    }
}

/// What to change so that nothing of ours is left; the drop-in goes only if it is still the one
/// Hostler copied (`dropin`, its SHA-256).
///
/// # Errors
/// As [`plan`].
pub async fn plan_removal(
    tools: &Tools,
    environment: &EnvironmentDoc,
    redis: &RedisDoc,
    dropin: Option<String>,
) -> Result<Plan, Failure> {
    let (roots, environment, redis) = (tools.roots.clone(), environment.clone(), redis.clone());
    blocking(move || -> Result<_, Failure> {
        let mut plan = Plan::default();
        if environment.kind == AppKind::Php {
            if let Some(path) = &redis.switch_file
                && let Some(content) = roots.place(path.as_ref())?.read(FILE_BYTES_MAX)?
            {
                check_switch(path, &content.bytes)?;
                plan.changes.push(Change { path: path.into(), bytes: None, look: READABLE });
            }
            return Ok(plan);
        }
        // A site that is gone has nothing left to clean.
        let Ok(root) = links::resolve(&roots, environment.docroot.as_ref()) else {
            return Ok(plan);
        };
        let Ok((path, config)) = wp_config_file(&roots, &root) else { return Ok(plan) };
        let text = String::from_utf8_lossy(&config.bytes).into_owned();
        let bare = wp_config::without_block(&text)?;
        if bare != text {
            let bytes = Some(bare.into_bytes());
            plan.changes.push(Change { path, bytes, look: config.look });
        }
        let path = root.join(DROPIN);
        if let Some(wanted) = dropin
            && let Ok(place) = roots.place(&path)
            && let Some(content) = place.read(FILE_BYTES_MAX)?
            && hex::encode(Sha256::digest(&content.bytes)) == wanted
        {
            plan.changes.push(Change { path, bytes: None, look: content.look });
        }
        Ok(plan)
    })
    .await
}

/// Makes the changes, so that `swap` can undo them.
///
/// # Errors
/// Those of files.
pub async fn put(run: &mut Run, swap: &mut Swap, plan: &Plan) -> Result<(), Failure> {
    run.step("redis_switch", async {
        let paths: Vec<_> = plan.changes.iter().map(|change| change.path.clone()).collect();
        swap.watch(&paths).await?;
        for change in &plan.changes {
            match &change.bytes {
                Some(bytes) => swap.put(&change.path, bytes.clone(), change.look).await?,
                None => swap.take_away(&change.path).await?,
            }
        }
        Ok(((), plan.switch.clone()))
    })
    .await
}
