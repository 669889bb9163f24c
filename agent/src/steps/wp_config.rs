//! The marked block in a `wp-config.php`, and what drop-ins say of themselves. Pure.

use super::run::Failure;
use hostler_protocol::job::Code;

const BEGIN: &str = "/* BEGIN Hostler: written by Hostler, changes between these lines are lost */";
const END: &str = "/* END Hostler */";
const SWITCH: &str = "WP_REDIS_DISABLED";
/// Bytes of a drop-in that are searched for its header, as WordPress itself does.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// The file with the switch put, in our block right after the opening tag, so that it stands
/// before WordPress is loaded whatever else the file does.
///
/// # Errors
/// `WP_CONFIG_FOREIGN` when the file sets the switch itself, `FILE_FAILED` when it does not begin
/// with a PHP tag or our block has been damaged.
pub fn with_switch(text: &str, disabled: bool) -> Result<String, Failure> {
    let bare = without_block(text)?;
    if defines(&bare, SWITCH) {
        let message = format!("wp-config.php sets {SWITCH} outside the lines Hostler wrote");
        return Err(Failure::new(Code::WpConfigForeign, message));
    }
    let after = opening_tag(&bare).ok_or_else(|| {
        Failure::new(
            Code::FileFailed,
            "wp-config.php does not begin with a PHP tag on a line of its own",
        )
    })?;
    let (head, rest) = bare.split_at(after);
    Ok(format!("{head}{BEGIN}\ndefine( '{SWITCH}', {disabled} );\n{END}\n{rest}"))
}

/// The file without our block.
///
/// # Errors
/// `FILE_FAILED` when the block has no end.
pub fn without_block(text: &str) -> Result<String, Failure> {
    let Some(start) = text.find(BEGIN) else { return Ok(text.to_owned()) };
    let rest = &text[start..];
    let Some(end) = rest.find(END) else {
        let message = "the block Hostler wrote into wp-config.php has lost its end";
        return Err(Failure::new(Code::FileFailed, message));
    };
    let after = &rest[end + END.len()..];
    Ok(format!("{}{}", &text[..start], after.strip_prefix('\n').unwrap_or(after)))
}

/// Where the line of the opening tag ends.
fn opening_tag(text: &str) -> Option<usize> {
    let line_end = text.find('\n')?;
    let line = text[..line_end].trim_start_matches('\u{feff}').trim_end();
    (line == "<?php").then_some(line_end + 1)
}

/// Whether code (not a comment) defines a constant of that name.
#[must_use]
pub fn defines(text: &str, constant: &str) -> bool {
    let code = without_comments(text);
    if declares(&code, constant) {
        return true;
    }
    // PHP does not tell `define` from `DEFINE`.
    let folded = code.to_ascii_lowercase();
    let mut place = 0;
    while let Some(next) = folded[place..].find("define") {
        place += next + "define".len();
        let rest = &code[place..];
        let argument = rest.trim_start().strip_prefix('(').map(str::trim_start);
        let named = argument.is_some_and(|argument| {
            ['\'', '"'].iter().any(|quote| {
                argument
                    .strip_prefix(*quote)
                    .and_then(|argument| argument.strip_prefix(constant))
                    .is_some_and(|rest| rest.starts_with(*quote))
            })
        });
        if named {
            return true;
        }
    }
    false
}

/// Whether code without comments says `const NAME =`.
fn declares(code: &str, constant: &str) -> bool {
    let mut words = code.split(|c: char| c.is_whitespace() || matches!(c, ';' | '{' | '}'));
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case("const")
            && let Some(name) = words.find(|word| !word.is_empty())
            && name.split('=').next() == Some(constant)
        {
            return true;
        }
    }
    false
}

/// PHP code with its comments left out and its strings kept.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("//") || first == '#' {
            rest.find('\n').unwrap_or(rest.len())
        } else {
            let length = if first == '\'' || first == '"' {
                string_length(rest, first)
            } else {
                first.len_utf8()
            };
            out.push_str(&rest[..length]);
            length
        };
        rest = &rest[skipped..];
    }
    out
}

fn string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (place, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return place + 1;
        }
    }
    text.len()
}

/// The `Plugin Name` a drop-in gives itself.
#[must_use]
pub fn plugin_name(bytes: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(HEADER_BYTES_MAX)]).into_owned();
    head.lines()
        .find_map(|line| line.split_once("Plugin Name:").map(|(_, name)| name.trim().to_owned()))
        .filter(|name| !name.is_empty())
}

/// Whether a drop-in is that of the Redis Object Cache plugin.
#[must_use]
pub fn is_redis_cache(bytes: &[u8]) -> bool {
    plugin_name(bytes).is_some_and(|name| name.starts_with("Redis Object Cache"))
        && !plugin_name(bytes).is_some_and(|name| name.contains("Pro"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "<?php\n// define( 'WP_REDIS_DISABLED', true );\ndefine( 'DB_NAME', 'x' ); # it's\n/* That's all */\nrequire_once 'wp-settings.php';\n";

    #[test]
    fn the_block_comes_and_goes_without_a_trace() {
        let off = with_switch(CONFIG, true).unwrap();
        assert!(off.starts_with("<?php\n/* BEGIN Hostler"), "{off}");
        assert!(off.contains("\ndefine( 'WP_REDIS_DISABLED', true );\n"), "{off}");
        let on = with_switch(&off, false).unwrap();
        assert!(on.contains("\ndefine( 'WP_REDIS_DISABLED', false );\n"), "{on}");
        assert!(!on.contains("\ndefine( 'WP_REDIS_DISABLED', true );\n"), "{on}");
        assert_eq!(with_switch(&on, false).unwrap(), on, "putting it twice changes the file");
        assert_eq!(without_block(&on).unwrap(), CONFIG);
    }

    #[test]
    fn a_define_of_somebody_else_is_left_alone() {
        for line in [
            "define('WP_REDIS_DISABLED', true);",
            "define ( \"WP_REDIS_DISABLED\" , false );",
            "DEFINE('WP_REDIS_DISABLED', true);",
            "const WP_REDIS_DISABLED = true;",
            "const  WP_REDIS_DISABLED=true;",
            "$a = '/*'; define('WP_REDIS_DISABLED', true); $b = '*/';",
        ] {
            let failure = with_switch(&format!("<?php\n{line}\n"), true).unwrap_err();
            assert_eq!(failure.code(), "WP_CONFIG_FOREIGN", "{line}");
        }
        for line in [
            "/* define('WP_REDIS_DISABLED', true); */",
            "define('WP_REDIS_DISABLED_X', 1);",
            "const WP_REDIS_DISABLED_X = 1;",
            "// const WP_REDIS_DISABLED = true;",
        ] {
            assert!(with_switch(&format!("<?php\n{line}\n"), true).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_not_edited() {
        for text in ["", "<html>\n", "<?php define('A', 1);\n", "<?php"] {
            assert_eq!(with_switch(text, true).unwrap_err().code(), "FILE_FAILED", "{text:?}");
        }
        let broken = with_switch(CONFIG, true).unwrap().replace(END, "");
        assert_eq!(without_block(&broken).unwrap_err().code(), "FILE_FAILED");
    }

    #[test]
    fn drop_ins_tell_whose_they_are() {
        assert!(is_redis_cache(b"<?php\n/**\n * Plugin Name: Redis Object Cache Drop-In\n */"));
        assert!(!is_redis_cache(b"<?php\n/*\nPlugin Name: Memcached\n*/"));
        assert!(!is_redis_cache(b"<?php\n"));
    }
}
