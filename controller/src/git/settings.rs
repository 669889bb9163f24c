//! What an operator says about the repository, parsed at the edge.

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::url::GitUrl;

/// Longest name of a branch or tag, and longest deploy directory, in bytes.
const NAME_BYTES_MAX: usize = 1024;
/// The user that forges take together with a token.
const TOKEN_USER: &str = "x-access-token";

/// A text that must not be shown: wiped when dropped, absent from debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for who has to use it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a reference or a directory cannot be meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error(
        "the git reference is none: write a branch, a tag, a full name (refs/heads/main) or all 40 \
         hexadecimal digits of a commit"
    )]
    Reference,
    #[error("the commit's id is cut short: write all 40 hexadecimal digits")]
    ShortId,
    #[error(
        "the deploy directory must be a path inside the repository, without `..`: write / \
         for its root"
    )]
    DeployDir,
    #[error("the git proxy must be http://HOST:PORT, without credentials")]
    Proxy,
}

/// An HTTP proxy through which an https repository is reached: it is asked for a tunnel, and sees
/// neither what is sent nor any credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUrl(reqwest::Url);

impl ProxyUrl {
    /// Reads `http://HOST:PORT`.
    ///
    /// # Errors
    /// [`Unfit::Proxy`] for all else.
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        let url = reqwest::Url::parse(text).map_err(|_| Unfit::Proxy)?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        let named = url.scheme() == "http" && url.host_str().is_some();
        (named && plain).then_some(Self(url)).ok_or(Unfit::Proxy)
    }

    pub(super) fn url(&self) -> &reqwest::Url {
        &self.0
    }
}

/// Which commit is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    text: String,
    kind: RefKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefKind {
    /// Forty digits: a commit's own id.
    Commit,
    /// A name below `refs/`.
    Full,
    /// A branch of that name, or else a tag.
    Short,
}

impl Reference {
    /// Reads a branch or tag (a branch goes first where both have the name), a full name below
    /// `refs/`, or the forty digits of a commit.
    ///
    /// # Errors
    /// [`Unfit`] for what git would not take as a name.
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        let digits = text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (kind, full) = if digits && text.len() == 40 {
            (RefKind::Commit, None)
        } else if text.starts_with("refs/") {
            (RefKind::Full, Some(text.to_owned()))
        } else {
            (RefKind::Short, Some(format!("refs/heads/{text}")))
        };
        if let Some(full) = full {
            let named = gix::validate::reference::name(full.as_str().into()).is_ok();
            if text.is_empty() || text.len() > NAME_BYTES_MAX || !named {
                return Err(Unfit::Reference);
            }
        }
        // A branch may be called `cafe`, but hardly sixteen such letters.
        if kind == RefKind::Short && digits && text.len() >= 16 {
            return Err(Unfit::ShortId);
        }
        let text = if kind == RefKind::Commit { text.to_ascii_lowercase() } else { text.into() };
        Ok(Self { text, kind })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn kind(&self) -> RefKind {
        self.kind
    }

    /// The full names it may stand for, the preferred one first; none for a commit.
    #[must_use]
    pub fn full_names(&self) -> Vec<String> {
        match self.kind {
            RefKind::Commit => Vec::new(),
            RefKind::Full => vec![self.text.clone()],
            RefKind::Short => {
                vec![format!("refs/heads/{}", self.text), format!("refs/tags/{}", self.text)]
            }
        }
    }
}

/// The directory below which stacks are looked for; `/` is the repository's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployDir(String);

impl DeployDir {
    /// Reads a path below the root of the repository, as people write them: `/hosts`, `./hosts/`; empty,
    /// `.` and `/` are the root.
    ///
    /// # Errors
    /// [`Unfit::DeployDir`] for one that leads elsewhere.
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        let parts: Vec<&str> =
            text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let is_unfit = |part: &&str| *part == ".." || part.chars().any(char::is_control);
        if text.len() > NAME_BYTES_MAX || parts.iter().any(is_unfit) {
            return Err(Unfit::DeployDir);
        }
        Ok(Self(parts.join("/")))
    }

    /// The path inside the tree, without slashes at its ends; empty for the root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0
    }
}

/// Who asks, over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAuth {
    pub(super) user: String,
    pub(super) password: Secret,
}

impl HttpAuth {
    /// A token, as forges give them.
    #[must_use]
    pub fn token(token: Secret) -> Self {
        Self { user: TOKEN_USER.to_owned(), password: token }
    }

