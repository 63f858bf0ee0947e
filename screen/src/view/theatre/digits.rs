//! Digits that are read from the back of a room: six rows high, and a multiple of that where there is room.

use mose_pam::Millis;
use ratatui::buffer::Buffer;
use ratatui::style::Style;

/// Rows of a digit.
pub(super) const ROWS: u16 = 6;
/// Columns between two.
const GAP: u16 = 1;

/// A digit: a bit for each column, the highest at the left; and how many columns it has.
const fn shape(digit: char) -> (u16, [u8; ROWS as usize]) {
    match digit {
        '0' => (6, [0b11_1111, 0b11_0011, 0b11_0011, 0b11_0011, 0b11_0011, 0b11_1111]),
        '1' => (6, [0b00_1100, 0b11_1100, 0b00_1100, 0b00_1100, 0b00_1100, 0b11_1111]),
        '2' => (6, [0b11_1111, 0b00_0011, 0b11_1111, 0b11_0000, 0b11_0000, 0b11_1111]),
        '3' => (6, [0b11_1111, 0b00_0011, 0b01_1111, 0b00_0011, 0b00_0011, 0b11_1111]),
        '4' => (6, [0b11_0011, 0b11_0011, 0b11_0011, 0b11_1111, 0b00_0011, 0b00_0011]),
        '5' => (6, [0b11_1111, 0b11_0000, 0b11_1111, 0b00_0011, 0b00_0011, 0b11_1111]),
        '6' => (6, [0b11_1111, 0b11_0000, 0b11_1111, 0b11_0011, 0b11_0011, 0b11_1111]),
        '7' => (6, [0b11_1111, 0b00_0011, 0b00_0110, 0b00_1100, 0b00_1100, 0b00_1100]),
        '8' => (6, [0b11_1111, 0b11_0011, 0b11_1111, 0b11_0011, 0b11_0011, 0b11_1111]),
        '9' => (6, [0b11_1111, 0b11_0011, 0b11_1111, 0b00_0011, 0b00_0011, 0b11_1111]),
        '.' => (2, [0, 0, 0, 0, 0, 0b11]),
        _ => (6, [0, 0, 0b11_1111, 0, 0, 0]),
    }
}

/// A time as a few digits, and its unit.
pub(super) fn number(time: Option<Millis>) -> (String, &'static str) {
    match time.map(|time| time.0).filter(|ms| ms.is_finite() && *ms >= 0.0) {
        None => ("-".to_owned(), ""),
        Some(ms) if ms < 999.5 => (format!("{ms:.0}"), "ms"),
        Some(ms) if ms < 9_995.0 => (format!("{:.2}", ms / 1e3), "s"),
        Some(ms) if ms < 99_950.0 => (format!("{:.1}", ms / 1e3), "s"),
        Some(ms) if ms < 999_500.0 => (format!("{:.0}", ms / 1e3), "s"),
        Some(ms) => (format!("{:.0}", (ms / 60_000.0).min(9999.0)), "min"),
    }
}

/// The columns that a number takes.
pub(super) fn width(number: &str, times: u16) -> u16 {
    let digits = number.chars().map(|digit| shape(digit).0 + GAP).sum::<u16>();
    digits.saturating_sub(GAP) * times
}

/// Draws a number with its left upper corner there.
pub(super) fn draw(number: &str, times: u16, ink: &str, style: Style, (x, y): (u16, u16), buf: &mut Buffer) {
    let mut left = x;
    for digit in number.chars() {
        let (columns, rows) = shape(digit);
        for (row, bits) in (0..).zip(rows) {
            for column in (0..columns).filter(|column| bits >> (columns - 1 - column) & 1 == 1) {
                let (from, to) = (left + column * times, y + row * times);
                for (dx, dy) in (0..times).flat_map(|dx| (0..times).map(move |dy| (dx, dy))) {
                    buf.set_stringn(from + dx, to + dy, ink, 1, style);
                }
            }
        }
        left += (columns + GAP) * times;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_few_digits_whatever_the_time() {
        for (ms, shown) in [
            (0.0, ("0", "ms")),
            (203.4, ("203", "ms")),
            (999.6, ("1.00", "s")),
            (9_994.0, ("9.99", "s")),
            (9_996.0, ("10.0", "s")),
            (99_960.0, ("100", "s")),
            (1e6, ("17", "min")),
        ] {
            let (number, unit) = number(Some(Millis(ms)));
            assert_eq!((number.as_str(), unit), shown);
            assert!(width(&number, 1) <= 30);
        }
        assert_eq!(number(None).0, "-");
        assert_eq!(number(Some(Millis(f64::NAN))).0, "-");
    }

    #[test]
    fn digits_are_told_apart_and_six_rows_high() {
        let shapes: std::collections::BTreeSet<_> = ('0'..='9').map(|digit| shape(digit).1).collect();
        assert_eq!(shapes.len(), 10);
        assert!(('0'..='9').all(|digit| shape(digit).1[0] != 0 && shape(digit).1[5] != 0));
    }
}
