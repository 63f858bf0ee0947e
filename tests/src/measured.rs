//! Figures that a test takes on a machine which may be busy with others' work.

/// How often one may be off: much else to do spoils one, what does not hold spoils all.
const TRIES: usize = 3;

/// Takes a figure until it is as it should be.
///
/// # Panics
///
/// If it never was; all that was amiss is told.
pub fn measured<T>(what: &str, mut once: impl FnMut() -> Result<T, String>) -> T {
    let mut off = Vec::new();
    for _ in 0..TRIES {
        match once() {
            Ok(taken) => return taken,
            Err(why) => {
                eprintln!("{what}: {why}");
                off.push(why);
            }
        }
    }
    panic!("{what}: {off:#?}");
}

/// An error unless a figure is as it should be.
///
/// # Errors
///
/// `otherwise`.
pub fn held(so: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if so { Ok(()) } else { Err(otherwise()) }
}
