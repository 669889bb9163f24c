//! Work that blocks, of which one piece runs at a time: where it hangs, one thread hangs and no more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// The one place there is for such work; cheap to clone.
#[derive(Debug, Clone)]
pub struct Alone(Arc<Semaphore>);

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// What was given up before has not ended: nothing was begun.
    Before,
    /// It took longer than permitted, and is left to itself.
    Overdue,
    /// It broke off.
    Broken,
}

impl Default for Alone {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Alone {
    /// Does the work on a thread that may block. The place is taken until that thread has ended,
    /// whether anybody still waits for it or not.
    ///
    /// # Errors
    /// [`Stuck`].
    pub async fn within<T: Send + 'static>(
        &self,
        most: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Stuck> {
        let place = Arc::clone(&self.0).try_acquire_owned().map_err(|_| Stuck::Before)?;
        let work = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        match tokio::time::timeout(most, work).await {
            Ok(done) => done.map_err(|_| Stuck::Broken),
            Err(_) => Err(Stuck::Overdue),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_hangs_keeps_one_thread_and_no_second() {
        let alone = Alone::default();
        let (free, hangs) = mpsc::channel::<()>();
        let (began, begins) = mpsc::channel();
        let begun = began.clone();
        let hung = alone.within(Duration::from_millis(1), move || {
            begun.send("the first").unwrap();
            hangs.recv().unwrap_err();
            // The place is free when the sender of this is gone.
            drop(begun);
        });
        assert_eq!(hung.await, Err(Stuck::Overdue));
        assert_eq!(begins.recv(), Ok("the first"));
        for _ in 0..3 {
            let begun = began.clone();
            let more = alone.within(LONG, move || begun.send("another").unwrap());
            assert_eq!(more.await, Err(Stuck::Before));
        }
        drop((free, began));
        assert_eq!(begins.recv(), Err(mpsc::RecvError), "nothing else was begun");
        let again = loop {
            match alone.within(LONG, || 7).await {
                Err(Stuck::Before) => tokio::task::yield_now().await,
                done => break done,
            }
        };
        assert_eq!(again, Ok(7));
    }

    #[tokio::test]
    async fn what_breaks_off_leaves_the_place() {
        let alone = Alone::default();
        let broken: Result<(), Stuck> = alone.within(LONG, || panic!("a mistake")).await;
        assert_eq!(broken, Err(Stuck::Broken));
        assert_eq!(alone.within(LONG, || 1).await, Ok(1));
    }
}
