//! One of every kind of kernel object that a process can hold, in the states that are easily lost: for the program `mose-holdall`,
//! which tells all of it as text, so that what a migration loses shows as a line that differs.
//!
//! *Telling* changes nothing. *Proving* uses things up (reads what was not read, waits for timers), and is compared with what
//! another instance proves that was never moved.

mod descriptors;
mod files;
mod ipc;
mod memory;
mod process;
mod sleeps;
mod sockets;
mod sys;
mod timers;

use std::fmt::Display;
use std::io;

/// What is told, one line each.
#[derive(Debug, Default)]
pub struct Told(Vec<String>);

impl Told {
    /// Notes one thing and how it is.
    pub fn say(&mut self, what: impl Display, how: impl Display) {
        self.0.push(format!("{what}: {how}"));
    }

    /// The text.
    #[must_use]
    pub fn text(self) -> String {
        let mut text = self.0.join("\n");
        text.push('\n');
        text
    }
}

/// Some of what a process can hold.
trait Object {
    /// Tells its state without changing it.
    fn tell(&self, told: &mut Told);

    /// Uses it, and tells what came of it.
    fn prove(&self, told: &mut Told) {
        let _ = told;
    }
}

/// All of it.
pub struct Objects(Vec<Box<dyn Object>>);

impl Objects {
    /// Makes everything, in the folder `place`, which must be empty or not there.
    ///
    /// # Errors
    /// What could not be made.
    pub fn make(place: &std::path::Path) -> io::Result<Self> {
        std::fs::create_dir_all(place)?;
        Ok(Self(vec![
            Box::new(files::Files::make(place)?),
            Box::new(descriptors::Descriptors::make(place)?),
            Box::new(sockets::Sockets::make(place)?),
            Box::new(ipc::Ipc::make()?),
            Box::new(memory::Memory::make(place)?),
            Box::new(timers::Timers::make()?),
            Box::new(sleeps::Sleeps::make()?),
            // Last: it restricts what this process may do.
            Box::new(process::Processes::make(place)?),
        ]))
    }

    /// Everything's state.
    #[must_use]
    pub fn tell(&self) -> String {
        let mut told = Told::default();
        self.0.iter().for_each(|object| object.tell(&mut told));
        told.text()
    }

    /// What comes of using everything.
    #[must_use]
    pub fn prove(&self) -> String {
        let mut told = Told::default();
        self.0.iter().for_each(|object| object.prove(&mut told));
        told.text()
    }
}
