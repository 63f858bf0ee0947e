//! The region map: where on a plane the targets are met, with the operator's place.

use mose_pam::{Axis, Map, Millis, Region, Sweep};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::{Scene, words};
use crate::action::Action;
use crate::hit::{Hit, Hits};
use crate::phrase;
use crate::theme::Role;

/// Room for the labels at the left.
const LEFT: u16 = 8;

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    // Why there is no map, in as many lines as that takes.
    if let Err(reason) = scene.state.plan() {
        let room = usize::from(area.width);
        let lines = words::labelled(scene, (Role::Dim, ""), (Role::Dim, reason), room);
        return super::lines(lines, 0, area, buf);
    }
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
    let chart = match scene.state.chart(usize::from(plot.width), usize::from(plot.height)) {
        Ok(chart) => chart,
        Err(reason) => {
            return super::lines(vec![Line::from(scene.span(Role::Dim, reason))], 0, area, buf);
        }
    };
    let (map, (x_here, y_here)) = (&chart.map, chart.here);
    paint(scene, map, plot, buf, hits);
    let nearest = |sweep: &Sweep, here: f64| {
        // By position, not by value: on a logarithmic axis the middle between two is another.
        (0..sweep.steps())
            .find(|place| sweep.value(*place) >= here)
            .unwrap_or(sweep.steps().saturating_sub(1))
    };
    let (column, row) = (nearest(map.across(), x_here), nearest(map.down(), y_here));
    let here = (plot.x + column as u16, plot.bottom() - 1 - row as u16);
    buf.set_stringn(here.0, here.1, scene.theme.glyphs.here, 1, scene.style(Role::Focus));
    down_labels(scene, map, area, plot, (here.1, y_here), buf);
    across_labels(scene, map, plot, (here.0, x_here), buf);
    self::legend(scene, legend, buf);
}

/// What the glyphs mean, and the key for another plane, as far as there is room.
fn legend(scene: &Scene<'_>, row: Rect, buf: &mut Buffer) {
    let glyphs = &scene.theme.glyphs;
    let line = vec![
        scene.span(Role::Focus, format!("{} ", glyphs.here)),
        scene.span(Role::Text, "here  "),
        scene.span(Role::RegionBoth, glyphs.regions[0].repeat(2)),
        scene.span(Role::Text, " both met  "),
        scene.span(Role::RegionOne, glyphs.regions[1].repeat(2)),
        scene.span(Role::Text, " one  "),
        scene.span(Role::RegionNeither, glyphs.regions[2].repeat(2)),
        scene.span(Role::Text, " none"),
    ];
    let end = (scene.key)(Action::NextAxes)
        .map(|key| vec![scene.span(Role::Key, format!("[{key}]")), scene.span(Role::Dim, " axes")]);
    words::justified(line, end.unwrap_or_default(), usize::from(row.width)).render(row, buf);
}

fn paint(scene: &Scene<'_>, map: &Map, plot: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let down = map.down().axis();
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

/// An axis in the words of the field.
const fn called(axis: Axis) -> &'static str {
    match axis {
        Axis::TargetDowntime => "θ_down",
        Axis::TargetDuration => "θ_mig",
        Axis::Bandwidth => "L",
        Axis::StateSize => "M",
        Axis::DirtyRate => "R",
        Axis::NormalizedDirtyRate => "r",
    }
}

fn shown(axis: Axis, value: f64) -> String {
    match axis {
        Axis::TargetDowntime | Axis::TargetDuration => phrase::time(Millis(value)),
        axis => axis.show(value),
    }
}

/// At the left: the ends of what is varied, its name, and the value where the operator stands.
fn down_labels(
    scene: &Scene<'_>,
    map: &Map,
    area: Rect,
    plot: Rect,
    (here, value): (u16, f64),
    buf: &mut Buffer,
) {
    let down = map.down();
    let width = usize::from(LEFT.saturating_sub(1));
    let bottom = plot.bottom() - 1;
    let mut put = |y: u16, text: &str, role: Role| {
        buf.set_stringn(area.x, y, words::right(scene, text, width), width, scene.style(role));
    };
    for (y, place) in [(plot.y, down.steps().saturating_sub(1)), (bottom, 0)] {
        put(y, &shown(down.axis(), down.value(place)), Role::Dim);
    }
    put(here, &shown(down.axis(), value), Role::Focus);
    // The name stands above the value, or below it.
    let name = if here > plot.y + 1 { here - 1 } else { here + 1 };
    if name > plot.y && name < bottom && name != here {
        put(name, called(down.axis()), Role::Title);
    }
}

/// Below: the ends, and between them the name with the value where the operator stands.
fn across_labels(scene: &Scene<'_>, map: &Map, plot: Rect, (here, value): (u16, f64), buf: &mut Buffer) {
    let across = map.across();
    let (y, dim) = (plot.bottom(), scene.style(Role::Dim));
    let left = shown(across.axis(), across.value(0));
    let right = shown(across.axis(), across.value(across.steps().saturating_sub(1)));
    let (name, figure) = (called(across.axis()), shown(across.axis(), value));
    let wide = |text: &str| words::width(text) as u16;
    let width = wide(name) + 1 + wide(&figure);
    let ends = wide(&left) + wide(&right);
    let room = plot.width;
    if room >= ends + width + 4 {
        buf.set_string(plot.x, y, &left, dim);
        buf.set_string(plot.right() - wide(&right), y, &right, dim);
        let first = plot.x + wide(&left) + 1;
        let last = plot.right() - wide(&right) - 1 - width;
        let x = here.saturating_sub(width / 2).clamp(first, last);
        buf.set_string(x, y, name, scene.style(Role::Title));
        buf.set_string(x + wide(name) + 1, y, &figure, scene.style(Role::Focus));
    } else if room >= width {
        buf.set_string(plot.x, y, format!("{name} {figure}"), dim);
    }
}
