//! Tasks with an owner: they end when it says so, and with it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks that were told to end are waited for: they end where they wait next.
const ENDING: Duration = Duration::from_secs(1);

/// Some tasks. Dropped, they are told to end.
#[derive(Default)]
pub(super) struct Tasks {
    running: TaskTracker,
    end: CancellationToken,
}

impl Tasks {
    /// One more, until it is done or all are to end.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.running.spawn(async move {
            end.run_until_cancelled_owned(task).await;
        });
    }

    /// Ends those that run. Others may be begun after that.
    pub(super) async fn end(&mut self) {
        let Self { running, end } = &std::mem::take(self);
        end.cancel();
        running.close();
        if tokio::time::timeout(ENDING, running.wait()).await.is_err() {
            tracing::warn!("{} tasks do not end", running.len());
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// A task that waits for ever; what it holds is let go when it ends.
    fn waiting(tasks: &Tasks) -> oneshot::Receiver<()> {
        let (held, let_go) = oneshot::channel::<()>();
        tasks.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let_go
    }

    #[tokio::test]
    async fn none_is_left_when_they_end_or_their_owner_goes() {
        let mut tasks = Tasks::default();
        let mut first = waiting(&tasks);
        tasks.end().await;
        assert!(first.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        let second = waiting(&tasks);
        drop(tasks);
        assert!(tokio::time::timeout(ENDING, second).await.expect("it ends").is_err());
    }
}
