//! The command line: the program itself, run without a lab, some of it with agents that answer by a script.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod check;
mod doctor;
mod documents;
mod exits;
mod manual;
mod readme;
mod schema;
mod script;
mod support;
