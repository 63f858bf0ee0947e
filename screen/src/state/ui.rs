//! What is focused, selected, open. Nothing of it comes from an agent.

use std::collections::BTreeMap;

use mose_pam::Millis;
use mose_protocol::{HostName, MigrationId, ServiceName};
use tui_input::Input;

use super::past::Order as PastOrder;
use super::planning::Field;
use crate::effect::{Attach, Effect};
use crate::pane::Pane;

/// Something that can be attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What is attached to.
    pub attach: Attach,
    /// Its line.
    pub title: String,
    /// What it means.
    pub description: String,
}

/// What lies above the panes.
#[derive(Debug, Clone)]
pub enum Dialog {
    /// What to attach to.
    Welcome {
        /// The choices.
        choices: Vec<Choice>,
        /// Which one is selected.
        selected: usize,
    },
    /// What the keys do.
    Help {
        /// What is searched for.
        filter: Input,
        /// The first line shown.
        scroll: usize,
    },
    /// All actions.
    Palette {
        /// What is searched for.
        input: Input,
        /// Which of those found is selected.
        selected: usize,
    },
    /// Where the service is to go, or a workload to be started.
    Pick {
        /// What for.
        purpose: Purpose,
        /// What can be picked.
        items: Vec<String>,
        /// Which one is selected.
        selected: usize,
    },
    /// A target is typed.
    Edit {
        /// Which.
        field: Field,
        /// What was typed.
        input: Input,
        /// Why that is no target.
        fault: Option<String>,
        /// What it was before, for those who think better of it.
        before: Millis,
    },
    /// Whether it is really to be done.
    Confirm {
        /// What.
        question: Question,
        /// What it means, a line each.
        lines: Vec<String>,
        /// What is done then.
        effect: Box<Effect>,
        /// Whether Enter does it: what cannot be undone is cancelled by Enter unless that was changed.
        proceed: bool,
    },
    /// A record.
    Record {
        /// Which.
        migration: MigrationId,
        /// The first line shown.
        scroll: usize,
    },
    /// Two records side by side.
    Compare {
        /// The one.
        one: MigrationId,
        /// The other.
        other: MigrationId,
        /// The first line shown.
        scroll: usize,
    },
    /// CRIU's log of a failed step.
    CriuLog {
        /// The first line shown.
        scroll: usize,
    },
}

impl Dialog {
    /// What its keys are, for the foot line.
    #[must_use]
    pub(crate) const fn hint(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Welcome { .. } => &[("↑↓", "select"), ("Enter", "choose"), ("q", "quit")],
            Self::Help { .. } => &[("type", "search"), ("↑↓", "scroll"), ("Esc", "close")],
            Self::Palette { .. } => &[("type", "search"), ("Enter", "do"), ("Esc", "close")],
            Self::Pick { .. } => &[("↑↓", "select"), ("Enter", "take"), ("Esc", "close")],
            Self::Edit { field: Field::Downtime, .. } => {
                &[("type", "value"), ("↑↓", "step"), ("Tab", "unit"), ("Enter", "keep"), ("Esc", "as before")]
            }
            Self::Edit { .. } => {
                &[("type", "value"), ("↑↓", "step"), ("Enter", "keep"), ("Esc", "as before")]
            }
            Self::Confirm { proceed: true, .. } => &[("Enter", "do it"), ("Esc", "cancel"), ("↑↓", "select")],
            Self::Confirm { .. } => &[("Enter", "cancel"), ("y", "do it"), ("↑↓", "select")],
            Self::Record { .. } | Self::Compare { .. } | Self::CriuLog { .. } => {
                &[("↑↓", "scroll"), ("Esc", "close")]
            }
        }
    }
}

/// What is asked about before it is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Migrate the selected service as planned?
    Migrate,
    /// Rehearse that?
    Rehearse,
    /// Abort its migration?
    Abort,
    /// Resume it at its source, as it is in doubt?
    KeepAtSource,
    /// Discard the source's copy, as it is in doubt?
    GiveUpAtSource,
    /// Measure the two hosts anew?
    Recalibrate,
    /// Stop it?
    StopService,
}

/// What something is picked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The destination of the selected service.
    Destination,
    /// The workload to start.
    Workload,
    /// The host to start it on.
    Host {
        /// The workload.
        kind: String,
    },
}

/// What is focused, selected, open.
#[derive(Debug, Clone, Default)]
pub struct Ui {
    /// The focused pane.
    pub focus: Focus,
    /// Whether it is shown alone.
    pub zoomed: bool,
    /// Which layout.
    pub layout: usize,
    /// Which theme.
    pub theme: usize,
    /// The selected service.
    pub service: Option<ServiceName>,
    /// The destination that was chosen.
    pub destination: Option<HostName>,
    /// The migration that the timeline is to show.
    pub track: Option<MigrationId>,
    /// The selected record.
    pub record: Option<MigrationId>,
    /// The record that another is to be compared with.
    pub marked: Option<MigrationId>,
    /// What each pane is filtered by.
    pub filters: BTreeMap<Pane, String>,
    /// The filter that is being typed.
    pub typing: Option<Input>,
    /// What the history is sorted by.
    pub order: PastOrder,
    /// The first line that a pane shows, counted from where it follows by itself.
    pub scroll: BTreeMap<Pane, usize>,
    /// What lies above the panes, the uppermost last.
    pub dialogs: Vec<Dialog>,
    /// The size of the terminal.
    pub size: (u16, u16),
    /// What the mouse drags.
    pub dragging: Option<Drag>,
}

/// What the mouse drags.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Drag {
    /// A target to and fro in its row.
    Target {
        /// Which.
        field: Field,
        /// The column where it was taken.
        column: u16,
        /// What it was then.
        begun: Millis,
    },
    /// The operator's place on the region map.
    Map,
}

/// The focused pane; the fleet at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Focus(pub Pane);

impl Default for Focus {
    fn default() -> Self {
        Self(Pane::Fleet)
    }
}

impl Ui {
    /// The uppermost dialog.
    #[must_use]
    pub fn dialog(&self) -> Option<&Dialog> {
        self.dialogs.last()
    }

    /// What a pane is filtered by.
    #[must_use]
    pub fn filter(&self, pane: Pane) -> &str {
        self.filters.get(&pane).map_or("", String::as_str)
    }

    /// How far a pane is scrolled.
    #[must_use]
    pub fn scrolled(&self, pane: Pane) -> usize {
        self.scroll.get(&pane).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialog_says_its_keys() {
        for proceed in [true, false] {
            let (question, effect) = (Question::StopService, Box::new(Effect::Quit));
            let confirm = Dialog::Confirm { question, lines: Vec::new(), effect, proceed };
            let enter = if proceed { "do it" } else { "cancel" };
            assert_eq!(confirm.hint()[0], ("Enter", enter));
        }
    }
}
