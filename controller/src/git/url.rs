//! Where a repository is.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;

/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 2048;

/// Why a text is not the URL of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error(
        "the repository's URL is not one: write https://HOST/PATH, ssh://USER@HOST/PATH, \
         USER@HOST:PATH or file:///PATH"
    )]
    Unreadable,
    #[error("the repository's URL is longer than {URL_BYTES_MAX} bytes")]
    TooLong,
    #[error("the scheme of the repository's URL is none of https, http, ssh and file")]
    Scheme,
    #[error(
        "the repository's URL holds credentials, where logs and process lists would show them: \
         take them out, and set the git token (or its file) instead"
    )]
    Credentials,
    #[error("the repository's URL must end with its path: no `?` and no `#`")]
    Query,
    #[error("the repository's URL has a `%`: write the path as it is")]
    Escaped,
    #[error("a file URL needs an absolute path on this machine: file:///PATH")]
    FilePath,
}

/// Where a repository is and how it is reached; never holds a credential, so that it may be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct GitUrl {
    text: String,
    place: Place,
}

/// The parts a transport needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Http { url: Url },
    Ssh { user: Option<String>, host: String, port: Option<u16>, path: String },
    File { path: PathBuf },
}

impl GitUrl {
    /// Reads `https://`, `http://`, `ssh://`, `USER@HOST:PATH` and `file:///`.
    ///
    /// # Errors
    /// [`BadUrl`] for all else, and for a URL with a password in it.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        if text.len() > URL_BYTES_MAX {
            return Err(BadUrl::TooLong);
        }
        if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(BadUrl::Unreadable);
        }
        let place = match text.split_once("://") {
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "https" | "http" => http(text)?,
                "ssh" => ssh(rest)?,
                "file" => file(rest)?,
                _ => return Err(BadUrl::Scheme),
            },
            None => scp_like(text)?,
        };
        Ok(Self { text: text.to_owned(), place })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The URL as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether what is sent can be read on the way.
    #[must_use]
    pub fn is_plain_http(&self) -> bool {
        matches!(&self.place, Place::Http { url } if url.scheme() == "http")
    }

    /// Whether it is reached over HTTP, with TLS or without.
    #[must_use]
    pub fn is_http(&self) -> bool {
        matches!(self.place, Place::Http { .. })
    }

    /// Whether it is reached over ssh.
    #[must_use]
    pub fn is_ssh(&self) -> bool {
        matches!(self.place, Place::Ssh { .. })
    }
}

impl fmt::Display for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn http(text: &str) -> Result<Place, BadUrl> {
    let url = Url::parse(text).map_err(|_| BadUrl::Unreadable)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadUrl::Credentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(BadUrl::Query);
    }
    if !url.has_host() || url.path().trim_matches('/').is_empty() {
        return Err(BadUrl::Unreadable);
    }
    Ok(Place::Http { url })
}

fn ssh(rest: &str) -> Result<Place, BadUrl> {
    let (authority, path) = rest.split_once('/').ok_or(BadUrl::Unreadable)?;
    if path.contains(['?', '#']) {
        return Err(BadUrl::Query);
    }
    if rest.contains('%') {
        return Err(BadUrl::Escaped);
    }
    let (user, server) = user_and_host(authority)?;
    let (host, port) = host_and_port(server)?;
    // `ssh://host/~user/…` is a path below a home; all others are absolute.
    let path = if path.starts_with('~') { path.to_owned() } else { format!("/{path}") };
    if path == "/" {
        return Err(BadUrl::Unreadable);
    }
    Ok(Place::Ssh { user, host, port, path })
}

fn scp_like(text: &str) -> Result<Place, BadUrl> {
    let colon = match text.find("]:") {
        Some(bracket) => bracket + 1,
        None => text.find(':').ok_or(BadUrl::Unreadable)?,
    };
    let (authority, path) = (&text[..colon], &text[colon + 1..]);
    if authority.contains('/') || path.is_empty() || path.starts_with('-') {
        return Err(BadUrl::Unreadable);
    }
    if path.contains('@') && !authority.contains('@') {
        return Err(BadUrl::Credentials);
    }
    let (user, server) = user_and_host(authority)?;
    let host = server.trim_start_matches('[').trim_end_matches(']');
    Ok(Place::Ssh { user, host: name(host, true)?, port: None, path: path.to_owned() })
}

