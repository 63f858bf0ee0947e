//! Draws the moments of the test's fleet as a terminal would show them, into files with ANSI escapes: for a look at what a change
//! does, and for the pictures that `assets/picture.py` makes of them. No agent, no terminal.
//!
//! `cargo run --release -p mose-screen --example capture -- FOLDER [THEME] [COLUMNS] [ROWS]`

use std::fmt::Write as _;
use std::path::PathBuf;

#[path = "../tests/support/mod.rs"]
#[expect(
    dead_code,
    clippy::expect_used,
    reason = "the tests use more of it, and a fixture that cannot be made is a fault in it"
)]
mod support;

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use support::canvas::{Easel, rows};
use support::{moments, theatre};

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(folder) = args.next().map(PathBuf::from) else {
        return Err(std::io::Error::other("give the folder to write to, such as /tmp/captures"));
    };
    let theme = args.next().unwrap_or_else(|| "dark".to_owned());
    let mut number = |default| args.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let size = (number(120), number(40));
    std::fs::create_dir_all(&folder)?;
    let easel = Easel::new(&theme);
    for (name, mut state) in moments::all().into_iter().chain(theatre::all()) {
        for layout in 0..easel.layouts.len() {
            state.ui.layout = layout;
            easel.focus_first(&mut state, size);
            let file = format!("{name}-{}-{theme}-{}x{}.ansi", easel.layouts[layout].name, size.0, size.1);
            std::fs::write(folder.join(file), ansi(&easel.draw(&state, size).0))?;
        }
    }
    let mut state = moments::with_past(support::fleet::quiet());
    for (name, dialog) in moments::dialogs() {
        state.ui.dialogs = vec![dialog];
        let file = format!("dialog-{name}-{theme}-{}x{}.ansi", size.0, size.1);
        std::fs::write(folder.join(file), ansi(&easel.draw(&state, size).0))?;
    }
    Ok(())
}

/// The rows with the escapes that a terminal is painted with.
fn ansi(buffer: &Buffer) -> String {
    let mut out = String::new();
    for row in rows(buffer) {
        let mut last = None;
        for cell in row {
            let style = (cell.fg, cell.bg, cell.modifier);
            if last != Some(style) {
                out.push_str("\x1b[0");
                for (modifier, code) in [
                    (Modifier::BOLD, 1),
                    (Modifier::DIM, 2),
                    (Modifier::ITALIC, 3),
                    (Modifier::UNDERLINED, 4),
                    (Modifier::REVERSED, 7),
                ] {
                    if cell.modifier.contains(modifier) {
                        let _ = write!(out, ";{code}");
                    }
                }
                out.push_str(&colour(cell.fg, 30));
                out.push_str(&colour(cell.bg, 40));
                out.push('m');
                last = Some(style);
            }
            out.push_str(cell.symbol());
        }
        out.push_str("\x1b[0m\n");
    }
    out
}

fn colour(colour: Color, base: u8) -> String {
    let named = |number: u8| {
        let code = if number < 8 { base + number } else { base + 60 + number - 8 };
        format!(";{code}")
    };
    match colour {
        Color::Reset => String::new(),
        Color::Black => named(0),
        Color::Red => named(1),
        Color::Green => named(2),
        Color::Yellow => named(3),
        Color::Blue => named(4),
        Color::Magenta => named(5),
        Color::Cyan => named(6),
        Color::Gray => named(7),
        Color::DarkGray => named(8),
        Color::LightRed => named(9),
        Color::LightGreen => named(10),
        Color::LightYellow => named(11),
        Color::LightBlue => named(12),
        Color::LightMagenta => named(13),
        Color::LightCyan => named(14),
        Color::White => named(15),
        Color::Rgb(r, g, b) => format!(";{};2;{r};{g};{b}", base + 8),
        Color::Indexed(index) => format!(";{};5;{index}", base + 8),
    }
}
