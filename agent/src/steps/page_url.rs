//! A URL as far as a cache cares: the page it names, in the spellings clients use.

use super::tracking;

/// Longest URL that is taken, in bytes.
const URL_BYTES_MAX: usize = 8 * 1024;
/// Longest part of a bad URL that is repeated in a message, in characters.
const QUOTED_CHARS_MAX: usize = 120;

/// An absolute URL.
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
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        if authority.contains('@') || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let slash = if uri.starts_with('/') { "" } else { "/" };
        let uri = format!("{slash}{}", as_sent(uri));
        (!host.is_empty()).then_some(Self { scheme, host, uri })
    }

    /// The page in every spelling of its percent escapes, and without what says only where a
    /// visitor came from; each once.
    #[must_use]
    pub fn spellings(&self) -> Vec<String> {
        let mut spellings = Vec::new();
        for uri in [self.uri.clone(), escapes(&self.uri, true), escapes(&self.uri, false)] {
            for uri in [tracking::canonical(&uri).into_owned(), uri] {
                if !spellings.contains(&uri) {
                    spellings.push(uri);
                }
            }
        }
        spellings
    }
}

/// A text from afar, short enough for a message.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Path of a URI, without its query.
#[must_use]
pub fn path(uri: &str) -> &str {
    uri.split_once('?').map_or(uri, |(path, _)| path)
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
    use super::*;

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
        let long = format!("http://a.test/{}", "x".repeat(URL_BYTES_MAX));
        for bad in ["a.test/", "ftp://a.test/", "http://", "http://u@a.test/", "http://a:b/", &long]
        {
            assert!(PageUrl::parse(bad).is_none(), "{bad} was taken for a page");
        }
        assert!(quoted(&long).len() < 200);
    }

    #[test]
    fn a_page_is_spelt_with_and_without_where_a_visitor_came_from() {
        let spelt = |url: &str| PageUrl::parse(url).unwrap().spellings();
        assert_eq!(spelt("http://a.test/x"), ["/x"]);
        assert_eq!(
            spelt("http://a.test/%c3?utm_source=m"),
            ["/%c3", "/%c3?utm_source=m", "/%C3", "/%C3?utm_source=m"]
        );
    }
}
