//! The region map: where on a plane the targets are met, with the operator's place.

use mose_pam::{Axis, Map, Millis, Region, Scale, Sweep};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::{Scene, figure};
use crate::hit::{Hit, Hits};
use crate::state::planning::Designed;
use crate::theme::Role;

/// How many planes there are to choose from.
pub const PLANES: usize = 3;

/// Room for the labels at the left.
const LEFT: u16 = 8;

/// What a plane varies: across, down.
const fn axes(plane: usize) -> (Axis, Axis) {
    match plane {
        0 => (Axis::StateSize, Axis::TargetDuration),
        1 => (Axis::NormalizedDirtyRate, Axis::TargetDuration),
        _ => (Axis::Bandwidth, Axis::TargetDowntime),
    }
}

/// The figure of a plan on an axis, and the stretch that is shown around it.
fn span(designed: &Designed, axis: Axis) -> (f64, f64, f64, Scale) {
    let request = &designed.request;
    match axis {
        Axis::StateSize => {
            let here = request.service().memory().0.max(1) as f64;
            (here, here / 10.0, here * 10.0, Scale::Logarithmic)
        }
        Axis::NormalizedDirtyRate => (designed.proposal.rate.get(), 0.0, 1.0, Scale::Linear),
        Axis::Bandwidth => {
            let here = request.bandwidth().0.max(1) as f64;
            (here, here / 30.0, here * 3.0, Scale::Logarithmic)
        }
        Axis::TargetDowntime => {
            let here = request.targets().downtime().0;
            (here, 50.0_f64.min(here), 2500.0_f64.max(here), Scale::Linear)
        }
        _ => {
            let here = request.targets().duration().0;
            (here, 200.0_f64.min(here), 8000.0_f64.max(here), Scale::Linear)
        }
    }
}

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let planning = &scene.state.planning;
    let designed = match planning.outcome(scene.state) {
        Ok(designed) => designed,
        Err(reason) => {
            return super::lines(vec![Line::from(scene.span(Role::Dim, reason))], 0, area, buf);
        }
    };
    let Some(model) = planning.model(&designed) else { return };
    let (plot, legend) = (
        Rect {
            x: area.x + LEFT.min(area.width),
            width: area.width.saturating_sub(LEFT),
            height: area.height.saturating_sub(2),
            ..area
        },
        Rect { y: area.bottom().saturating_sub(1), height: 1.min(area.height), ..area },
    );
    if plot.width < 4 || plot.height < 2 {
        return super::lines(vec![Line::from(scene.span(Role::Dim, "no room for the map"))], 0, area, buf);
    }
    let (across, down) = axes(planning.axes % PLANES);
    let (x_here, x_from, x_to, x_scale) = span(&designed, across);
    let (y_here, y_from, y_to, y_scale) = span(&designed, down);
    // Greater values are further up.
    let sweeps = Sweep::new(across, x_from, x_to, usize::from(plot.width), x_scale)
        .and_then(|x| Ok((x, Sweep::new(down, y_from, y_to, usize::from(plot.height), y_scale)?)));
    let map = sweeps.and_then(|(x, y)| Map::new(model, &designed.request, x, y));
    let map = match map {
        Ok(map) => map,
        Err(error) => {
            return super::lines(vec![Line::from(scene.span(Role::Dim, error.to_string()))], 0, area, buf);
        }
    };
    paint(scene, &map, plot, buf, hits, down);
    let nearest = |sweep: &Sweep, here: f64| {
        let distance = |place: &usize| (sweep.value(*place) - here).abs();
        (0..sweep.steps()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
    };
    let (column, row) = (nearest(map.across(), x_here), nearest(map.down(), y_here));
    let (x, y) = (plot.x + column as u16, plot.bottom() - 1 - row as u16);
    buf.set_stringn(x, y, scene.theme.glyphs.here, 1, scene.style(Role::Focus));
    axis_labels(scene, &map, area, plot, buf);
    let glyphs = &scene.theme.glyphs;
    let line = Line::from(vec![
        scene.span(Role::Focus, format!("{} ", glyphs.here)),
        scene.span(Role::Dim, "here  "),
        scene.span(Role::RegionBoth, glyphs.regions[0]),
        scene.span(Role::Dim, " both met  "),
        scene.span(Role::RegionOne, glyphs.regions[1]),
        scene.span(Role::Dim, " one  "),
        scene.span(Role::RegionNeither, glyphs.regions[2]),
        scene.span(Role::Dim, " none"),
    ]);
    line.render(legend, buf);
}

fn paint(scene: &Scene<'_>, map: &Map, plot: Rect, buf: &mut Buffer, hits: &mut Hits, down: Axis) {
    let glyphs = &scene.theme.glyphs.regions;
    for (row, cells) in map.rows().enumerate() {
        let y = plot.bottom() - 1 - row as u16;
        for (column, region) in cells.iter().enumerate() {
            let (glyph, role) = match region {
                Region::Both => (glyphs[0], Role::RegionBoth),
                Region::DowntimeOnly | Region::DurationOnly => (glyphs[1], Role::RegionOne),
                Region::Neither => (glyphs[2], Role::RegionNeither),
            };
            buf.set_stringn(plot.x + column as u16, y, glyph, 1, scene.style(role));
        }
        let value = Millis(map.down().value(row));
        let (downtime, duration) = match down {
            Axis::TargetDowntime => (Some(value), None),
            Axis::TargetDuration => (None, Some(value)),
            _ => (None, None),
        };
        hits.note(Rect { y, height: 1, ..plot }, Hit::Map { downtime, duration });
    }
}

fn axis_labels(scene: &Scene<'_>, map: &Map, area: Rect, plot: Rect, buf: &mut Buffer) {
    let dim = scene.style(Role::Dim);
    let (across, down) = (map.across(), map.down());
    let show_y = |place: usize| match down.axis() {
        Axis::TargetDowntime | Axis::TargetDuration => figure::time(Millis(down.value(place))),
        axis => axis.show(down.value(place)),
    };
    let name = match down.axis() {
        Axis::TargetDowntime => "θ_down",
        _ => "θ_mig",
    };
    let width = usize::from(LEFT.saturating_sub(1));
    let top = down.steps().saturating_sub(1);
    buf.set_stringn(area.x, plot.y, format!("{:>width$}", show_y(top)), width, dim);
    buf.set_stringn(area.x, plot.bottom() - 1, format!("{:>width$}", show_y(0)), width, dim);
    if plot.height > 4 {
        buf.set_stringn(area.x, plot.y + plot.height / 2, format!("{name:>width$}"), width, dim);
    }
    let below = plot.bottom();
    let left = across.axis().show(across.value(0));
    let right = across.axis().show(across.value(across.steps().saturating_sub(1)));
    buf.set_stringn(plot.x, below, &left, usize::from(plot.width), dim);
    let name = across.axis().name();
    let middle = plot.x + (plot.width / 2).saturating_sub(name.chars().count() as u16 / 2);
    let right_x = plot.right().saturating_sub(right.chars().count() as u16);
    if usize::from(plot.width) > left.chars().count() + right.chars().count() + name.chars().count() + 4 {
        buf.set_string(middle, below, name, dim);
        buf.set_string(right_x, below, &right, dim);
    }
}
