//! The house stands as `ARCHITECTURE.md` says: which crate knows which, no circles among crates or among modules that lie side by side,
//! no file that is too long to read; and links in its pages lead somewhere.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use modules::{Circle, circles, module_of};

/// The most lines that a file has.
const MOST_LINES: usize = 500;

/// The most bytes of the pages that everyone reads first.
const MOST_BYTES: usize = 12 << 10;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(file: impl AsRef<Path>) -> String {
    let path = root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file below a folder, beginning with that folder's name.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap) {
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            let name = entry.file_name();
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                found.extend(rust_files(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The folders of the workspace's members.
fn members() -> BTreeSet<String> {
    let workspace = read("Cargo.toml");
    let line = workspace.lines().find(|line| line.starts_with("members = ")).unwrap();
    let members: BTreeSet<String> = line.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(members.len() > 10, "{line}");
    members
}

/// The crates of ours that a crate depends on: itself, and its tests beside that.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ours {
    itself: BTreeSet<String>,
    tests: BTreeSet<String>,
}

/// What a row of the table says: the package, and what it depends on.
fn row(line: &str) -> Option<(String, (String, Ours))> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let folder = cells.get(1)?.strip_prefix('`')?.strip_suffix("/`")?;
    let package = cells.get(2)?.strip_prefix('`')?.strip_suffix('`')?;
    let (itself, tests) =
        cells[cells.len() - 2].split_once("; its tests: ").unwrap_or((cells[cells.len() - 2], ""));
    let names = |list: &str| {
        let names = list.split(", ").filter(|name| !["", "nobody"].contains(name));
        names.map(str::to_owned).collect()
    };
    Some((folder.to_owned(), (package.to_owned(), Ours { itself: names(itself), tests: names(tests) })))
}

/// The package's name in a `Cargo.toml`, and the crates of ours that it depends on, without the `mose-` of their names.
fn manifest(text: &str) -> (String, Ours) {
    let (mut package, mut ours) = (String::new(), Ours::default());
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let ("package", Some(name)) = (section, line.strip_prefix("name = ")) {
            package = name.trim_matches('"').to_owned();
        } else if section.ends_with("dependencies")
            && let Some(rest) = line.strip_prefix("mose-")
        {
            let name = rest.split(['.', ' ', '=']).next().unwrap_or_default().to_owned();
            let list = if section == "dev-dependencies" { &mut ours.tests } else { &mut ours.itself };
            list.insert(name);
        }
    }
    let Ours { itself, tests } = &mut ours;
    tests.retain(|name| !itself.contains(name));
    (package, ours)
}

#[test]
fn the_table_of_crates_is_the_workspace() {
    let mut table: BTreeMap<String, (String, Ours)> = BTreeMap::new();
    for (folder, said) in read("ARCHITECTURE.md").lines().filter_map(row) {
        let again = table.insert(folder.clone(), said);
        assert!(again.is_none(), "ARCHITECTURE.md has two rows for `{folder}/`: remove one");
    }
    let rows: BTreeSet<String> = table.keys().cloned().collect();
    let members = members();
    let without: Vec<_> = members.difference(&rows).collect();
    assert!(without.is_empty(), "{without:?} have no row in ARCHITECTURE.md's table of crates: add one each");
    let gone: Vec<_> = rows.difference(&members).collect();
    assert!(gone.is_empty(), "{gone:?} in ARCHITECTURE.md's table of crates are no members of the workspace");
    for (folder, (package, said)) in &table {
        let (name, found) = manifest(&read(format!("{folder}/Cargo.toml")));
        assert_eq!(package, &name, "the package of `{folder}/` in ARCHITECTURE.md's table of crates");
        assert_eq!(
            said, &found,
            "what `{folder}/` depends on, of ours: left ARCHITECTURE.md's table, right {folder}/Cargo.toml. Drop the dependency, or \
             correct the table if the arrow is wanted"
        );
    }
}

#[test]
fn no_circle_is_among_crates() {
    let knows: BTreeMap<String, BTreeSet<String>> = members()
        .into_iter()
        .map(|folder| {
            let (_, ours) = manifest(&read(format!("{folder}/Cargo.toml")));
            (folder, ours.itself)
        })
        .collect();
    assert!(knows.values().any(|ours| !ours.is_empty()));
    let mut left: BTreeSet<&String> = knows.keys().collect();
    // Those that know nobody who is left are in no circle.
    while let Some(lowest) =
        left.iter().copied().find(|folder| knows[*folder].iter().all(|name| !left.contains(name)))
    {
        left.remove(lowest);
    }
    assert!(
        left.is_empty(),
        "crates that know each other, or one that do: {left:?}; move what is shared into a lower one"
    );
}

#[test]
fn readme_and_architecture_are_short() {
    for page in ["README.md", "ARCHITECTURE.md"] {
        let length = read(page).len();
        assert!(
            length <= MOST_BYTES,
            "{page} has {length} bytes, more than {MOST_BYTES}: move details to docs/"
        );
    }
}

/// Where a page's links within the project lead, without the places in a page.
fn links(page: &str) -> Vec<String> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let own = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    own.map(|target| target.split('#').next().unwrap().to_owned()).collect()
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let mut pages = vec![PathBuf::from("README.md"), PathBuf::from("ARCHITECTURE.md")];
    for folder in ["docs", "docs/design"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap);
        let names = entries.map(|entry| Path::new(folder).join(entry.file_name()));
        pages.extend(names.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    let mut count = 0;
    for page in &pages {
        for link in links(&read(page)) {
            let target = root().join(page.parent().unwrap()).join(&link);
            assert!(target.exists(), "{} links to {link}, which is not there", page.display());
            count += 1;
        }
    }
    assert!(count > 40, "only {count} links were found");
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let files = rust_files(Path::new(""));
    assert!(files.len() > 300, "only {} files were found", files.len());
    let long: Vec<String> = files
        .iter()
        .map(|file| (file, read(file).lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(file, lines)| format!("{} has {lines} lines", file.display()))
        .collect();
    assert!(
        long.is_empty(),
        "longer than {MOST_LINES} lines, to be split by what is in them:\n{}",
        long.join("\n")
    );
}

/// The circles among a crate's modules, but for its programs beside the main one and modules that are tests.
fn circles_of(folder: &str) -> Vec<Circle> {
    let src = PathBuf::from(folder).join("src");
    let files = rust_files(&src);
    assert!(!files.is_empty(), "{folder}/src has no Rust file");
    let sources: Vec<_> = files
        .iter()
        .map(|file| (module_of(file.strip_prefix(&src).unwrap().to_str().unwrap()), read(file)))
        .filter(|(module, _)| !["bin", "tests"].iter().any(|name| module.iter().any(|part| part == name)))
        .collect();
    circles(&sources)
}

#[test]
fn no_circle_is_among_modules_that_lie_side_by_side() {
    let mut wrong = String::new();
    for folder in members() {
        for circle in circles_of(&folder) {
            let place: Vec<&str> = [folder.as_str(), "src"]
                .into_iter()
                .chain(circle.within.iter().map(String::as_str))
                .collect();
            writeln!(wrong, "in {}:", place.join("/")).unwrap();
            for edge in &circle.edges {
                writeln!(wrong, "  {} → {}: {}", edge.from, edge.to, edge.place).unwrap();
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "modules that lie side by side know each other. Move what points the wrong way to where it belongs: a type into the lower module, \
         a function to its user, what both need into a small module of its own.\n{wrong}"
    );
}
