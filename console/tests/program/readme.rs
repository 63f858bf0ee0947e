//! What the README and `docs/` say of the program, and the program's own help, held against each other by running the program.

use std::path::Path;

use crate::support::{mose, stderr, stdout};
use mose_console::exit;

/// The README and the pages of `docs/`, one after another.
fn documents() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut pages = vec![root.join("README.md")];
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    assert!(pages.len() > 6, "{pages:?}");
    pages.iter().map(|page| std::fs::read_to_string(page).unwrap()).collect::<Vec<_>>().join("\n")
}

/// The words of a shell's line: quotes are taken off, a comment ends it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.push(c),
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == '#' && word.is_empty() => break,
            None if c.is_whitespace() => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            None => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// The examples of `mose`, in blocks of shell, without what stands behind `&&`, `|` and `>`.
fn examples() -> Vec<Vec<String>> {
    let text = documents().replace("\\\n", " ");
    let mut examples = Vec::new();
    let mut in_shell = false;
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            in_shell = kind == "sh";
            continue;
        }
        let words = words(line);
        if in_shell {
            let commands = words.split(|word| ["&&", "|", ">"].contains(&word.as_str()));
            examples
                .extend(commands.filter(|c| c.first().is_some_and(|w| w == "mose")).map(|c| c[1..].to_vec()));
        }
    }
    examples
}

/// Runs a command line with `--help`: all that stands before it is read and checked, and nothing is done.
#[track_caller]
fn is_understood(line: &[String]) -> String {
    let own = line.iter().position(|word| word == "--").unwrap_or(line.len());
    let mut words: Vec<&str> = line[..own].iter().map(String::as_str).collect();
    words.push("--help");
    let output = mose(&words);
    assert!(output.status.success(), "mose {}: {}", line.join(" "), stderr(&output));
    stdout(&output)
}

#[test]
fn every_example_of_readme_and_docs_is_a_command_line_that_the_program_understands() {
    let examples = examples();
    assert!(examples.len() > 15, "{examples:?}");
    for example in &examples {
        is_understood(example);
    }
}

/// The commands that a cell of the table names, such as `` `mose lab baseline`, `strategies` ``, each with the options beside it.
fn commands_of(cell: &str, before: &[String]) -> Vec<Vec<String>> {
    let spans: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
    let is_command =
        |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
    let mut commands: Vec<Vec<String>> = Vec::new();
    for span in spans {
        let words: Vec<&str> = span.split_whitespace().collect();
        match words.as_slice() {
            ["mose", rest @ ..] => {
                commands.push(rest.iter().copied().take_while(is_command).map(str::to_owned).collect());
            }
            // Beside another: in the place of its last word.
            [word] if is_command(word) && !commands.is_empty() => {
                let mut beside = commands[0].clone();
                beside.pop();
                beside.push((*word).to_owned());
                commands.push(beside);
            }
            _ => {}
        }
    }
    if commands.is_empty() && cell.contains('…') { vec![before.to_vec()] } else { commands }
}

#[test]
fn every_command_of_the_table_has_help_that_knows_its_options() {
    let text = documents();
    let rows = text.lines().filter(|line| line.starts_with("| `mose ") || line.starts_with("| … "));
    let (mut before, mut count) = (Vec::new(), 0);
    for row in rows {
        let cell = row.trim_matches('|').split(" | ").next().unwrap();
        let commands = commands_of(cell, &before);
        assert!(!commands.is_empty(), "{row}");
        for command in &commands {
            let help = is_understood(command);
            if commands.len() == 1 {
                for option in
                    row.split(['`', ' ', '=', '.']).filter(|word| word.starts_with("--") && word.len() > 2)
                {
                    assert!(help.contains(option), "{}: no {option} in\n{help}", command.join(" "));
                }
            }
            count += 1;
        }
        before = commands[0].clone();
    }
    assert!(count > 15, "{count} commands in the table");
}

#[test]
fn every_command_of_the_program_is_documented() {
    let text = documents();
    for command in crate::manual::commands().iter().filter(|command| !command.is_empty()) {
        let (whole, last) = (format!("mose {}", command.join(" ")), command.last().unwrap());
        let named = text.contains(&whole) || (command.len() > 1 && text.contains(&format!("`{last}`")));
        assert!(named, "`{whole}` is neither in the README nor in docs/");
    }
}

#[test]
fn the_exit_codes_of_help_and_docs_are_those_of_the_program() {
    let text = documents();
    for words in [&["--help"][..], &["migrate", "--help"], &["doctor", "--help"]] {
        let help = stdout(&mose(words));
        for (code, name, meaning) in exit::TABLE {
            assert!(
                text.contains(&format!("| {code} | {name} | {meaning} |")),
                "code {code} in docs/commands.md"
            );
            let line = help.lines().find(|line| line.trim().starts_with(&format!("{code}  {name}"))).unwrap();
            assert!(line.ends_with(meaning), "{words:?}: {line}");
        }
    }
}
