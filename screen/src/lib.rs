//! The screen: what it shows and how it reacts. Pure: no I/O but what is passed in, no clock.

pub mod action;
pub mod config;
pub mod config_error;
pub mod keymap;
pub mod layout;
pub mod loaded;
pub mod pane;
mod state;
pub mod theme;
