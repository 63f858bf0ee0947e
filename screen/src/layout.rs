//! Which panes are where.
