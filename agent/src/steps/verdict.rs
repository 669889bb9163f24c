//! Whether nginx stores an answer, as far as what it passes on tells, and why not.
//!
//! nginx itself has the last word: it does not pass on `X-Accel-Expires`, and a vhost may tell it
//! to ignore headers. So this explains and predicts; what was really stored is looked up.

use hostler_protocol::job::ExplainReason;

use super::render::STORED_STATUSES;
use crate::host::probe::Answer;

/// Longest `Vary` nginx stores.
const VARY_BYTES_MAX: usize = 128;

/// A reason with that code.
#[must_use]
pub fn reason(code: &str, message: impl Into<String>) -> ExplainReason {
    ExplainReason { code: code.to_owned(), message: message.into() }
}

/// Whether an answer says that the site is in trouble rather than what the page is now.
#[must_use]
pub fn is_trouble(status: u16) -> bool {
    status >= 500 || matches!(status, 408 | 429)
}

/// Whether an answer says that there is no such page any more.
#[must_use]
pub fn is_gone(status: u16) -> bool {
    !is_trouble(status) && !STORED_STATUSES.contains(&status)
}

/// What in an answer forbids storing it; empty when nothing does.
#[must_use]
pub fn forbids(answer: &Answer) -> Vec<ExplainReason> {
    let mut reasons = Vec::new();
    let lifetime = Lifetime::of(answer);
    let dated = answer.values("expires").next().is_some();
    if !STORED_STATUSES.contains(&answer.status) && lifetime != Lifetime::Given && !dated {
        let message = format!("PHP answers {}; only 200, 301 and 302 are stored", answer.status);
        reasons.push(reason("status", message));
    }
    if let Some(cookie) = answer.values("set-cookie").next() {
        let name = cookie.split('=').next().unwrap_or_default();
        reasons.push(reason("set_cookie", format!("the answer sets the cookie `{name}`")));
    }
    if let Lifetime::Forbidden(value) = lifetime {
        reasons.push(reason("cache_control", format!("the answer says `Cache-Control: {value}`")));
    }
    // Of several only the last one counts.
    if let Some(vary) = answer.values("vary").last() {
        if vary == "*" {
            reasons.push(reason("vary_any", "the answer says `Vary: *`"));
        } else if vary.len() > VARY_BYTES_MAX {
            let message = format!("its `Vary` is longer than {VARY_BYTES_MAX} bytes");
            reasons.push(reason("vary_long", message));
        }
    }
    reasons
}

/// The reason of an answer that was not stored although nothing in it forbids it.
#[must_use]
pub fn hidden(answer: &Answer) -> ExplainReason {
    match answer.values("expires").next() {
        Some(expires) => reason("expires", format!("the answer says `Expires: {expires}`")),
        None => reason(
            "x_accel_expires",
            "nginx did not store the answer, and no header it passes on says why: PHP may send `X-Accel-Expires: 0`",
        ),
    }
}

/// What `Cache-Control` says of how long an answer lives.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lifetime {
    Unsaid,
    Given,
    Forbidden(String),
}

impl Lifetime {
    fn of(answer: &Answer) -> Self {
        let mut lifetime = Self::Unsaid;
        for value in answer.values("cache-control") {
            let lower = value.to_ascii_lowercase();
            if ["no-cache", "no-store", "private"].iter().any(|word| lower.contains(word)) {
                return Self::Forbidden(value.to_owned());
            }
            let seconds = ["s-maxage=", "max-age="].iter().find_map(|name| {
                let (_, rest) = lower.split_once(name)?;
                Some(rest.split([',', ';', ' ']).next().unwrap_or_default().to_owned())
            });
            match seconds.map(|text| text.parse::<u64>()) {
                Some(Ok(1..)) => lifetime = Self::Given,
                Some(Ok(0) | Err(_)) => return Self::Forbidden(value.to_owned()),
                None => {}
            }
        }
        lifetime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)]) -> Answer {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let headers = headers.iter().map(own).collect();
        Answer { status, cache: None, headers, body: Vec::new() }
    }

    fn codes(status: u16, headers: &[(&str, &str)]) -> Vec<String> {
        forbids(&answer(status, headers)).into_iter().map(|reason| reason.code).collect()
    }

    #[test]
    fn what_forbids_storing_is_named() {
        assert_eq!(codes(200, &[]), Vec::<String>::new());
        assert_eq!(codes(200, &[("cache-control", "public, max-age=60")]), Vec::<String>::new());
        assert_eq!(codes(404, &[("cache-control", "max-age=60")]), Vec::<String>::new());
        assert_eq!(codes(404, &[("cache-control", "no-cache")]), ["status", "cache_control"]);
        assert_eq!(codes(200, &[("cache-control", "s-maxage=0")]), ["cache_control"]);
        assert_eq!(codes(200, &[("set-cookie", "a=b"), ("vary", "*")]), ["set_cookie", "vary_any"]);
        assert_eq!(codes(200, &[("vary", "*"), ("vary", "Cookie")]), Vec::<String>::new());
        assert_eq!(codes(200, &[("vary", &"x".repeat(129))]), ["vary_long"]);
    }

    #[test]
    fn trouble_is_no_sign_that_a_page_went_away() {
        assert!([404, 410, 403, 204].into_iter().all(is_gone));
        assert!(![200, 301, 302, 500, 503, 429].into_iter().any(is_gone));
    }
}
