//! Everything that an operator can do, in one table. Keys, palette, help, footer and the check of a keymap are made from it, so
//! that they cannot disagree.

use serde::{Deserialize, Serialize};

use crate::state::ui::Question;

/// Something that an operator can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Order the selected service's migration as planned.
    Migrate,
    /// Order the same, but for the commitment.
    Rehearse,
    /// Choose the destination.
    ChooseDestination,
    /// Abort the selected service's migration.
    Abort,
    /// Resume a service in doubt at its source.
    KeepAtSource,
    /// Discard the source's copy of a service in doubt.
    GiveUpAtSource,
    /// Measure the two hosts anew.
    Recalibrate,
    /// Start a workload in the lab.
    StartService,
    /// Stop the selected service in the lab.
    StopService,
    /// Let a service follow its mobile host by itself, or not.
    #[serde(alias = "autopilot")]
    Follow,
    /// Type θ_down.
    EditDowntime,
    /// Type θ_mig.
    EditDuration,
    /// Downtime or resources.
    ToggleObjective,
    /// A tighter value of the focused target.
    TargetDown,
    /// A looser one.
    TargetUp,
    /// The other target.
    NextTarget,
    /// θ_down in another unit.
    NextUnit,
    /// What the region map varies.
    NextAxes,
    /// The next service.
    NextService,
    /// The next pane.
    NextPane,
    /// The pane before.
    PreviousPane,
    /// The focused pane alone, or all again.
    Zoom,
    /// The next layout.
    NextLayout,
    /// The next theme.
    NextTheme,
    /// Hold the picture; what happens is kept.
    Freeze,
    /// Up by one.
    Up,
    /// Down by one.
    Down,
    /// Left by one.
    Left,
    /// Right by one.
    Right,
    /// Up by a page.
    PageUp,
    /// Down by a page.
    PageDown,
    /// To the first.
    First,
    /// To the last.
    Last,
    /// Open what is selected.
    Open,
    /// Filter the focused pane.
    Filter,
    /// Sort the focused pane by another column.
    Sort,
    /// Mark a record to compare another with.
    Compare,
    /// CRIU's log of the failed step.
    CriuLog,
    /// Write the history to a file.
    Export,
    /// Begin or end a recording.
    Record,
    /// Let a replay stand still, or go on.
    ReplayPause,
    /// A faster replay.
    ReplayFaster,
    /// A slower one.
    ReplaySlower,
    /// Ten seconds on.
    ReplayForward,
    /// Ten seconds back.
    ReplayBack,
    /// Choose what is shown.
    Attach,
    /// All actions, to search.
    Palette,
    /// What the keys do.
    Help,
    /// Leave a dialog, a filter, a zoom.
    Cancel,
    /// Hand the terminal back for a while.
    Suspend,
    /// Leave.
    Quit,
}

/// Where help lists an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Moving services.
    Migration,
    /// What the plan is made for.
    Targets,
    /// What is shown.
    View,
    /// Moving about.
    Movement,
    /// Past and recorded.
    History,
    /// The program itself.
    Program,
}

impl Group {
    /// Its heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Migration => "migration",
            Self::Targets => "targets and plan",
            Self::View => "view",
            Self::Movement => "movement",
            Self::History => "history and recordings",
            Self::Program => "program",
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// What.
    pub action: Action,
    /// Its name in a keymap, in kebab case.
    pub id: &'static str,
    /// A word or two for the footer.
    pub title: &'static str,
    /// A sentence for help and palette.
    pub description: &'static str,
    /// Where help lists it.
    pub group: Group,
    /// Whether it cannot be undone: it is asked about before it is done, and Enter cancels.
    pub destructive: bool,
    /// Whether it changes anything at the agents: with `--read-only` it is refused.
    pub changes: bool,
}

const fn row(
    action: Action,
    id: &'static str,
    title: &'static str,
    description: &'static str,
    group: Group,
) -> Spec {
    Spec { action, id, title, description, group, destructive: false, changes: false }
}

const fn change(spec: Spec) -> Spec {
    Spec { changes: true, ..spec }
}

const fn destructive(spec: Spec) -> Spec {
    Spec { destructive: true, changes: true, ..spec }
}

use Action as A;
use Group as G;

