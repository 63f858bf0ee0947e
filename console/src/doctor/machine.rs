//! This machine: whether it can run the lab, and whether it reaches any agent.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use mose_lab::{Missing, OWN_BINARIES, Space};
use mose_pam::Bytes;
use mose_protocol::Refusal;
use mose_protocol::doctor::Check;

/// How long the machine may be looked at: it tries what its kernel's network can do.
const LOOK: Duration = Duration::from_secs(20);

/// What can be said of the machine alone.
#[derive(Debug)]
pub struct Machine {
    /// What it lacks for the lab, and the room that the lab has; `None` where looking took too long.
    lab: Option<(Vec<Missing>, Vec<Space>)>,
    /// Where the programs should be, and which of them are not.
    programs: (PathBuf, Vec<&'static str>),
}

/// Which agents are reached from here.
#[derive(Debug)]
pub enum Reached {
    /// These.
    Hosts(Vec<String>),
    /// None where one was named, or in the lab that is up.
    Nobody(Refusal),
    /// None, and none was named: multicast found none.
    NobodyNamed(Refusal),
    /// It could not be tried.
    Untried(String),
}

impl Machine {
    /// Looks at it. To be called before the lab's network is entered.
    #[must_use]
    pub fn look() -> Self {
        let (found, waiting) = mpsc::channel();
        // Left behind if it hangs: the program ends without it.
        std::thread::spawn(move || found.send((mose_lab::doctor(), mose_lab::space())));
        let here = std::env::current_exe().unwrap_or_default();
        let folder = here.parent().map(PathBuf::from).unwrap_or_default();
        let lacking = OWN_BINARIES.into_iter().filter(|name| !folder.join(name).is_file()).collect();
        Self { lab: waiting.recv_timeout(LOOK).ok(), programs: (folder, lacking) }
    }

    /// Whether the lab could come up here.
    fn runs_the_lab(&self) -> bool {
        self.lab.as_ref().is_some_and(|(missing, _)| missing.is_empty()) && self.programs.1.is_empty()
    }

    /// What that means, given the agents that are reached: who has agents elsewhere needs no lab.
    #[must_use]
    pub fn checks(&self, reached: &Reached) -> Vec<Check> {
        let mut checks = vec![self.agents(reached)];
        let lacking = |what: &str, found: &str, remedy: &str| match reached {
            Reached::Hosts(_) => Check::fallback(
                what,
                found,
                "the agents that are there; only `mose lab` and `mose calibrate` need it",
                remedy,
            ),
            _ => Check::broken(what, found, remedy),
        };
        match &self.lab {
            None => checks.push(Check::unknown(
                "lab",
                format!("looking at this machine took longer than {} s", LOOK.as_secs()),
                "try `mose lab up`, which says what is missing",
            )),
            Some((missing, space)) => {
                if missing.is_empty() {
                    checks.push(Check::ok("lab", "this machine can run it"));
                }
                for Missing { what, why, remedy } in missing {
                    checks.push(lacking("lab", &format!("missing: {what} ({why})"), remedy));
                }
                // Where there is too little, that is among what is missing.
                for Space { folder, free, .. } in space.iter().filter(|space| space.free >= space.needed) {
                    checks.push(Check::ok("free disk", format!("{} in {}", Bytes(*free), folder.display())));
                }
            }
        }
        let (folder, absent) = &self.programs;
        checks.push(if absent.is_empty() {
            Check::ok("programs", format!("all are in {}", folder.display()))
        } else {
            let found = format!("not in {}, beside mose: {}", folder.display(), absent.join(", "));
            lacking("programs", &found, "cargo build --release, and keep the programs in one folder")
        });
        checks
    }

    fn agents(&self, reached: &Reached) -> Check {
        const WHAT: &str = "agents";
        match reached {
            Reached::Hosts(hosts) => Check::ok(WHAT, format!("reached from here: {}", hosts.join(", "))),
            Reached::NobodyNamed(refusal) if self.runs_the_lab() => Check::fallback(
                WHAT,
                &refusal.reason,
                "the lab, which brings its own: mose lab up",
                &refusal.remedy,
            ),
            Reached::Nobody(refusal) | Reached::NobodyNamed(refusal) => {
                Check::broken(WHAT, &refusal.reason, &refusal.remedy)
            }
            Reached::Untried(reason) => {
                Check::unknown(WHAT, reason, "be root, or name agents with --connect")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mose_protocol::RefusalCode;
    use mose_protocol::doctor::CheckState;

    use super::*;

    fn states(machine: &Machine, reached: &Reached) -> Vec<(String, CheckState)> {
        machine.checks(reached).into_iter().map(|check| (check.what, check.state)).collect()
    }

    fn nobody() -> Refusal {
        Refusal::new(RefusalCode::Unreachable, "no agent was found", "start one")
    }

    #[test]
    fn a_machine_that_reaches_agents_needs_no_lab_and_one_that_reaches_none_does() {
        let missing = Missing { what: "root".into(), why: "namespaces".into(), remedy: "sudo".into() };
        let machine = Machine { lab: Some((vec![missing], Vec::new())), programs: ("/x".into(), Vec::new()) };
        let lab_of = |reached| states(&machine, &reached)[1].clone();
        assert_eq!(lab_of(Reached::Hosts(vec!["edge-a".into()])), ("lab".into(), CheckState::Fallback));
        assert_eq!(lab_of(Reached::NobodyNamed(nobody())).1, CheckState::Broken);
        assert_eq!(states(&machine, &Reached::NobodyNamed(nobody()))[0].1, CheckState::Broken);
    }

    #[test]
    fn without_agents_the_lab_is_the_fallback_if_nothing_else_was_asked_for() {
        let machine = Machine { lab: Some((Vec::new(), Vec::new())), programs: ("/x".into(), Vec::new()) };
        let agents = |reached| states(&machine, &reached)[0].1;
        assert_eq!(agents(Reached::NobodyNamed(nobody())), CheckState::Fallback);
        assert_eq!(agents(Reached::Nobody(nobody())), CheckState::Broken);
        assert_eq!(agents(Reached::Untried("not root".into())), CheckState::Unknown);
    }

    #[test]
    fn what_is_not_beside_this_program_is_named_and_a_machine_that_hangs_is_unknown() {
        let machine = Machine { lab: None, programs: ("/x".into(), vec!["mose-agent"]) };
        let checks = machine.checks(&Reached::NobodyNamed(nobody()));
        assert_eq!((checks[1].what.as_str(), checks[1].state), ("lab", CheckState::Unknown));
        assert_eq!(checks[2].state, CheckState::Broken);
        assert!(checks[2].found.contains("mose-agent"), "{checks:?}");
    }

    #[test]
    fn only_room_that_suffices_is_ok() {
        let room = |free| Space { folder: "/var/cache".into(), free, needed: 10 };
        let of =
            |free| Machine { lab: Some((Vec::new(), vec![room(free)])), programs: ("/x".into(), Vec::new()) };
        let disks = |machine: Machine| {
            states(&machine, &Reached::Hosts(Vec::new()))
                .iter()
                .filter(|(what, _)| what == "free disk")
                .count()
        };
        assert_eq!((disks(of(10)), disks(of(9))), (1, 0));
    }
}
