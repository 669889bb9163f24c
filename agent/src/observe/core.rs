//! When stacks are looked at, and which: sans-IO.
//!
//! What happens on the host is waited out for a moment, since one thing seldom comes alone, but
//! never for long. Periods are for what nobody tells: files, and events that were missed.

use std::collections::BTreeSet;

/// How long nothing more may have happened before it is looked at, in milliseconds.
const CALM_MS: u64 = 1000;
/// Longest wait for that.
const CALM_MS_MAX: u64 = 5000;
/// Between looks for what differs.
const PERIOD_MS: u64 = 60_000;
/// Between whole reports.
const WHOLE_MS: u64 = 5 * 60_000;
/// Every period is longer or shorter by at most one in so many: hosts that began together part.
const JITTER_PART: u64 = 10;
/// More projects than this are not told apart.
const CHANGED_MAX: usize = 256;

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// Reports are taken from now on, and nothing is known of earlier ones.
    Online,
    /// Nobody takes reports.
    Offline,
    /// Something happened to a project's containers, or work on it has ended.
    Changed(String),
    /// Something may have happened to any of them.
    Missed,
    /// The time of [`Core::next_timeout`] has come.
    Timeout,
}

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything, and all of it is told.
    Whole,
    /// Whatever is not as it was told last. These projects are not only glanced at: one that is
    /// again as it was from afar may have been told as what it was in between.
    Differing(BTreeSet<String>),
    /// These projects, as far as they are not as they were told last.
    These(BTreeSet<String>),
}

#[derive(Debug)]
struct Online {
    period_at_ms: u64,
    whole_at_ms: u64,
    /// What happened since the last look; `None`: nothing did.
    news: Option<News>,
}

#[derive(Debug)]
struct News {
    projects: BTreeSet<String>,
    /// Whether it may be any others, too.
    more: bool,
    since_ms: u64,
    last_ms: u64,
}

impl News {
    fn due_ms(&self) -> u64 {
        (self.last_ms + CALM_MS).min(self.since_ms + CALM_MS_MAX)
    }
}

/// The rules.
#[derive(Debug, Default)]
pub(super) struct Core {
    online: Option<Online>,
}

impl Core {
    /// When [`Input::Timeout`] is due, if nothing else happens before.
    pub(super) fn next_timeout(&self) -> Option<u64> {
        let online = self.online.as_ref()?;
        let news = online.news.as_ref().map_or(u64::MAX, News::due_ms);
        Some(news.min(online.period_at_ms).min(online.whole_at_ms))
    }

    /// Takes in one event; answers what is to be looked at now. `random` is anything.
    pub(super) fn handle(&mut self, input: Input, now_ms: u64, random: u64) -> Option<Scope> {
        match input {
            Input::Online => {
                self.online = Some(Online {
                    period_at_ms: now_ms + jittered(PERIOD_MS, random),
                    whole_at_ms: now_ms + jittered(WHOLE_MS, random),
                    news: None,
                });
                Some(Scope::Whole)
            }
            Input::Offline => {
                self.online = None;
                None
            }
            Input::Changed(project) => {
                self.news(Some(project), now_ms);
                None
            }
            Input::Missed => {
                self.news(None, now_ms);
                None
            }
            Input::Timeout => self.timeout(now_ms, random),
        }
    }

    fn news(&mut self, project: Option<String>, now_ms: u64) {
        let Some(online) = &mut self.online else { return };
        let first =
            || News { projects: BTreeSet::new(), more: false, since_ms: now_ms, last_ms: now_ms };
        let news = online.news.get_or_insert_with(first);
        news.last_ms = now_ms;
        match project {
            Some(project) if news.projects.len() < CHANGED_MAX => {
                news.projects.insert(project);
            }
            Some(_) | None => news.more = true,
        }
    }

    fn timeout(&mut self, now_ms: u64, random: u64) -> Option<Scope> {
        let online = self.online.as_mut()?;
        if now_ms >= online.whole_at_ms {
            online.whole_at_ms = now_ms + jittered(WHOLE_MS, random);
            online.period_at_ms = now_ms + jittered(PERIOD_MS, random);
            online.news = None;
            return Some(Scope::Whole);
        }
        if now_ms >= online.period_at_ms {
            // What was changed just now is left to calm down.
            online.period_at_ms = now_ms + jittered(PERIOD_MS, random);
            return Some(Scope::Differing(BTreeSet::new()));
        }
        let news = online.news.take_if(|news| now_ms >= news.due_ms())?;
        Some(if news.more { Scope::Differing(news.projects) } else { Scope::These(news.projects) })
    }
}

fn jittered(period_ms: u64, random: u64) -> u64 {
    let part = period_ms / JITTER_PART;
    period_ms - part + random % (2 * part + 1)
}

