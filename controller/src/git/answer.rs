//! What an HTTP server's answers, and their absence, mean.

use std::io;

use reqwest::header::LOCATION;
use reqwest::{Response, StatusCode, Url};

use super::error::{Class, GitError, chain, plain};
use super::ssh;

/// What the server says instead of an answer. The library takes that for noise where protocol
/// version 1 has it answer with a pack.
pub(super) fn complaint(beginning: &[u8]) -> Option<GitError> {
    let (length, line) = beginning.split_at_checked(4)?;
    let length = usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()?;
    let line = line.get(..length.checked_sub(4)?.min(line.len()))?;
    let said = String::from_utf8_lossy(line.strip_prefix(b"ERR ")?);
    Some(ssh::meaning(&said).unwrap_or_else(|| {
        GitError::new(Class::Network, format!("the git server refuses: {}", plain(&said)))
    }))
}

/// Why nothing came back.
pub(super) fn unsent(error: reqwest::Error) -> GitError {
    let tls = is_tls(&error);
    let timeout = error.is_timeout();
    let why = chain(&error.without_url());
    if tls {
        let message = format!(
            "the git server's certificate is not trusted: {why}; name its authority's certificate \
             as the git CA file"
        );
        return GitError::new(Class::Tls, message);
    }
    if timeout {
        let message = format!("the git server cannot be reached in time: {why}");
        return GitError::new(Class::Timeout, message);
    }
    let message = format!("the git server cannot be reached: {why}");
    GitError::new(Class::Network, message)
}

fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // The source of an I/O error leaves out the error it was made of.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or(error.source());
    }
    false
}

/// What an answer's status means, if it is no success.
pub(super) fn refusal(response: &Response, asked_by_name: bool) -> Option<GitError> {
    let status = response.status();
    if status.is_success() {
        return None;
    }
    let (class, message) = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if asked_by_name => (
            Class::Auth,
            format!(
                "the git server refuses the credentials ({status}): give it a valid token that may read this repository"
            ),
        ),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            (Class::Auth, format!("the git server wants credentials ({status}): set the git token"))
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => (
            Class::NotFound,
            format!(
                "the git server knows no such repository ({status}): look at the URL, and whether the token may see it"
            ),
        ),
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => {
            (Class::Timeout, format!("the git server took too long ({status})"))
        }
        _ if status.is_redirection() => (Class::NotFound, moved(response)),
        _ => (
            Class::Network,
            format!("the git server answered {status}; the next refresh tries again"),
        ),
    };
    Some(GitError::new(class, message))
}

fn moved(response: &Response) -> String {
    let place = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| Url::parse(text).ok())
        .and_then(|url| Some(format!("{}://{}", url.scheme(), url.host_str()?)));
    let place =
        place.map_or_else(|| "elsewhere".to_owned(), |place| format!("to {}", plain(&place)));
    format!("the git server sends us {place}: set the repository's URL to where it is now")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_complaint_is_told_from_an_answer() {
        let class = |text: &[u8]| complaint(text).map(|error| error.class());
        assert_eq!(class(b"0025ERR upload-pack: not our ref abcd"), Some(Class::Ref));
        assert_eq!(class(b"0012ERR out of order"), Some(Class::Network));
        assert_eq!(class(b"000cERR cut sh"), Some(Class::Network));
        for answer in [b"".as_slice(), b"00", b"0000", b"0008NAK\n", b"zzzzERR no", b"0003ERR no"] {
            assert_eq!(class(answer), None, "{answer:?}");
        }
    }
}
