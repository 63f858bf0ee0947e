//! The program from outside: its command line, some of it with agents that answer by a script; its console on a pseudo-terminal; and
//! the demo testbed. One program for all of these tests, as each would be linked with all that the agents are.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

mod check;
mod decide;
mod demo;
mod doctor;
mod documents;
mod exits;
mod follow;
mod following;
mod lab;
mod manual;
mod plan;
mod pty;
mod readme;
mod record;
mod rehearsal;
mod schema;
mod script;
mod silent;
mod support;
mod terminal;
mod told;
