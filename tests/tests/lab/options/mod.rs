//! Containers made with every option of `podman run` are moved and are the same afterwards, field by field, and work as before; or
//! they are refused before anything is touched. A secret's value is found nowhere but where Podman keeps it.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command};

use mose_tests::{Testbed, eventually, mose, programs, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use table::{FATES, Fate, MAY_DIFFER, MOVED, REFUSED};

/// What the containers' secrets hold.
const TOKEN: &str = "the-value-of-the-token-7f3a";
const KEY: &str = "the-value-of-the-key-91bc";

/// What the options of the table find on both hosts.
const HOST: &str = "printf 'FROM_FILE=yes\n' > /root/words.env; printf 'from-file=yes\n' > /root/words.labels; \
    printf '10.1.2.3 base\n' > /root/base-hosts; \
    printf '#!/usr/bin/sh\nshift\nexec \"$@\"\n' > /root/init; chmod 755 /root/init; mkdir -p /root/folder";

/// The words of a container's options.
fn words(options: &str) -> Vec<String> {
    options.split_whitespace().map(|word| word.replace('␣', " ")).collect()
}

/// Starts a container on the overlay.
fn start(testbed: &Testbed, name: &str, number: usize, options: &str) {
    let address = format!("10.77.0.{}/24", 40 + number);
    testbed.run("edge-a", &["mose-agent", "attach", name, "--address", &address]);
    let network = format!("ns:/run/netns/{name}");
    let options = words(options);
    // A descriptor more, for --preserve-fds, and nothing of the container's that the test would wait for.
    let run = "exec 3</dev/null; \"$@\" >/root/said 2>&1 || { cat /root/said >&2; exit 1; }";
    let mut argv = vec!["sh", "-c", run, "sh"];
    argv.extend(["podman", "run", "--detach", "--name", name, "--network", &network]);
    argv.extend(options.iter().map(String::as_str));
    let rootfs = options.iter().any(|option| option == "--rootfs");
    argv.push(if rootfs { "/root/folder" } else { "localhost/busybox" });
    // Says a line every tenth of a second, and who asks it to.
    let program = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.1; done";
    if !options.iter().any(|option| option.starts_with("--entrypoint")) {
        argv.push("busybox");
    }
    argv.extend(["sh", "-c", program]);
    testbed.run("edge-a", &argv);
}

fn inspect(testbed: &Testbed, host: &str, name: &str) -> BTreeMap<String, Value> {
    let told = testbed.run(host, &["podman", "container", "inspect", name]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let mut fields = BTreeMap::new();
    flatten(String::new(), &told[0], &mut fields);
    fields
}

fn flatten(path: String, value: &Value, fields: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(all) => {
            all.iter().for_each(|(key, value)| flatten(format!("{path}/{key}"), value, fields))
        }
        Value::Array(all) => {
            all.iter().enumerate().for_each(|(at, value)| flatten(format!("{path}/{at}"), value, fields));
        }
        other => {
            fields.insert(path, other.clone());
        }
    }
}

fn may_differ(field: &str) -> bool {
    MAY_DIFFER
        .iter()
        .any(|(known, _)| if known.ends_with('/') { field.starts_with(known) } else { field == *known })
}

/// The fields in which two inspections differ, though they must not.
fn differences(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<String> {
    let fields = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
    fields
        .filter(|field| before.get(*field) != after.get(*field) && !may_differ(field))
        .map(|field| format!("{field}: {:?} was {:?}", after.get(field), before.get(field)))
        .collect()
}

/// What a process that is executed in a container sees of it.
fn seen(testbed: &Testbed, host: &str, name: &str) -> String {
    // Podman writes its lines into /etc/passwd and /etc/group again whenever it starts or restores; what CRIU mounts over a masked
    // path is as empty as what Podman did.
    let look = "busybox env | busybox sort; umask; busybox hostname; busybox id; busybox pwd; \
        busybox sort -u /etc/passwd /etc/group; \
        for f in /etc/hosts /etc/resolv.conf /etc/hostname /www/etc/hosts /run/secrets/*; do echo \"== $f\"; busybox cat $f 2>&1; done; \
        busybox grep -E 'open files|core' /proc/1/limits; busybox cat /proc/1/oom_score_adj; \
        busybox grep -E '^(Umask|CapEff|CapBnd|NoNewPrivs|Seccomp|Uid|Gid|Groups):' /proc/1/status; \
        busybox cat /proc/1/environ | busybox tr '\\0' '\\n' | busybox sort; \
        busybox mount | busybox cut -d' ' -f3-6 | busybox sed 's/ (\\(r.\\),.*/ \\1/' | busybox sort";
    testbed.run(host, &["podman", "exec", name, "busybox", "sh", "-c", look])
}

#[test]
fn what_podman_can_be_told_of_a_container_moves_or_is_refused() {
    let Some(testbed) = Testbed::up() else { return };
    let recording = Recording::start();
    every_option_has_its_fate(&testbed);
    for host in ["edge-a", "edge-b"] {
        testbed.run(host, &["sh", "-c", HOST]);
    }
    let secrets = format!(
        "printf {TOKEN} | podman secret create token -; printf {KEY} | podman secret create --label mine=yes key -"
    );
    testbed.run("edge-a", &["sh", "-c", &secrets]);
    for (number, &(name, options)) in MOVED.iter().enumerate() {
        start(&testbed, name, number, options);
    }
    let append = "echo '5.6.7.8 appended' >> /etc/hosts; echo '# appended' >> /etc/resolv.conf";
    testbed.run("edge-a", &["podman", "exec", "names", "busybox", "sh", "-c", append]);
    testbed.run("edge-a", &["podman", "healthcheck", "run", "healthy"]);
    for &(name, _) in MOVED {
        let there = |host: &str| (inspect(&testbed, host, name), seen(&testbed, host, name));
        let (before, saw) = there("edge-a");
        let (record, code) = testbed.migrate(name, "edge-a", "edge-b");
        assert_eq!((code, &record["outcome"]), (0, &"done".into()), "{name}: {record}");
        let (after, sees) = there("edge-b");
        assert_eq!(differences(&before, &after), Vec::<String>::new(), "{name}");
        assert_eq!(saw, sees, "{name}");
        let started = after["/State/StartedAt"].as_str().unwrap();
        assert!(started.starts_with("20"), "{name} was started at {started}");
    }
    for &(name, _) in MOVED {
        the_log_is_whole_and_goes_on(&testbed, name);
    }
    what_goes_at_its_end_survives_a_roll_back(&testbed);
    the_verbs_work_as_before(&testbed);
    secrets_are_where_they_belong(&testbed);
    recording.holds_no_secret();
    refusals_come_before_anything_is_touched(&testbed);
}

/// Each option that this Podman has is in the table, and stands with the container that the table says.
fn every_option_has_its_fate(testbed: &Testbed) {
    let help = testbed.run("edge-a", &["podman", "run", "--help"]);
    let told: Vec<&str> = help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'))
        .filter_map(|line| line.split("--").nth(1)?.split_whitespace().next())
        .collect();
    assert!(told.len() > 100, "{help}");
    let missing: Vec<_> =
        told.iter().filter(|option| !FATES.iter().any(|(known, _)| known == *option)).collect();
    assert!(missing.is_empty(), "what becomes of {missing:?}?");
    for (option, fate) in FATES {
        let used = |options: &str| {
            words(options)
                .iter()
                .any(|word| word.strip_prefix("--").and_then(|word| word.split('=').next()) == Some(*option))
        };
        match fate {
            Fate::Moves(name) if *option != "network" => {
                let (_, options) = MOVED.iter().find(|(known, _)| known == name).unwrap();
                assert!(used(options), "{name} lacks --{option}");
            }
            Fate::Refused(name) => assert!(REFUSED.iter().any(|(known, ..)| known == name), "{name}"),
            Fate::Moves(_) | Fate::OfTheCommand | Fate::NotHere(_) => {}
        }
    }
}

/// From the first line on, none missing, none twice, and more to come.
fn the_log_is_whole_and_goes_on(testbed: &Testbed, name: &str) {
    let log = testbed.run("edge-b", &["podman", "logs", name]);
    let numbers: Vec<usize> =
        log.lines().filter_map(|line| line.trim().strip_prefix("line ")?.parse().ok()).collect();
    assert_eq!(numbers, Vec::from_iter(1..=numbers.len()), "{name}");
    eventually("the service goes on to write its log", || {
        testbed.run("edge-b", &["podman", "logs", name]).lines().count() > log.lines().count()
    });
}

/// Stopping, starting, restarting, executing, logs and removing, after a move.
fn the_verbs_work_as_before(testbed: &Testbed) {
    let podman = |words: &[&str]| testbed.run("edge-b", &[&["podman"], words].concat());
    let state = |name: &str| podman(&["inspect", "--format", "{{.State.Status}}", name]).trim().to_owned();
    podman(&["stop", "--time", "0", "limits"]);
    assert_eq!(state("limits"), "exited");
    podman(&["start", "limits"]);
    assert_eq!(state("limits"), "running");
    podman(&["restart", "--time", "0", "trusted"]);
    assert_eq!(state("trusted"), "running");
    let secrets = "echo $TOKEN; cat /run/secrets/the-key /run/secrets/token";
    let held = podman(&["exec", "trusted", "busybox", "sh", "-c", secrets]);
    assert_eq!(held, format!("{TOKEN}\n{KEY}{TOKEN}"));
    let environment = podman(&["exec", "trusted", "busybox", "cat", "/proc/1/environ"]);
    assert!(environment.contains(TOKEN), "a restarted service has its secret");
    let follow = ["timeout", "1", "podman", "logs", "--follow", "--tail", "1", "words"];
    let followed = testbed.try_run("edge-b", &follow);
    assert!(String::from_utf8_lossy(&followed.stdout).lines().count() > 2, "{}", text(&followed));
    podman(&["healthcheck", "run", "healthy"]);
    podman(&["restart", "--time", "0", "names"]);
    let names = podman(&["exec", "names", "busybox", "cat", "/etc/hosts", "/etc/resolv.conf"]);
    for word in ["1.2.3.4", "10.1.2.3", "9.9.9.9", "ndots:3", "example.org"] {
        assert!(names.contains(word), "{word} is lost by a restart: {names}");
    }
    podman(&["rm", "--force", "--time", "0", "limits"]);
    // What was started with --rm goes when it ends.
    podman(&["kill", "passing"]);
    eventually("they are gone", || {
        let left = podman(&["ps", "--all", "--format", "{{.Names}}"]);
        !left.lines().any(|name| name == "limits" || name == "passing")
    });
}

/// A secret is in the store there, with its labels, and in nothing that anybody wrote.
fn secrets_are_where_they_belong(testbed: &Testbed) {
    let labels =
        testbed.run("edge-b", &["podman", "secret", "inspect", "--format", "{{.Spec.Labels}}", "key"]);
    assert!(labels.contains("mine:yes"), "{labels}");
    let digits = |value: &str| value.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let values = [TOKEN.to_owned(), KEY.to_owned(), digits(TOKEN), digits(KEY)].join("\\|");
    let look = format!("grep -rl '{values}' /var/lib/mose /var/log /run/mose 2>/dev/null || true");
    for host in ["edge-a", "edge-b", "controller", "uav"] {
        assert_eq!(testbed.run(host, &["sh", "-c", &look]), "", "{host} has a secret where none belongs");
    }
    for words in [&["--json", "history"][..], &["--json", "services"]] {
        let told = text(&mose(words));
        assert!(!told.contains(TOKEN) && !told.contains(KEY), "{words:?}: {told}");
    }
    // Another value under that name there: refused, without a value on the screen.
    testbed.run(
        "edge-a",
        &["sh", "-c", "podman secret rm token; printf another-value | podman secret create token -"],
    );
    let output = mose(&["migrate", "trusted", "--from", "edge-b", "--to", "edge-a"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("secret named token") && said.contains("podman secret rm"), "{said}");
    assert!(!said.contains("another-value") && !said.contains(TOKEN), "{said}");
    // The secret that the refused one put there is gone with it; the one that was there is not.
    let left = testbed.run("edge-a", &["podman", "secret", "ls", "--format", "{{.Name}}"]);
    assert_eq!(left.lines().filter(|name| *name == "token").count(), 1, "{left}");
    testbed.run("edge-a", &["podman", "secret", "rm", "token"]);
    let output = mose(&["--json", "migrate", "trusted", "--from", "edge-b", "--to", "edge-a"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let events = text(&output);
    assert!(!events.contains(TOKEN) && !events.contains(KEY), "{events}");
    let left = testbed.run("edge-b", &["podman", "secret", "ls", "--format", "{{.Name}}"]);
    assert_eq!(left.trim(), "", "secrets that came with a service go with it");
}

/// `mose record` at work.
struct Recording {
    program: Child,
    _folder: tempfile::TempDir,
    file: PathBuf,
}

impl Recording {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recording");
        let program = Command::new(programs().join("mose")).arg("record").arg(&file).spawn().unwrap();
        eventually("the recording has begun", || file.exists());
        Self { program, _folder: folder, file }
    }

    fn holds_no_secret(mut self) {
        kill(Pid::from_raw(self.program.id().cast_signed()), Signal::SIGINT).unwrap();
        assert!(self.program.wait().unwrap().success());
        let held = std::fs::read_to_string(&self.file).unwrap();
        assert!(held.contains("trusted") && held.contains("relinquish"), "the migrations are in it");
        assert!(!held.contains(TOKEN) && !held.contains(KEY) && !held.contains("another-value"));
    }
}

/// A container with `--rm` that is dumped and comes back to where it was is none that ended.
fn what_goes_at_its_end_survives_a_roll_back(testbed: &Testbed) {
    // CRIU says that all is well, until it is to restore.
    let broken = "mv /usr/sbin/criu /usr/sbin/criu.real && printf '%s\\n' '#!/bin/sh' \
        'case \"$*\" in *swrk*) grep -q restore /proc/$PPID/cmdline && exit 1;; esac' 'exec /usr/sbin/criu.real \"$@\"' \
        >/usr/sbin/criu && chmod +x /usr/sbin/criu";
    testbed.run("edge-a", &["sh", "-c", broken]);
    let (record, code) = testbed.migrate("passing", "edge-b", "edge-a");
    assert_eq!((code, &record["outcome"]), (4, &"rolled-back".into()), "{record}");
    testbed.run("edge-a", &["mv", "/usr/sbin/criu.real", "/usr/sbin/criu"]);
    assert_eq!(testbed.running_on("passing"), ["edge-b"]);
    assert_eq!(inspect(testbed, "edge-b", "passing")["/HostConfig/AutoRemove"], true);
    the_log_is_whole_and_goes_on(testbed, "passing");
}

/// Each is refused by name, with its reason, and runs on.
fn refusals_come_before_anything_is_touched(testbed: &Testbed) {
    let setup = "podman pod create --infra=false --name pod; podman run -d --name needed --network none localhost/busybox busybox sleep 1000; \
        podman run -d --name giver --network none --volume given:/given localhost/busybox busybox sleep 1000; \
        podman export needed | tar -x -C /root/folder";
    testbed.run("edge-a", &["sh", "-c", setup]);
    // Where an address is, each host knows by a flow: those come with the services, not with the orders.
    let traces = || {
        let mut traces = testbed.traces("edge-b");
        traces.retain(|(what, _)| *what != "flows");
        traces
    };
    let before = traces();
    for (number, &(name, options, says)) in REFUSED.iter().enumerate() {
        start(testbed, name, 40 + number, options);
        let output = mose(&["migrate", name, "--from", "edge-a", "--to", "edge-b"]);
        assert_eq!(output.status.code(), Some(3), "{name}: {}", text(&output));
        assert!(text(&output).contains(says), "{name} does not say `{says}`: {}", text(&output));
        assert_eq!(testbed.running_on(name), ["edge-a"]);
    }
    assert_eq!(traces(), before);
}
