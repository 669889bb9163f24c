//! From a URL to the cache keys it may be stored under, and back.
//!
//! The key format may use `$scheme`, `$request_method`, `$host` and `$request_uri`; anything
//! else could not be computed from a URL. A URL stands for the page, so its keys are those of
//! both schemes (a proxy in front may end TLS), of GET and HEAD, of both spellings of percent
//! escapes, and with and without the arguments that only say where a visitor came from.

use hostler_protocol::job::{Code, PageUrl};

use super::page_url::spellings;
use super::run::Failure;

const VARIABLES: [&str; 4] = ["$request_method", "$request_uri", "$scheme", "$host"];

/// As `$scheme` says; the longer one first, since it begins like the other.
const SCHEMES: [&str; 2] = ["https", "http"];
/// What we have nginx store answers to.
const METHODS: [&str; 2] = ["GET", "HEAD"];

/// A key format taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFormat(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Scheme,
    Method,
    Host,
    Uri,
}

impl KeyFormat {
    /// Reads a key format.
    ///
    /// # Errors
    /// `KEY_FORMAT_UNSUPPORTED` for another variable, or a character that could end the
    /// directive the format is written into.
    pub fn parse(format: &str) -> Result<Self, Failure> {
        let refuse = |what: &str| {
            let message = format!("the key format `{format}` {what}");
            Err(Failure::new(Code::KeyFormatUnsupported, message))
        };
        let mut parts = Vec::new();
        let mut rest = format;
        while !rest.is_empty() {
            if let Some(name) = VARIABLES.iter().find(|name| variable_at(rest, name)) {
                parts.push(match *name {
                    "$scheme" => Part::Scheme,
                    "$request_method" => Part::Method,
                    "$host" => Part::Host,
                    _ => Part::Uri,
                });
                rest = &rest[name.len()..];
                continue;
            }
            let end =
                rest.char_indices().skip(1).find(|(_, c)| *c == '$').map_or(rest.len(), |p| p.0);
            let literal = &rest[..end];
            if literal.starts_with('$') {
                return refuse("uses a variable that cannot be computed from a URL");
            }
            if !literal.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'\\;{}".contains(&byte))
            {
                return refuse("contains a character that cannot stand in it");
            }
            parts.push(Part::Literal(literal.to_owned()));
            rest = &rest[end..];
        }
        let named = parts.contains(&Part::Uri) && parts.contains(&Part::Host);
        if !named {
            return refuse("does not tell pages apart: it needs $host and $request_uri");
        }
        Ok(Self(parts))
    }

    /// The key of one request.
    #[must_use]
    pub fn expand(&self, scheme: &str, method: &str, host: &str, uri: &str) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.as_str(),
                Part::Scheme => scheme,
                Part::Method => method,
                Part::Host => host,
                Part::Uri => uri,
            })
            .collect()
    }

    /// The format as it is written into a configuration: with another variable for the URI, and so
    /// that no name runs into what follows it.
    #[must_use]
    pub fn render(&self, uri_variable: &str) -> String {
        self.expand("${scheme}", "${request_method}", "${host}", &format!("${{{uri_variable}}}"))
    }

    /// Every key the page of a URL may be stored under, each once.
    #[must_use]
    pub fn keys(&self, url: &PageUrl) -> Vec<Vec<u8>> {
        self.keys_in(url, &SCHEMES)
    }

    /// Those of requests in these schemes.
    #[must_use]
    pub fn keys_in(&self, url: &PageUrl, schemes: &[&str]) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for uri in spellings(url) {
            for scheme in schemes {
                for method in METHODS {
                    let key = self.expand(scheme, method, &url.host, &uri).into_bytes();
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
            }
        }
        keys
    }

    /// What a key of that domain was made of; `None` for another domain's, or one that was not
    /// made by this format.
    #[must_use]
    pub fn read<'k>(&self, key: &'k [u8], domain: &str) -> Option<Read<'k>> {
        let key = std::str::from_utf8(key).ok()?;
        take(&self.0, key, domain, Partial::default()).and_then(|found| {
            Some(Read { scheme: found.scheme, method: found.method, uri: found.uri? })
        })
    }
}

/// What a key was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read<'k> {
    /// `None` where the format does not say.
    pub scheme: Option<&'k str>,
    /// `None` where the format does not say.
    pub method: Option<&'k str>,
    pub uri: &'k str,
}

#[derive(Debug, Clone, Copy, Default)]
struct Partial<'k> {
    scheme: Option<&'k str>,
    method: Option<&'k str>,
    uri: Option<&'k str>,
}

