//! Stable error codes of jobs: the registry is append-only.

use serde::{Deserialize, Serialize};

/// Whether trying a failed attempt again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Only a person (or a changed request) can help.
    Never,
    /// The same attempt may succeed later: retried after the template's back-off.
    Later,
    /// Nothing was wrong with the work, it was cut off: run it again at once if it is idempotent.
    AtOnce,
}

macro_rules! codes {
    ($($name:ident = $text:literal, $retry:ident, $hint:literal;)*) => {
        /// A stable error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = concat!("`", $text, "`. ", $hint)] $name,)* }

        impl Code {
            /// Every code, in the order they were added.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code's stable text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether a failure of this kind is worth trying again.
            #[must_use]
            pub fn retry(self) -> Retry {
                match self { $(Self::$name => Retry::$retry,)* }
            }

            /// What a person can do about it; may be empty.
            #[must_use]
            pub fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }

            /// The code of that text.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == text)
            }
        }
    };
}

codes! {
    Interrupted = "INTERRUPTED", AtOnce, "The agent stopped in the middle of the attempt.";
    TimedOut = "TIMED_OUT", Later, "The attempt ran longer than its template allows; look at the step it stopped in.";
    Cancelled = "CANCELLED", Never, "The job was cancelled.";
    Superseded = "SUPERSEDED", Never, "A newer job of the same kind replaced this one.";
    Expired = "EXPIRED", Never, "The host did not come back within the job's time to live.";
    Quarantined = "QUARANTINED", Never, "The job stopped its agent several times; look at the agent's log before releasing it.";
    UnknownJobType = "UNKNOWN_JOB_TYPE", Never, "Upgrade the agent on this host.";
    SpecInvalid = "SPEC_INVALID", Never, "The agent could not read the job; controller and agent may be of different versions.";
    PolicyRefused = "POLICY_REFUSED", Never, "The host's own policy file does not permit this; change it on the host if it should.";
    AgentBusy = "AGENT_BUSY", Later, "The agent runs as many jobs as it may.";
    NoSpace = "NO_SPACE", Later, "The agent's journal has no room left; free disk space on the host.";
    InternalError = "INTERNAL_ERROR", Never, "This is a defect of the agent; its log has more.";
    CommandFailed = "COMMAND_FAILED", Never, "";
    CommandMissing = "COMMAND_MISSING", Never, "Install the program, or name its path in the agent's configuration.";
    FileFailed = "FILE_FAILED", Never, "";
    PathOutsideRoots = "PATH_OUTSIDE_ROOTS", Never, "Add the directory to `roots` in the agent's policy file, or correct the environment's path.";
    PathIsSymlink = "PATH_IS_SYMLINK", Never, "Below its roots Hostler follows no symbolic link but those of a document root that lead to a directory below the one they lie in; name the real path.";
    PathMissing = "PATH_MISSING", Never, "Create it on the host, or correct the environment's path.";
    CacheDirMissing = "CACHE_DIR_MISSING", Never, "nginx creates the directory on reload: reconcile the environment, or correct the path.";
    CacheDirNotOurs = "CACHE_DIR_NOT_OURS", Never, "This directory was not set up by Hostler for this environment: reconcile the environment first.";
    NginxConfigBroken = "NGINX_CONFIG_BROKEN", Never, "The nginx configuration was already broken before this job; repair it (`nginx -t`) and try again.";
    NginxTestFailed = "NGINX_TEST_FAILED", Never, "nginx refused the rendered files; the old ones were put back.";
    NginxNotIncluded = "NGINX_NOT_INCLUDED", Never, "Add the `include` line named in the message to the vhost.";
    NginxHeadersDropped = "NGINX_HEADERS_DROPPED", Never, "";
    NginxReloadFailed = "NGINX_RELOAD_FAILED", Later, "nginx could not be told to reload; is it running?";
    NginxReloadNotApplied = "NGINX_RELOAD_NOT_APPLIED", Never, "nginx accepted the reload but still serves the old configuration; its error log says why. The old files were put back.";
    NginxRollbackFailed = "NGINX_ROLLBACK_FAILED", Never, "The old files could not be put back: look at nginx on the host now.";
    CacheEffectMissing = "CACHE_EFFECT_MISSING", Never, "The new configuration is live but requests do not go through it: is location.conf included in the location that serves the health path?";
    ProbeFailed = "PROBE_FAILED", Later, "The site did not answer the probe; is nginx listening at the environment's probe origin?";
    RedisUnreachable = "REDIS_UNREACHABLE", Later, "Is Redis running where the environment's URL says?";
    RedisAuthFailed = "REDIS_AUTH_FAILED", Never, "Check the user in the URL and the password file on the host.";
    RedisDenied = "REDIS_DENIED", Never, "The Redis user may not run this command; allow SCAN, UNLINK and PING.";
    RedisTimeout = "REDIS_TIMEOUT", Later, "Redis answered too slowly.";
    RedisFailed = "REDIS_FAILED", Later, "";
    DropinForeign = "DROPIN_FOREIGN", Never, "Another plugin owns wp-content/object-cache.php; Hostler never overwrites it.";
    DropinMissing = "DROPIN_MISSING", Never, "Install the Redis Object Cache plugin in this WordPress.";
    WpConfigForeign = "WP_CONFIG_FOREIGN", Never, "wp-config.php sets WP_REDIS_DISABLED itself; remove that line so that Hostler can switch it.";
    KeyFormatUnsupported = "KEY_FORMAT_UNSUPPORTED", Never, "Use $scheme, $request_method, $host and $request_uri in the key format.";
    UrlForeign = "URL_FOREIGN", Never, "The URL's host is not the environment's domain.";
    AttemptSettled = "ATTEMPT_SETTLED", Never, "The agent already ran this attempt and its outcome was acknowledged; it never runs one twice.";
    HealthFailed = "HEALTH_FAILED", Never, "The site answered its health check before the change and not after it; the change was put back.";
    FileForeign = "FILE_FOREIGN", Never, "Hostler never overwrites a file it did not write: move it away, or name another path.";
    AttemptStale = "ATTEMPT_STALE", Never, "The agent knows a later attempt of this job.";
    JournalFailed = "JOURNAL_FAILED", Later, "The agent cannot write its journal; look at its log and at the host's disk.";
    Abandoned = "ABANDONED", Never, "Reconcile the environment's caches once its host is back.";
    ProbeOriginWrong = "PROBE_ORIGIN_WRONG", Never, "Set the environment's probe origin to where the server block that includes our files listens, such as https://127.0.0.1:443.";
    ModeNotSupported = "MODE_NOT_SUPPORTED", Never, "Let the native executor do it, or purge in mode `hard`.";
    CacheOff = "CACHE_OFF", Never, "Switch the environment's FastCGI cache on first.";
    CacheFormatUnknown = "CACHE_FORMAT_UNKNOWN", Never, "This nginx stores its cache in a format the agent does not know: purge everything, or upgrade the agent.";
    WarmFailed = "WARM_FAILED", Later, "The site answered too many warm-up requests with errors; look at PHP.";
    AnsibleMissing = "ANSIBLE_MISSING", Never, "Install ansible-core on the host, or let the native executor do it.";
    PlaybookMissing = "PLAYBOOK_MISSING", Never, "Install the agent's playbooks, or correct `playbook_dir` in its configuration.";
    PlaybookInvalid = "PLAYBOOK_INVALID", Never, "Ansible cannot load the playbook; `ansible-playbook --syntax-check` says why.";
    PlaybookAborted = "PLAYBOOK_ABORTED", Later, "The playbook ended without saying how it went; look at the output.";
    PlaybookFailed = "PLAYBOOK_FAILED", Never, "";
    HostUnreachable = "HOST_UNREACHABLE", Later, "Ansible could not connect; playbooks run on the agent's own host.";
    Undecodable = "UNDECODABLE", Never, "Controller and agent may be of different versions, or a document is damaged: put that right, then release the job.";
    DockerUnavailable = "DOCKER_UNAVAILABLE", Later, "Is the Docker engine running, and may the agent use its socket?";
    ComposeMissing = "COMPOSE_MISSING", Never, "Install Docker Compose on the host: the `docker compose` plugin, or `docker-compose`.";
    ComposeInvalid = "COMPOSE_INVALID", Never, "Compose refuses the files; correct them in the repository.";
    ComposeFailed = "COMPOSE_FAILED", Later, "Compose says why in its output.";
    ImageUnavailable = "IMAGE_UNAVAILABLE", Later, "The registry did not give the image: check its name, the registry, and the host's login there.";
    PortTaken = "PORT_TAKEN", Later, "Another program or container of the host listens there.";
    StackUnhealthy = "STACK_UNHEALTHY", Never, "A service did not become healthy in time; the bundle before it was put back where there is one. A new commit, or a forced sync, tries again.";
    ProjectTaken = "PROJECT_TAKEN", Never, "A project of that name runs on the host and is not this stack's: name another one in `x-hostler`, or sync with `adopt`.";
    BundleMissing = "BUNDLE_MISSING", Later, "The controller no longer has the bundle; a refresh makes it anew.";
    BundleDamaged = "BUNDLE_DAMAGED", Later, "What arrived is not what was asked for.";
    DecryptFailed = "DECRYPT_FAILED", Never, "Is the host's age key one of those the file was encrypted for?";
    BundleUnreachable = "BUNDLE_UNREACHABLE", Later, "The connection that bundles come over could not be made, or broke off; what has arrived is kept.";
    AgeKeyMissing = "AGE_KEY_MISSING", Never, "Run `hostler-agent age-key` on the host, encrypt the file to what it prints, commit it, and sync again.";
    AgeKeyRefused = "AGE_KEY_REFUSED", Never, "`hostler-agent doctor` on the host says what is wrong with its age key; put that right and sync again.";
    ContainerNameTaken = "CONTAINER_NAME_TAKEN", Never, "Another container of the host has the name that `container_name` gives: name another one, or remove that container and sync again.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_parse_back() {
        for (place, code) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!(
                Code::ALL[place + 1..].iter().all(|other| other.as_str() != code.as_str()),
                "{} stands twice",
                code.as_str()
            );
        }
    }
}
