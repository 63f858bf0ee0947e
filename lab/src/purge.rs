//! Removing the cache, with everything that every part of the lab keeps in it.

use std::fs;

use crate::cache::{BUILDING, LOCK, entries};
use crate::config::LabConfig;
use crate::doctor::require_root;
use crate::error::LabError;
use crate::files::remove_all;
use crate::guest;
use crate::lab::Lab;
use crate::state::Lock;
use crate::trial;

impl Lab {
    /// Removes the cache: the root file system, the images and what guests are made of. Not while a lab is up on it.
    ///
    /// # Errors
    /// It could not be removed.
    pub fn purge(config: &LabConfig) -> Result<(), LabError> {
        let cache = &config.cache_dir;
        if !cache.exists() {
            return Ok(());
        }
        require_root()?;
        let _lock = Lock::take(&cache.join(LOCK))?;
        for prefix in ["rootfs-", "image", trial::image::PREFIX, "guest-boot-", "guest-tools-", BUILDING] {
            entries(cache, prefix)?.iter().try_for_each(|path| remove_all(path))?;
        }
        guest::sweep(cache)?;
        for file in ["rootfs.log", "trial.log", "guest-tools.log", "guest-acceleration", LOCK] {
            let _ = fs::remove_file(cache.join(file));
        }
        // Only if nothing else is in it.
        let _ = fs::remove_dir(cache);
        Ok(())
    }
}
