//! Query arguments that say where a visitor came from and never change a page.
//!
//! They are left out of the cache keys of the files we render: pages that differ only in them are
//! one entry, though PHP still sees the whole query. nginx has no code of ours to do it with, so it
//! is done by a chain of maps; [`canonical`] and [`maps`] do the same, byte for byte, which tests
//! hold against a real nginx.

use std::borrow::Cow;

/// Arguments whose names begin so.
const PREFIX: &str = "utm_";
/// Arguments of advertisers, mail senders and social networks, by their whole names.
const NAMES: [&str; 22] = [
    "_ga",
    "_gl",
    "_hsenc",
    "_hsmi",
    "dclid",
    "epik",
    "fbclid",
    "gad_source",
    "gbraid",
    "gclid",
    "gclsrc",
    "igshid",
    "li_fat_id",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "msclkid",
    "srsltid",
    "ttclid",
    "twclid",
    "wbraid",
    "yclid",
];
/// Runs of such arguments, besides the last ones of a query, that are left out; a query with more
/// keeps the rest.
const INNER_RUNS_MAX: usize = 3;

/// The variable, after an environment's prefix, that holds what [`canonical`] says.
pub const VARIABLE: &str = "page";

fn is_tracking(argument: &str) -> bool {
    let name = argument.split_once('=').map_or(argument, |(name, _)| name);
    name.starts_with(PREFIX) || NAMES.contains(&name)
}

/// A request URI as it stands in cache keys.
#[must_use]
pub fn canonical(uri: &str) -> Cow<'_, str> {
    let Some((path, query)) = uri.split_once('?') else { return Cow::Borrowed(uri) };
    let mut arguments: Vec<_> = query.split('&').collect();
    let all = arguments.len();
    while arguments.last().is_some_and(|last| is_tracking(last)) {
        arguments.pop();
    }
    if arguments.is_empty() {
        return Cow::Borrowed(path);
    }
    for _ in 0..INNER_RUNS_MAX {
        let Some(first) = arguments.iter().position(|one| is_tracking(one)) else { break };
        let run = arguments[first..].iter().take_while(|one| is_tracking(one)).count();
        arguments.drain(first..first + run);
    }
    if arguments.len() == all {
        return Cow::Borrowed(uri);
    }
    Cow::Owned(format!("{path}?{}", arguments.join("&")))
}

/// The maps that do it, for variables with that prefix.
#[must_use]
pub fn maps(prefix: &str) -> String {
    let one = format!("(?:{PREFIX}[^=&]*|{})(?:=[^&]*)?", NAMES.join("|"));
    let name = |step: usize| match step {
        INNER_RUNS_MAX => format!("${prefix}_{VARIABLE}"),
        step => format!("${prefix}_{VARIABLE}{step}"),
    };
    let mut text = format!(
        r#"map $request_uri {last} {{
    default $request_uri;
    "~^([^?]*)[?]{one}(?:&{one})*$" $1;
    "~^([^?]*[?].*?)&{one}(?:&{one})*$" $1;
}}
"#,
        last = name(0),
    );
    for step in 1..=INNER_RUNS_MAX {
        let (before, after) = (name(step - 1), name(step));
        text.push_str(&format!(
            r#"map {before} {after} {{
    default {before};
    "~^([^?]*[?](?:[^&]*&)*?){one}&(?:{one}&)*(.*)$" $1$2;
}}
"#
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_of_nothing_else_is_the_bare_page() {
        for uri in ["/a?utm_source=x", "/a?fbclid=1&utm_medium", "/a?_ga=1&_gl=2&gclid"] {
            assert_eq!(canonical(uri), "/a", "{uri}");
        }
    }

    #[test]
    fn runs_at_either_end_and_between_are_left_out() {
        let cases = [
            ("/a?b=1&utm_x=1", "/a?b=1"),
            ("/a?utm_x=1&b=1", "/a?b=1"),
            ("/a?b&utm_a&c&fbclid=3&gclid&d&_ga=1", "/a?b&c&d"),
            ("/a?1&utm_a&2&utm_b&3&utm_c&4&utm_d&5", "/a?1&2&3&4&utm_d&5"),
            ("/a?&utm_a=1", "/a?"),
            ("/a?utm_a=1&", "/a?"),
        ];
        for (uri, expected) in cases {
            assert_eq!(canonical(uri), expected, "{uri}");
        }
    }

    #[test]
    fn what_only_looks_like_one_stays() {
        for uri in ["/a", "/a?", "/a?b=utm_a=1", "/a?fbclidx=1", "/a?x?utm_a=1", "/utm_a?b&&"] {
            assert_eq!(canonical(uri), uri);
        }
    }
}
