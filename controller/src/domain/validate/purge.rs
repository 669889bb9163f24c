//! URLs, prefixes and tags: of purges, warm-ups and explanations.

use hostler_protocol::job::{
    LISTS_BYTES_MAX, PURGE_PREFIXES_MAX, PURGE_TAGS_MAX, PURGE_URLS_MAX, PageUrl, TAG_BYTES_MAX,
    WARM_URLS_MAX,
};

use super::Problems;

/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 4096;

/// Reads URLs of the domain; each in its one plain form.
pub fn urls(urls: &[String], domain: &str, problems: &mut Problems) -> Vec<String> {
    if urls.is_empty() {
        problems.add("/urls", "name at least one URL, or leave `urls` out to purge everything");
    }
    plain("/urls", urls, PURGE_URLS_MAX, "URLs in one purge", domain, problems)
}

/// The same of a warm-up, which is about nothing else.
pub fn warm_urls(urls: &[String], domain: &str, problems: &mut Problems) -> Vec<String> {
    if urls.is_empty() {
        problems.add("/urls", "name at least one URL");
    }
    let urls = plain("/urls", urls, WARM_URLS_MAX, "URLs in one warm-up", domain, problems);
    together([urls.as_slice()], problems);
    urls
}

/// Reads what absolute URLs of the domain begin with.
pub fn prefixes(prefixes: &[String], domain: &str, problems: &mut Problems) -> Vec<String> {
    if prefixes.is_empty() {
        problems.add("/prefixes", "name at least one prefix, or leave `prefixes` out");
    }
    let what = "prefixes in one purge";
    plain("/prefixes", prefixes, PURGE_PREFIXES_MAX, what, domain, problems)
}

/// Checks that each tag can stand in a `Surrogate-Key` header.
pub fn tags(tags: &[String], problems: &mut Problems) {
    if tags.is_empty() {
        problems.add("/tags", "name at least one tag, or leave `tags` out");
    }
    if fits("/tags", tags, PURGE_TAGS_MAX, "tags in one purge", problems) {
        for (at, one) in tags.iter().enumerate() {
            problems.check(&format!("/tags/{at}"), tag(one));
        }
    }
}

/// Checks that the lists of one request fit the job they become.
pub fn together<'l>(lists: impl IntoIterator<Item = &'l [String]>, problems: &mut Problems) {
    let bytes: usize = lists.into_iter().flatten().map(|text| json_bytes(text)).sum();
    if bytes > LISTS_BYTES_MAX {
        let why = "of URLs, prefixes and tags in one request: split it";
        problems.add("", format!("{bytes} bytes {why}; the limit is {LISTS_BYTES_MAX}"));
    }
}

/// What a text takes in a list of a job's document, in bytes.
#[must_use]
pub fn json_bytes(text: &str) -> usize {
    let escaped = text.bytes().filter(|byte| b"\"\\".contains(byte)).count();
    text.len() + escaped + "\"\",".len()
}

fn fits(place: &str, list: &[String], limit: usize, what: &str, problems: &mut Problems) -> bool {
    if list.len() > limit {
        problems.add(place, format!("at most {limit} {what}"));
    }
    list.len() <= limit
}

fn plain(
    place: &str,
    list: &[String],
    limit: usize,
    what: &str,
    domain: &str,
    problems: &mut Problems,
) -> Vec<String> {
    if !fits(place, list, limit, what, problems) {
        return Vec::new();
    }
    let mut read = Vec::with_capacity(list.len());
    for (at, one) in list.iter().enumerate() {
        match url(one, domain) {
            Ok(plain) => read.push(plain),
            Err(why) => problems.add(format!("{place}/{at}"), why),
        }
    }
    read
}

/// Reads an absolute URL of the domain, in any form that names the same page to nginx; answers its
/// one plain form.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn url(url: &str, domain: &str) -> Result<String, String> {
    if url.len() > URL_BYTES_MAX {
        return Err(format!("a URL has at most {URL_BYTES_MAX} bytes"));
    }
    if url.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err("a URL has only printable ASCII characters (percent-encode others)".to_owned());
    }
    let Some(page) = PageUrl::parse(url) else {
        return Err("a URL begins with `http://` or `https://` and a host".to_owned());
    };
    if page.host != domain {
        return Err(format!("the URL's host is not the environment's domain ({domain})"));
    }
    if page.port.is_some() {
        return Err("the URL's port is not its scheme's own: the cache knows no others".to_owned());
    }
    Ok(page.plain())
}

