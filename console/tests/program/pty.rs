//! The real program on a pseudo-terminal, whose picture is read as a terminal would show it.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program on a terminal of its own.
pub(crate) struct Pty {
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    screen: Arc<Mutex<vt100::Parser>>,
    raw: Arc<Mutex<Vec<u8>>>,
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}

impl Pty {
    /// Starts a program, at home in `home`.
    pub(crate) fn run(mut command: CommandBuilder, home: &Path, columns: u16, rows: u16) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).unwrap();
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        command.env("XDG_CONFIG_HOME", home.join("config"));
        command.env("XDG_DATA_HOME", home.join("data"));
        command.env_remove("NO_COLOR");
        command.env_remove("LC_ALL");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let keys = pair.master.take_writer().unwrap();
        let mut output = pair.master.try_clone_reader().unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let raw = Arc::new(Mutex::new(Vec::new()));
        let (shown, kept) = (screen.clone(), raw.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                shown.lock().unwrap().process(&buffer[..count]);
                kept.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { master: pair.master, child, keys, screen, raw }
    }

    /// Types.
    pub(crate) fn keys(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// What the terminal shows.
    pub(crate) fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until the terminal shows something.
    pub(crate) fn wait(&mut self, what: &str, shows: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if shows(&text) {
                return text;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("mose ended ({status:?}) before it showed {what}:\n{text}");
            }
            assert!(Instant::now() < deadline, "mose never showed {what}:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the terminal shows a text.
    pub(crate) fn wait_for(&mut self, wanted: &str) -> String {
        self.wait(wanted, |text| text.contains(wanted))
    }

    /// Where the terminal shows a text: its first column and row, from 0.
    pub(crate) fn place(&self, wanted: &str) -> Option<(u16, u16)> {
        let screen = self.screen.lock().unwrap();
        let (rows, columns) = screen.screen().size();
        (0..rows).find_map(|row| {
            let cells: Vec<&str> = (0..columns)
                .map(|column| screen.screen().cell(row, column).map_or(" ", vt100::Cell::contents))
                .map(|text| if text.is_empty() { " " } else { text })
                .collect();
            let column = (0..cells.len()).find(|from| cells[*from..].concat().starts_with(wanted))?;
            Some((u16::try_from(column).unwrap(), row))
        })
    }

    /// Presses the left button at one place, moves it to the other, and lets it go (SGR 1006, as xterm reports it).
    pub(crate) fn drag(&mut self, from: (u16, u16), to: (u16, u16)) {
        let at = |(column, row): (u16, u16)| format!("{};{}", column + 1, row + 1);
        self.keys(&format!("\u{1b}[<0;{}M\u{1b}[<32;{}M\u{1b}[<0;{}m", at(from), at(to), at(to)));
    }

    /// Another size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(rows, columns);
        self.master.resize(size(columns, rows)).unwrap();
    }

    /// The program's process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.process_id().unwrap()).unwrap()
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "mose did not end:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the terminal was handed back: the screen before, the cursor, the mouse, its modes.
    pub(crate) fn is_handed_back(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let back = {
                // Not held while this waits: what the program writes could not be read then.
                let screen = self.screen.lock().unwrap();
                let screen = screen.screen();
                !screen.alternate_screen()
                    && !screen.hide_cursor()
                    && !screen.bracketed_paste()
                    && screen.mouse_protocol_mode() == vt100::MouseProtocolMode::None
            };
            if back || Instant::now() > deadline {
                return back;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that was written to the terminal.
    pub(crate) fn raw(&self) -> String {
        String::from_utf8_lossy(&self.raw.lock().unwrap()).into_owned()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
