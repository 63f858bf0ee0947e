//! The kinds of dump that Podman is asked for.

/// What a dump is of, and what becomes of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DumpKind {
    /// Whether it is of what was written to since the newest pre-dump of the chain; else of all of it.
    pub(super) with_previous: bool,
    /// Whether the container goes on running.
    pub(super) goes_on: bool,
}
