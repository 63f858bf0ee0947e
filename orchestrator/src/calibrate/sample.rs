//! What a migration's record says of the model's components.

use mose_pam::{BitsPerSec, Bytes, Millis, Pass, Sample, Strategy};
use mose_protocol::record::{Outcome, Record, StepTime};
use mose_protocol::step::Step;

/// Bytes on the link for each byte of content: 1448 bytes of it travel in an Ethernet frame of 1514 (RFC 894, RFC 9293
/// with timestamps).
pub const FRAMING: f64 = 1514.0 / 1448.0;

/// Takes a finished migration or rehearsal apart. `None` where it did not end well, or lacks a step.
///
/// What is neither in a round nor in the downtime is preparation, and what in the downtime is neither dump, transfer nor restore
/// is the overlay's. The last iteration is left out: it waits for CRIU instead of pausing, and the model counts it as one
/// like the others.
#[must_use]
pub fn sample(record: &Record, memory: Bytes, rate: f64, link: BitsPerSec) -> Option<Sample> {
    let blackout = match record.outcome {
        Outcome::Done => record.downtime.blackout?.0,
        Outcome::Rehearsed => record.would_stand_still()?.0,
        _ => return None,
    };
    let step = |step: Step| record.steps.iter().find(|found| found.step == step);
    let end = |step: &StepTime| step.start.0 + step.took.0;
    let transfer_time = |bytes: u64| bytes as f64 * FRAMING * 8e3 / link.0 as f64;
    let pass = |took: f64, bytes: u64| Pass {
        time: Millis((took - transfer_time(bytes)).max(0.0)),
        volume: Bytes((bytes as f64 * FRAMING) as u64),
    };
    let frozen = step(Step::Freeze)?.start.0;
    let dumped = end(step(Step::Transfer)?) - frozen;
    let restore = frozen + blackout - step(Step::Restore)?.start.0;
    let passes: Vec<&StepTime> =
        record.steps.iter().filter(|s| matches!(s.step, Step::PreDump | Step::Iteration)).collect();
    // From the end of one round to the end of the next, the pause between them included.
    let mut spent = 0.0;
    let mut rounds = Vec::new();
    for (number, (step, round)) in passes.iter().zip(&record.rounds).enumerate() {
        let last = number + 1 == passes.len() && number > 0;
        let took = if number == 0 || last { step.took.0 } else { end(step) - end(passes[number - 1]) };
        spent += took;
        if !last {
            rounds.push(pass(took, round.bytes.0));
        }
    }
    let mut rounds = rounds.into_iter();
    Some(Sample {
        memory,
        rate,
        strategy: record.plan.strategy,
        bandwidth: link,
        prepare: Some(Millis((record.duration.0 - blackout - spent).max(0.0))),
        predump: if record.plan.strategy == Strategy::Cold { None } else { rounds.next() },
        rounds: rounds.collect(),
        dump: Some(pass(dumped, record.sent_in_downtime().0)),
        restore: Some(Millis(restore.max(0.0))),
        overlay: Some(Millis((blackout - dumped - restore).max(0.0))),
    })
}
