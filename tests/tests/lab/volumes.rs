//! Volumes, `/dev/shm` and copied bind mounts move with their service: every byte, owner, mode, attribute, hole and further name; and
//! what is not moved is refused, or left as it was.

use std::path::PathBuf;

use mose_tests::{Testbed, eventually};

/// What the container does: it keeps files of each place open, and writes a number after another to three of them.
const WORK: &str = "exec 5>>/dev/shm/open; exec 6>>/data/log; exec 7>>/anonymous/log; n=0; \
    while :; do n=$((n+1)); echo $n >&5; echo $n >&6; echo $n >&7; sleep 0.05; done";

/// Files of every sort, made once.
const FILL: &str = "set -e; cd /data; mkdir -p deep/er; echo one >deep/er/file; ln deep/er/file second-name; \
    ln -s deep/er/file link; chmod 4711 deep/er/file; chown 12:34 deep; dd if=/dev/zero of=sparse bs=1 count=1 seek=64M 2>/dev/null; \
    mkfifo pipe; head -c 300000 /dev/urandom >noise; head -c 1048576 /dev/urandom >/dev/shm/closed; chmod 600 /dev/shm/closed; \
    chown 7:8 /dev/shm/closed; echo kept >/anonymous/file; echo copied >/copied/file";

/// All there is, but for the files that grow.
const TELL: &str = "cd /; for f in $(find data anonymous copied dev/shm | sort); do \
    case $f in */log|*/open) echo $f $(stat -c '%F %a %u %g' $f);; \
    *) echo $f $(stat -c '%F %a %u %g %s %h %Y' $f) $(test -f $f && md5sum <$f);; esac; done; \
    stat -c '%b' data/sparse | awk '{print ($1 < 256) ? \"sparse\" : \"full\"}'";

fn inside(testbed: &Testbed, host: &str, script: &str) -> String {
    testbed.run(host, &["podman", "exec", "box", "sh", "-c", script])
}

/// Starts the container of these tests.
fn start(testbed: &Testbed, host: &str, volumes: &[&str]) {
    testbed.run(host, &["mose-agent", "attach", "box", "--address", "10.77.0.30/24"]);
    let run = ["podman", "run", "-d", "--name", "box", "--network", "ns:/run/netns/box", "--shm-size", "16m"];
    let work = ["localhost/counter", "sh", "-c", WORK];
    testbed.run(host, &[&run[..], volumes, &work[..]].concat());
}

/// Where a volume lies, as this test sees it.
fn volume(testbed: &Testbed, host: &str, name: &str) -> PathBuf {
    let path = testbed.run(host, &["podman", "volume", "inspect", "-f", "{{.Mountpoint}}", name]);
    PathBuf::from(format!("/proc/{}/root{}", testbed.agent_pid(host), path.trim()))
}

fn volumes(testbed: &Testbed, host: &str) -> Vec<String> {
    testbed.run(host, &["podman", "volume", "ls", "-q"]).lines().map(str::to_owned).collect()
}

/// The files to which the container writes numbers have all of them, each once, in order.
fn without_gap(testbed: &Testbed, host: &str) {
    for file in ["/dev/shm/open", "/data/log", "/anonymous/log"] {
        let numbers = inside(testbed, host, &format!("cat {file}"));
        for (number, line) in (1..).zip(numbers.lines()) {
            assert_eq!(line, number.to_string(), "{file}");
        }
    }
}

#[test]
fn volumes_shared_memory_and_copied_bind_mounts_arrive_as_they_were() {
    let Some(testbed) = Testbed::up() else { return };
    for host in ["edge-a", "edge-b"] {
        testbed.run(host, &["sh", "-c", "mkdir -p /srv/seen && echo $(hostname) >/srv/seen/host"]);
    }
    testbed.run("edge-a", &["mkdir", "/srv/copied"]);
    testbed.run(
        "edge-a",
        &["podman", "volume", "create", "--label", "team=uav", "--opt", "o=uid=5,gid=6", "data"],
    );
    let places =
        ["-v", "data:/data", "-v", "/anonymous", "-v", "/srv/seen:/seen", "-v", "/srv/copied:/copied"];
    start(&testbed, "edge-a", &places);
    inside(&testbed, "edge-a", FILL);
    let data = volume(&testbed, "edge-a", "data");
    xattr::set(data.join("noise"), "user.kind", b"noise").unwrap();
    let anonymous = volumes(&testbed, "edge-a").into_iter().find(|name| name != "data").unwrap();
    let before = inside(&testbed, "edge-a", TELL);
    assert!(before.contains("sparse") && before.contains("dev/shm/closed"), "{before}");
    let copy = ["--copy-bind", "/srv/copied"];

    let (record, code) = testbed.migrate_with("box", "edge-a", "edge-b", &copy);
    assert_eq!(code, 0, "{record}");
    assert_eq!(inside(&testbed, "edge-b", TELL), before);
    without_gap(&testbed, "edge-b");
    assert_eq!(
        inside(&testbed, "edge-b", "cat /seen/host").trim(),
        "edge-b",
        "a bind mount is the host's own"
    );
    let arrived = volume(&testbed, "edge-b", "data");
    assert_eq!(xattr::get(arrived.join("noise"), "user.kind").unwrap().unwrap(), b"noise");
    let format = "{{index .Labels \"team\"}} {{index .Options \"o\"}}";
    let described = testbed.run("edge-b", &["podman", "volume", "inspect", "-f", format, "data"]);
    assert_eq!(described.trim(), "uav uid=5,gid=6");
    let is_anonymous =
        testbed.run("edge-b", &["podman", "volume", "inspect", "-f", "{{.Anonymous}}", &anonymous]);
    assert_eq!(is_anonymous.trim(), "true");
    assert_eq!(volumes(&testbed, "edge-a"), Vec::<String>::new(), "the source keeps no copy");
    let left = testbed.run(
        "edge-b",
        &["sh", "-c", "ls -a /srv; ls -A $(dirname $(podman volume inspect -f '{{.Mountpoint}}' data))"],
    );
    assert!(!left.contains("mose"), "{left}");

    // And back, in rounds, with changes in each, over what the first move left there of the copied bind mount.
    let more = ["--strategy", "iterative-precopy", "--iterations", "2", "--overwrite-volume"];
    let (record, code) = testbed.migrate_with("box", "edge-b", "edge-a", &[&copy[..], &more].concat());
    assert_eq!(code, 0, "{record}");
    assert_eq!(inside(&testbed, "edge-a", TELL), before);
    without_gap(&testbed, "edge-a");
    let steps = record["steps"].as_array().unwrap();
    let passes = steps.iter().filter(|step| step["step"] == "volume-precopy").count();
    assert!(passes >= 3, "{record}");

    // It stops, starts and restarts on its volumes as before, and they go with it.
    testbed.run("edge-a", &["podman", "restart", "--time", "0", "box"]);
    assert!(inside(&testbed, "edge-a", "cat /data/deep/er/file").contains("one"));
    testbed.run("edge-a", &["podman", "rm", "--force", "--time", "0", "--volumes", "box"]);
    assert_eq!(volumes(&testbed, "edge-a"), ["data"]);
}

