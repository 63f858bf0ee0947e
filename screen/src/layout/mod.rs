//! Which panes are where. A layout is a tree of splits, in variants for screens of different sizes; below the smallest, one pane is
//! shown at a time. Whatever has no place is a page of its own, so that every pane can be reached in every layout.

use ratatui::layout::{Constraint, Direction, Layout as Split, Rect};

use crate::config_error::{ConfigError, Source, built_in};
use crate::pane::Pane;

mod file;

const BUILT_IN: [(&str, &str); 4] = [
    ("operator.toml", include_str!("../../../layouts/operator.toml")),
    ("explorer.toml", include_str!("../../../layouts/explorer.toml")),
    ("wall.toml", include_str!("../../../layouts/wall.toml")),
    ("handover.toml", include_str!("../../../layouts/handover.toml")),
];

/// Which panes are where, for every size.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Its name: its file's, without the ending.
    pub name: String,
    /// At least one, the largest first.
    variants: Vec<Variant>,
}

/// For screens of at least this size.
#[derive(Debug, Clone, PartialEq)]
struct Variant {
    columns: u16,
    rows: u16,
    root: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Leaf(Pane),
    Split { direction: Direction, children: Vec<(Constraint, Node)> },
}

/// Where the panes are. Every pane is once in one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Those that are seen, in the order of the layout's file: the order in which they are focused.
    pub panes: Vec<(Pane, Rect)>,
    /// Those that are not, each a page of its own.
    pub hidden: Vec<Pane>,
}

impl Placement {
    /// Where a pane is, if it is seen.
    #[must_use]
    pub fn of(&self, pane: Pane) -> Option<Rect> {
        self.panes.iter().find(|(seen, _)| *seen == pane).map(|(_, rect)| *rect)
    }

    fn new(panes: Vec<(Pane, Rect)>) -> Self {
        let seen: Vec<(Pane, Rect)> = panes.into_iter().filter(|(_, rect)| !rect.is_empty()).collect();
        let hidden =
            Pane::ALL.into_iter().filter(|pane| seen.iter().all(|(other, _)| other != pane)).collect();
        Self { panes: seen, hidden }
    }
}

impl Layout {
    /// Those that come with the program, in order.
    #[must_use]
    pub fn builtin() -> Vec<Self> {
        BUILT_IN.iter().map(|(path, text)| built_in(Self::parse(text, path))).collect()
    }

    /// Reads a layout; its name is its file's.
    ///
    /// # Errors
    /// [`ConfigError`] where a pane is unknown or has two places, or where sizes cannot be.
    pub fn parse(text: &str, path: &str) -> Result<Self, ConfigError> {
        file::parse(&Source::new(text, path))
    }

    /// Where the panes are on this much of the screen, by the largest variant that fits. Below the smallest there is one pane, the
    /// first. A hidden pane that is focused is shown alone, in the whole area.
    #[must_use]
    pub fn place(&self, area: Rect) -> Placement {
        let fits = |variant: &&Variant| variant.columns <= area.width && variant.rows <= area.height;
        match self.variants.iter().find(fits) {
            Some(variant) => Placement::new(variant.root.place(area)),
            None => {
                let first = self.variants.last().map_or(Pane::Plan, |small| small.root.first());
                Placement::new(vec![(first, area)])
            }
        }
    }
}

impl Node {
    fn place(&self, area: Rect) -> Vec<(Pane, Rect)> {
        match self {
            Self::Leaf(pane) => vec![(*pane, area)],
            Self::Split { children, .. } => self
                .parts(area)
                .into_iter()
                .zip(children)
                .flat_map(|(part, (_, child))| child.place(part))
                .collect(),
        }
    }

    /// The areas of the children.
    fn parts(&self, area: Rect) -> Vec<Rect> {
        match self {
            Self::Leaf(_) => Vec::new(),
            Self::Split { direction, children } => {
                Split::new(*direction, children.iter().map(|(size, _)| *size)).split(area).to_vec()
            }
        }
    }

    fn first(&self) -> Pane {
        match self {
            Self::Leaf(pane) => *pane,
            // A split has children: the file is checked for it.
            Self::Split { children, .. } => children.first().map_or(Pane::Plan, |(_, child)| child.first()),
        }
    }
}

#[cfg(test)]
mod tests;
