//! Doing something in another network namespace: a socket belongs to the one that its thread was in when it was made.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

/// Does something on a thread in a network namespace, given as a file (network_namespaces(7)); here where none is given.
///
/// # Errors
/// The namespace cannot be entered, or what is done fails.
pub fn within<T: Send>(netns: Option<&Path>, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let Some(netns) = netns else { return work() };
    let entered = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot enter the network namespace {}: {error}", netns.display()),
        )
    };
    let namespace = File::open(netns).map_err(entered)?;
    let there = || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|error| entered(error.into()))?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(there).join())
        .unwrap_or_else(|_| Err(io::Error::other("a thread in another network namespace has panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_entered_is_named_and_nothing_is_done() {
        assert_eq!(within(None, || Ok(7)).unwrap(), 7);
        let done = within(Some(Path::new("/nowhere/netns")), || Ok(7));
        assert!(done.unwrap_err().to_string().contains("/nowhere/netns"));
        // A file that is no namespace.
        assert!(within(Some(Path::new("/proc/self/status")), || Ok(7)).is_err());
    }
}
