//! From a URL to the cache keys it may be stored under.
//!
//! The key format may use `$scheme`, `$request_method`, `$host` and `$request_uri`; anything
//! else could not be computed from a URL. A URL stands for the page, so its keys are those of
//! both schemes (a proxy in front may end TLS), of GET and HEAD, and of both spellings of percent
//! escapes.

use hostler_protocol::job::Code;

use super::run::Failure;

/// Longest URL that is taken, in bytes.
const URL_BYTES_MAX: usize = 8 * 1024;
const VARIABLES: [&str; 4] = ["$request_method", "$request_uri", "$scheme", "$host"];

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

    /// Every key the page of a URL may be stored under, each once.
    #[must_use]
    pub fn keys(&self, url: &PageUrl) -> Vec<Vec<u8>> {
        self.keys_in(url, &["http", "https"])
    }

    /// Those of requests in these schemes.
    #[must_use]
    pub fn keys_in(&self, url: &PageUrl, schemes: &[&str]) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for uri in [url.uri.clone(), escapes(&url.uri, true), escapes(&url.uri, false)] {
            for scheme in schemes {
                for method in ["GET", "HEAD"] {
                    let key = self.expand(scheme, method, &url.host, &uri).into_bytes();
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
            }
        }
        keys
    }
}

fn variable_at(text: &str, name: &str) -> bool {
    text.strip_prefix(name)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

/// An absolute URL as far as a cache cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageUrl {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Lower case, without port: as nginx's `$host`.
    pub host: String,
    /// Path and query as a browser sends them: as nginx's `$request_uri`.
    pub uri: String,
}

impl PageUrl {
    /// Reads an absolute `http` or `https` URL; `None` when it is none.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        if url.len() > URL_BYTES_MAX {
            return None;
        }
        let (scheme, rest) = url.split_once("://")?;
        let scheme =
            ["http", "https"].into_iter().find(|name| scheme.eq_ignore_ascii_case(name))?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, uri) = rest.split_at(end);
        if authority.is_empty() || authority.contains('@') {
            return None;
        }
        let host = authority.split_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let slash = if uri.starts_with('/') { "" } else { "/" };
        let uri = format!("{slash}{}", as_sent(uri));
        (!host.is_empty()).then_some(Self { scheme, host, uri })
    }
}

/// Escapes what no client sends bare.
fn as_sent(uri: &str) -> String {
    let mut sent = String::with_capacity(uri.len());
    for byte in uri.bytes() {
        if byte.is_ascii_graphic() {
            sent.push(char::from(byte));
        } else {
            sent.push_str(&format!("%{byte:02X}"));
        }
    }
    sent
}

/// The same with the digits of every percent escape in upper or lower case.
fn escapes(uri: &str, upper: bool) -> String {
    let mut out = uri.as_bytes().to_vec();
    let percents: Vec<_> = uri.match_indices('%').map(|(place, _)| place).collect();
    for place in percents {
        if let Some(digits) = out.get_mut(place + 1..place + 3)
            && digits.iter().all(u8::is_ascii_hexdigit)
        {
            if upper { digits.make_ascii_uppercase() } else { digits.make_ascii_lowercase() }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| uri.to_owned())
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
    fn a_url_becomes_what_nginx_sees() {
        let cases = [
            ("http://A.test", "http", "a.test", "/"),
            ("HTTPS://a.test:8443/x?y#z", "https", "a.test", "/x?y"),
            ("http://a.test?q=1", "http", "a.test", "/?q=1"),
            ("http://a.test/ü b", "http", "a.test", "/%C3%BC%20b"),
        ];
        for (url, scheme, host, uri) in cases {
            let page = PageUrl::parse(url).unwrap();
            let read = (page.scheme, page.host.as_str(), page.uri.as_str());
            assert_eq!(read, (scheme, host, uri), "{url}");
        }
        for bad in ["a.test/", "ftp://a.test/", "http://", "http://u@a.test/"] {
            assert!(PageUrl::parse(bad).is_none(), "{bad} was taken for a page");
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
}
