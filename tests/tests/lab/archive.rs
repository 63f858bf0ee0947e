//! What libpod's own checkpoint archive carries of a container, held against what we carry: the archive that libpod makes of it after
//! a move is the one that it made before.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;

use mose_tests::Testbed;
use serde_json::Value;

/// Members of an archive, and what carries them where we move a container. One that is not among them is something that libpod has
/// learnt to carry, and that `docs/what-moves.md` has to tell of.
const CARRIED: &[(&str, &str)] = &[
    ("checkpoint/", "CRIU's images"),
    ("artifacts/", "a folder for the images' copies on other hosts; empty"),
    ("stats-dump", "how long the dump took"),
    ("config.dump", "libpod's configuration, of which the container is made there"),
    ("spec.dump", "the runtime's configuration, which is made of libpod's"),
    ("network.status", "addresses that libpod gave it; ours come from the overlay"),
    ("ctr.log", "a tree"),
    ("devshm-checkpoint.tar", "a tree"),
    ("rootfs-diff.tar", "a tree"),
    ("deleted.files", "whiteouts in the tree of the root file system"),
    ("volumes/", "a tree each"),
];

/// Fields of the configurations that are not the same there, and why.
const MAY_DIFFER: &[(&str, &str)] = &[
    ("config.dump/createdTime", "when it was made there"),
    ("config.dump/lockID", "the number of a lock of that host's"),
    ("config.dump/namedVolumes/", "libpod tells an anonymous volume's nature when it is told it"),
    ("config.dump/spec/linux/cgroupsPath", "filled in once a container was restored"),
    ("spec.dump/root/path", "where that host mounts its root file system"),
];

const SERVICE: &str = "archived";

/// Bytes, more than all that is sent of the service.
const STALE: u64 = 16 << 20;

/// Something of every sort that an archive has a member for.
const FILL: &str = "echo shared >/dev/shm/file; echo named >/data/file; chmod 640 /data/file; echo anonymous >/anonymous/file; \
    mkdir -p /made; echo made >/made/file; rm /usr/bin/nc /usr/bin/ping; echo '# changed' >>/etc/group";

/// Unpacks an archive and tells its members; of those that are archives themselves what is in them, and what that holds.
const LOOK: &str = "cd /root && rm -rf unpacked && mkdir unpacked && tar -xf archive.tar -C unpacked && cd unpacked && \
    for part in $(find . -name '*.tar' | sort); do echo \"== $part\"; \
    tar --full-time --numeric-owner -tvf $part && tar -xOf $part | md5sum; done";

/// Has libpod make an archive of the container, which goes on.
fn archive(testbed: &Testbed, host: &str) {
    testbed.run(
        host,
        &[
            "podman",
            "container",
            "checkpoint",
            "--leave-running",
            "--compress",
            "none",
            "--export",
            "/root/archive.tar",
            SERVICE,
        ],
    );
}

fn member(testbed: &Testbed, host: &str, name: &str) -> String {
    testbed.run(host, &["cat", &format!("/root/unpacked/{name}")])
}

fn flatten(path: String, value: &Value, fields: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(all) => {
            all.iter().for_each(|(key, value)| flatten(format!("{path}/{key}"), value, fields));
        }
        Value::Array(all) => {
            for (at, value) in all.iter().enumerate() {
                // Mounts stand in any order.
                let name = value["destination"].as_str().map_or_else(|| at.to_string(), str::to_owned);
                flatten(format!("{path}/{name}"), value, fields);
            }
        }
        other => {
            fields.insert(path, other.clone());
        }
    }
}

/// The fields of both configurations that an archive holds.
fn configurations(testbed: &Testbed, host: &str) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    for name in ["config.dump", "spec.dump"] {
        flatten(name.into(), &serde_json::from_str(&member(testbed, host, name)).unwrap(), &mut fields);
    }
    fields
}

#[test]
fn what_libpods_own_archive_carries_is_there_after_a_move() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.run("edge-a", &["mose-agent", "attach", SERVICE, "--address", "10.77.0.30/24"]);
    let network = format!("ns:/run/netns/{SERVICE}");
    let run = ["podman", "run", "--detach", "--name", SERVICE, "--network", &network];
    let options = ["-v", "data:/data", "-v", "/anonymous", "localhost/counter"];
    let program = ["sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.1; done"];
    testbed.run("edge-a", &[&run[..], &options, &program].concat());
    testbed.run("edge-a", &["podman", "exec", SERVICE, "sh", "-c", FILL]);

    let mut archives = Vec::new();
    for host in ["edge-a", "edge-b"] {
        archive(&testbed, host);
        let inside = testbed.run(host, &["sh", "-c", LOOK]);
        let members = testbed.run(host, &["tar", "-tf", "/root/archive.tar"]);
        for member in members.lines() {
            let carried = CARRIED.iter().any(|(known, _)| {
                if known.ends_with('/') { member.starts_with(known) } else { member == *known }
            });
            assert!(carried, "libpod's archive carries {member}; do we?");
        }
        for (known, _) in CARRIED {
            assert!(members.lines().any(|member| member.starts_with(known)), "no {known} among {members}");
        }
        let texts = ["deleted.files", "network.status"].map(|name| member(&testbed, host, name));
        archives.push((inside, texts, configurations(&testbed, host), member(&testbed, host, "ctr.log")));
        if host == "edge-a" {
            // libpod leaves its images where ours will be. A large one tells whether any of them is sent.
            let folder = testbed.run(host, &["podman", "inspect", SERVICE, "--format", "{{.StaticDir}}"]);
            let stale = format!("{}/checkpoint/pages-9.img", folder.trim());
            testbed.run(host, &["sh", "-c", &format!("head -c {STALE} /dev/urandom >{stale}")]);
            let (record, code) = testbed.migrate(SERVICE, "edge-a", "edge-b");
            assert_eq!(code, 0, "{record}");
            assert!(record["image"].as_u64().is_some_and(|image| image < STALE), "{record}");
        }
    }
    let [(inside, texts, configured, log), (after, texts_after, configured_after, log_after)] =
        archives.try_into().unwrap();
    assert!(inside.contains("made/file") && texts[0].contains("/usr/bin/nc"), "{inside} {texts:?}");
    assert_eq!(after, inside);
    assert_eq!(texts_after, texts);
    assert!(log.contains("line 3\n") && log_after.starts_with(&log), "{log_after}");
    let fields =
        configured.keys().chain(configured_after.keys().filter(|key| !configured.contains_key(*key)));
    let differing: Vec<String> = fields
        .filter(|field| configured.get(*field) != configured_after.get(*field))
        .filter(|field| !MAY_DIFFER.iter().any(|(known, _)| field.starts_with(known)))
        .map(|field| format!("{field}: {:?} was {:?}", configured_after.get(field), configured.get(field)))
        .collect();
    assert_eq!(differing, Vec::<String>::new());
}
