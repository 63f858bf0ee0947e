//! What needs a kernel that the machine may not run: the tests of this file run in a guest with Debian's kernel, in a lab of the
//! guest's own, or under systemd. On the machine they are ignored, but for the one that orders them.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::Write;
use std::time::Duration;

use mose_lab::LabConfig;
use mose_lab::OWN_BINARIES;
use mose_lab::guest::{Guest, GuestFile};
use mose_tests::{can_run_the_lab, programs};

/// How long a guest may take, from its boot to its end, on a machine that is as slow as ours and busy besides.
const DEADLINE: Duration = Duration::from_secs(600);
/// Where the guest has the project's programs.
const PROGRAMS: &str = "/usr/local/bin";

/// Makes the guest itself a host of containers, with the counter's image, Podman's service and CRIU's hook.
const HOST: &str = r#"set -e
mkdir -p /etc/containers /etc/criu /run/podman
printf '[containers]\nlog_driver="k8s-file"\n[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\nruntime="runc"\n' \
    >/etc/containers/containers.conf
printf '[storage]\ndriver="overlay"\nrunroot="/run/containers/storage"\ngraphroot="/var/lib/containers/storage"\n[storage.options]\nadditionalimagestores=["%s"]\n' \
    /var/cache/mose/image-counter-* >/etc/containers/storage.conf
printf 'network-lock nftables\naction-script /usr/local/bin/mose-criu-hook\n' >/etc/criu/runc.conf
modprobe tun
"#;

/// Runs what comes after it under systemd, the first process of a PID namespace of its own, which Podman has its timers from; with
/// Podman's service. systemd ends with the code of the tests.
const UNDER_SYSTEMD: &str = r#"cat >/root/test.sh <<'END'
podman system service --time=0 unix:///run/podman/podman.sock &
@TESTS@
END
cat >/etc/systemd/system/mose-test.service <<'END'
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
TimeoutStartSec=infinity
Environment=HOME=/root MOSE_REQUIRE_LAB=1
StandardOutput=append:/root/said
StandardError=append:/root/said
ExecStart=/bin/sh -c 'sh /root/test.sh; code=$?; systemctl exit $code'
END
container=mose unshare --pid --fork --mount-proc --kill-child \
    /lib/systemd/systemd systemd.unit=mose-test.service </dev/null >/dev/null 2>&1 && code=0 || code=$?
cat /root/said
exit $code
"#;

/// Runs the tests of `inside`, which are ignored otherwise, in one guest: its boot takes longer than most of them. It takes no turn:
/// a guest has a lab of its own, and the machine's goes on beside it.
#[test]
fn what_needs_debians_kernel_holds_in_a_guest_that_has_it() {
    if !can_run_the_lab() {
        return;
    }
    let mut config = LabConfig::default();
    for name in OWN_BINARIES.into_iter().chain(["mose", "mose-lab"]) {
        config.binaries.insert(name.to_owned(), programs().join(name));
    }
    let guest = Guest::prepare(&config, &mut |step| eprintln!("{}", step.what)).unwrap();
    let this = GuestFile {
        from: std::env::current_exe().unwrap(),
        // Below the programs, as on the machine.
        to: format!("{PROGRAMS}/deps/guest-tests").into(),
    };
    let in_a_lab = ["guest::inside::a_service_moves_by_a_chain"];
    let on_the_host = [
        "guest::inside::chains_are_made_restored_and_removed",
        "guest::inside::health_checks_go_on_under_systemd",
    ];
    let script = format!(
        "set -e\nexport MOSE_REQUIRE_LAB=1\n{}\n{HOST}{}",
        run_tests(&in_a_lab),
        UNDER_SYSTEMD.replace("@TESTS@", &run_tests(&on_the_host))
    );
    let mut show = |bytes: &[u8]| {
        let _ = std::io::stderr().write_all(bytes);
    };
    let output = guest.run(&script, &[this], DEADLINE, &mut show).unwrap();
    eprintln!("accelerated: {}, booted in {:?}, took {:?}", output.accelerated, output.boot, output.took);
    assert_eq!(output.code, 0, "the guest's tests failed:\n{}", output.output);
    for tests in [&in_a_lab[..], &on_the_host] {
        let passed = format!("{} passed", tests.len());
        assert!(output.output.contains(&passed), "the guest did not run {tests:?}:\n{}", output.output);
    }
}

/// The command that runs these tests of this file in the guest.
fn run_tests(tests: &[&str]) -> String {
    format!("{PROGRAMS}/deps/guest-tests --ignored --exact --nocapture --test-threads 1 {}", tests.join(" "))
}

mod inside {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use mose_engine::podman::PodmanEngine;
    use mose_engine::{Container, Engine, Stage};
    use mose_tests::{ClientKind, Testbed, eventually, eventually_within, text};

