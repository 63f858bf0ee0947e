//! `mose-lab`: the testbed's commands, which `mose lab …` and `mose calibrate` start.

mod against;
mod calibrate;
mod compare;
mod connections;
mod course;
mod faults;
mod guard;
mod guest;
mod lab;
mod laps;
mod moved;
mod paper;
mod profiling;
mod rehearsals;
mod rounds;
mod services;
mod strategies;
mod targets;
mod tell;
mod testbed;
mod uav;
mod unmovable;
mod vehicle;
mod volumes;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mose_console::arguments::Shared;
use mose_console::exit;
use mose_console::lab::{Topic, commands};
use mose_lab::{CgroupMode, LinkRate};

/// The testbed on this machine: what `mose lab` starts.
#[derive(Parser)]
#[command(name = "mose-lab", version)]
struct Arguments {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Lab(commands::Lab<LinkRate, CgroupMode>),
    /// Measure how long migrations between two hosts of the lab take, and keep the model's parameters fitted to it.
    Calibrate(commands::Calibrate),
    /// Tell `mose` what it asks for.
    #[command(hide = true)]
    Tell {
        /// What it asks for.
        topic: Topic,
    },
}

fn main() -> ExitCode {
    // The init of a lab's host: nothing else may run before it.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "lab-init") {
        let config = words.next().unwrap_or_default();
        return match mose_lab::init::run(Path::new(&config)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        };
    }
    // A reader that has enough, such as `head`, ends a listing; it is no failure.
    // SAFETY: the default action is installed before there is any other thread.
    let _ = unsafe {
        nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)
    };
    if let Err(error) = color_eyre::install() {
        return fail(&error);
    }
    let Arguments { shared, command } = Arguments::parse();
    mose_console::log::to_stderr();
    let done = match command {
        Command::Lab(command) => lab::run(command),
        Command::Calibrate(options) => calibrate::run(&options, &shared.connect, shared.json),
        Command::Tell { topic } => Ok(tell::run(topic)),
    };
    done.unwrap_or_else(|error| fail(&error))
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    // The command line says `mose lab`, whichever program carries it out.
    eprintln!("mose: {error:#}");
    ExitCode::from(exit::FAILED)
}
