//! How often somebody may try to enrol: buckets per source and one for all.

use std::collections::HashMap;
use std::net::IpAddr;

/// Tries a source has at once, and how many it gets back per second.
const SOURCE_TRIES_MAX: u64 = 20;
const SOURCE_TRIES_PER_SEC: u64 = 2;
/// The same for all sources together.
const ALL_TRIES_MAX: u64 = 400;
const ALL_TRIES_PER_SEC: u64 = 50;
/// Sources remembered at once; those with full buckets are forgotten first.
const SOURCES_MAX: usize = 4096;

/// Token buckets; time is an argument.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    sources: HashMap<IpAddr, Bucket>,
    all: Bucket,
}

/// Used thousandths of a try, as of a time; none used at first.
#[derive(Debug, Default, Clone, Copy)]
struct Bucket {
    used_milli: u64,
    at_ms: u64,
}

impl Bucket {
    fn settle(&mut self, per_sec: u64, now_ms: u64) {
        let back = now_ms.saturating_sub(self.at_ms).saturating_mul(per_sec);
        self.used_milli = self.used_milli.saturating_sub(back);
        self.at_ms = now_ms;
    }

    fn take(&mut self, tries_max: u64) -> bool {
        let free = self.used_milli + 1000 <= tries_max * 1000;
        if free {
            self.used_milli += 1000;
        }
        free
    }
}

impl RateLimit {
    /// Whether this source may try now; a try counts only if it may.
    pub(super) fn allow(&mut self, source: IpAddr, now_ms: u64) -> bool {
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            self.sources.retain(|_, bucket| {
                bucket.settle(SOURCE_TRIES_PER_SEC, now_ms);
                bucket.used_milli > 0
            });
            if self.sources.len() >= SOURCES_MAX {
                return false;
            }
        }
        self.all.settle(ALL_TRIES_PER_SEC, now_ms);
        let bucket = self.sources.entry(source).or_default();
        bucket.settle(SOURCE_TRIES_PER_SEC, now_ms);
        bucket.take(SOURCE_TRIES_MAX) && self.all.take(ALL_TRIES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> IpAddr {
        IpAddr::from(std::net::Ipv4Addr::from(number))
    }

    #[test]
    fn a_source_runs_dry_and_recovers_alone() {
        let mut limit = RateLimit::default();
        for _ in 0..SOURCE_TRIES_MAX {
            assert!(limit.allow(source(1), 0));
        }
        assert!(!limit.allow(source(1), 0));
        assert!(limit.allow(source(2), 0));
        assert!(limit.allow(source(1), 1000 / SOURCE_TRIES_PER_SEC));
    }

    #[test]
    fn all_sources_together_have_a_limit_and_few_are_remembered() {
        let mut limit = RateLimit::default();
        let allowed = (0..10_000).filter(|number| limit.allow(source(*number), 0)).count();
        assert_eq!(allowed, usize::try_from(ALL_TRIES_MAX).unwrap());
        assert!(limit.sources.len() <= SOURCES_MAX);
    }
}