fn user_and_host(authority: &str) -> Result<(Option<String>, &str), BadUrl> {
    let Some((user, server)) = authority.rsplit_once('@') else { return Ok((None, authority)) };
    if user.contains(':') {
        return Err(BadUrl::Credentials);
    }
    Ok((Some(name(user, false)?), server))
}

fn host_and_port(server: &str) -> Result<(String, Option<u16>), BadUrl> {
    if let Some(rest) = server.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(BadUrl::Unreadable)?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port.parse().map_err(|_| BadUrl::Unreadable)?),
            None if after.is_empty() => None,
            None => return Err(BadUrl::Unreadable),
        };
        return Ok((name(host, true)?, port));
    }
    match server.split_once(':') {
        Some((host, port)) => {
            Ok((name(host, false)?, Some(port.parse().map_err(|_| BadUrl::Unreadable)?)))
        }
        None => Ok((name(server, false)?, None)),
    }
}

/// A user or host as ssh takes them: nothing that it could read as an option or a variable.
fn name(text: &str, colons: bool) -> Result<String, BadUrl> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || (colons && c == ':');
    if text.is_empty() || text.starts_with('-') || !text.chars().all(fits) {
        return Err(BadUrl::Unreadable);
    }
    Ok(text.to_owned())
}

fn file(rest: &str) -> Result<Place, BadUrl> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if path.contains('%') {
        return Err(BadUrl::Escaped);
    }
    if !path.starts_with('/') || path.trim_matches('/').is_empty() {
        return Err(BadUrl::FilePath);
    }
    Ok(Place::File { path: PathBuf::from(path) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh_parts(text: &str) -> (Option<String>, String, Option<u16>, String) {
        match GitUrl::parse(text).unwrap().place {
            Place::Ssh { user, host, port, path } => (user, host, port, path),
            other @ (Place::Http { .. } | Place::File { .. }) => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn all_four_kinds_are_read() {
        assert!(GitUrl::parse("https://git.example/team/stacks.git").unwrap().is_http());
        assert!(GitUrl::parse("http://git.example:3000/a").unwrap().is_plain_http());
        assert_eq!(
            ssh_parts("ssh://git@git.example:2222/team/stacks.git"),
            (Some("git".into()), "git.example".into(), Some(2222), "/team/stacks.git".into())
        );
        assert_eq!(ssh_parts("ssh://git.example/~me/a").3, "~me/a");
        assert_eq!(
            ssh_parts("git@git.example:team/stacks.git"),
            (Some("git".into()), "git.example".into(), None, "team/stacks.git".into())
        );
        assert_eq!(ssh_parts("git@[::1]:a").1, "::1");
        assert_eq!(ssh_parts("ssh://[::1]:22/a").2, Some(22));
        let file = GitUrl::parse("file:///srv/stacks.git").unwrap();
        assert_eq!(file.place, Place::File { path: "/srv/stacks.git".into() });
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        for text in [
            "https://user:s3cret@git.example/a",
            "https://s3cret@git.example/a",
            "ssh://git:s3cret@git.example/a",
            "git:s3cret@git.example:a",
        ] {
            let error = GitUrl::parse(text).unwrap_err();
            assert_eq!(error, BadUrl::Credentials, "{text}");
            assert!(!error.to_string().contains("s3cret") && error.to_string().contains("token"));
        }
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        for text in [
            "",
            "stacks",
            "/srv/stacks",
            "https://",
            "https://git.example",
            "https://git.example/",
            "ssh://-oProxyCommand=x/a",
            "-oProxyCommand=x:a",
            "git@host:-x",
            "ssh://git@/a",
            "https://git.example/a b",
            "ssh://host:port/a",
            "git@ho$st:a",
        ] {
            assert_eq!(GitUrl::parse(text).unwrap_err(), BadUrl::Unreadable, "{text}");
        }
        assert_eq!(GitUrl::parse("ftp://git.example/a").unwrap_err(), BadUrl::Scheme);
        assert_eq!(GitUrl::parse("git://git.example/a").unwrap_err(), BadUrl::Scheme);
        assert_eq!(GitUrl::parse("https://git.example/a?b").unwrap_err(), BadUrl::Query);
        assert_eq!(GitUrl::parse("file://host/a").unwrap_err(), BadUrl::FilePath);
        assert_eq!(GitUrl::parse("file:///a%20b").unwrap_err(), BadUrl::Escaped);
        let long = format!("https://git.example/{}", "a".repeat(URL_BYTES_MAX));
        assert_eq!(GitUrl::parse(&long).unwrap_err(), BadUrl::TooLong);
    }
}
