//! The spellings of a page's URL that a cache may hold it under.

use hostler_protocol::job::PageUrl;

use super::tracking;

/// Longest part of a bad URL that is repeated in a message, in characters.
const QUOTED_CHARS_MAX: usize = 120;

/// The page in every spelling of its percent escapes, and without what says only where a visitor came
/// from; each once.
#[must_use]
pub fn spellings(page: &PageUrl) -> Vec<String> {
    let mut spellings = Vec::new();
    for uri in [page.uri.clone(), escapes(&page.uri, true), escapes(&page.uri, false)] {
        for uri in [tracking::canonical(&uri).into_owned(), uri] {
            if !spellings.contains(&uri) {
                spellings.push(uri);
            }
        }
    }
    spellings
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

/// The URI with the digits of every percent escape in upper or lower case.
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
    fn what_is_quoted_is_short() {
        assert!(quoted(&format!("http://a.test/{}", "x".repeat(8192))).len() < 200);
    }

    #[test]
    fn a_page_is_spelt_with_and_without_where_a_visitor_came_from() {
        let spelt = |url: &str| spellings(&PageUrl::parse(url).unwrap());
        assert_eq!(spelt("http://a.test/x"), ["/x"]);
        assert_eq!(
            spelt("http://a.test/%c3?utm_source=m"),
            ["/%c3", "/%c3?utm_source=m", "/%C3", "/%C3?utm_source=m"]
        );
    }
}
