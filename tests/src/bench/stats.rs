//! Many measurements of one thing.

/// Measurements in seconds, sorted.
#[derive(Debug, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Takes measurements in seconds.
    #[must_use]
    pub fn new(mut secs: Vec<f64>) -> Self {
        secs.sort_by(f64::total_cmp);
        Self(secs)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest measurement that at least this share of all does not exceed (nearest rank);
    /// 0 when there is none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank within a vector that fits memory"
        )]
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }

    /// Half are not larger.
    #[must_use]
    pub fn p50(&self) -> f64 {
        self.quantile(0.50)
    }

    /// 95 of 100 are not larger.
    #[must_use]
    pub fn p95(&self) -> f64 {
        self.quantile(0.95)
    }

    /// 99 of 100 are not larger.
    #[must_use]
    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    /// The largest.
    #[must_use]
    pub fn worst(&self) -> f64 {
        self.0.last().copied().unwrap_or(0.0)
    }
}

/// The median of a few runs.
#[must_use]
pub fn median(runs: Vec<f64>) -> f64 {
    Samples::new(runs).p50()
}

/// Seconds as a person reads them.
#[must_use]
pub fn time(secs: f64) -> String {
    match secs {
        s if s < 0.000_1 => format!("{:.1} µs", s * 1e6),
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 0.01 => format!("{:.2} ms", s * 1e3),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Kilobytes of a program as a person reads them.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "kilobytes of a program")]
pub fn mb(kb: u64) -> String {
    format!("{:.1} MB", kb as f64 / 1024.0)
}

/// A ratio as a person reads it.
#[must_use]
pub fn times(ratio: f64) -> String {
    match ratio {
        r if r >= 100.0 => format!("{r:.0} ×"),
        r if r >= 10.0 => format!("{r:.1} ×"),
        r if r >= 0.1 => format!("{r:.2} ×"),
        r => format!("{r:.4} ×"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measurements() {
        let samples = Samples::new((1..=200).rev().map(f64::from).collect());
        assert_eq!((samples.p50(), samples.p99(), samples.worst()), (100.0, 198.0, 200.0));
        assert_eq!(Samples::new(vec![7.0]).p99(), 7.0);
        assert_eq!(Samples::new(Vec::new()).p50(), 0.0);
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!(time(0.000_012_34), "12.3 µs");
        assert_eq!(time(0.001_234), "1.23 ms");
        assert_eq!(time(0.123_4), "123.4 ms");
        assert_eq!(time(12.34), "12.34 s");
        assert_eq!(times(1234.5), "1234 ×");
    }
}
