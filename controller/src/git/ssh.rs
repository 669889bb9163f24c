//! Git over ssh and over local files: how the child is called, and what its complaints mean.

use super::error::{Class, GitError, plain};
use super::process::{Call, argument};
use super::settings::GitSettings;
use super::url::Place;

/// The protocol that is asked for; servers that know only the first answer with that.
const PROTOCOL: (&str, &str) = ("GIT_PROTOCOL", "version=2");

/// The child that talks to the repository; none for HTTP.
pub(super) fn call(settings: &GitSettings) -> Option<Call> {
    match settings.url.place() {
        Place::Http { .. } => None,
        Place::File { path } => Some(Call {
            program: "git",
            // The operator named this directory: whose it is does not matter.
            arguments: ["-c", "safe.directory=*", "upload-pack"]
                .into_iter()
                .map(Into::into)
                .chain([argument(path)])
                .collect(),
            environment: vec![
                (PROTOCOL.0, PROTOCOL.1.to_owned()),
                ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
                ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
                ("HOME", "/nonexistent".to_owned()),
            ],
        }),
        Place::Ssh { user, host, port, path } => {
            let mut arguments = options(settings);
            if let Some(port) = port {
                arguments.extend(["-p".to_owned(), port.to_string()]);
            }
            if let Some(user) = user {
                arguments.extend(["-l".to_owned(), user.clone()]);
            }
            arguments.extend(["--".to_owned(), host.clone()]);
            arguments.push(format!("git-upload-pack {}", quoted(path)));
            Some(Call {
                program: "ssh",
                arguments: arguments.into_iter().map(Into::into).collect(),
                environment: vec![(PROTOCOL.0, PROTOCOL.1.to_owned())],
            })
        }
    }
}

/// No configuration file, no agent, no prompt, and no host key but the pinned ones.
fn options(settings: &GitSettings) -> Vec<String> {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string())
    };
    let mut arguments: Vec<String> =
        ["-F", "/dev/null", "-T", "-a", "-x", "-i"].map(str::to_owned).to_vec();
    arguments.push(path(&settings.ssh_key_file));
    let settings = [
        "BatchMode=yes".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        format!("UserKnownHostsFile={}", path(&settings.known_hosts_file)),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "UpdateHostKeys=no".to_owned(),
        "VerifyHostKeyDNS=no".to_owned(),
        "CheckHostIP=no".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "IdentityAgent=none".to_owned(),
        "PreferredAuthentications=publickey".to_owned(),
        "PermitLocalCommand=no".to_owned(),
        "ClearAllForwardings=yes".to_owned(),
        "ControlMaster=no".to_owned(),
        "ControlPath=none".to_owned(),
        "LogLevel=ERROR".to_owned(),
        format!("ConnectTimeout={}", settings.limits.connect_secs),
        "SendEnv=GIT_PROTOCOL".to_owned(),
    ];
    for option in settings {
        arguments.extend(["-o".to_owned(), option]);
    }
    arguments
}

/// A path as the far shell takes it.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''").replace('!', r"'\!'"))
}

/// Texts of ssh and git, and what they mean; the first that occurs counts.
const COMPLAINTS: &[(&str, Class, &str)] = &[
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        Class::HostKey,
        "the git server's host key is not the pinned one: find out why, and only then put the new \
         key into the git known-hosts file",
    ),
    (
        "Host key verification failed",
        Class::HostKey,
        "the git server's host key is not among the pinned ones: compare it with what the server's \
         owner says, and put it into the git known-hosts file",
    ),
    (
        "UNPROTECTED PRIVATE KEY FILE",
        Class::Auth,
        "ssh refuses the git ssh key file, because others may read it: chmod 600",
    ),
    (
        "Permission denied",
        Class::Auth,
        "the git server refuses the ssh key: let its public half read this repository",
    ),
    ("Load key", Class::Auth, "ssh cannot read the git ssh key file"),
    ("Could not resolve hostname", Class::Network, "the git server's name is unknown"),
    ("timed out", Class::Timeout, "the git server did not answer in time"),
    ("Connection refused", Class::Network, "the git server cannot be reached"),
    ("No route to host", Class::Network, "the git server cannot be reached"),
    ("Network is unreachable", Class::Network, "the git server cannot be reached"),
    ("not appear to be a git repo", Class::NotFound, "the git server knows no such repository"),
    ("epository not found", Class::NotFound, "the git server knows no such repository"),
    ("does not exist", Class::NotFound, "the git server knows no such repository"),
    ("not our ref", Class::Ref, "the repository has no such commit"),
    ("onnection closed", Class::Network, "the git server closed the connection"),
    ("onnection reset", Class::Network, "the git server closed the connection"),
    ("kex_exchange", Class::Network, "the git server closed the connection"),
    ("command not found", Class::Network, "the git server has no git-upload-pack"),
];

/// What a child's complaint means, if it is a known one.
pub(super) fn meaning(complaint: &str) -> Option<GitError> {
    let (_, class, message) = COMPLAINTS.iter().find(|(text, ..)| complaint.contains(text))?;
    let detail = complaint.lines().map(str::trim).rfind(|line| !line.is_empty());
    let detail = plain(detail.unwrap_or_default());
    Some(GitError::new(*class, format!("{message} ({detail})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_its_quotes() {
        assert_eq!(quoted("/srv/a b"), "'/srv/a b'");
        assert_eq!(quoted("/a'; rm -rf '"), r"'/a'\''; rm -rf '\'''");
    }

    #[test]
    fn complaints_are_told_apart() {
        let class = |text: &str| meaning(text).map(|error| error.class());
        assert_eq!(
            class("No ED25519 host key is known for h and …\nHost key verification failed.\r\n"),
            Some(Class::HostKey)
        );
        assert_eq!(class("git@h: Permission denied (publickey)."), Some(Class::Auth));
        assert_eq!(
            class("fatal: '/x' does not appear to be a git repository"),
            Some(Class::NotFound)
        );
        assert_eq!(
            class("ssh: connect to host h port 22: Connection refused"),
            Some(Class::Network)
        );
        assert_eq!(class("something new"), None);
    }
}
