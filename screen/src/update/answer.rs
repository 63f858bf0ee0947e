//! What came of effects.

use mose_protocol::Timestamp;

use super::calibration;
use crate::effect::Effect;
use crate::event::Answer;
use crate::state::ui::{Choice, Dialog};
use crate::state::{Abilities, Level, Source, State};

pub(super) fn on_answer(state: &mut State, answer: Answer, now: Timestamp) -> Vec<Effect> {
    match answer {
        Answer::Ordered { migration, result } => {
            if let Err(refusal) = result {
                state.data.migrations.refused(&migration);
                state.notices.say(Level::Error, format!("the order was refused: {refusal}"), now);
            }
        }
        Answer::Unknown { from, to, refusal } => {
            calibration::unknown(state, (from, to), &refusal.to_string(), now);
        }
        Answer::Recalibrated { from, to } => {
            state.planning.calibrations.remove(&(from.clone(), to.clone()));
            state.planning.calibrations.remove(&(to.clone(), from.clone()));
            state.notices.say(Level::Info, format!("{from} and {to} are calibrated"), now);
        }
        Answer::Said { level, text } => state.notices.say(level, text, now),
        Answer::Recording(recording) => {
            let text = match (&recording, &state.recording) {
                (Some((file, _)), _) => format!("recording into {file}"),
                (None, Some((file, _))) => format!("the recording is in {file}"),
                (None, None) => return Vec::new(),
            };
            state.notices.say(Level::Info, text, now);
            state.recording = recording;
        }
        Answer::Attached(source, abilities) => {
            state.forget(now);
            (state.source, state.abilities) = (source, abilities);
            state.ui.dialogs.clear();
        }
        Answer::Choose(choices) => {
            state.forget(now);
            (state.source, state.abilities) = (Source::Choosing, Abilities::default());
            offer(state, choices);
        }
        Answer::Offered(choices) => offer(state, choices),
        Answer::Replaying(replay) => state.source = Source::Replay(replay),
        Answer::Rewound(replay) => {
            state.forget(replay.at);
            state.source = Source::Replay(replay);
        }
    }
    Vec::new()
}

/// What can be attached to, in place of what was offered before.
fn offer(state: &mut State, choices: Vec<Choice>) {
    state.ui.dialogs.retain(|dialog| !matches!(dialog, Dialog::Welcome { .. }));
    state.ui.dialogs.push(Dialog::Welcome { choices, selected: 0 });
}
