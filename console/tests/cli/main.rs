//! The command line: the program itself, run without a lab.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod readme;
mod support;
