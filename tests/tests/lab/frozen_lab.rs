//! A lab in which something is frozen, as a migration that was broken off by force leaves it: it is repaired, and it goes down.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mose_lab::{Lab, LabConfig};
use mose_tests::{programs, text, turn};

/// Starts a container and freezes its cgroup, whichever version the host has.
const FREEZE: &str = r#"set -e
podman run -d --replace --name frozen --network none localhost/busybox busybox sleep 100000
pid=$(podman inspect frozen --format '{{.State.Pid}}')
v1=$(sed -n 's/^[0-9]*:freezer://p' /proc/$pid/cgroup)
if [ -n "$v1" ]; then
    echo FROZEN > /sys/fs/cgroup/freezer$v1/freezer.state
else
    echo 1 > /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)/cgroup.freeze
fi"#;

/// Takes the lab down whatever becomes of the test.
struct Guard(LabConfig);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = Lab::down(&self.0) {
            eprintln!("the lab did not go down: {error}");
        }
    }
}

fn freeze(lab: &Lab) {
    let output = lab.exec("edge-a", &["sh", "-c", FREEZE]).unwrap().output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn what_is_frozen_keeps_a_lab_neither_from_being_repaired_nor_from_going_down() {
    let Some(_turn) = turn() else { return };
    let id = format!("mose-lab-test-frozen-{}", std::process::id());
    let config = LabConfig {
        init_program: Some(programs().join("mose-lab")),
        state_dir: Path::new("/run").join(&id),
        data_dir: Path::new("/var/lib").join(&id),
        ..LabConfig::default()
    };
    let _guard = Guard(config.clone());
    let lab = Lab::up(&config, &mut |_| {}).unwrap();
    freeze(&lab);
    // A pid 1 whose namespace holds something frozen is killed, and not gone.
    let init = lab.host_pid("edge-a").unwrap();
    assert!(Command::new("kill").args(["-9", &init.to_string()]).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(200));
    assert!(Path::new(&format!("/proc/{init}")).exists(), "nothing that was frozen kept it");
    let lab = Lab::up(&config, &mut |_| {}).unwrap();
    assert!(lab.status().ready);
    assert_ne!(lab.host_pid("edge-a").unwrap(), init);

    freeze(&lab);
    let begun = Instant::now();
    Lab::down(&config).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    assert!(!config.state_dir.exists() && !config.data_dir.exists());
    assert_eq!(Lab::down(&config).unwrap().hosts, 0, "nothing is left of it");
}
