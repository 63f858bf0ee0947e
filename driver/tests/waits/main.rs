//! Every wait and every deadline of both sides, on a clock that stands still: what is done when, to the millisecond. What takes time, what
//! fails and what the other side says is scripted, and each test compares what was done, and when, with what was to be.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod arrival_ends;
mod arrival_listens;
mod departure_asks;
mod departure_ends;
mod rehearsal;
mod stopped;
mod stubs;
