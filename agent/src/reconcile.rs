//! What an agent does at its start about migrations that its earlier life left open at their source.

use std::sync::Arc;

use crate::agent::Agent;

impl Agent {
    /// Takes up every migration that left from here: what was ours is brought back, what was relinquished is
    /// asked for.
    pub(crate) fn reconcile_sources(self: &Arc<Self>) {
        for found in self.journals.sources() {
            tracing::info!(migration = %found.head.task.migration, state = ?found.state, "was left open");
            self.take_up(found);
        }
    }
}
