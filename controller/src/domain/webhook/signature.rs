//! Whether a delivery was sent by who knows the secret.

use ring::hmac;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Headers, values};
use crate::domain::Micros;

/// How far the time a delivery is signed with may be from ours, either way: the five minutes that
/// Standard Webhooks' own libraries take.
pub const SIGNED_WITHIN_SECS: i64 = 300;
/// Most signatures one header of Standard Webhooks is looked at for.
const SIGNATURES_MAX: usize = 16;

/// How a delivery proves where it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `X-Hub-Signature-256: sha256=…`
    /// (<https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries>).
    HubSha256,
    /// `X-Forgejo-Signature`, bare hex.
    Forgejo,
    /// `X-Gitea-Signature`, bare hex.
    Gitea,
    /// `X-Gogs-Signature`, bare hex.
    Gogs,
    /// `webhook-signature: v1,…` over id, time and body, as GitLab signs with a signing token
    /// (<https://github.com/standard-webhooks/standard-webhooks>).
    Standard,
    /// `X-Gitlab-Token`: the secret itself.
    GitlabToken,
    /// `X-Hub-Signature: sha256=…`, as Bitbucket signs.
    Hub,
    /// `X-Signature-256`, hex with or without `sha256=`.
    Signature256,
    /// `X-Signature`, likewise.
    Signature,
}

impl Scheme {
    /// Every scheme. Of those whose header is there the first one decides, alone: forges send
    /// older headers along, and a wrong signature is not made good by another one.
    pub const ALL: [Self; 9] = [
        Self::HubSha256,
        Self::Forgejo,
        Self::Gitea,
        Self::Gogs,
        Self::Standard,
        Self::GitlabToken,
        Self::Hub,
        Self::Signature256,
        Self::Signature,
    ];

    /// The header that holds the proof, in lower case.
    #[must_use]
    pub fn header(self) -> &'static str {
        match self {
            Self::HubSha256 => "x-hub-signature-256",
            Self::Forgejo => "x-forgejo-signature",
            Self::Gitea => "x-gitea-signature",
            Self::Gogs => "x-gogs-signature",
            Self::Standard => "webhook-signature",
            Self::GitlabToken => "x-gitlab-token",
            Self::Hub => "x-hub-signature",
            Self::Signature256 => "x-signature-256",
            Self::Signature => "x-signature",
        }
    }
}

/// Why a delivery is not believed. What is answered to the sender is the same for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    #[error("no webhook secret is set")]
    NoSecret,
    #[error("the delivery has no signature")]
    Missing,
    #[error("a signature's header is there twice")]
    Twice,
    #[error("the signature is not written as it must be")]
    Malformed,
    #[error("the signature is wrong")]
    Wrong,
    #[error("the delivery was signed too long ago, or in the future")]
    Stale,
}

/// Verifies a delivery's raw body against each secret, the newest and the one before it. An empty
/// secret is none.
///
/// # Errors
/// Why it is not believed.
pub fn verify(
    headers: &Headers<'_>,
    body: &[u8],
    secrets: &[&[u8]],
    now: Micros,
) -> Result<Scheme, Unverified> {
    let secrets: Vec<&[u8]> = secrets.iter().copied().filter(|secret| !secret.is_empty()).collect();
    if secrets.is_empty() {
        return Err(Unverified::NoSecret);
    }
    for scheme in Scheme::ALL {
        let mut found = values(headers, scheme.header());
        let Some(value) = found.next() else { continue };
        if found.next().is_some() {
            return Err(Unverified::Twice);
        }
        return check(scheme, value.trim(), headers, body, &secrets, now).map(|()| scheme);
    }
    Err(Unverified::Missing)
}

