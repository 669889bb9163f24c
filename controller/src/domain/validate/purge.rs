//! URLs, prefixes and tags: of purges, warm-ups and explanations.

use hostler_protocol::job::{
    LISTS_BYTES_MAX, PURGE_PREFIXES_MAX, PURGE_TAGS_MAX, PURGE_URLS_MAX, TAG_BYTES_MAX,
    WARM_URLS_MAX,
};

use super::Problems;

/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 4096;

/// Checks that each URL is an absolute one of the domain.
pub fn urls(urls: &[String], domain: &str, problems: &mut Problems) {
    if urls.is_empty() {
        problems.add("/urls", "name at least one URL, or leave `urls` out to purge everything");
    }
    each("/urls", urls, PURGE_URLS_MAX, "URLs in one purge", problems, |one| url(one, domain));
}

/// The same of a warm-up, which is about nothing else.
pub fn warm_urls(urls: &[String], domain: &str, problems: &mut Problems) {
    if urls.is_empty() {
        problems.add("/urls", "name at least one URL");
    }
    each("/urls", urls, WARM_URLS_MAX, "URLs in one warm-up", problems, |one| url(one, domain));
    together([urls], problems);
}

/// Checks that each prefix is the beginning of absolute URLs of the domain.
pub fn prefixes(prefixes: &[String], domain: &str, problems: &mut Problems) {
    if prefixes.is_empty() {
        problems.add("/prefixes", "name at least one prefix, or leave `prefixes` out");
    }
    let (limit, what) = (PURGE_PREFIXES_MAX, "prefixes in one purge");
    each("/prefixes", prefixes, limit, what, problems, |one| url(one, domain));
}

/// Checks that each tag can stand in a `Surrogate-Key` header.
pub fn tags(tags: &[String], problems: &mut Problems) {
    if tags.is_empty() {
        problems.add("/tags", "name at least one tag, or leave `tags` out");
    }
    each("/tags", tags, PURGE_TAGS_MAX, "tags in one purge", problems, tag);
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

fn each(
    place: &str,
    list: &[String],
    limit: usize,
    what: &str,
    problems: &mut Problems,
    check: impl Fn(&str) -> Result<(), String>,
) {
    if list.len() > limit {
        problems.add(place, format!("at most {limit} {what}"));
        return;
    }
    for (at, one) in list.iter().enumerate() {
        problems.check(&format!("{place}/{at}"), check(one));
    }
}

/// Checks that a URL is an absolute one of the domain.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn url(url: &str, domain: &str) -> Result<(), String> {
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
    fn each_wrong_one_is_named() {
        let pointers = |check: &dyn Fn(&mut Problems)| {
            let mut problems = Problems::default();
            check(&mut problems);
            problems.found().iter().map(|(at, _)| at.clone()).collect::<Vec<_>>()
        };
        let asked = ["http://a.example/", "x", "http://a.example.evil/"].map(str::to_owned);
        assert_eq!(pointers(&|p| urls(&asked, "a.example", p)), ["/urls/1", "/urls/2"]);
        let found = pointers(&|p| prefixes(&asked, "a.example", p));
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
