//! What the table of actions asks of the state; the state itself comes with the screen.

/// What the screen knows.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) read_only: bool,
    pub(crate) source: Source,
}

/// Where what is shown comes from.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Agents.
    #[default]
    Live,
}

impl Source {
    pub(crate) const fn is_replay(self) -> bool {
        match self {
            Self::Live => false,
        }
    }
}

impl State {
    pub(crate) fn allows(&self, _: crate::action::Action) -> Result<(), String> {
        Ok(())
    }
}