fn check(
    scheme: Scheme,
    value: &str,
    headers: &Headers<'_>,
    body: &[u8],
    secrets: &[&[u8]],
    now: Micros,
) -> Result<(), Unverified> {
    match scheme {
        Scheme::HubSha256 | Scheme::Hub => {
            let hex = value.strip_prefix("sha256=").ok_or(Unverified::Malformed)?;
            signed(body, &digest(hex)?, secrets)
        }
        Scheme::Forgejo | Scheme::Gitea | Scheme::Gogs => signed(body, &digest(value)?, secrets),
        Scheme::Signature256 | Scheme::Signature => {
            let hex = value.strip_prefix("sha256=").unwrap_or(value);
            signed(body, &digest(hex)?, secrets)
        }
        Scheme::GitlabToken => same_token(value, secrets),
        Scheme::Standard => standard(value, headers, body, secrets, now),
    }
}

/// The 32 bytes of 64 hex digits.
fn digest(hex: &str) -> Result<[u8; 32], Unverified> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(hex, &mut bytes).map_err(|_| Unverified::Malformed)?;
    Ok(bytes)
}

/// Whether one of the secrets signs the message so. Each is tried, so that the time taken does not
/// tell which one fits.
fn signed(message: &[u8], tag: &[u8], secrets: &[&[u8]]) -> Result<(), Unverified> {
    let fits = |secret: &&[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::verify(&key, message, tag).is_ok()
    };
    let fitting = secrets.iter().filter(|secret| fits(secret)).count();
    if fitting > 0 { Ok(()) } else { Err(Unverified::Wrong) }
}

/// Whether a token is one of the secrets. Digests are compared, so that not even the lengths tell.
fn same_token(token: &str, secrets: &[&[u8]]) -> Result<(), Unverified> {
    let token = Sha256::digest(token.as_bytes());
    let same = secrets.iter().fold(subtle::Choice::from(0), |same, secret| {
        same | token.as_slice().ct_eq(Sha256::digest(secret).as_slice())
    });
    if bool::from(same) { Ok(()) } else { Err(Unverified::Wrong) }
}

/// A signature of Standard Webhooks: HMAC-SHA256 over `id.time.body`, in base64 after `v1,`; several
/// stand side by side while keys change. A secret written `whsec_…` is base64 of the key.
fn standard(
    value: &str,
    headers: &Headers<'_>,
    body: &[u8],
    secrets: &[&[u8]],
    now: Micros,
) -> Result<(), Unverified> {
    let only = |name| {
        let mut found = values(headers, name);
        let value = found.next().ok_or(Unverified::Malformed)?;
        if found.next().is_some() { Err(Unverified::Twice) } else { Ok(value) }
    };
    let (id, time) = (only("webhook-id")?, only("webhook-timestamp")?);
    let seconds: i64 = time.parse().map_err(|_| Unverified::Malformed)?;
    let keys: Vec<Vec<u8>> = secrets.iter().filter_map(|secret| standard_key(secret)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut message = format!("{id}.{time}.").into_bytes();
    message.extend_from_slice(body);
    let base64 = data_encoding::BASE64;
    let mut tags = value
        .split_ascii_whitespace()
        .filter_map(|one| base64.decode(one.strip_prefix("v1,")?.as_bytes()).ok())
        .take(SIGNATURES_MAX)
        .peekable();
    if tags.peek().is_none() {
        return Err(Unverified::Malformed);
    }
    if !tags.any(|tag| signed(&message, &tag, &keys).is_ok()) {
        return Err(Unverified::Wrong);
    }
    let apart = (now.0.div_euclid(1_000_000)).abs_diff(seconds);
    if apart > SIGNED_WITHIN_SECS.unsigned_abs() { Err(Unverified::Stale) } else { Ok(()) }
}

/// The key a secret stands for; none if it is written as an encoded one and is not.
fn standard_key(secret: &[u8]) -> Option<Vec<u8>> {
    match secret.strip_prefix(b"whsec_") {
        Some(encoded) => {
            let key = data_encoding::BASE64.decode(encoded).ok()?;
            (!key.is_empty()).then_some(key)
        }
        None => Some(secret.to_vec()),
    }
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
