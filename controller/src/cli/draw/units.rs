//! Times, sizes and counts.

use hostler_controller::views::{Labels, Timestamp};
use serde::Serialize;

/// A time to the second, UTC.
pub(in crate::cli) fn when(time: Timestamp) -> String {
    let text = time.to_string();
    format!("{}Z", text.get(..19).unwrap_or(&text).replace('T', " "))
}

/// A time, or a dash.
pub(super) fn when_if(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), when)
}

/// A length of time given in microseconds.
pub(super) fn took(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..60_000_000 => {
            format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000)
        }
        _ => format!("{} min {} s", micros / 60_000_000, micros % 60_000_000 / 1_000_000),
    }
}

/// An age given in seconds, in its two largest units.
pub(super) fn age(secs: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = secs;
    let parts = UNITS.iter().map(|(unit_secs, name)| {
        let count = rest / unit_secs;
        rest %= unit_secs;
        (count, name)
    });
    let parts: Vec<_> = parts.collect();
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(UNITS.len() - 1);
    let shown = parts[first..].iter().take(2).filter(|(count, _)| *count > 0 || secs == 0);
    shown.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(" ")
}

/// The time between two times, or a dash.
pub(super) fn between(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => took(u64::try_from(to.0 - from.0).unwrap_or(0)),
        (None, _) | (_, None) => "-".to_owned(),
    }
}

/// A size in bytes.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// The API's word for a value of one of its enums.
pub(in crate::cli) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// Labels in one line, or a dash.
pub(super) fn labels(labels: &Labels) -> String {
    if labels.0.is_empty() {
        return "-".to_owned();
    }
    labels.0.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// Yes or no.
pub(super) fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// On or off.
pub(super) fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(1024 * 1024 * 1024), "1.0 GiB");
        assert_eq!(size(u64::MAX), "16777215.9 TiB");
        assert_eq!(took(999), "999 us");
        assert_eq!(took(41_900), "41 ms");
        assert_eq!(took(1_250_000), "1.2 s");
        assert_eq!(took(125_000_000), "2 min 5 s");
        assert_eq!(when(Timestamp(1_700_000_000_123_456)), "2023-11-14 22:13:20Z");
        assert_eq!(age(0), "0 s");
        assert_eq!(age(61), "1 min 1 s");
        assert_eq!(age(7_200), "2 h");
        assert_eq!(age(200_000), "2 d 7 h");
        assert_eq!(between(Some(Timestamp(5)), None), "-");
    }
}
