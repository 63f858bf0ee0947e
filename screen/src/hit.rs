//! What lies where: the mouse is answered by what was drawn.

use mose_protocol::{HostName, MigrationId, ServiceName};
use ratatui::layout::{Position, Rect};

use crate::action::Action;
use crate::pane::Pane;
use crate::state::planning::Field;

/// What a place on the screen is.
#[derive(Debug, Clone, PartialEq)]
pub enum Hit {
    /// A pane.
    Pane(Pane),
    /// A host.
    Host(HostName),
    /// A service.
    Service(ServiceName),
    /// A past migration.
    Record(MigrationId),
    /// A target's value: the wheel steps it, dragging changes it.
    Target(Field),
    /// Something to do.
    Action(Action),
    /// A line of the uppermost dialog.
    Item(usize),
    /// A dialog: the mouse goes no deeper.
    Dialog,
    /// A place on the region map: the targets or figures that it stands for.
    Map {
        /// θ_down there, if the map varies it.
        downtime: Option<mose_pam::Millis>,
        /// θ_mig there, if the map varies it.
        duration: Option<mose_pam::Millis>,
    },
}

/// All places, those drawn later above those drawn earlier.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hits {
    places: Vec<(Rect, Hit)>,
}

impl Hits {
    /// Notes a place.
    pub fn note(&mut self, area: Rect, hit: Hit) {
        if !area.is_empty() {
            self.places.push((area, hit));
        }
    }

    /// What is there, uppermost first; nothing of what lies below a dialog.
    pub fn at(&self, column: u16, row: u16) -> impl Iterator<Item = &Hit> {
        let at = Position { x: column, y: row };
        let mut covered = false;
        self.places.iter().rev().filter(move |(area, _)| area.contains(at)).map(|(_, hit)| hit).take_while(
            move |hit| {
                let show = !covered;
                covered |= matches!(hit, Hit::Dialog);
                show
            },
        )
    }

    /// The area of a pane.
    #[must_use]
    pub fn pane(&self, pane: Pane) -> Option<Rect> {
        self.places.iter().find(|(_, hit)| *hit == Hit::Pane(pane)).map(|(area, _)| *area)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppermost_comes_first_and_a_dialog_covers_what_is_below() {
        let mut hits = Hits::default();
        hits.note(Rect::new(0, 0, 10, 10), Hit::Pane(Pane::Fleet));
        hits.note(Rect::new(2, 2, 4, 4), Hit::Dialog);
        hits.note(Rect::new(3, 3, 1, 1), Hit::Item(0));
        let at = |x, y| hits.at(x, y).cloned().collect::<Vec<_>>();
        assert_eq!(at(3, 3), [Hit::Item(0), Hit::Dialog]);
        assert_eq!(at(2, 2), [Hit::Dialog]);
        assert_eq!(at(0, 0), [Hit::Pane(Pane::Fleet)]);
        assert_eq!(at(11, 0), []);
    }
}