#[test]
fn a_volume_that_cannot_move_is_refused_and_one_that_did_not_move_is_as_it_was() {
    let Some(testbed) = Testbed::up() else { return };
    start(&testbed, "edge-a", &["-v", "data:/data", "-v", "/anonymous"]);
    inside(&testbed, "edge-a", "mkdir -p /copied; echo of the service >/data/file");
    let refused = |options: &[&str], reason: &str| {
        let (record, code) = testbed.migrate_with("box", "edge-a", "edge-b", options);
        assert_eq!(code, 3, "{record}");
        assert!(record.to_string().contains(reason), "{reason}: {record}");
        assert!(inside(&testbed, "edge-a", "cat /data/file").contains("of the service"));
    };
    refused(&["--copy-bind", "/nowhere"], "is no bind mount of box");

    // Another container uses it.
    testbed.run(
        "edge-a",
        &["podman", "create", "--name", "other", "-v", "data:/x", "localhost/counter", "true"],
    );
    refused(&[], "so does the container other");
    testbed.run("edge-a", &["podman", "rm", "other"]);

    // Something of that name, with contents of its own, is there already.
    testbed.run("edge-b", &["podman", "volume", "create", "data"]);
    std::fs::write(volume(&testbed, "edge-b", "data").join("own"), "of edge-b").unwrap();
    refused(&[], "with contents of its own");
    assert_eq!(std::fs::read(volume(&testbed, "edge-b", "data").join("own")).unwrap(), b"of edge-b");

    // A restore that fails: the half-sent copy goes, and the service goes on with its own volume.
    testbed.run("edge-b", &["podman", "volume", "rm", "data"]);
    let broken = "mv /usr/sbin/criu /usr/sbin/criu.real && printf '%s\\n' '#!/bin/sh' \
        'case \"$*\" in *swrk*) grep -q restore /proc/$PPID/cmdline && exit 1;; esac' 'exec /usr/sbin/criu.real \"$@\"' > /usr/sbin/criu && chmod +x /usr/sbin/criu";
    testbed.run("edge-b", &["sh", "-c", broken]);
    let (record, code) = testbed.migrate("box", "edge-a", "edge-b");
    assert_eq!((code, record["outcome"].as_str()), (4, Some("rolled-back")), "{record}");
    eventually("nothing of it is left", || volumes(&testbed, "edge-b").is_empty());
    let count = || inside(&testbed, "edge-a", "tail -n 1 /data/log").trim().parse::<u64>().unwrap();
    let counted = count();
    eventually("it goes on", || count() > counted);
    without_gap(&testbed, "edge-a");
    testbed.run("edge-b", &["mv", "/usr/sbin/criu.real", "/usr/sbin/criu"]);

    // What an agent that died has left behind is known as that; a volume of others is overwritten only if the operator insists.
    testbed.run("edge-b", &["podman", "volume", "create", "data"]);
    let there = volume(&testbed, "edge-b", "data");
    std::fs::write(there.join("half"), "sent").unwrap();
    std::fs::write(there.with_file_name(".mose-incoming"), "m0-0").unwrap();
    let (record, code) = testbed.migrate("box", "edge-a", "edge-b");
    assert_eq!(code, 0, "{record}");
    assert_eq!(
        inside(&testbed, "edge-b", "ls /data").split_whitespace().collect::<Vec<_>>(),
        ["file", "log"]
    );
    testbed.run("edge-a", &["podman", "volume", "create", "data"]);
    std::fs::write(volume(&testbed, "edge-a", "data").join("own"), "of edge-a").unwrap();
    let (record, code) = testbed.migrate_with("box", "edge-b", "edge-a", &["--overwrite-volume"]);
    assert_eq!(code, 0, "{record}");
    assert_eq!(
        inside(&testbed, "edge-a", "ls /data").split_whitespace().collect::<Vec<_>>(),
        ["file", "log"]
    );
    without_gap(&testbed, "edge-a");
}
