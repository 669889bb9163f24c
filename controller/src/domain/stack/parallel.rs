//! Many pieces of work at once, on all processors.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Most threads: the controller has other work.
const THREADS_MAX: usize = 4;
/// With fewer pieces than these for each, another thread costs more than it saves.
const PIECES_MIN: usize = 32;

/// What `work` makes of each item, in the items' order.
///
/// # Panics
/// When `work` does.
pub(super) fn each<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (items.len() / PIECES_MIN).min(processors).min(THREADS_MAX);
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    // Whoever is through takes the next one: some are far larger than others.
    let take = || {
        let mut made = Vec::with_capacity(items.len() / threads);
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return made };
            made.push((at, work(item)));
        }
    };
    let mut made = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
        let mut made = take();
        for other in others {
            match other.join() {
                Ok(theirs) => made.extend(theirs),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        made
    });
    made.sort_unstable_by_key(|(at, _)| *at);
    made.into_iter().map(|(_, made)| made).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_once_and_in_order() {
        for count in [0, 1, PIECES_MIN, 2 * PIECES_MIN, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let calls = AtomicUsize::new(0);
            let made = each(&items, |item| {
                calls.fetch_add(1, Ordering::Relaxed);
                item * 2
            });
            assert_eq!(made, items.iter().map(|item| item * 2).collect::<Vec<_>>());
            assert_eq!(calls.into_inner(), count);
        }
    }

    #[test]
    #[should_panic(expected = "the 77th")]
    fn a_panic_is_passed_on() {
        let items: Vec<usize> = (0..1000).collect();
        each(&items, |item| assert_ne!(*item, 77, "the 77th"));
    }
}
