//! The operator's files, where the XDG base directory specification has them.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use mose_screen::config::Config;
use mose_screen::loaded::{File, Files};

/// The largest file that is read: a config has some kilobytes.
const LARGEST: u64 = 1 << 20;
/// The most files of a folder.
const MOST: usize = 100;

/// Why the operator's files cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file that was named cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Where the operator's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// The config.
    pub config: PathBuf,
    /// Whether it was named, and so must be there.
    pub named: bool,
    /// Where recordings and exports go, if a path is relative.
    pub data: PathBuf,
}

impl Folders {
    /// `$XDG_CONFIG_HOME/mose/config.toml` and `$XDG_DATA_HOME/mose`; without a home, the present folder.
    #[must_use]
    pub fn find(named: Option<&Path>) -> Self {
        let (config, data) = match etcetera::choose_base_strategy() {
            Ok(base) => (base.config_dir().join("mose"), base.data_dir().join("mose")),
            Err(_) => (PathBuf::from("."), PathBuf::from(".")),
        };
        Self {
            config: named.map_or_else(|| config.join("config.toml"), Path::to_owned),
            named: named.is_some(),
            data,
        }
    }

    /// A path of the config, which begins at its folder if it is relative.
    fn beside(&self, path: &str) -> PathBuf {
        self.config.parent().unwrap_or(Path::new(".")).join(path)
    }

    /// Where recordings and exports go.
    #[must_use]
    pub fn recordings(&self, config: &Config) -> PathBuf {
        self.data.join(&config.files.recordings)
    }
}

/// Reads the operator's files; those that are not there are left out.
///
/// # Errors
/// Where the config was named and cannot be read. Of the others, a file that is there and cannot be read is passed over with a
/// line in the log.
pub fn read(folders: &Folders) -> Result<Files, FilesError> {
    let config = match text(&folders.config) {
        Ok(Some(file)) => Some(file),
        Ok(None) if folders.named => {
            let reason = "there is no such file".to_owned();
            return Err(FilesError::Unreadable { path: folders.config.clone(), reason });
        }
        Ok(None) => None,
        Err(error) if folders.named => return Err(error),
        Err(error) => {
            tracing::warn!(%error, "the default settings are used");
            None
        }
    };
    // Where the others are is said by the config; what is wrong with it is complained of later.
    let paths =
        config.as_ref().and_then(|file| Config::parse(&file.text, &file.path).ok()).unwrap_or_default().files;
    let keymap = text(&folders.beside(&paths.keymap)).unwrap_or_else(|error| {
        tracing::warn!(%error, "the built-in keys are used");
        None
    });
    Ok(Files {
        config,
        keymap,
        layouts: folder(&folders.beside(&paths.layouts)),
        themes: folder(&folders.beside(&paths.themes)),
    })
}

fn text(path: &Path) -> Result<Option<File>, FilesError> {
    let unreadable = |reason: String| FilesError::Unreadable { path: path.to_owned(), reason };
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    if size > LARGEST {
        return Err(unreadable(format!("it has {size} bytes, more than a settings file may")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    Ok(Some(File { path: path.display().to_string(), text }))
}

/// The TOML files of a folder, by name.
fn folder(path: &Path) -> Vec<File> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    let read = |path: PathBuf| match text(&path) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(%error, "passed over");
            None
        }
    };
    paths.into_iter().take(MOST).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_beside_the_config_and_those_that_are_missing_are_left_out() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config.toml");
        assert!(read(&Folders { config: config.clone(), named: true, data: home.path().into() }).is_err());
        std::fs::write(&config, "theme = \"light\"\n").unwrap();
        std::fs::create_dir(home.path().join("themes")).unwrap();
        std::fs::write(home.path().join("themes/b.toml"), "b").unwrap();
        std::fs::write(home.path().join("themes/a.toml"), "a").unwrap();
        std::fs::write(home.path().join("themes/notes.txt"), "no").unwrap();
        let folders = Folders { config, named: true, data: home.path().into() };
        let files = read(&folders).unwrap();
        assert!(files.config.is_some() && files.keymap.is_none() && files.layouts.is_empty());
        assert_eq!(files.themes.iter().map(|file| file.text.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(folders.recordings(&Config::default()), home.path().join("recordings"));
    }
}
