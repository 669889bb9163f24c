//! Many pieces of work at once, on all processors.

use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::Builder;

/// Most threads: the controller has other work.
const THREADS_MAX: usize = 4;
/// With fewer pieces than these, another thread costs more than it saves.
const PIECES_MIN: usize = 32;

/// What `work` makes of each item, in the order they come: `produce` is given what takes them, and
/// work begins while it goes on. What it ends with is the end of all.
///
/// # Errors
/// Those of `produce`.
///
/// # Panics
/// When `produce` or `work` does.
pub(super) fn each<I: Send, O: Send, E>(
    produce: impl FnOnce(&mut dyn FnMut(I)) -> Result<(), E>,
    work: impl Fn(I) -> O + Sync,
) -> Result<Vec<O>, E> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (send, receive) = mpsc::channel();
    let receive = Mutex::new(receive);
    // Nothing is done under the lock that could leave it in disorder.
    let next = || receive.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
    let take = || {
        let mut made = Vec::new();
        while let Some((at, item)) = next() {
            made.push((at, work(item)));
        }
        made
    };
    let mut made = std::thread::scope(|scope| {
        // Gone when this ends, in whatever way: then nobody waits for more.
        let send = send;
        let mut others = Vec::new();
        let mut count = 0_usize;
        let produced = produce(&mut |item| {
            // The other end lives as long as this.
            send.send((count, item)).unwrap_or(());
            count += 1;
            if count == PIECES_MIN {
                // One that the system refuses is done without.
                let more = (1..processors.min(THREADS_MAX))
                    .filter_map(|_| Builder::new().spawn_scoped(scope, take).ok());
                others.extend(more);
            }
        });
        drop(send);
        if produced.is_err() {
            // What was not begun is not wanted any more.
            while next().is_some() {}
        }
        let mut made = take();
        for other in others {
            match other.join() {
                Ok(theirs) => made.extend(theirs),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        produced.map(|()| made)
    })?;
    made.sort_unstable_by_key(|(at, _)| *at);
    Ok(made.into_iter().map(|(_, made)| made).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn each_of<O: Send>(count: usize, work: impl Fn(usize) -> O + Sync) -> Result<Vec<O>, String> {
        let produce = |hand: &mut dyn FnMut(usize)| {
            (0..count).for_each(hand);
            Ok(())
        };
        each(produce, work)
    }

    #[test]
    fn everything_is_done_once_and_in_order() {
        for count in [0, 1, PIECES_MIN, 2 * PIECES_MIN, 1000] {
            let calls = AtomicUsize::new(0);
            let made = each_of(count, |item| {
                calls.fetch_add(1, Ordering::Relaxed);
                item * 2
            });
            assert_eq!(made, Ok((0..count).map(|item| item * 2).collect()));
            assert_eq!(calls.into_inner(), count);
        }
    }

    #[test]
    fn an_error_on_the_way_is_the_end() {
        let produce = |hand: &mut dyn FnMut(usize)| {
            (0..100).for_each(hand);
            Err("enough")
        };
        assert_eq!(each(produce, |item| item), Err("enough"));
    }

    #[test]
    #[should_panic(expected = "the 77th")]
    fn a_panic_at_work_is_passed_on() {
        drop(each_of(1000, |item| assert_ne!(item, 77, "the 77th")));
    }

    #[test]
    #[should_panic(expected = "no more")]
    fn a_panic_of_what_produces_leaves_nobody_waiting() {
        let produce = |hand: &mut dyn FnMut(usize)| -> Result<(), ()> {
            (0..100).for_each(hand);
            panic!("no more");
        };
        drop(each(produce, |item| item));
    }
}
