//! What goes over the wire between orchestrator and agents: messages, key expressions, version, limits.
//!
//! No I/O. Whatever comes from a peer passes [`envelope::open`], which bounds it and checks its version before
//! anything of it is parsed into a message.

pub mod agent;
pub mod check;
pub mod container;
pub mod doctor;
pub mod envelope;
pub mod flight;
pub mod following;
pub mod forecast;
pub mod handover;
pub mod heard;
pub mod keys;
pub mod link;
pub mod metrics;
pub mod name;
pub mod record;
pub mod refusal;
pub mod request;
pub mod secret;
pub mod step;
pub mod time;
pub mod transfer;

pub use name::{HostName, MigrationId, NameError, ServiceName};
pub use refusal::{Refusal, RefusalCode};
pub use request::{Reply, Request, Response};
pub use time::Timestamp;
