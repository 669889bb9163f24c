//! Settings of the config repository, of webhooks and of stacks.
//!
//! Secrets come from the environment, from the file, or from a file of their own; never from a flag,
//! which every user of the machine could read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::app::desired::{Rule, SYNCS_MAX_DEFAULT};
use crate::bundles::s3::S3Settings;
use crate::domain::decide::refresh::RemovalLimits;
use crate::domain::label::Labels;
use crate::git::{
    DeployDir, GitSettings, GitUrl, HttpAuth, ProxyUrl, Reference, Secret, unreadable,
};

/// The branch or tag, unless another is named.
pub(super) const GIT_REF_DEFAULT: &str = "main";
/// Seconds between two looks nobody asked for.
pub(super) const POLL_SECS_DEFAULT: u64 = 180;
/// The shortest of such periods, in seconds.
pub(super) const POLL_SECS_MIN: u64 = 5;
/// The longest, in seconds.
pub(super) const POLL_SECS_MAX: u64 = 7 * 86_400;
/// Largest file that holds a secret, in bytes.
const SECRET_BYTES_MAX: u64 = 8 * 1024;

/// The repository, by flags and environment.
#[derive(Debug, Clone, Default, Args)]
pub struct GitArgs {
    /// Repository with the stacks: `https://…`, `ssh://…` or `file:///…`, without credentials
    #[arg(long, env = "HOSTLER_GIT_URL", value_name = "URL", global = true)]
    pub git_url: Option<String>,
    /// Branch, tag or full commit id; `main` if not given
    #[arg(long, env = "HOSTLER_GIT_REF", value_name = "REF", global = true)]
    pub git_ref: Option<String>,
    /// Directory of the repository below which stacks are looked for; `/` if not given
    #[arg(long, env = "HOSTLER_GIT_DEPLOY_DIR", value_name = "DIR", global = true)]
    pub git_deploy_dir: Option<String>,
    /// How often to look unasked: seconds, or with `s`, `m`, `h`; `off` for never
    #[arg(long, env = "HOSTLER_GIT_POLL_INTERVAL", value_name = "TIME", global = true)]
    pub git_poll_interval: Option<String>,
    /// File with the token, or with `USER:PASSWORD`, for an https repository (or HOSTLER_GIT_TOKEN)
    #[arg(long, env = "HOSTLER_GIT_TOKEN_FILE", value_name = "FILE", global = true)]
    pub git_token_file: Option<PathBuf>,
    /// File with the key for an ssh repository
    #[arg(long, env = "HOSTLER_GIT_SSH_KEY_FILE", value_name = "FILE", global = true)]
    pub git_ssh_key_file: Option<PathBuf>,
    /// File with the ssh server's keys, as ssh's known_hosts; any other server is refused
    #[arg(long, env = "HOSTLER_GIT_KNOWN_HOSTS_FILE", value_name = "FILE", global = true)]
    pub git_known_hosts_file: Option<PathBuf>,
    /// File with the certificates (PEM) an https server's must come from, instead of the public ones
    #[arg(long, env = "HOSTLER_GIT_CA_FILE", value_name = "FILE", global = true)]
    pub git_ca_file: Option<PathBuf>,
    /// HTTP proxy through which an https repository is reached: `http://HOST:PORT`
    #[arg(long, env = "HOSTLER_GIT_PROXY", value_name = "URL", global = true)]
    pub git_proxy: Option<String>,
    /// File with the keys commits must be signed with, as ssh's allowed_signers
    #[arg(long, env = "HOSTLER_GIT_SIGNERS_FILE", value_name = "FILE", global = true)]
    pub git_signers_file: Option<PathBuf>,
    /// Send the token over plain http too
    #[arg(
        long,
        env = "HOSTLER_GIT_ALLOW_PLAIN_HTTP_CREDENTIALS",
        num_args = 0..=1,
        default_missing_value = "true",
        global = true
    )]
    pub git_allow_plain_http_credentials: Option<bool>,
    /// File with the secret webhooks are signed with, one or two lines (or HOSTLER_WEBHOOK_SECRET)
    #[arg(long, env = "HOSTLER_WEBHOOK_SECRET_FILE", value_name = "FILE", global = true)]
    pub webhook_secret_file: Option<PathBuf>,
}

