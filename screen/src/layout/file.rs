//! A layout's file, and what is wrong with it.

use std::fmt;
use std::ops::Range;

use ratatui::layout::{Constraint, Direction, Rect};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{Layout, Node, Variant};
use crate::config_error::{ConfigError, Source};
use crate::keymap::named_pane;
use crate::pane::Pane;

/// The least extent of a pane, in both directions: a frame, and a character in it.
const LEAST: u16 = 3;

/// What a size may be, for errors.
const SIZES: &str = "a number of rows or columns such as 12, \"30%\", \"min 20\" or \"*\" for what is left";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LayoutFile {
    #[serde(default)]
    variant: Vec<Spanned<RawVariant>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVariant {
    min: Spanned<[u16; 2]>,
    pane: Option<Spanned<String>>,
    direction: Option<Spanned<Along>>,
    children: Option<Vec<Spanned<RawNode>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    size: Option<Spanned<Size>>,
    pane: Option<Spanned<String>>,
    direction: Option<Spanned<Along>>,
    children: Option<Vec<Spanned<RawNode>>>,
}

/// How children lie: one below the other, or side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Along {
    Rows,
    Columns,
}

/// A share of the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Percent(u16),
    Cells(u16),
    Min(u16),
    Rest,
}

impl Size {
    fn of_text(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "*" {
            return Some(Self::Rest);
        }
        if let Some(percent) = text.strip_suffix('%') {
            return percent.trim_end().parse().ok().filter(|p| (1..=100).contains(p)).map(Self::Percent);
        }
        text.strip_prefix("min ")?.trim_start().parse().ok().filter(|&cells| cells > 0).map(Self::Min)
    }

    const fn constraint(self) -> Constraint {
        match self {
            Self::Percent(percent) => Constraint::Percentage(percent),
            Self::Cells(cells) => Constraint::Length(cells),
            Self::Min(cells) => Constraint::Min(cells),
            Self::Rest => Constraint::Fill(1),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SIZES)
            }

            fn visit_i64<E: de::Error>(self, cells: i64) -> Result<Size, E> {
                let cells = u16::try_from(cells).ok().filter(|&cells| cells > 0);
                cells.map(Size::Cells).ok_or_else(|| E::custom(format!("this is no size: write {SIZES}")))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                Size::of_text(text).ok_or_else(|| E::custom(format!("`{text}` is no size: write {SIZES}")))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

/// A leaf or a split, as written.
struct Written<'f> {
    span: Range<usize>,
    pane: Option<&'f Spanned<String>>,
    direction: Option<&'f Spanned<Along>>,
    children: Option<&'f Vec<Spanned<RawNode>>>,
}

impl<'f> Written<'f> {
    fn of(node: &'f Spanned<RawNode>) -> Self {
        let RawNode { pane, direction, children, .. } = node.get_ref();
        Self {
            span: node.span(),
            pane: pane.as_ref(),
            direction: direction.as_ref(),
            children: children.as_ref(),
        }
    }
}

/// Reads one variant; remembers where each pane stood.
struct Reader<'s, 't> {
    source: &'s Source<'t>,
    places: Vec<(Pane, Range<usize>)>,
}

impl Reader<'_, '_> {
    fn node(&mut self, written: &Written<'_>) -> Result<Node, ConfigError> {
        match (written.pane, written.direction, written.children) {
            (Some(pane), None, None) => self.leaf(pane),
            (None, Some(direction), Some(children)) if !children.is_empty() => self.split(direction, children),
            _ => Err(self.source.error(
                written.span.clone(),
                "this is neither a pane nor a split",
                "write either `pane`, or `direction` (\"rows\" or \"columns\") with at least one of `children`",
            )),
        }
    }

    fn leaf(&mut self, written: &Spanned<String>) -> Result<Node, ConfigError> {
        let pane = named_pane(self.source, written)?;
        if let Some((_, first)) = self.places.iter().find(|(other, _)| *other == pane) {
            let reason = format!("the pane `{}` has two places", pane.id());
            return Err(self.source.conflict(
                written.span(),
                first.clone(),
                reason,
                "leave one of them out, or put another pane there",
            ));
        }
        self.places.push((pane, written.span()));
        Ok(Node::Leaf(pane))
    }

