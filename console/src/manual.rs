//! What the program tells of itself: completions, man pages, the schemas of its documents.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use color_eyre::eyre::WrapErr;
use mose_console::documents::{Document, print_json};
use mose_console::lab::{self, AskError, SOON, Topic};
use schemars::Schema;
use serde_json::{Map, Value};

use crate::cli::Arguments;

/// Prints the schema of a document, or those of all.
pub(crate) fn schema(document: Option<Document>) -> ExitCode {
    let Some(document) = document else {
        print_json(&schemas());
        return ExitCode::SUCCESS;
    };
    let schema = match document.schema() {
        Some(schema) => Some(schema),
        None => match of_lab() {
            Ok(mut schemas) => schemas.remove(&document.name()),
            Err(error) => return crate::fail(&error),
        },
    };
    print_json(&schema);
    ExitCode::SUCCESS
}

/// The schemas of all documents, by name. Without `mose-lab` there is nothing that prints the lab's; what is left out is said.
fn schemas() -> Map<String, Value> {
    let own = Document::each().filter_map(|document| Some((document.name(), document.schema()?.to_value())));
    let mut all: Map<String, Value> = own.collect();
    match of_lab() {
        Ok(schemas) => all.extend(schemas.into_iter().map(|(name, schema)| (name, schema.to_value()))),
        Err(error) => eprintln!("mose: what the lab's commands print is left out: {error}"),
    }
    all
}

fn of_lab() -> Result<BTreeMap<String, Schema>, AskError> {
    lab::ask(Topic::Schemas, SOON)
}

/// Prints the completions for a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Arguments::command(), "mose", &mut std::io::stdout());
    ExitCode::SUCCESS
}

/// Prints all man pages, or writes them into a folder, one file each.
pub(crate) fn man(folder: Option<&Path>) -> color_eyre::Result<ExitCode> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    // Names and the options that all commands share are put into each of them.
    command.build();
    let mut all = Vec::new();
    pages(&command, &mut all).wrap_err("the manual cannot be written")?;
    match folder {
        None => {
            for (_, text) in &all {
                std::io::stdout().write_all(text).wrap_err("the manual cannot be printed")?;
            }
        }
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .wrap_err_with(|| format!("{} cannot be made", folder.display()))?;
            for (name, text) in &all {
                let path = folder.join(name);
                std::fs::write(&path, text)
                    .wrap_err_with(|| format!("{} cannot be written", path.display()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of a command and those of the commands below it, each with its file's name.
fn pages(command: &clap::Command, all: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    all.push((page.get_filename(), text));
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| pages(below, all))
}
