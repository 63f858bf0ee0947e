//! Words in the room that there is: cut where they must be, wrapped where they may, set into columns.

use ratatui::text::{Line, Span};

use super::Scene;
use crate::theme::Role;

/// Columns that a text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { Span::raw(text).width() }
}

/// A text in at most so many columns: what is cut off is told by a mark.
#[must_use]
pub fn fit(scene: &Scene<'_>, text: &str, room: usize) -> String {
    // What comes from the wire is not trusted to be short: only as much is looked at as can be shown.
    if text.len() <= room.saturating_mul(4) && width(text) <= room {
        return text.to_owned();
    }
    let mark = scene.theme.glyphs.more;
    let left = room.saturating_sub(width(mark));
    let mut cut = String::new();
    let mut used = 0;
    for char in text.chars() {
        let wide = width(char.encode_utf8(&mut [0; 4]));
        if used + wide > left {
            break;
        }
        used += wide;
        cut.push(char);
    }
    if room >= width(mark) {
        cut.push_str(mark);
    }
    cut
}

/// A text in exactly so many columns, at the left.
#[must_use]
pub fn left(scene: &Scene<'_>, text: &str, room: usize) -> String {
    let mut text = fit(scene, text, room);
    text.push_str(&" ".repeat(room.saturating_sub(width(&text))));
    text
}

/// A text in exactly so many columns, at the right.
#[must_use]
pub fn right(scene: &Scene<'_>, text: &str, room: usize) -> String {
    let text = fit(scene, text, room);
    format!("{}{text}", " ".repeat(room.saturating_sub(width(&text))))
}

/// Columns of a line.
pub fn length(spans: &[Span<'_>]) -> usize {
    spans.iter().map(Span::width).sum()
}

/// The line, with something at its right end if there is room for both.
pub fn justified<'a>(mut line: Vec<Span<'a>>, end: Vec<Span<'a>>, room: usize) -> Line<'a> {
    if let Some(gap) = room.checked_sub(length(&line) + length(&end)).filter(|gap| *gap > 0) {
        line.push(Span::raw(" ".repeat(gap)));
        line.extend(end);
    }
    Line::from(line)
}

/// The most lines that one text is wrapped into.
const MOST: usize = 40;

/// A label and a text behind it, wrapped at blanks; further lines begin below the text.
#[must_use]
pub fn labelled<'a>(
    scene: &Scene<'_>,
    label: (Role, &str),
    (role, text): (Role, &str),
    room: usize,
) -> Vec<Line<'a>> {
    let indent = width(label.1);
    let rows = wrapped(text, room.saturating_sub(indent).max(1));
    let mut lines = Vec::with_capacity(rows.len());
    for (number, row) in rows.into_iter().enumerate() {
        let lead = match number {
            0 => scene.span(label.0, label.1.to_owned()),
            _ => Span::raw(" ".repeat(indent)),
        };
        lines.push(Line::from(vec![lead, scene.span(role, row)]));
    }
    lines
}

/// A text in rows of so many columns, broken at blanks where that is possible.
#[must_use]
pub fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    let mut row = String::new();
    'text: for word in text.split_whitespace() {
        let mut word = word.to_owned();
        if !row.is_empty() && width(&row) + 1 + width(&word) > room {
            rows.push(std::mem::take(&mut row));
        }
        if !row.is_empty() {
            row.push(' ');
        }
        // A word that is longer than a row is cut.
        while width(&row) + width(&word) > room {
            if rows.len() >= MOST {
                break 'text;
            }
            let head: String = word.chars().take(room.saturating_sub(width(&row)).max(1)).collect();
            word = word.chars().skip(head.chars().count()).collect();
            rows.push(std::mem::take(&mut row) + &head);
        }
        row.push_str(&word);
        if rows.len() >= MOST {
            break;
        }
    }
    if !row.is_empty() || rows.is_empty() {
        rows.push(row);
    }
    rows.truncate(MOST);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_wrapped_at_blanks_and_a_word_that_is_too_long_is_cut() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrapped("", 4), [""]);
        assert_eq!(wrapped(&"word ".repeat(10_000), 4).len(), MOST);
        for row in wrapped("θ_mig = 5000 ms — and ever so on", 9) {
            assert!(width(&row) <= 9, "{row}");
        }
    }
}