    fn split(
        &mut self,
        direction: &Spanned<Along>,
        children: &[Spanned<RawNode>],
    ) -> Result<Node, ConfigError> {
        let mut read = Vec::new();
        let mut percent = 0;
        for child in children {
            let written = child.get_ref().size.as_ref();
            let size = written.map_or(Size::Rest, |size| *size.get_ref());
            if let Size::Percent(share) = size {
                percent += share;
                if percent > 100 {
                    return Err(self.source.error(
                        written.map_or(child.span(), Spanned::span),
                        format!("up to here the children have {percent} % of their parent"),
                        "let them have 100 % at most",
                    ));
                }
            }
            read.push((size.constraint(), self.node(&Written::of(child))?));
        }
        let direction = match direction.get_ref() {
            Along::Rows => Direction::Vertical,
            Along::Columns => Direction::Horizontal,
        };
        Ok(Node::Split { direction, children: read })
    }

    fn variant(&mut self, raw: &Spanned<RawVariant>) -> Result<Variant, ConfigError> {
        let RawVariant { min, pane, direction, children } = raw.get_ref();
        let root = self.node(&Written {
            span: raw.span(),
            pane: pane.as_ref(),
            direction: direction.as_ref(),
            children: children.as_ref(),
        })?;
        let [columns, rows] = *min.get_ref();
        if let Some((pane, reason)) = misfit(&root, Rect::new(0, 0, columns, rows)) {
            let place = self.places.iter().find(|(other, _)| *other == pane);
            return Err(self.source.error(
                place.map_or(min.span(), |(_, span)| span.clone()),
                format!("at {columns}x{rows}, the least size of this variant, {reason}"),
                "raise `min`, or change the sizes",
            ));
        }
        Ok(Variant { columns, rows, root })
    }
}

/// What does not get the size that it is given, or less than a pane needs: a pane in it, and the reason.
fn misfit(node: &Node, area: Rect) -> Option<(Pane, String)> {
    match node {
        Node::Leaf(pane) => (area.width < LEAST || area.height < LEAST).then(|| {
            let (name, width, height) = (pane.id(), area.width, area.height);
            (*pane, format!("`{name}` gets {width}x{height}, and a pane needs {LEAST}x{LEAST}"))
        }),
        Node::Split { direction, children } => {
            let extent = |area: Rect| match direction {
                Direction::Horizontal => (area.width, "columns"),
                Direction::Vertical => (area.height, "rows"),
            };
            let whole = extent(area).0;
            node.parts(area).into_iter().zip(children).find_map(|(part, (size, child))| {
                let (got, unit) = extent(part);
                let wanted = match *size {
                    Constraint::Length(cells) | Constraint::Min(cells) => cells,
                    // A share is rounded.
                    Constraint::Percentage(percent) => {
                        (whole / 100 * percent + whole % 100 * percent / 100).saturating_sub(1)
                    }
                    _ => 0,
                };
                if got < wanted {
                    let name = child.first().id();
                    return Some((
                        child.first(),
                        format!("the part of `{name}` gets {got} {unit} of {wanted}"),
                    ));
                }
                misfit(child, part)
            })
        }
    }
}

/// Reads a layout.
pub(super) fn parse(source: &Source<'_>) -> Result<Layout, ConfigError> {
    let file: LayoutFile = source.read()?;
    let mut variants: Vec<(Variant, Range<usize>)> = Vec::new();
    for raw in &file.variant {
        let variant = Reader { source, places: Vec::new() }.variant(raw)?;
        let span = raw.get_ref().min.span();
        let same = |other: &Variant| (other.columns, other.rows) == (variant.columns, variant.rows);
        if let Some((_, first)) = variants.iter().find(|(other, _)| same(other)) {
            return Err(source.conflict(
                span,
                first.clone(),
                "two variants begin at the same size",
                "give one of them another `min`",
            ));
        }
        variants.push((variant, span));
    }
    if variants.is_empty() {
        return Err(source.error(
            0..0,
            "a layout needs at least one variant",
            "add `[[variant]]` with `min`, `direction` and `children`",
        ));
    }
    let mut variants: Vec<Variant> = variants.into_iter().map(|(variant, _)| variant).collect();
    let cells = |variant: &Variant| u32::from(variant.columns) * u32::from(variant.rows);
    variants.sort_by_key(|variant| std::cmp::Reverse(cells(variant)));
    Ok(Layout { name: source.name(), variants })
}
