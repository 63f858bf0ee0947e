//! Draws the moments of the test's fleet as a terminal would show them, into files with ANSI escapes: for a look at what a change
//! does, and for the pictures that `assets/picture.py` makes of them. No agent, no terminal.
//!
//! `cargo run --release -p mose-screen --example capture -- FOLDER [THEME] [COLUMNS] [ROWS]`

use std::path::PathBuf;

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod support;

use support::canvas::{Easel, ansi};
use support::moments;

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
    for (name, mut state) in moments::all() {
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