impl GitArgs {
    /// Without what is there but empty, as environment files have what is not set.
    fn given(mut self) -> Self {
        let texts = [
            &mut self.git_url,
            &mut self.git_ref,
            &mut self.git_deploy_dir,
            &mut self.git_poll_interval,
            &mut self.git_proxy,
        ];
        for text in texts {
            text.take_if(|text| text.trim().is_empty());
        }
        let paths = [
            &mut self.git_token_file,
            &mut self.git_ssh_key_file,
            &mut self.git_known_hosts_file,
            &mut self.git_ca_file,
            &mut self.git_signers_file,
            &mut self.webhook_secret_file,
        ];
        for path in paths {
            path.take_if(|path| path.as_os_str().is_empty());
        }
        self
    }
}

/// Secrets of the process's environment: asked once, in `main`.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// `HOSTLER_GIT_TOKEN`.
    pub git_token: Option<Secret>,
    /// `HOSTLER_WEBHOOK_SECRET`.
    pub webhook: Option<Secret>,
    /// `HOSTLER_WEBHOOK_SECRET_PREVIOUS`: accepted too, while forges are given the new one.
    pub webhook_previous: Option<Secret>,
}

impl Secrets {
    /// As the process finds them.
    #[must_use]
    pub fn of_process() -> Self {
        let secret =
            |name| std::env::var(name).ok().filter(|text| !text.is_empty()).map(Secret::new);
        Self {
            git_token: secret("HOSTLER_GIT_TOKEN"),
            webhook: secret("HOSTLER_WEBHOOK_SECRET"),
            webhook_previous: secret("HOSTLER_WEBHOOK_SECRET_PREVIOUS"),
        }
    }
}

/// Section `[git]` of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GitFile {
    pub url: Option<String>,
    pub r#ref: Option<String>,
    pub deploy_dir: Option<String>,
    pub poll_interval: Option<Interval>,
    pub token: Option<SecretText>,
    pub token_file: Option<PathBuf>,
    pub ssh_key_file: Option<PathBuf>,
    pub known_hosts_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub proxy: Option<String>,
    pub signers_file: Option<PathBuf>,
    pub allow_plain_http_credentials: Option<bool>,
}

/// Seconds as a number, or a text with a unit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Interval {
    Secs(u64),
    Text(String),
}

/// A text that debug output does not show.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText")
    }
}

/// Section `[webhook]` of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WebhookFile {
    pub secret: Option<SecretText>,
    /// Accepted too, while forges are given the new one.
    pub previous_secret: Option<SecretText>,
    pub secret_file: Option<PathBuf>,
}

/// Section `[stacks]` of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StacksFile {
    /// Most syncs open at once, over all hosts.
    pub syncs_max: Option<usize>,
    /// So many stacks may go away at once and are taken down unasked, unless none are left.
    pub removal_free: Option<usize>,
    /// Of all stacks, in percent: more that go away at once wait for a person.
    pub removal_share_percent: Option<usize>,
    /// Hosts for stacks whose compose file names none; the first that fits counts.
    #[serde(default)]
    pub rules: Vec<RuleFile>,
}

/// One rule of `[[stacks.rules]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RuleFile {
    /// A stack's path, or its beginning and a `*`.
    pub stacks: String,
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub labels: Labels,
}

/// Everything about desired state, resolved and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredConfig {
    /// `None`: no repository is configured.
    pub git: Option<GitSettings>,
    /// `None`: only looked at when somebody asks.
    pub poll: Option<Duration>,
    pub webhook_secrets: Vec<Secret>,
    pub rules: Vec<Rule>,
    pub removal: RemovalLimits,
    pub syncs_max: usize,
    /// Where bundles are; `None`: in the data directory.
    pub bucket: Option<S3Settings>,
}

