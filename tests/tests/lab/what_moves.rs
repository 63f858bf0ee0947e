//! The inventory in `docs/what-moves.md` names a test for each part; those tests exist.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::Path;

/// The text of every Rust file below a folder.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target" && name != ".git") {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_inventory_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let inventory = fs::read_to_string(root.join("docs/what-moves.md")).unwrap();
    let mut code = String::new();
    sources(root, &mut code);
    let mut named = 0;
    let mut tells = false;
    for row in inventory.lines().filter(|line| line.starts_with("| ")) {
        if row.starts_with("| part") {
            tells = row.contains("shown by");
        }
        if !tells {
            continue;
        }
        let shown = row.trim_end_matches('|').rsplit('|').next().unwrap();
        for name in shown.split('`').skip(1).step_by(2) {
            assert!(code.contains(&format!("fn {name}(")), "`{name}` is no test: {row}");
            named += 1;
        }
    }
    assert!(named > 10, "{named} tests are named");
}
