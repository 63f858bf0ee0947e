//! Trials: real services under real clients, moved while they are at work, and their contents held against what the clients
//! were told was kept. What is tried, and how, is known here only.
//!
//! A trial does not move anything itself. Whoever has it moved asks it to begin, has the service moved, asks it to end, and has
//! it compare.

mod crowd;
mod events;
pub(crate) mod image;
mod mosquitto;
mod nginx;
mod postgres;
mod redis;
mod site;
mod software;
mod sqlite;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use events::{Contents, Events, Figures};
pub use image::ensure as ensure_image;
pub use site::Site;
pub use software::{SOFTWARE, Software};

use crate::error::LabError;

/// When contents are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The service runs, as it was moved.
    Running,
    /// It was stopped and started again: only what is in its volume is there.
    Restarted,
}

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What fits into a check: a file of 64 MiB.
    Bounded,
    /// A file of 1 GiB, pgbench for a minute.
    Full,
}

/// A service under its clients.
pub trait Trial {
    /// Puts into the service, on this host, what the clients will find there.
    ///
    /// # Errors
    /// It could not.
    fn prepare(&mut self, _host: &str) -> Result<(), LabError> {
        Ok(())
    }

    /// Starts the clients; all are at work when it returns.
    ///
    /// # Errors
    /// One of them got no answer.
    fn begin(&mut self) -> Result<(), LabError>;

    /// Has the clients end; what they saw.
    ///
    /// # Errors
    /// What they saw cannot be told.
    fn end(&mut self) -> Result<Events, LabError>;

    /// Compares what the service on this host holds with what the clients were told was kept.
    ///
    /// # Errors
    /// The service cannot be asked.
    fn compare(&mut self, host: &str, moment: Moment) -> Result<Contents, LabError>;
}

/// The trial of a site's software.
#[must_use]
pub fn of<'a>(site: Site<'a>, extent: Extent) -> Box<dyn Trial + 'a> {
    let full = extent == Extent::Full;
    match site.software.name {
        "redis" => Box::new(redis::Redis::new(site)),
        "mosquitto" => Box::new(mosquitto::Mosquitto::new(site)),
        "sqlite" => Box::new(sqlite::Sqlite::new(site)),
        "postgres" => {
            Box::new(postgres::Postgres::new(site, Duration::from_secs(if full { 60 } else { 20 })))
        }
        _ => {
            let (size, takes) = if full { (1 << 30, 60) } else { (64 << 20, 8) };
            Box::new(nginx::Nginx::new(site, size, Duration::from_secs(takes)))
        }
    }
}

/// The files that a guest needs for these images to be there: each with the place it has in the cache.
#[must_use]
pub fn guest_files(archives: &[PathBuf]) -> Vec<crate::guest::GuestFile> {
    let file = |folder: &Path| crate::guest::GuestFile { from: folder.to_owned(), to: folder.to_owned() };
    archives.iter().map(|archive| file(image::folder(archive))).collect()
}
