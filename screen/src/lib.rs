//! What the console shows and how it reacts: state, actions, updates, views. Pure: no session, no file, no clock; time is passed
//! in, effects are handed out, and the whole can be driven by typed keys on a terminal in memory.

pub mod action;
pub mod app;
pub mod config;
pub mod config_error;
pub mod derived;
pub mod effect;
pub mod event;
pub mod fleet_event;
pub mod hit;
pub mod keymap;
pub mod layout;
pub mod loaded;
pub mod palette;
pub mod pane;
mod phrase;
pub mod recording;
pub mod state;
pub mod theme;
pub mod update;
pub mod view;
