//! A URL as far as a cache cares: the page it names, in the spellings clients use. Controller and
//! agent both read URLs here, so that what one accepts the other finds.

/// Longest URL that is taken, in bytes.
const URL_BYTES_MAX: usize = 8 * 1024;

/// An absolute URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageUrl {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Lower case, without port and the dot of a rooted name: as nginx's `$host`.
    pub host: String,
    /// The port, if one is named that the scheme does not mean by itself.
    pub port: Option<u16>,
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
        let (scheme, usual) = [("http", 80), ("https", 443)]
            .into_iter()
            .find(|(name, _)| scheme.eq_ignore_ascii_case(name))?;
        // What is behind a `#` is the browser's own.
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, uri) = rest.split_at(end);
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        if authority.contains('@') || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let port = match port {
            "" => None,
            named => Some(named.parse().ok()?).filter(|port| *port != usual),
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let slash = if uri.starts_with('/') { "" } else { "/" };
        let uri = format!("{slash}{}", as_sent(uri));
        (!host.is_empty()).then_some(Self { scheme, host, port, uri })
    }

    /// The URL in its one plain form, without the port.
    #[must_use]
    pub fn plain(&self) -> String {
        let Self { scheme, host, uri, .. } = self;
        format!("{scheme}://{host}{uri}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_what_nginx_sees() {
        let cases = [
            ("http://A.test", "http", "a.test", None, "/"),
            ("HTTPS://a.test:8443/x?y#z", "https", "a.test", Some(8443), "/x?y"),
            ("https://a.test:443/x", "https", "a.test", None, "/x"),
            ("http://a.test:443/x", "http", "a.test", Some(443), "/x"),
            ("http://a.test.:80#/x", "http", "a.test", None, "/"),
            ("http://a.test?q=1", "http", "a.test", None, "/?q=1"),
            ("http://a.test/ü b", "http", "a.test", None, "/%C3%BC%20b"),
        ];
        for (url, scheme, host, port, uri) in cases {
            let page = PageUrl::parse(url).unwrap();
            let read = (page.scheme, page.host.as_str(), page.port, page.uri.as_str());
            assert_eq!(read, (scheme, host, port, uri), "{url}");
            let again = PageUrl::parse(&page.plain()).unwrap();
            assert_eq!(again, PageUrl { port: None, ..page }, "{url}");
        }
        let long = format!("http://a.test/{}", "x".repeat(URL_BYTES_MAX));
        for bad in [
            "a.test/",
            "ftp://a.test/",
            "http://",
            "http://.",
            "http://u@a.test/",
            "http://a:b/",
            "http://a.test:65536/",
            "http://a.test:1:2/",
            &long,
        ] {
            assert!(PageUrl::parse(bad).is_none(), "{bad} was taken for a page");
        }
    }
}
