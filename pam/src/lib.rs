//! MOSE: `pam`.
