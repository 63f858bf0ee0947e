//! `mose`: the command line.

mod cli;
mod commands;
mod connect;
mod console;
mod demo;
mod doctor_command;
mod manual;
mod plan;
mod record;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use mose_console::lab;

use crate::cli::{Arguments, Command};

fn main() -> ExitCode {
    // A reader that has enough, such as `head`, ends a listing; it is no failure.
    // SAFETY: the default action is installed before there is any other thread.
    let _ = unsafe {
        nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)
    };
    if let Err(error) = color_eyre::install() {
        return fail(&error);
    }
    let arguments = Arguments::parse();
    let json = arguments.shared.json;
    // The console shows its log in a pane; printed, it would lie over the picture.
    match &arguments.command {
        None => {
            return console::run(&arguments.console, &arguments.shared.connect)
                .unwrap_or_else(|error| fail(&error));
        }
        Some(Command::Replay { file, console }) => {
            return console::replay(console, file).unwrap_or_else(|error| fail(&error));
        }
        Some(_) => {}
    }
    if let Some(Command::Config { schema }) = &arguments.command {
        return commands::print_config(*schema);
    }
    let Some(command) = arguments.command else { return ExitCode::SUCCESS };
    mose_console::log::to_stderr();
    match command {
        Command::Lab { .. } => hand_over("lab", &[]),
        Command::Plan(plan) => plan::run(&plan, &arguments.shared.connect, json),
        Command::Demo(options) => demo::run(&options, json),
        Command::Calibrate(_) => hand_over("calibrate", &["calibrate"]),
        Command::Doctor { hosts } => doctor_command::run(&hosts, &arguments.shared.connect, json),
        Command::Schema { name } => manual::schema(name),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { output } => manual::man(output.as_deref()).unwrap_or_else(|error| fail(&error)),
        command => commands::run(command, &arguments.shared.connect, json),
    }
}

/// What the testbed does, another program does in this one's place.
fn hand_over(command: &'static str, first: &[&str]) -> ExitCode {
    let Err(error) = lab::hand_over(Arguments::command(), command, first);
    fail(&error)
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("mose: {error:#}");
    ExitCode::from(mose_console::exit::FAILED)
}
