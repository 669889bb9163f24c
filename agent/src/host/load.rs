//! How busy the machine is.

/// The load average of the last minute for each CPU; `None` where the system does not tell.
#[must_use]
pub fn per_cpu() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    parse(&text).map(|load| load / cpus as f64)
}

fn parse(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok().filter(|load: &f64| load.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_counts() {
        assert_eq!(parse("0.75 1.50 2.00 3/345 6789\n"), Some(0.75));
        assert_eq!(parse(""), None);
        assert_eq!(parse("nan 0 0"), None);
    }
}
