//! The quick part of the table of faults: every cell of it is as it should be.

use mose_tests::{Testbed, mose};
use serde_json::Value;

#[test]
fn the_quick_cells_of_the_table_of_faults_hold() {
    let Some(_testbed) = Testbed::with(&["--edge-link", "200mbit"]) else { return };
    let output = mose(&["lab", "faults", "--quick", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let table: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no table ({error}): {said}"));
    let cells = table["cells"].as_array().unwrap();
    assert!(cells.len() >= 8, "{table}");
    let failed: Vec<_> = cells.iter().filter(|cell| cell["good"] != true).collect();
    assert!(failed.is_empty() && output.status.success(), "{failed:#?}\n{said}");
}
