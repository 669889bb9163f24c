//! URLs of a purge.

use hostler_protocol::job::PURGE_URLS_MAX;

use super::Problems;

/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 4096;

/// Checks that each URL is an absolute one of the domain.
pub fn urls(urls: &[String], domain: &str, problems: &mut Problems) {
    if urls.is_empty() {
        problems.add("/urls", "name at least one URL, or leave `urls` out to purge everything");
    }
    if urls.len() > PURGE_URLS_MAX {
        problems.add("/urls", format!("at most {PURGE_URLS_MAX} URLs in one purge"));
        return;
    }
    for (place, url) in urls.iter().enumerate() {
        problems.check(&format!("/urls/{place}"), self::url(url, domain));
    }
}

fn url(url: &str, domain: &str) -> Result<(), String> {
    if url.len() > URL_BYTES_MAX {
        return Err(format!("a URL has at most {URL_BYTES_MAX} bytes"));
    }
    if url.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err("a URL has only printable ASCII characters (percent-encode others)".to_owned());
    }
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return Err("a URL begins with `http://` or `https://`".to_owned());
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !authority.eq_ignore_ascii_case(domain) {
        return Err(format!("the URL's host is not the environment's domain ({domain})"));
    }
    if path.is_empty() || (path.starts_with('/') && !path.contains('#')) {
        return Ok(());
    }
    Err("after the host a URL has a path, and no fragment".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_the_domain_pass() {
        for good in ["http://shop.example", "https://shop.example/", "http://SHOP.example/a?b=%20"]
        {
            assert_eq!(url(good, "shop.example"), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/a",
            "ftp://shop.example/",
            "http://other.example/",
            "http://shop.example:81/",
            "http://u@shop.example/",
            "http://shop.example.evil/",
            "http://shop.example/a b",
            "http://shop.example/\r\nX: y",
            "http://shop.example/a#b",
            "http://shop.example?a",
            "http://shop.example/ä",
        ] {
            assert!(url(bad, "shop.example").is_err(), "{bad:?}");
        }
        let long = format!("http://shop.example/{}", "a".repeat(URL_BYTES_MAX));
        assert!(url(&long, "shop.example").is_err());
    }

    #[test]
    fn each_wrong_url_is_named() {
        let mut problems = Problems::default();
        let asked = ["http://a.example/", "x", "http://b.example/"].map(str::to_owned);
        urls(&asked, "a.example", &mut problems);
        let pointers: Vec<_> = problems.found().iter().map(|(at, _)| at.as_str()).collect();
        assert_eq!(pointers, ["/urls/1", "/urls/2"]);
    }
}