impl Default for DesiredConfig {
    /// Without a repository.
    fn default() -> Self {
        Self {
            git: None,
            poll: None,
            webhook_secrets: Vec::new(),
            rules: Vec::new(),
            removal: RemovalLimits::default(),
            syncs_max: SYNCS_MAX_DEFAULT,
            bucket: None,
        }
    }
}

/// Resolves flags and environment over the file over the defaults.
pub(super) fn resolve(
    args: GitArgs,
    secrets: Secrets,
    (git, webhook, stacks): (GitFile, WebhookFile, StacksFile),
    wrong: &mut Vec<String>,
) -> DesiredConfig {
    let args = args.given();
    let poll = poll(args.git_poll_interval.clone(), git.poll_interval.clone(), wrong);
    let webhook_secrets = webhook_secrets(&args, &secrets, webhook, wrong);
    let rules = stacks.rules.into_iter().map(|rule| Rule {
        stacks: rule.stacks,
        hosts: rule.hosts,
        labels: rule.labels,
    });
    let usual = RemovalLimits::default();
    let removal = RemovalLimits {
        free: stacks.removal_free.unwrap_or(usual.free),
        share_percent: stacks.removal_share_percent.unwrap_or(usual.share_percent),
    };
    if removal.share_percent > 100 {
        wrong.push("stacks.removal-share-percent: more than 100 percent".to_owned());
    }
    let syncs_max = stacks.syncs_max.unwrap_or(SYNCS_MAX_DEFAULT);
    if syncs_max == 0 {
        wrong.push("stacks.syncs-max: 0 would sync nothing".to_owned());
    }
    let rules: Vec<Rule> = rules.collect();
    for rule in rules.iter().filter(|rule| rule.hosts.is_empty() && rule.labels.is_empty()) {
        wrong.push(format!(
            "stacks.rules: the rule for `{}` names neither hosts nor labels",
            rule.stacks
        ));
    }
    let git = repository(args, secrets, git, wrong);
    DesiredConfig { git, poll, webhook_secrets, rules, removal, syncs_max, bucket: None }
}

