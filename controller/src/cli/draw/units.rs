//! Times, sizes and counts.

use hostler_controller::views::Timestamp;
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
pub(super) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
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
        assert_eq!(between(Some(Timestamp(5)), None), "-");
    }
}
