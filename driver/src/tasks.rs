//! Tasks that end with their owner, and a panic in one of them that its owner hears of.

use std::panic::AssertUnwindSafe;
use std::sync::LockResult;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one life of an agent. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    running: TaskTracker,
    stopped: CancellationToken,
    broken: CancellationToken,
}

impl Tasks {
    /// Runs a task until it ends, or all of them are stopped; it is then left where it last waited, as by a crash.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        self.spawn_to_its_end(async move {
            tokio::select! {
                // Once stopped, nothing more is begun.
                biased;
                () = stopped.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Runs a task that sees to its own end once all of them are [`stopped`](Self::stopped), since it has something to bring to an end.
    pub fn spawn_to_its_end(&self, task: impl Future<Output = ()> + Send + 'static) {
        let broken = self.broken.clone();
        self.running.spawn(async move {
            // What the task was about may be half changed, and is not used again: the owner ends, and goes on from what is on disk.
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!("a task panicked; the agent cannot go on");
                broken.cancel();
            }
        });
    }

    /// Does what must not be left half done. If it panics, whoever called it, the owner hears that as of a task.
    pub(crate) fn whole<T>(&self, work: impl FnOnce() -> T) -> T {
        let _heard = HeardPanic(&self.broken);
        work()
    }

    /// Stops all of them.
    pub fn stop(&self) {
        self.stopped.cancel();
        self.running.close();
    }

    /// Returns once they are being stopped.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// Returns once all of them have ended, after [`stop`](Self::stop).
    pub async fn ended(&self) {
        self.running.wait().await;
    }

    /// Whether one of them has panicked.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.is_cancelled()
    }

    /// Returns once one of them has panicked.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }
}

/// Tells of a panic that passes it.
struct HeardPanic<'a>(&'a CancellationToken);

impl Drop for HeardPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

/// What a lock guards, if nobody panicked in the midst of changing it: it must not be used any more then.
pub(crate) fn unbroken<T>(locked: LockResult<T>) -> T {
    locked.unwrap_or_else(|_| panic!("a hand-over's machine panicked, and says nothing any more"))
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_panic_is_heard_of() {
        let tasks = Tasks::default();
        tasks.spawn(async { panic!("on purpose") });
        timeout(SOON, tasks.broken()).await.expect("nobody heard of the panic");
    }

    #[test]
    fn what_panics_in_a_request_is_heard_of_and_used_no_more() {
        let (tasks, machine) = (Tasks::default(), Mutex::new(0));
        let step = || {
            tasks.whole(|| {
                let _machine = unbroken(machine.lock());
                panic!("on purpose")
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(step)).is_err());
        assert!(tasks.is_broken());
        assert!(catch_unwind(AssertUnwindSafe(|| *unbroken(machine.lock()))).is_err());
    }

    #[tokio::test]
    async fn what_waits_is_left_there_and_what_sees_to_its_end_comes_to_it() {
        let tasks = Tasks::default();
        let (went_on, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        tasks.spawn({
            let (tasks, went_on) = (tasks.clone(), went_on.clone());
            async move {
                tasks.stopped().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                went_on.store(true, Ordering::Relaxed);
            }
        });
        tasks.spawn_to_its_end({
            let (tasks, ended) = (tasks.clone(), ended.clone());
            async move {
                tasks.stopped().await;
                tokio::time::sleep(Duration::from_millis(10)).await;
                ended.store(true, Ordering::Relaxed);
            }
        });
        tasks.stop();
        timeout(SOON, tasks.ended()).await.expect("a task goes on");
        assert_eq!((went_on.load(Ordering::Relaxed), ended.load(Ordering::Relaxed)), (false, true));
        // One that is begun afterwards comes to nothing.
        tasks.spawn(async { panic!("it runs") });
        timeout(SOON, tasks.ended()).await.expect("a task goes on");
        assert!(timeout(Duration::from_millis(20), tasks.broken()).await.is_err());
    }
}