fn repository(
    args: GitArgs,
    secrets: Secrets,
    file: GitFile,
    wrong: &mut Vec<String>,
) -> Option<GitSettings> {
    let token_file = args.git_token_file.or(file.token_file.clone());
    let token = secrets.git_token.or_else(|| file.token.clone().map(|text| Secret::new(text.0)));
    let token = match token_file {
        Some(path) => secret_of("git-token-file", &path, wrong).or(token),
        None => token,
    };
    let others = token.is_some()
        || args.git_ref.is_some()
        || args.git_deploy_dir.is_some()
        || args.git_ssh_key_file.is_some()
        || GitFile { url: None, ..file.clone() } != GitFile::default();
    let Some(url) = args.git_url.or(file.url) else {
        if others {
            wrong.push(
                "git-url: missing, though other settings of the repository are there: set \
                 HOSTLER_GIT_URL"
                    .to_owned(),
            );
        }
        return None;
    };
    let before = wrong.len();
    let mut noted = |setting: &str, why: String| wrong.push(format!("{setting}: {why}"));
    let url = GitUrl::parse(&url).map_err(|why| noted("git-url", why.to_string())).ok();
    let reference = args.git_ref.or(file.r#ref).unwrap_or_else(|| GIT_REF_DEFAULT.to_owned());
    let reference =
        Reference::parse(&reference).map_err(|why| noted("git-ref", why.to_string())).ok();
    let dir = args.git_deploy_dir.or(file.deploy_dir).unwrap_or_else(|| "/".to_owned());
    let dir = DeployDir::parse(&dir).map_err(|why| noted("git-deploy-dir", why.to_string())).ok();
    let proxy = args.git_proxy.or(file.proxy).and_then(|text| {
        ProxyUrl::parse(&text).map_err(|why| noted("git-proxy", why.to_string())).ok()
    });
    let ssh_key_file = args.git_ssh_key_file.or(file.ssh_key_file);
    let known_hosts_file = args.git_known_hosts_file.or(file.known_hosts_file);
    let ca_file = args.git_ca_file.or(file.ca_file);
    let signers_file = args.git_signers_file.or(file.signers_file);
    let (Some(url), Some(reference), Some(dir)) = (url, reference, dir) else {
        let files = [
            ("ssh key file", &ssh_key_file),
            ("known-hosts file", &known_hosts_file),
            ("CA file", &ca_file),
            ("signers file", &signers_file),
        ];
        let why = |(name, path): (&str, &Option<PathBuf>)| unreadable(name, path.as_deref()?);
        wrong.extend(files.into_iter().filter_map(why));
        return None;
    };
    let mut settings = GitSettings::new(url, reference, dir);
    settings.auth = token.map(HttpAuth::of_text);
    settings.ssh_key_file = ssh_key_file;
    settings.known_hosts_file = known_hosts_file;
    settings.ca_file = ca_file;
    settings.signers_file = signers_file;
    settings.proxy = proxy;
    settings.allow_plain_http_credentials = args
        .git_allow_plain_http_credentials
        .or(file.allow_plain_http_credentials)
        .unwrap_or(false);
    wrong.extend(settings.validate().into_iter().map(|why| format!("git: {why}")));
    (wrong.len() == before).then_some(settings)
}

fn webhook_secrets(
    args: &GitArgs,
    secrets: &Secrets,
    file: WebhookFile,
    wrong: &mut Vec<String>,
) -> Vec<Secret> {
    let mut found: Vec<Secret> =
        [secrets.webhook.clone(), secrets.webhook_previous.clone()].into_iter().flatten().collect();
    if found.is_empty() {
        let of_file = [file.secret, file.previous_secret].into_iter().flatten();
        found.extend(of_file.map(|text| Secret::new(text.0)));
    }
    if let Some(path) = args.webhook_secret_file.clone().or(file.secret_file) {
        match read_secret(&path) {
            Ok(text) => {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                found = lines.take(2).map(|line| Secret::new(line.to_owned())).collect();
                if found.is_empty() {
                    wrong.push(format!("webhook-secret-file: {} is empty", path.display()));
                }
            }
            Err(why) => {
                wrong.push(format!("webhook-secret-file: {}: {why}", path.display()));
            }
        }
    }
    found
}

fn secret_of(setting: &str, path: &Path, wrong: &mut Vec<String>) -> Option<Secret> {
    match read_secret(path) {
        Ok(text) if !text.trim().is_empty() => Some(Secret::new(text.trim().to_owned())),
        Ok(_) => {
            wrong.push(format!("{setting}: {} is empty", path.display()));
            None
        }
        Err(why) => {
            wrong.push(format!("{setting}: {}: {why}", path.display()));
            None
        }
    }
}

fn read_secret(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > SECRET_BYTES_MAX {
        return Err(format!("more than {SECRET_BYTES_MAX} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

fn poll(
    given: Option<String>,
    of_file: Option<Interval>,
    wrong: &mut Vec<String>,
) -> Option<Duration> {
    let text = given.or(of_file.map(|interval| match interval {
        Interval::Secs(secs) => secs.to_string(),
        Interval::Text(text) => text,
    }));
    let Some(text) = text else { return Some(Duration::from_secs(POLL_SECS_DEFAULT)) };
    if text == "off" || text == "0" {
        return None;
    }
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit_secs = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let secs = number.parse::<u64>().ok().zip(unit_secs).and_then(|(n, unit)| n.checked_mul(unit));
    let secs = secs.filter(|secs| (POLL_SECS_MIN..=POLL_SECS_MAX).contains(secs));
    if secs.is_none() {
        wrong.push(format!(
            "git-poll-interval: `{text}` is none of a number of seconds from {POLL_SECS_MIN} to \
             {POLL_SECS_MAX}, a time such as `3m` or `1h`, and `off` (or `0`)"
        ));
    }
    secs.map(Duration::from_secs)
}