/// Matches the rest of a key against the rest of a format.
fn take<'k>(
    parts: &[Part],
    rest: &'k str,
    domain: &str,
    found: Partial<'k>,
) -> Option<Partial<'k>> {
    let Some((part, parts)) = parts.split_first() else {
        return rest.is_empty().then_some(found);
    };
    let one_of = |words: &[&str], before: Option<&str>, keep: fn(&mut Partial<'k>, &'k str)| {
        words.iter().find_map(|word| {
            let (value, rest) = rest.split_at_checked(word.len())?;
            let same = value == *word && before.is_none_or(|before| before == value);
            let mut found = found;
            keep(&mut found, value);
            if same { take(parts, rest, domain, found) } else { None }
        })
    };
    match part {
        Part::Literal(text) => take(parts, rest.strip_prefix(text.as_str())?, domain, found),
        Part::Host => take(parts, rest.strip_prefix(domain)?, domain, found),
        Part::Scheme => one_of(&SCHEMES, found.scheme, |found, value| found.scheme = Some(value)),
        Part::Method => one_of(&METHODS, found.method, |found, value| found.method = Some(value)),
        Part::Uri if !rest.starts_with('/') => None,
        Part::Uri => {
            let ends = match parts.is_empty() {
                true => rest.len()..rest.len() + 1,
                false => 1..rest.len() + 1,
            };
            ends.rev().find_map(|end| {
                let (value, rest) = rest.split_at_checked(end)?;
                let same = found.uri.is_none_or(|before| before == value);
                let found = Partial { uri: Some(value), ..found };
                if same { take(parts, rest, domain, found) } else { None }
            })
        }
    }
}

fn variable_at(text: &str, name: &str) -> bool {
    text.strip_prefix(name)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use hostler_protocol::job::KEY_FORMAT_DEFAULT;

    use super::*;

    #[test]
    fn the_default_format_expands_as_nginx_does() {
        let format = KeyFormat::parse(KEY_FORMAT_DEFAULT).unwrap();
        assert_eq!(format.expand("https", "GET", "a.test", "/x?y=1"), "httpsGETa.test/x?y=1");
        let format = KeyFormat::parse("v1:$host|$request_uri").unwrap();
        assert_eq!(format.expand("https", "GET", "a.test", "/"), "v1:a.test|/");
    }

    #[test]
    fn other_variables_and_directive_ends_are_refused() {
        for bad in [
            "$host$uri",
            "$host$request_uri$cookie_x",
            "$hostname$request_uri",
            "$host$request_uri;",
            "$host$request_uri\"",
            "$host$request_uri\n",
            "$scheme",
            "",
        ] {
            let failure = KeyFormat::parse(bad).unwrap_err();
            assert_eq!(failure.code(), "KEY_FORMAT_UNSUPPORTED", "{bad:?}");
        }
    }

    #[test]
    fn a_page_has_a_key_per_scheme_method_and_spelling() {
        let format = KeyFormat::parse(KEY_FORMAT_DEFAULT).unwrap();
        let plain = PageUrl::parse("http://a.test/x").unwrap();
        assert_eq!(format.keys(&plain).len(), 4);
        let escaped = PageUrl::parse("http://a.test/%c3%BC").unwrap();
        let keys = format.keys(&escaped);
        assert_eq!(keys.len(), 12);
        assert!(keys.contains(&b"httpsHEADa.test/%c3%bc".to_vec()));
        assert!(keys.contains(&b"httpGETa.test/%C3%BC".to_vec()));
    }

    #[test]
    fn a_key_is_read_back_as_what_it_was_made_of() {
        for text in [KEY_FORMAT_DEFAULT, "$host$request_uri", "v1:$host|$request_uri|$scheme"] {
            let format = KeyFormat::parse(text).unwrap();
            for (scheme, method) in [("http", "GET"), ("https", "HEAD")] {
                let key = format.expand(scheme, method, "a.test", "/x?y=http|z");
                let read = format.read(key.as_bytes(), "a.test").unwrap();
                assert_eq!(read.uri, "/x?y=http|z", "{text}");
                assert!(read.scheme.is_none_or(|found| found == scheme), "{text}: {read:?}");
                assert!(read.method.is_none_or(|found| found == method), "{text}: {read:?}");
            }
        }
    }

    #[test]
    fn another_domain_s_key_is_not_read() {
        let format = KeyFormat::parse(KEY_FORMAT_DEFAULT).unwrap();
        let read = |key: &'static str| format.read(key.as_bytes(), "a.test");
        assert!(read("httpGETa.test/").is_some());
        for other in [
            "httpGETaa.test/",
            "httpGETa.test.evil/",
            "httpGETb.test/a.test/",
            "httpPOSTa.test/",
            "hostler-probe:1:httpGETa.test/",
            "",
        ] {
            assert!(read(other).is_none(), "{other}");
        }
    }

    #[test]
    fn no_name_in_a_configuration_runs_into_what_follows_it() {
        let format = KeyFormat::parse("v1:$host_x$request_uri");
        assert!(format.is_err());
        let format = KeyFormat::parse("v1:$host-x$request_uri").unwrap();
        assert_eq!(format.render("page"), "v1:${host}-x${page}");
    }
}
