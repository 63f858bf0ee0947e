//! Lines in dots of a quarter of a row: each cell of the screen has two by four of them, as Braille has. Without Unicode a cell
//! that has any is a full stop.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::theme::Role;
use crate::view::Scene;

/// The bits of Braille's dots, by row and column.
const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// Dots, and what the cells mean that they are in: what was drawn last.
pub(super) struct Raster {
    area: Rect,
    cells: Vec<(u8, Role)>,
}

impl Raster {
    pub(super) fn new(area: Rect) -> Self {
        let count = usize::from(area.width) * usize::from(area.height);
        Self { area, cells: vec![(0, Role::Dim); count] }
    }

    /// How many dots there are, across and down.
    pub(super) fn size(area: Rect) -> (f64, f64) {
        (f64::from(area.width) * 2.0, f64::from(area.height) * 4.0)
    }

    /// A dot; outside nothing is drawn.
    pub(super) fn dot(&mut self, (x, y): (f64, f64), role: Role) {
        let (across, down) = Self::size(self.area);
        if !(x >= 0.0 && y >= 0.0 && x < across && y < down) {
            return;
        }
        let (x, y) = (x as usize, y as usize);
        let place = y / 4 * usize::from(self.area.width) + x / 2;
        if let Some(cell) = self.cells.get_mut(place) {
            *cell = (cell.0 | BITS[y % 4][x % 2], role);
        }
    }

    /// A line; of each `every` dots the first is drawn.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), every: usize, role: Role) {
        let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).ceil().clamp(1.0, 4096.0);
        for step in (0..=steps as usize).step_by(every.max(1)) {
            let part = step as f64 / steps;
            self.dot((from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part), role);
        }
    }

    /// A circle; of each `every` dots the first is drawn.
    pub(super) fn circle(&mut self, centre: (f64, f64), radius: f64, every: usize, role: Role) {
        let steps = (radius * std::f64::consts::TAU).ceil().clamp(8.0, 8192.0);
        for step in (0..steps as usize).step_by(every.max(1)) {
            let (sin, cos) = (step as f64 / steps * std::f64::consts::TAU).sin_cos();
            self.dot((centre.0 + radius * cos, centre.1 + radius * sin), role);
        }
    }

    pub(super) fn draw(&self, scene: &Scene<'_>, buf: &mut Buffer) {
        let boxes = scene.theme.glyphs.boxes;
        for (place, (bits, role)) in self.area.positions().zip(&self.cells).filter(|(_, cell)| cell.0 != 0) {
            let braille = char::from_u32(0x2800 + u32::from(*bits)).unwrap_or('.');
            let Some(cell) = buf.cell_mut(place) else { continue };
            cell.set_char(if boxes { braille } else { '.' }).set_style(scene.style(*role));
        }
    }
}