    /// What a token file holds: `USER:PASSWORD`, or a token alone.
    #[must_use]
    pub fn of_text(text: Secret) -> Self {
        match text.expose().split_once(':') {
            Some((user, password)) if !user.is_empty() => {
                Self::basic(user.to_owned(), Secret::new(password.to_owned()))
            }
            Some(_) | None => Self::token(text),
        }
    }

    /// A user and a password, or a token that belongs to a named user.
    #[must_use]
    pub fn basic(user: String, password: Secret) -> Self {
        Self { user, password }
    }
}

/// Bounds on what a repository may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GitLimits {
    /// Entries of all trees of one commit that are read.
    pub files_max: usize,
    /// Bytes of one file.
    pub blob_bytes_max: usize,
    /// Directories within directories.
    pub tree_depth_max: usize,
    /// Bytes one fetch may receive.
    pub pack_bytes_max: u64,
    /// Until the server's first byte.
    pub connect_secs: u64,
    /// From the first packet to the commit being readable.
    pub fetch_secs: u64,
    /// For reading one commit's trees.
    pub walk_secs: u64,
}

impl Default for GitLimits {
    fn default() -> Self {
        Self {
            files_max: 200_000,
            blob_bytes_max: 64 << 20,
            tree_depth_max: 32,
            pack_bytes_max: 1 << 30,
            connect_secs: 20,
            fetch_secs: 120,
            walk_secs: 30,
        }
    }
}

/// All that is said about the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSettings {
    pub url: GitUrl,
    pub reference: Reference,
    pub deploy_dir: DeployDir,
    pub auth: Option<HttpAuth>,
    pub ssh_key_file: Option<PathBuf>,
    /// The pinned host keys, as ssh's `known_hosts` has them.
    pub known_hosts_file: Option<PathBuf>,
    /// PEM certificates that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// None: the server is asked directly, whatever the environment says.
    pub proxy: Option<ProxyUrl>,
    pub allow_plain_http_credentials: bool,
    /// Who may sign commits, as ssh's `allowed_signers` has them; without it nothing is asked.
    pub signers_file: Option<PathBuf>,
    pub limits: GitLimits,
}

impl GitSettings {
    /// The settings of a repository that needs none but where it is.
    #[must_use]
    pub fn new(url: GitUrl, reference: Reference, deploy_dir: DeployDir) -> Self {
        Self {
            url,
            reference,
            deploy_dir,
            auth: None,
            ssh_key_file: None,
            known_hosts_file: None,
            ca_file: None,
            proxy: None,
            allow_plain_http_credentials: false,
            signers_file: None,
            limits: GitLimits::default(),
        }
    }

    /// Everything that is wrong, at once; looks whether the files are there.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut wrong = self.validate_ssh();
        if self.auth.is_some() && !self.url.is_http() {
            wrong.push("a git token is for http and https URLs: ssh takes a key file".to_owned());
        }
        if self.auth.is_some() && self.url.is_plain_http() && !self.allow_plain_http_credentials {
            wrong.push(
                "a git token would travel unencrypted: use an https URL, or permit credentials over \
                 plain http"
                    .to_owned(),
            );
        }
        if self.ca_file.is_some() && (!self.url.is_http() || self.url.is_plain_http()) {
            wrong.push("a git CA file is for https URLs".to_owned());
        }
        if self.proxy.is_some() && (!self.url.is_http() || self.url.is_plain_http()) {
            wrong.push("a git proxy is for https URLs".to_owned());
        }
        let files = [
            ("ssh key file", &self.ssh_key_file),
            ("known-hosts file", &self.known_hosts_file),
            ("CA file", &self.ca_file),
            ("signers file", &self.signers_file),
        ];
        for (name, path) in files {
            wrong.extend(path.as_deref().and_then(|path| unreadable(name, path)));
        }
        wrong.extend(self.limits.validate());
        wrong
    }

    fn validate_ssh(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !self.url.is_ssh() {
            return wrong;
        }
        if self.known_hosts_file.is_none() {
            wrong.push(
                "an ssh URL needs the git known-hosts file: write the server's keys into it \
                 (ssh-keyscan HOST, compared with what the server's owner says)"
                    .to_owned(),
            );
        }
        if self.ssh_key_file.is_none() {
            wrong.push("an ssh URL needs the git ssh key file".to_owned());
        }
        for path in [&self.known_hosts_file, &self.ssh_key_file].into_iter().flatten() {
            if !plain_path(path) {
                wrong.push(format!(
                    "{}: ssh would not take this path as it is: use letters, digits and /._-",
                    path.display()
                ));
            }
        }
        wrong
    }
}

