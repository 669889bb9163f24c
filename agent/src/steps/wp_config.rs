//! The marked block in a `wp-config.php`, and what drop-ins say of themselves. Pure.

use hostler_protocol::job::Code;

use super::php;
use super::run::Failure;

const BEGIN: &str = "/* BEGIN Hostler: written by Hostler, changes between these lines are lost */";
const END: &str = "/* END Hostler */";
const SWITCH: &str = "WP_REDIS_DISABLED";
/// Bytes of a drop-in that are searched for its header, as WordPress itself does.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// The file with the switch put, in our block right after the opening tag or after what PHP demands
/// to come first, so that it stands before WordPress is loaded whatever else the file does.
///
/// # Errors
/// `WP_CONFIG_FOREIGN` when the file sets the switch itself or begins in a way that is not
/// understood, `FILE_FAILED` when it does not begin with a PHP tag or our block has been damaged.
pub fn with_switch(text: &str, disabled: bool) -> Result<String, Failure> {
    let bare = without_block(text)?;
    if php::defines(&bare, SWITCH) {
        let message = format!("wp-config.php sets {SWITCH} outside the lines Hostler wrote");
        return Err(Failure::new(Code::WpConfigForeign, message));
    }
    let (head, rest) = bare.split_at(place(&bare)?);
    Ok(format!("{head}{BEGIN}\ndefine( '{SWITCH}', {disabled} );\n{END}\n{rest}"))
}

/// Where our block goes.
fn place(text: &str) -> Result<usize, Failure> {
    let tagless = || Failure::new(Code::FileFailed, "wp-config.php does not begin with a PHP tag");
    let tag = "<?php";
    let begins = text.trim_start_matches('\u{feff}').get(..tag.len()).ok_or_else(tagless)?;
    if !begins.eq_ignore_ascii_case(tag) {
        return Err(tagless());
    }
    let first = php::preamble(text).map_err(|reason| {
        let message = format!("wp-config.php is not understood: {reason}");
        Failure::new(Code::WpConfigForeign, message)
            .with_hint("Let `declare` and `namespace` at the top of the file end in `;`.")
    })?;
    if let Some(end) = first {
        return Ok(after_line(text, end));
    }
    opening_tag(text).ok_or_else(|| {
        let message = "wp-config.php does not begin with a PHP tag on a line of its own";
        Failure::new(Code::FileFailed, message)
    })
}

/// Behind the line a statement ends on, unless more code stands there.
fn after_line(text: &str, end: usize) -> usize {
    let Some(line) = text[end..].split_inclusive('\n').next() else { return end };
    let remark = line.trim();
    let quiet = remark.is_empty() || remark.starts_with("//") && !remark.contains("?>");
    if quiet && line.ends_with('\n') { end + line.len() } else { end }
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
    fn the_block_stands_behind_what_php_demands_first() {
        let strict = "declare(strict_types=1);";
        for (head, rest) in [
            (format!("<?php\n{strict}\n"), "define( 'DB_NAME', 'x' );\n"),
            (
                format!("<?php\n/**\n * {strict}\n */\n{strict} // strict\nnamespace A;\n"),
                "use B;\n",
            ),
            (format!("<?php {strict}"), " define( 'DB_NAME', 'x' );\n"),
            (format!("\u{feff}<?php\r\n{strict}\r\n"), "require 'x';\r\n"),
            (format!("<?php\n{strict}"), ""),
        ] {
            let text = format!("{head}{rest}");
            let off = with_switch(&text, true).unwrap();
            assert!(off.starts_with(&format!("{head}{BEGIN}\n")), "{off}");
            assert_eq!(without_block(&off).unwrap(), text);
            assert_eq!(with_switch(&off, true).unwrap(), off, "putting it twice changes the file");
        }
        // Where an earlier version put it.
        let early = format!("<?php\n{BEGIN}\ndefine( '{SWITCH}', true );\n{END}\n{strict}\n");
        let now = with_switch(&early, true).unwrap();
        assert!(now.starts_with(&format!("<?php\n{strict}\n{BEGIN}\n")), "{now}");
        let braced = with_switch("<?php\nnamespace A {\n}\n", true).unwrap_err();
        assert_eq!(braced.code(), "WP_CONFIG_FOREIGN");
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
