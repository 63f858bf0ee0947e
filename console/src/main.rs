//! `mose`: the orchestrator's command line.

mod checkup;
mod cli;
mod commands;
mod lab;
mod manual;
mod open;
mod plan;
mod record;
mod testbed;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Arguments, Command};

fn main() -> ExitCode {
    // The init of a lab's host: nothing of the console may run before it.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "lab-init") {
        let config = words.next().unwrap_or_default();
        return match mose_lab::init::run(std::path::Path::new(&config)) {
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
    let arguments = Arguments::parse();
    let json = arguments.json;
    // The console shows its log in a pane; printed, it would lie over the picture.
    match &arguments.command {
        None => {
            return open::run(&arguments.console, &arguments.connect).unwrap_or_else(|error| fail(&error));
        }
        Some(Command::Replay { file, console }) => {
            return open::replay(console, file).unwrap_or_else(|error| fail(&error));
        }
        Some(_) => {}
    }
    if let Some(Command::Config { schema }) = &arguments.command {
        return commands::print_config(*schema);
    }
    let Some(command) = arguments.command else { return ExitCode::SUCCESS };
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("MOSE_LOG")
                .unwrap_or_else(|_| "warn,zenoh=off".into()),
        )
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
    match command {
        Command::Lab { command } => lab::run(command).unwrap_or_else(|error| fail(&error)),
        Command::Plan(plan) => plan::run(&plan, &arguments.connect, json),
        Command::Demo(options) => testbed::run(&options, json),
        Command::Calibrate(options) => {
            lab::calibrate::run(&options, &arguments.connect, json).unwrap_or_else(|error| fail(&error))
        }
        Command::Doctor { hosts } => checkup::run(&hosts, &arguments.connect, json),
        Command::Schema { name } => manual::schema(name),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { output } => manual::man(output.as_deref()).unwrap_or_else(|error| fail(&error)),
        command => commands::run(command, &arguments.connect, json),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("mose: {error:#}");
    ExitCode::from(mose_console::exit::FAILED)
}