impl GitLimits {
    fn validate(&self) -> Vec<String> {
        let sizes = [self.files_max, self.blob_bytes_max, self.tree_depth_max];
        let times = [self.connect_secs, self.fetch_secs, self.walk_secs, self.pack_bytes_max];
        let zero = sizes.contains(&0) || times.contains(&0);
        zero.then(|| "a git limit is 0: nothing could be read".to_owned()).into_iter().collect()
    }
}

/// ssh expands `%` and `~` in its options' values and splits them at blanks.
fn plain_path(path: &Path) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    path.is_absolute() && path.to_str().is_some_and(|text| text.chars().all(fits))
}

/// Why a file of the settings cannot be read, if it cannot.
#[must_use]
pub fn unreadable(name: &str, path: &Path) -> Option<String> {
    std::fs::File::open(path)
        .err()
        .map(|error| format!("the git {name} {} cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_or_refused() {
        let kind = |text: &str| Reference::parse(text).map(|reference| reference.kind);
        assert_eq!(kind("main"), Ok(RefKind::Short));
        assert_eq!(kind("feature/one"), Ok(RefKind::Short));
        assert_eq!(kind("cafe"), Ok(RefKind::Short));
        assert_eq!(kind("refs/tags/v1"), Ok(RefKind::Full));
        assert_eq!(kind(&"A1".repeat(20)), Ok(RefKind::Commit));
        assert_eq!(kind(&"a1".repeat(10)), Err(Unfit::ShortId));
        for text in ["", "a b", "-", "a..b", "x.lock", "a~1", "refs/", "a//b", "@{1}", "a\n"] {
            let expected = if text == "-" { Ok(RefKind::Short) } else { Err(Unfit::Reference) };
            assert_eq!(kind(text), expected, "{text:?}");
        }
        let names = Reference::parse("v1").unwrap().full_names();
        assert_eq!(names, ["refs/heads/v1", "refs/tags/v1"]);
    }

    #[test]
    fn deploy_directories_stay_inside() {
        let path = |text: &str| DeployDir::parse(text).map(|dir| dir.0);
        for root in ["", "/", ".", "./"] {
            assert_eq!(path(root), Ok(String::new()), "{root:?}");
        }
        for text in ["/hosts/web/", "./hosts/web", "hosts//web/."] {
            assert_eq!(path(text), Ok("hosts/web".to_owned()), "{text:?}");
        }
        for text in ["..", "a/../b", "../a", "a\0b", "a\nb"] {
            assert_eq!(path(text), Err(Unfit::DeployDir), "{text:?}");
        }
    }

    #[test]
    fn every_problem_is_listed_at_once() {
        let parse = |url: &str| {
            GitSettings::new(
                GitUrl::parse(url).unwrap(),
                Reference::parse("main").unwrap(),
                DeployDir::parse("/").unwrap(),
            )
        };
        assert_eq!(parse("https://git.example/a").validate(), Vec::<String>::new());
        let mut ssh = parse("git@git.example:a");
        ssh.auth = Some(HttpAuth::token(Secret::new("s3cret".to_owned())));
        ssh.limits.walk_secs = 0;
        let wrong = ssh.validate();
        assert_eq!(wrong.len(), 4, "{wrong:?}");
        assert!(!format!("{ssh:?} {wrong:?}").contains("s3cret"));
        let mut http = parse("http://git.example/a");
        http.auth = Some(HttpAuth::token(Secret::new("s3cret".to_owned())));
        http.ca_file = Some("/nowhere/ca.pem".into());
        http.proxy = Some(ProxyUrl::parse("http://proxy.example:3128").unwrap());
        assert_eq!(http.validate().len(), 4, "{:?}", http.validate());
        (http.ca_file, http.proxy) = (None, None);
        http.allow_plain_http_credentials = true;
        assert_eq!(http.validate(), Vec::<String>::new());
    }

    #[test]
    fn a_proxy_is_a_host_and_a_port_and_no_secret() {
        for text in ["http://proxy:3128", "http://proxy.example/", "http://[::1]:8080"] {
            assert!(ProxyUrl::parse(text).is_ok(), "{text}");
        }
        for text in [
            "proxy:3128",
            "https://proxy:3128",
            "socks5://proxy:1080",
            "http://ada:s3cret@proxy:3128",
            "http://ada@proxy:3128",
            "http://proxy:3128/path",
            "http://proxy:3128/?a=b",
            "http://",
            "",
        ] {
            assert_eq!(ProxyUrl::parse(text), Err(Unfit::Proxy), "{text}");
        }
    }
}
