//! The counter: a workload whose every fault shows.
//!
//! Third-party servers tell when messages are missing, but not whether the memory behind them came along whole. This one
//! holds state that can be verified, dirties it at a known rate, and numbers its replies in memory, so a client sees a
//! service that was started anew, answered twice, or lost a page.

pub mod crowd;
pub mod frames;
pub mod ping;
pub mod protocol;
mod readable;
mod sent_again;
pub mod server;
pub mod state;