    /// How long a guest whose programs run many times slower may take for what takes a second.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

    /// Runs a command of the guest, which must end well; its output.
    fn run(argv: &[&str]) -> String {
        let output = Command::new(argv[0]).args(&argv[1..]).output().unwrap();
        assert!(output.status.success(), "{argv:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What the counter says of itself; its memory must be what it wrote.
    fn verified() -> serde_json::Value {
        serde_json::from_str(&run(&["mose-counter", "verify", "--connect", "127.0.0.1:7070"])).unwrap()
    }

    /// What of a chain and its dump lies beside a container's configuration.
    fn traces(container: &Container) -> Vec<String> {
        let entries = fs::read_dir(container.checkpoint.parent().unwrap()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut traces: Vec<String> = names.filter(|name| name.contains("checkpoint")).collect();
        traces.sort();
        traces
    }

    async fn engine() -> PodmanEngine {
        let engine = PodmanEngine::new(Path::new("/run/podman/podman.sock")).unwrap();
        for _ in 0..120 {
            if engine.tools().await.is_ok() {
                return engine;
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        panic!("Podman's service does not come up");
    }

    /// Dumps onto the chain, with one more pre-dump at the last moment, and freezes as the hand-over does.
    async fn dump_with_a_last_pre_dump(engine: &PodmanEngine, container: &Container, number: u32) {
        let mut moments = engine.moments(container, std::time::Duration::from_secs(20)).await.unwrap();
        let acting = async {
            while let Some(moment) = moments.recv().await {
                if moment.stage == Stage::PreDump {
                    let pre_dump = engine.pre_dump(container, number).await.unwrap();
                    assert!(pre_dump.pages < pre_dump.looked_at, "{pre_dump:?}");
                    engine.freeze(container).unwrap();
                }
                moment.answer.send(Ok(())).unwrap();
            }
        };
        let (times, ()) = tokio::join!(engine.dump_with_previous(container), acting);
        let times = times.unwrap();
        assert!(times.pages_written.unwrap() < 1000, "only what changed: {times:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "runs in a guest"]
    async fn chains_are_made_restored_and_removed() {
        let engine = engine().await;
        engine.chain_support().await.unwrap();
        run(&[
            "podman",
            "run",
            "-d",
            "--name",
            "counter",
            "--network",
            "host",
            "localhost/counter",
            "mose-counter",
            "serve",
            "--state-size",
            "16MiB",
            "--dirty-rate",
            "100",
            "--processes",
            "2",
        ]);
        eventually("the counter listens", || std::net::TcpStream::connect(("127.0.0.1", 7070)).is_ok());
        let name = "counter".parse().unwrap();
        let container = engine.inspect(&name).await.unwrap();

        // A pre-dump that cannot be made leaves a service that runs, and nothing.
        let refused = engine.pre_dump(&container, 2).await.unwrap_err();
        assert!(refused.to_string().contains("no pre-dump 1"), "{refused}");
        let gone = Container { pid: Some(1), ..container.clone() };
        assert!(engine.pre_dump(&gone, 1).await.unwrap_err().to_string().contains("not of counter"));
        assert_eq!(traces(&container), Vec::<String>::new());
        let before = verified()["dirtied"].as_u64().unwrap();

        let first = engine.pre_dump(&container, 1).await.unwrap();
        assert!(first.pages * 4096 >= 16 << 20, "the first one holds everything: {first:?}");
        // A call that is dropped goes on, and the next one waits for it.
        drop(tokio::time::timeout(std::time::Duration::from_millis(1), engine.pre_dump(&container, 2)).await);
        let second = engine.pre_dump(&container, 3).await.unwrap();
        assert!(second.pages < first.pages / 4, "{second:?}");
        for pre_dump in [&first, &second] {
            eprintln!(
                "{}: {} of {} pages, {:?}, {:?}",
                pre_dump.name, pre_dump.pages, pre_dump.looked_at, pre_dump.took, pre_dump.times
            );
            let bytes: u64 = fs::read_dir(&pre_dump.folder)
                .unwrap()
                .map(|entry| entry.unwrap())
                .filter(|entry| entry.file_name().to_string_lossy().starts_with("pages-"))
                .map(|entry| entry.metadata().unwrap().len())
                .sum();
            assert_eq!(bytes, pre_dump.pages * 4096, "{pre_dump:?}");
        }
        assert!(verified()["dirtied"].as_u64().unwrap() > before, "it goes on writing");
        assert!(engine.inspect(&name).await.unwrap().running);

        // As a source that takes its service back.
        dump_with_a_last_pre_dump(&engine, &container, 4).await;
        assert!(!engine.inspect(&name).await.unwrap().running);
        engine.restore(&container).await.unwrap();
        let after = verified();
        assert!(after["dirtied"].as_u64().unwrap() > before, "{after}");
        let container = engine.inspect(&name).await.unwrap();
        engine.drop_images(&container).await.unwrap();
        assert_eq!(traces(&container), Vec::<String>::new());

        // As at a destination, where the pre-dumps came into the checkpoint folder.
        engine.pre_dump(&container, 1).await.unwrap();
        dump_with_a_last_pre_dump(&engine, &container, 2).await;
        let folder = container.checkpoint.parent().unwrap();
        fs::remove_file(folder.join("pre-checkpoint")).unwrap();
        let refused = engine.restore(&container).await.unwrap_err();
        assert!(refused.to_string().contains("since a pre-dump"), "{refused}");
        for pre_dump in ["pre-checkpoint-1", "pre-checkpoint-2"] {
            fs::rename(folder.join(pre_dump), container.checkpoint.join(pre_dump)).unwrap();
        }
        engine.restore(&container).await.unwrap();
        assert!(verified()["dirtied"].as_u64().unwrap() > before);
        let container = engine.inspect(&name).await.unwrap();
        engine.drop_images(&container).await.unwrap();
        assert_eq!(traces(&container), Vec::<String>::new());
        run(&["podman", "rm", "-f", "-t", "0", "counter"]);
    }

    /// When the newest look at a container's health began; empty before the first one.
    fn looked_at() -> String {
        let log = run(&["podman", "inspect", "--format", "{{json .State.Health.Log}}", "healthy"]);
        let log: serde_json::Value = serde_json::from_str(&log).unwrap();
        let newest = log.as_array().and_then(|log| log.last());
        newest.and_then(|look| look["Start"].as_str()).unwrap_or_default().to_owned()
    }

    /// Timers of systemd's that look at a container's health.
    fn timers() -> usize {
        let listed = run(&["systemctl", "list-units", "--type", "timer", "--no-legend", "--plain"]);
        listed.lines().filter(|line| line.contains("podman healthcheck run")).count()
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "runs in a guest"]
    async fn health_checks_go_on_under_systemd() {
        let engine = engine().await;
        let check = ["--health-cmd", "true", "--health-interval", "1s"];
        let first = ["podman", "run", "-d", "--name", "healthy", "--network", "host"];
        run(&[&first[..], &check, &["localhost/counter", "sleep", "1000"]].concat());
        eventually_within(PATIENCE, "systemd has its health looked at", || !looked_at().is_empty());
        let name = "healthy".parse().unwrap();
        let container = engine.inspect(&name).await.unwrap();
        engine.dump(&container).await.unwrap();
        assert!(!engine.inspect(&name).await.unwrap().running);
        engine.restore(&container).await.unwrap();
        eventually_within(PATIENCE, "there is one timer again", || timers() == 1);
        // More than once: the first time is ours.
        for _ in 0..3 {
            let then = looked_at();
            eventually_within(PATIENCE, "its health is looked at again", || looked_at() != then);
        }
        let interval = run(&["podman", "inspect", "--format", "{{.Config.Healthcheck.Interval}}", "healthy"]);
        assert_eq!(interval.trim(), "1s");
        run(&["podman", "rm", "-f", "-t", "0", "healthy"]);
        eventually_within(PATIENCE, "the timer goes with the container", || timers() == 0);
    }

    #[test]
    #[ignore = "runs in a guest"]
    fn a_service_moves_by_a_chain() {
        let testbed = Testbed::up().unwrap();
        testbed.start("counter", "edge-a", &[], &["--state-size", "8MiB", "--dirty-rate", "50"]);
        let client = testbed.client(ClientKind::Counter, 1);
        let chain = ["--strategy", "iterative-precopy", "--iterations", "2", "--pre-copy", "chain"];
        let (record, code) = testbed.migrate_with("counter", "edge-a", "edge-b", &chain);
        assert_eq!((code, &record["outcome"]), (0, &"done".into()), "{record}");
        assert_eq!(testbed.running_on("counter"), ["edge-b"]);
        let sent: Vec<u64> = record["rounds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|round| round["sent"].as_u64().unwrap())
            .collect();
        assert_eq!(sent.len(), 3, "a pre-dump and two iterations: {record}");
        assert!(sent[0] >= 2048 && sent[1] < sent[0] && sent[2] < sent[0], "{record}");
        let report = client.stop().unwrap();
        assert!(report.is_clean(), "{report:?}");
        let argv = ["mose-counter", "verify", "--connect", "10.77.0.20:7070"].map(str::to_owned);
        let verified = testbed.among_clients(&argv).output().unwrap();
        assert!(verified.status.success(), "{}", text(&verified));
    }
}
