//! For terminals without Unicode: whatever was drawn, by us or in the words of agents, in ASCII.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// What stands for a character that has nothing of its own.
const UNKNOWN: &str = "?";

/// What stands for a character; of one column, as that is.
const fn stand_in(char: char) -> &'static str {
    match char {
        'θ' => "T",
        '₀' => "0",
        '→' => ">",
        '←' => "<",
        '↑' => "^",
        '↓' => "v",
        '–' | '—' | '−' | '┄' | '─' => "-",
        '·' | '…' | '•' => ".",
        '≤' => "<",
        '≥' => ">",
        '×' => "x",
        'µ' | 'μ' => "u",
        '±' => "~",
        '“' | '”' | '„' => "\"",
        '‘' | '’' => "'",
        _ => UNKNOWN,
    }
}

/// Makes ASCII of every cell of an area.
pub(super) fn plain(area: Rect, buf: &mut Buffer) {
    for place in area.intersection(buf.area).positions() {
        let Some(cell) = buf.cell_mut(place) else { continue };
        if !cell.symbol().is_ascii() {
            let first = cell.symbol().chars().next().unwrap_or(' ');
            cell.set_symbol(stand_in(first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::style::Style;

    #[test]
    fn every_cell_becomes_ascii_in_its_place() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 16, 1));
        buf.set_string(0, 0, "θ_down → 日本 ö ✔", Style::default());
        plain(buf.area, &mut buf);
        let text: String = buf.content.iter().map(ratatui::buffer::Cell::symbol).collect();
        assert!(text.is_ascii(), "{text}");
        assert!(text.starts_with("T_down > ?"), "{text}");
    }
}
