//! Everything end to end: the real programs, in a real lab. One program for all of it, as each would be linked on its own.

mod archive;
mod bandwidth;
mod connections;
mod console;
mod fault_table;
mod faults;
mod frozen_lab;
mod guest;
mod hangs;
mod house;
mod lab_bench;
mod lab_lifecycle;
mod lab_services;
mod links;
mod migration;
mod objects;
mod options;
mod pre_copy;
mod refusals;
mod rehearsal;
mod services;
mod uav;
mod unmovable;
mod volumes;
mod what_moves;
