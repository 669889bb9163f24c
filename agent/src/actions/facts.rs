//! `cache_facts`: what lies in an environment's page cache; changes nothing.

use hostler_protocol::job::{Code, FactsResult, FactsSpec};

use crate::host::fastcgi::{self, SCAN_THREADS, SCANNED_ENTRIES_MAX, Scan, Sighted};
use crate::steps::purge;
use crate::steps::render::PROBE_KEY;
use crate::steps::run::{Failure, Run, blocking};
use crate::steps::state;
use crate::steps::tools::Tools;

/// Runs the job.
pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &FactsSpec,
) -> Result<FactsResult, Failure> {
    let Some(fastcgi) = &spec.environment.fastcgi else {
        return Err(Failure::new(Code::SpecInvalid, "the environment has no FastCGI cache"));
    };
    let applied = state::load(tools, &spec.environment.id).await?;
    let (cancel, soft_works) = (run.cancel().clone(), tools.soft.known(tools));
    run.step("cache_scan", async {
        let started_ms = tools.clock.monotonic_ms();
        let now_secs = tools.clock.now_us() / 1_000_000;
        let mut facts = match purge::open_cache(tools, fastcgi, applied.as_ref()).await? {
            Some(cache) => {
                let counting = move || {
                    let entries_max = SCANNED_ENTRIES_MAX;
                    let scan =
                        Scan { cache: &cache, entries_max, since_sec: None, cancel: &cancel };
                    let states = vec![Sums::default(); SCAN_THREADS];
                    let scanned = fastcgi::scan(&scan, states, |sums, entry| {
                        sums.add(entry, now_secs);
                        Ok(())
                    })?;
                    if cancel.is_cancelled() {
                        return Err(Failure::new(Code::Cancelled, "the job was cancelled"));
                    }
                    Ok(scanned)
                };
                let (seen, parts) = blocking(counting).await?;
                let sums = parts.into_iter().fold(Sums::default(), Sums::and);
                FactsResult {
                    unreadable: seen.unreadable + seen.foreign,
                    whole: seen.whole,
                    ..sums.facts(now_secs)
                }
            }
            // nginx makes it when the cache is first switched on.
            None => FactsResult { whole: true, ..FactsResult::default() },
        };
        facts.soft_works = soft_works;
        facts.took_ms = tools.clock.monotonic_ms().saturating_sub(started_ms);
        let message = format!(
            "{} entries, {} bytes, {} fresh, {} stale",
            facts.entries, facts.bytes, facts.fresh, facts.stale
        );
        Ok((facts, message))
    })
    .await
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    entries: u64,
    bytes: u64,
    fresh: u64,
    dates: Option<(i64, i64)>,
}

impl Sums {
    fn add(&mut self, entry: &Sighted<'_>, now_secs: i64) {
        if entry.head.key.starts_with(PROBE_KEY.as_bytes()) {
            return;
        }
        let date = entry.head.date;
        let fresh = u64::from(entry.head.valid_sec >= now_secs);
        let dates = Some((date, date));
        *self = self.and(Self { entries: 1, bytes: entry.bytes(), fresh, dates });
    }

    fn and(self, other: Self) -> Self {
        let dates = match (self.dates, other.dates) {
            (Some(own), Some(other)) => Some((own.0.min(other.0), own.1.max(other.1))),
            (own, other) => own.or(other),
        };
        Self {
            entries: self.entries + other.entries,
            bytes: self.bytes + other.bytes,
            fresh: self.fresh + other.fresh,
            dates,
        }
    }

    fn facts(self, now_secs: i64) -> FactsResult {
        // The site's own user may have written any date.
        let age = |date: i64| u64::try_from(now_secs.saturating_sub(date)).unwrap_or(0);
        FactsResult {
            entries: self.entries,
            bytes: self.bytes,
            fresh: self.fresh,
            stale: self.entries - self.fresh,
            oldest_secs: self.dates.map(|(oldest, _)| age(oldest)),
            newest_secs: self.dates.map(|(_, newest)| age(newest)),
            ..FactsResult::default()
        }
    }
}
