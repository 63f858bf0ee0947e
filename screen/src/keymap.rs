//! Which keys do what.