/// Between attempts to listen to the engine: twice as long each time, up to half a minute, and
/// anything between half of that and all of it. `failures` counts those since it last worked.
pub(super) fn retry_ms(failures: u32, random: u64) -> u64 {
    const FIRST_MS: u64 = 1000;
    const CAP_MS: u64 = 30_000;
    let window_ms = FIRST_MS.saturating_mul(1 << failures.min(10)).min(CAP_MS);
    window_ms / 2 + random % (window_ms / 2 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn online() -> Core {
        let mut core = Core::default();
        assert_eq!(core.handle(Input::Online, 0, 0), Some(Scope::Whole));
        core
    }

    fn changed(core: &mut Core, project: &str, now_ms: u64) {
        assert_eq!(core.handle(Input::Changed(project.to_owned()), now_ms, 0), None);
    }

    fn set(projects: &[&str]) -> BTreeSet<String> {
        projects.iter().map(|project| (*project).to_owned()).collect()
    }

    fn these(projects: &[&str]) -> Option<Scope> {
        Some(Scope::These(set(projects)))
    }

    fn differing(projects: &[&str]) -> Option<Scope> {
        Some(Scope::Differing(set(projects)))
    }

    #[test]
    fn what_happens_is_looked_at_when_it_has_calmed_down() {
        let mut core = online();
        changed(&mut core, "shop", 100);
        changed(&mut core, "blog", 900);
        assert_eq!(core.next_timeout(), Some(1900));
        assert_eq!(core.handle(Input::Timeout, 1899, 0), None);
        assert_eq!(core.handle(Input::Timeout, 1900, 0), these(&["blog", "shop"]));
        assert_eq!(core.handle(Input::Timeout, 1901, 0), None, "once");
    }

    #[test]
    fn what_never_calms_down_is_looked_at_all_the_same() {
        let mut core = online();
        let mut looks = Vec::new();
        for now_ms in (0..20_000).step_by(500) {
            changed(&mut core, "shop", now_ms);
            if core.next_timeout().unwrap() <= now_ms {
                looks.push(now_ms);
                assert_eq!(core.handle(Input::Timeout, now_ms, 0), these(&["shop"]));
            }
        }
        assert_eq!(looks, [5000, 10_500, 16_000]);
    }

    #[test]
    fn periods_come_by_themselves_and_never_at_once_for_all() {
        let mut core = online();
        assert_eq!(core.next_timeout(), Some(54_000));
        assert_eq!(core.handle(Input::Timeout, 54_000, 6000), differing(&[]));
        assert_eq!(core.next_timeout(), Some(54_000 + 60_000));
        let mut core = online();
        assert_eq!(core.handle(Input::Timeout, 270_000, 0), Some(Scope::Whole));
        assert_eq!(core.handle(Input::Timeout, 270_000, 0), None, "a whole one is all there is");
        assert!((54_000..=66_000).contains(&jittered(PERIOD_MS, u64::MAX)));
    }

    #[test]
    fn what_was_missed_may_be_anything() {
        let mut core = online();
        changed(&mut core, "shop", 0);
        assert_eq!(core.handle(Input::Missed, 10, 0), None);
        changed(&mut core, "blog", 20);
        // What is known to have changed is looked at however it seems from afar.
        assert_eq!(core.handle(Input::Timeout, 1020, 0), differing(&["blog", "shop"]));
        for n in 0..=CHANGED_MAX {
            changed(&mut core, &format!("p{n:03}"), 2000);
        }
        let named: Vec<String> = (0..CHANGED_MAX).map(|n| format!("p{n:03}")).collect();
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        assert_eq!(core.handle(Input::Timeout, 3000, 0), differing(&named));
    }

    #[test]
    fn nobody_looks_for_nobody() {
        let mut core = Core::default();
        changed(&mut core, "shop", 0);
        assert_eq!(core.next_timeout(), None);
        let mut core = online();
        changed(&mut core, "shop", 0);
        assert_eq!(core.handle(Input::Offline, 1, 0), None);
        assert_eq!((core.next_timeout(), core.handle(Input::Timeout, 1000, 0)), (None, None));
        assert_eq!(core.handle(Input::Online, 2000, 0), Some(Scope::Whole));
        assert_eq!(core.handle(Input::Timeout, 3000, 0), None, "the whole one had it all");
    }

    #[test]
    fn the_engine_is_tried_less_and_less_often() {
        let widest: Vec<u64> = (0..7).map(|failures| 2 * retry_ms(failures, 0)).collect();
        assert_eq!(widest, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert!(retry_ms(u32::MAX, u64::MAX) <= 30_000);
    }
}
