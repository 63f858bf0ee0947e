//! Rehearses a restore at the destination, while the service goes on at its source.
//!
//! CRIU restores the copy. At `post-restore` the hook answers *no*, and CRIU kills what it has restored. Clients hear nothing of the copy: its
//! endpoint is behind a wall, and its sockets are still in repair mode. An older hook does not ask at `post-restore`; it then kills the copy
//! at `pre-resume`, before it can run.

use std::time::SystemTime;

use mose_engine::{Container, Engine, Moments, Stage};
use mose_protocol::handover::Rehearsed;
use mose_protocol::step::Step;
use mose_protocol::{Refusal, RefusalCode, Timestamp};

use super::Arrival;
use super::make_ready::nothing_to_receive;
use crate::agent::Agent;
use crate::patience::Patience;
use crate::steps::Note;

/// The reason that the hook gives CRIU at `post-restore`.
const THE_END: &str = "it is only rehearsed: CRIU is to end it here";

/// How far the restore came.
enum Reached {
    /// Everything was restored, and ended there.
    TheEnd(Timestamp),
    /// It was about to run.
    TooFar,
}

impl Arrival {
    /// Restores the container up to where it could run, and has CRIU end it there.
    pub(super) async fn rehearse_restore(&self) -> Result<Rehearsed, Refusal> {
        let (agent, prepare) = (&self.agent, &self.prepare);
        let steps = agent.steps.of(&prepare.task.migration);
        let container = self.container.as_ref().ok_or_else(nothing_to_receive)?;
        agent.engine.adopt(&prepare.task, &prepare.container).await?;
        agent.engine.forgive_changed_files(container).await?;
        let started_at = Timestamp::now();
        steps.started_at(Step::Restore, started_at);
        let reached = restored_to_the_end(agent, container, self.restore_patience(container)).await;
        // However that ended: what CRIU left is ended before anything else is done.
        let ended = agent.engine.end_restore(container).await;
        match reached.and_then(|at| ended.map(|()| at)) {
            Ok(ended_at) => {
                let detail = Some("up to where it would run, and ended there".to_owned());
                steps.finished(Step::Restore, Note { at: Some(ended_at), detail, ..Note::default() });
                // CRIU reports its time only if the restore succeeds.
                let criu_restore = None;
                Ok(Rehearsed { started_at, ended_at, criu_restore })
            }
            Err(refusal) => {
                steps.failed(Step::Restore, &refusal);
                Err(refusal)
            }
        }
    }
}

/// Has the engine restore a container, and CRIU fail at the last moment before it could be heard of; when that was.
async fn restored_to_the_end(
    agent: &Agent,
    container: &Container,
    patience: Patience,
) -> Result<Timestamp, Refusal> {
    let engine = &*agent.engine;
    let mut moments = engine.moments(container, patience.quiet).await?;
    let begun = SystemTime::now();
    let with_log = |refusal: Refusal| refusal.with_log(engine.criu_log(container, begun).as_deref());
    let restore = engine.restore(container);
    tokio::pin!(restore);
    let (restored, reached) = tokio::select! {
        reached = the_end(engine, container, &mut moments) => {
            // From now on the hook answers *no* to everything.
            drop(moments);
            let restored = tokio::select! {
                restored = &mut restore => restored,
                hang = agent.restore_in_vain(container, patience) => Err(hang),
            };
            (restored, Some(reached))
        }
        restored = &mut restore => (restored, None),
        // Podman may still begin the restore later. CRIU then gets no answer and fails.
        hang = agent.restore_in_vain(container, patience) => return Err(with_log(hang)),
    };
    match (reached, restored) {
        (Some(Reached::TheEnd(at)), Err(_)) => Ok(at),
        (None, Err(refusal)) => Err(with_log(refusal)),
        (Some(Reached::TooFar), _) | (_, Ok(_)) => Err(with_log(Refusal::new(
            RefusalCode::Engine,
            format!(
                "the rehearsal of {} went on where it was to end, and was ended by force",
                container.name
            ),
            "install this release's mose-criu-hook on this host: CRIU's log names the stages at which it was asked",
        ))),
    }
}

/// Answers CRIU until it is where it is to end. Where nothing more is asked, the restore itself tells why.
async fn the_end(engine: &dyn Engine, container: &Container, moments: &mut Moments) -> Reached {
    while let Some(moment) = moments.recv().await {
        match moment.stage {
            Stage::PostRestore => {
                let at = Timestamp::now();
                let _ = moment.answer.send(Err(THE_END.to_owned()));
                return Reached::TheEnd(at);
            }
            Stage::PreResume => {
                // CRIU goes on after this one whatever it is answered, and waits until it is.
                if let Err(refusal) = engine.end_restore(container).await {
                    tracing::error!(%refusal, "a restore that was only rehearsed is not ended yet");
                }
                let _ = moment.answer.send(Err(THE_END.to_owned()));
                return Reached::TooFar;
            }
            Stage::PreDump | Stage::PostDump => {
                let _ = moment.answer.send(Ok(()));
            }
        }
    }
    std::future::pending().await
}
