//! What goes from one host to another, over real sockets and sessions: images, pages and files.

#![expect(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

mod damage;
mod following;
mod pages;
mod support;
mod transports;
mod trees;
