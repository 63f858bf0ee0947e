//! What an experiment may do to a lab that is up: it starts services of its own, and one of the operator's that has the same name is
//! not removed unasked.

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::lab::commands::Replace;
use mose_lab::{Lab, stop_service};

use crate::course::EDGES;
use crate::testbed::open;

/// A service that an experiment would have to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InTheWay {
    name: String,
    host: &'static str,
}

/// The lab that is up, for an experiment that starts services of these names. None of them is there afterwards.
pub(crate) fn open_for(names: &[&str], replace: Replace) -> color_eyre::Result<Lab> {
    let lab = open()?;
    let mut there = Vec::new();
    for host in EDGES {
        there.push((host, containers(&lab, host)?));
    }
    for InTheWay { name, host } in admit(names, &there, replace)? {
        stop_service(&lab, host, &name)?;
        eprintln!("{name} on {host} is removed, to be replaced");
    }
    Ok(lab)
}

/// The names of a host's containers, also of those that do not run.
fn containers(lab: &Lab, host: &str) -> color_eyre::Result<Vec<String>> {
    let what = || format!("the containers of {host} cannot be listed");
    let mut list = lab.exec(host, &["podman", "ps", "--all", "--format", "{{.Names}}"])?;
    let output = list.output().wrap_err_with(what)?;
    if !output.status.success() {
        return Err(eyre!("{}: {}", what(), String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().to_owned()).collect())
}

/// What is to be removed before an experiment begins; refused where somebody may still want it.
fn admit(
    names: &[&str],
    there: &[(&'static str, Vec<String>)],
    replace: Replace,
) -> color_eyre::Result<Vec<InTheWay>> {
    let in_the_way: Vec<InTheWay> = there
        .iter()
        .flat_map(|&(host, ref containers)| containers.iter().map(move |name| (host, name)))
        .filter(|(_, name)| names.contains(&name.as_str()))
        .map(|(host, name)| InTheWay { name: name.clone(), host })
        .collect();
    let Some(InTheWay { name, host }) = in_the_way.first().filter(|_| !replace.replace) else {
        return Ok(in_the_way);
    };
    let all: Vec<String> = in_the_way.iter().map(|one| format!("{} on {}", one.name, one.host)).collect();
    Err(eyre!(
        "the lab has {} already, and this experiment starts a service of that name itself, in its place; stop it first (mose lab \
         service stop {name} --on {host}), take the lab down (mose lab down), or give --replace: what it holds is then lost",
        all.join(" and "),
    ))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const ASKED: Replace = Replace { replace: true };
    const UNASKED: Replace = Replace { replace: false };

    fn lab(a: &[&str], b: &[&str]) -> Vec<(&'static str, Vec<String>)> {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        vec![(EDGES[0], names(a)), (EDGES[1], names(b))]
    }

    #[test]
    fn a_service_of_the_operators_is_named_and_not_removed_unasked() {
        let there = lab(&["redis"], &["web", "counter"]);
        let error = admit(&["counter"], &there, UNASKED).unwrap_err().to_string();
        assert!(error.contains("counter on edge-b already"), "{error}");
        assert!(error.contains("mose lab service stop counter --on edge-b"), "{error}");
        assert!(error.contains("mose lab down") && error.contains("--replace"), "{error}");
        assert!(!error.contains("redis") && !error.contains("web"), "{error}");
    }

    #[test]
    fn what_is_to_be_replaced_is_removed_and_nothing_else() {
        let there = lab(&["plain", "counter"], &["with-volume"]);
        let removed = admit(&["plain", "with-volume"], &there, ASKED).unwrap();
        let expected = [("plain", EDGES[0]), ("with-volume", EDGES[1])];
        assert_eq!(removed, expected.map(|(name, host)| InTheWay { name: name.to_owned(), host }));
    }

    #[test]
    fn services_of_other_names_are_in_nobodys_way() {
        let there = lab(&["counter", "counter-2"], &[]);
        for replace in [UNASKED, ASKED] {
            assert!(admit(&["redis"], &there, replace).unwrap().is_empty());
            assert!(admit(&["counter"], &lab(&[], &[]), replace).unwrap().is_empty());
        }
    }

    #[test]
    fn every_command_that_starts_services_can_be_told_to_replace_those_that_are_there() {
        let program = crate::Arguments::command();
        let starting = [
            "laps",
            "connections",
            "targets",
            "rounds",
            "strategies",
            "volumes",
            "rehearsals",
            "profiling",
            "services",
            "baseline",
            "unmovable",
            "faults",
            "soak",
            "paper",
            "calibrate",
        ];
        for name in starting {
            let command = program.find_subcommand(name).unwrap();
            assert!(command.get_arguments().any(|argument| argument.get_id() == "replace"), "{name}");
            let about = command.get_about().unwrap().to_string();
            assert!(!about.contains("may do to"), "{name}: {about}");
        }
    }
}
