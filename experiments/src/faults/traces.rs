//! What a migration leaves on a host, counted by kind, and how many copies of the service run.

use std::collections::BTreeMap;

use mose_lab::Lab;

use super::host::sh;

/// Prints a line `kind<TAB>item` for all that a hand-over makes on a host and has to remove again.
const INVENTORY: &str = r#"
say() { while read -r item; do printf '%s\t%s\n' "$1" "$item"; done; }
store=/var/lib/containers/storage
timeout 10 podman ps --all --no-trunc --format '{{.ID}} {{.Names}} {{.State}}' 2>/dev/null | say container
ls $store/overlay-containers 2>/dev/null | grep -E '^[0-9a-f]{64}$' | say 'container folder'
ls /run/runc 2>/dev/null | say 'runtime state'
ls /run/netns 2>/dev/null | say 'network namespace'
ls /sys/class/net | say link
ovs-vsctl --timeout=5 list-ports br-mose | say port
ovs-ofctl -O OpenFlow14 --timeout=5 dump-flows br-mose --no-stats | grep 10.77.0.20 | say flow
ls /run/mose/criu | grep -v '^sock$' | say 'hook marker'
ls /var/lib/mose/journal | say journal
find /var/lib/mose -type f ! -name history.ndjson ! -path '*/journal/*' ! -path '*/calibrations/*' | say 'file of the agent'
find $store/overlay-containers -path '*/userdata/*checkpoint*' -type f 2>/dev/null | sed 's|.*/userdata/||' | say image
ls $store/volumes 2>/dev/null | say volume
find $store/secrets -type f -size +64c 2>/dev/null | say secret
awk '$2 ~ /containers\/storage\/|\/run\/netns\/|\/var\/lib\/mose/ {print $2}' /proc/mounts | say mount
find /sys/fs/cgroup -type d -name 'libpod-*' ! -path '*/systemd/*' | say cgroup
for p in /proc/[0-9]*; do
    name=$(cat $p/comm 2>/dev/null)
    case $name in criu|criu.real|runc|runc.real|conmon|mose-criu-hook) echo "$name ${p#/proc/}" ;; esac
done | say process
true
"#;

/// Prints `pid state freezer` for each process of the service.
const COPIES: &str = r#"
for p in /proc/[0-9]*; do
    tr '\0' ' ' < $p/cmdline 2>/dev/null | grep -q '^mose-counter serve' || continue
    state=$(sed -n 's/^State:[^A-Za-z]*\([A-Za-z]\).*/\1/p' $p/status)
    freezer=$(sed -n 's/^[0-9]*:freezer://p' $p/cgroup)
    unified=$(sed -n 's/^0:://p' $p/cgroup)
    frozen=no
    if [ -n "$freezer" ]; then
        [ "$(cat /sys/fs/cgroup/freezer$freezer/freezer.state 2>/dev/null)" = THAWED ] || frozen=yes
    elif grep -qs 'frozen 1' /sys/fs/cgroup$unified/cgroup.events; then
        frozen=yes
    fi
    echo "${p#/proc/} $state $frozen"
done
true
"#;

/// What is on a host, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inventory(BTreeMap<String, Vec<String>>);

impl Inventory {
    /// What there is now.
    pub(crate) fn of(lab: &Lab, host: &str) -> color_eyre::Result<Self> {
        Ok(Self::read(&sh(lab, host, INVENTORY)?))
    }

    /// What the shell printed.
    pub(crate) fn read(text: &str) -> Self {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (kind, item) in text.lines().filter_map(|line| line.split_once('\t')) {
            all.entry(kind.to_owned()).or_default().push(item.to_owned());
        }
        Self(all)
    }

    /// What there is of a kind.
    pub(crate) fn of_kind(&self, kind: &str) -> &[String] {
        self.0.get(kind).map_or(&[], Vec::as_slice)
    }

    /// Every kind, with what there is of it.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(kind, items)| (kind.as_str(), items.as_slice()))
    }

    /// What there is more of than there was at a host in the same part: with the service, or without.
    pub(crate) fn beyond(&self, usual: &Self, host: &str) -> Vec<String> {
        let mut more = Vec::new();
        for (kind, items) in &self.0 {
            let before = usual.0.get(kind).map_or(&[][..], Vec::as_slice);
            if items.len() > before.len() {
                // Names that were there before are not those that are too many.
                let new: Vec<&str> =
                    items.iter().filter(|item| !before.contains(item)).map(String::as_str).collect();
                let many = items.len() - before.len();
                more.push(format!("{many} {kind} too many on {host}: {}", shown(&new)));
            }
        }
        more
    }
}

fn shown(items: &[&str]) -> String {
    let mut text: Vec<String> = items.iter().take(4).map(|item| item.chars().take(120).collect()).collect();
    if items.len() > 4 {
        text.push(format!("and {} more", items.len() - 4));
    }
    text.join(", ")
}

/// How many copies of the service run on a host: neither frozen nor stopped, by its processes, whatever Podman says.
pub(crate) fn copies(lab: &Lab, host: &str) -> color_eyre::Result<u32> {
    Ok(running(&sh(lab, host, COPIES)?))
}

fn running(text: &str) -> u32 {
    let runs = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words.as_slice(), [_, state, "no"] if matches!(*state, "R" | "S" | "D"))
    };
    text.lines().filter(runs).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_more_of_is_named_and_what_only_changed_its_name_is_not() {
        let usual = Inventory::read("port\tmo-1\nlink\tlo\ncontainer\tabc counter running\n");
        let now =
            Inventory::read("port\tmo-2\nlink\tlo\ncontainer\tdef counter running\njournal\tm-1.source\n");
        assert_eq!(now.beyond(&usual, "edge-a"), ["1 journal too many on edge-a: m-1.source"]);
        assert!(usual.beyond(&now, "edge-a").is_empty());
    }

    #[test]
    fn a_copy_runs_if_it_is_neither_frozen_nor_stopped_nor_dead() {
        assert_eq!(running("12 S no\n13 R no\n14 T no\n15 S yes\n16 Z no\n"), 2);
        assert_eq!(running(""), 0);
    }
}