fn tag(tag: &str) -> Result<(), String> {
    if tag.is_empty() || tag.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err("a tag has visible ASCII characters and no spaces".to_owned());
    }
    if tag.len() > TAG_BYTES_MAX {
        return Err(format!("a tag has at most {TAG_BYTES_MAX} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_the_domain_pass() {
        let plain = |asked: &str| url(asked, "shop.example");
        for (asked, read) in [
            ("http://shop.example", "http://shop.example/"),
            ("https://shop.example/", "https://shop.example/"),
            ("HTTP://SHOP.example/a?b=%20", "http://shop.example/a?b=%20"),
            ("http://shop.example:80/A", "http://shop.example/A"),
            ("https://shop.example.:443", "https://shop.example/"),
            ("http://shop.example:/", "http://shop.example/"),
            ("http://shop.example/a#b", "http://shop.example/a"),
            ("http://shop.example#/a", "http://shop.example/"),
            ("http://shop.example?a", "http://shop.example/?a"),
        ] {
            assert_eq!(plain(asked).as_deref(), Ok(read), "{asked}");
            assert_eq!(plain(read).as_deref(), Ok(read), "it is plain already");
        }
        for bad in [
            "",
            "/a",
            "ftp://shop.example/",
            "http:/shop.example/",
            "http://other.example/",
            "http://other.example/#http://shop.example/",
            "http://other.example?http://shop.example/",
            "http://shop.example:81/",
            "http://shop.example:443/",
            "https://shop.example:80/",
            "http://shop.example:80:80/",
            "http://shop.example:65616/",
            "http://u@shop.example/",
            "http://shop.example@other.example/",
            "http://shop.example:80@other.example/",
            "http://shop.example.evil/",
            "http://shop.example../",
            "http://.shop.example/",
            "http://shop.example\\.evil/",
            "http://shop.example/a b",
            "http://shop.example/\r\nX: y",
            "http://shop.example/ä",
            "http://./",
        ] {
            assert!(plain(bad).is_err(), "{bad:?}");
        }
        let long = format!("http://shop.example/{}", "a".repeat(URL_BYTES_MAX));
        assert!(url(&long, "shop.example").is_err());
    }

    #[test]
    fn each_wrong_one_is_named() {
        let pointers = |check: &dyn Fn(&mut Problems)| {
            let mut problems = Problems::default();
            check(&mut problems);
            problems.found().iter().map(|(at, _)| at.clone()).collect::<Vec<_>>()
        };
        let asked = ["http://a.example/", "x", "http://a.example.evil/"].map(str::to_owned);
        let found = pointers(&|p| drop(urls(&asked, "a.example", p)));
        assert_eq!(found, ["/urls/1", "/urls/2"]);
        let found = pointers(&|p| drop(prefixes(&asked, "a.example", p)));
        assert_eq!(found, ["/prefixes/1", "/prefixes/2"]);
        let long = "x".repeat(TAG_BYTES_MAX);
        let asked = [long.clone(), format!("{long}x"), "a b".to_owned(), String::new()];
        assert_eq!(pointers(&|p| tags(&asked, p)), ["/tags/1", "/tags/2", "/tags/3"]);
    }

    #[test]
    fn lists_are_bounded_by_their_size_in_a_document() {
        let texts = ["plain".to_owned(), "\"\\".to_owned()];
        let document = serde_json::to_string(&texts).unwrap();
        let counted: usize = texts.iter().map(|text| json_bytes(text)).sum();
        assert_eq!(counted + 1, document.len());
        let mut problems = Problems::default();
        let fits = vec!["x".repeat(LISTS_BYTES_MAX - 3)];
        together([fits.as_slice()], &mut problems);
        assert_eq!(problems.found(), []);
        together([fits.as_slice(), &["y".to_owned()]], &mut problems);
        assert_eq!(problems.found().len(), 1);
    }
}
