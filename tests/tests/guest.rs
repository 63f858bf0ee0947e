//! What needs a kernel that the machine may not run: the tests of this file run in a guest with Debian's kernel, in a lab of the
//! guest's own. Each is there twice: as it is, to be run in the guest only, and as the order to run it there.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::Write;
use std::time::Duration;

use mose_lab::LabConfig;
use mose_lab::OWN_BINARIES;
use mose_lab::guest::{Guest, GuestFile};
use mose_tests::{programs, turn};

/// How long a guest may take, from its boot to its end, on a machine that is as slow as ours and busy besides.
const DEADLINE: Duration = Duration::from_secs(480);
/// Where the guest has the project's programs.
const PROGRAMS: &str = "/usr/local/bin";

/// Runs a test of this file, which must be there and be ignored otherwise, in a guest.
fn run_in_guest(test: &str) {
    let Some(_turn) = turn() else { return };
    let mut config = LabConfig::default();
    for name in OWN_BINARIES.into_iter().chain(["mose"]) {
        config.binaries.insert(name.to_owned(), programs().join(name));
    }
    let guest = Guest::prepare(&config, &mut |step| eprintln!("{}", step.what)).unwrap();
    let this = GuestFile {
        from: std::env::current_exe().unwrap(),
        // Below the programs, as on the machine.
        to: format!("{PROGRAMS}/deps/guest-tests").into(),
    };
    let script = format!(
        "export MOSE_REQUIRE_LAB=1\n\
         exec {PROGRAMS}/deps/guest-tests --ignored --exact --nocapture --test-threads 1 {test}\n"
    );
    let mut show = |bytes: &[u8]| {
        let _ = std::io::stderr().write_all(bytes);
    };
    let output = guest.run(&script, &[this], DEADLINE, &mut show).unwrap();
    eprintln!("accelerated: {}, booted in {:?}, took {:?}", output.accelerated, output.boot, output.took);
    assert_eq!(output.code, 0, "the guest's test failed:\n{}", output.output);
    assert!(output.output.contains("1 passed"), "the guest ran no test:\n{}", output.output);
}

#[test]
fn a_service_moves_under_its_client_on_debians_kernel() {
    run_in_guest("inside::a_service_moves_under_its_client");
}

mod inside {
    use mose_tests::{ClientKind, Testbed, text};

    #[test]
    #[ignore = "runs in a guest"]
    fn a_service_moves_under_its_client() {
        let testbed = Testbed::up().unwrap();
        testbed.start("counter", "edge-a", &[], &["--state-size", "8MiB", "--dirty-rate", "50"]);
        let client = testbed.client(ClientKind::Counter, 1);
        let (record, code) = testbed.migrate("counter", "edge-a", "edge-b");
        assert_eq!((code, &record["outcome"]), (0, &"done".into()), "{record}");
        assert_eq!(testbed.running_on("counter"), ["edge-b"]);
        let report = client.stop().unwrap();
        assert!(report.is_clean(), "{report:?}");
        let argv = ["mose-counter", "verify", "--connect", "10.77.0.20:7070"].map(str::to_owned);
        let verified = testbed.among_clients(&argv).output().unwrap();
        assert!(verified.status.success(), "{}", text(&verified));
    }
}