/// The table.
pub const ACTIONS: &[Spec] = &[
    change(row(A::Migrate, "migrate", "migrate", "move the selected service as planned", G::Migration)),
    change(row(
        A::Rehearse,
        "rehearse",
        "rehearse",
        "the same but for the last step: it stays put",
        G::Migration,
    )),
    row(A::ChooseDestination, "choose-destination", "destination", "choose where it is to go", G::Migration),
    row(A::NextService, "next-service", "service", "select the next service", G::Migration),
    destructive(row(
        A::Abort,
        "abort",
        "abort",
        "abort the migration, before its commit point",
        G::Migration,
    )),
    destructive(row(
        A::KeepAtSource,
        "keep-at-source",
        "resume",
        "a service in doubt: resume it at the source, from its own images",
        G::Migration,
    )),
    destructive(row(
        A::GiveUpAtSource,
        "give-up-at-source",
        "discard",
        "a service in doubt: discard the source's copy, for good",
        G::Migration,
    )),
    change(row(
        A::Recalibrate,
        "recalibrate",
        "calibrate",
        "measure these two hosts anew (lab)",
        G::Migration,
    )),
    change(row(A::StartService, "start-service", "start", "start a workload (lab)", G::Migration)),
    destructive(row(A::StopService, "stop-service", "stop", "stop the selected service (lab)", G::Migration)),
    change(row(
        A::Follow,
        "follow",
        "follow",
        "let the service follow its mobile host by itself, or not",
        G::Migration,
    )),
    row(A::EditDowntime, "edit-downtime", "θ_down", "type the downtime target", G::Targets),
    row(A::EditDuration, "edit-duration", "θ_mig", "type the duration target", G::Targets),
    row(A::ToggleObjective, "toggle-objective", "objective", "minimise downtime, or resources", G::Targets),
    row(A::TargetDown, "target-down", "tighter", "tighten the focused target by a step", G::Targets),
    row(A::TargetUp, "target-up", "looser", "loosen the focused target by a step", G::Targets),
    row(A::NextTarget, "next-target", "target", "focus the other target", G::Targets),
    row(A::NextUnit, "next-unit", "unit", "θ_down in the application's unit", G::Targets),
    row(A::NextAxes, "next-axes", "axes", "vary other figures in the region map", G::Targets),
    row(A::NextPane, "next-pane", "pane", "focus the next pane", G::View),
    row(A::PreviousPane, "previous-pane", "pane back", "focus the pane before", G::View),
    row(A::Zoom, "zoom", "zoom", "the focused pane alone, or all again", G::View),
    row(A::NextLayout, "next-layout", "layout", "the next layout", G::View),
    row(A::NextTheme, "next-theme", "theme", "the next theme", G::View),
    row(A::Freeze, "freeze", "freeze", "hold the picture; nothing is lost meanwhile", G::View),
    row(A::Filter, "filter", "filter", "show only what contains a text", G::View),
    row(A::Sort, "sort", "sort", "sort by another column", G::View),
    row(A::Up, "up", "up", "up by one", G::Movement),
    row(A::Down, "down", "down", "down by one", G::Movement),
    row(A::Left, "left", "left", "left by one", G::Movement),
    row(A::Right, "right", "right", "right by one", G::Movement),
    row(A::PageUp, "page-up", "page up", "up by a page", G::Movement),
    row(A::PageDown, "page-down", "page down", "down by a page", G::Movement),
    row(A::First, "first", "first", "to the first", G::Movement),
    row(A::Last, "last", "last", "to the last", G::Movement),
    row(A::Open, "open", "open", "open what is selected", G::Movement),
    row(A::Compare, "compare", "compare", "mark a record, then compare another with it", G::History),
    row(
        A::CriuLog,
        "criu-log",
        "why",
        "why a migration failed, with CRIU's own log if it has one",
        G::History,
    ),
    row(A::Export, "export", "export", "write the history to a file", G::History),
    row(A::Record, "record", "record", "begin or end a recording", G::History),
    row(A::ReplayPause, "replay-pause", "pause", "let the replay stand still, or go on", G::History),
    row(A::ReplayFaster, "replay-faster", "faster", "double the replay's speed", G::History),
    row(A::ReplaySlower, "replay-slower", "slower", "halve the replay's speed", G::History),
    row(A::ReplayForward, "replay-forward", "forward", "ten seconds on", G::History),
    row(A::ReplayBack, "replay-back", "back", "ten seconds back", G::History),
    row(A::Attach, "attach", "attach", "choose what is shown: a demo, the lab, agents", G::Program),
    row(A::Palette, "palette", "palette", "search all actions", G::Program),
    row(A::Help, "help", "help", "what the keys do", G::Program),
    row(A::Cancel, "cancel", "back", "leave a dialog, a filter, a zoom", G::Program),
    row(A::Suspend, "suspend", "suspend", "hand the terminal back until resumed", G::Program),
    row(A::Quit, "quit", "quit", "leave; migrations go on", G::Program),
];

impl Action {
    /// Its row of the table.
    #[must_use]
    pub fn spec(self) -> &'static Spec {
        // A test holds that every action has a row.
        ACTIONS.iter().find(|spec| spec.action == self).unwrap_or(&ACTIONS[0])
    }

    /// What it does, as the answer to whether it shall be done.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Abort => "abort the migration",
            Self::KeepAtSource => "resume at the source",
            Self::GiveUpAtSource => "discard the source's copy",
            Self::StopService => "stop it, and lose its state",
            _ => self.spec().title,
        }
    }

    /// The action of that name.
    #[must_use]
    pub fn named(id: &str) -> Option<Self> {
        // What an earlier release called it.
        let id = if id == "autopilot" { "follow" } else { id };
        ACTIONS.iter().find(|spec| spec.id == id).map(|spec| spec.action)
    }
}

impl From<Question> for Action {
    /// What is ordered if the answer is yes.
    fn from(question: Question) -> Self {
        match question {
            Question::Migrate => Self::Migrate,
            Question::Rehearse => Self::Rehearse,
            Question::Abort => Self::Abort,
            Question::KeepAtSource => Self::KeepAtSource,
            Question::GiveUpAtSource => Self::GiveUpAtSource,
            Question::Recalibrate => Self::Recalibrate,
            Question::StopService => Self::StopService,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_one_row_and_is_named_as_it_is_written() {
        for spec in ACTIONS {
            assert_eq!(ACTIONS.iter().filter(|other| other.action == spec.action).count(), 1, "{spec:?}");
            assert_eq!(serde_json::to_value(spec.action).unwrap(), spec.id);
            assert_eq!(Action::named(spec.id), Some(spec.action));
        }
        assert_eq!(Action::named("autopilot"), Some(A::Follow), "keymaps of an earlier release");
        // The last of the enumeration: as many rows as there are actions.
        assert_eq!(A::Quit as usize + 1, ACTIONS.len());
    }
}
