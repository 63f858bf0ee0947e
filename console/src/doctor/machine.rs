//! This machine: whether it can run the lab, and whether it reaches any agent.

use std::path::PathBuf;

use mose_pam::Bytes;
use mose_protocol::Refusal;
use mose_protocol::doctor::Check;

use crate::lab::{self, AskError, LOOK, Missing, NotFound, PROGRAM, Readiness, SOON, Space, Topic};

/// What can be said of the machine alone.
#[derive(Debug)]
pub struct Machine {
    /// What the lab's program says; why it did not, otherwise.
    lab: Result<lab::Machine, String>,
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
        let lab = match lab::ask(Topic::Machine, LOOK + SOON) {
            Err(AskError::NotFound(NotFound { folder })) => Ok(without_the_program(folder)),
            told => told.map_err(|error: AskError| error.to_string()),
        };
        Self { lab }
    }

    /// Whether the lab could come up here.
    fn runs_the_lab(&self) -> bool {
        let complete = |ready: &Readiness| ready.missing.is_empty();
        let told = self.lab.as_ref();
        told.is_ok_and(|lab| lab.readiness.as_ref().is_some_and(complete) && lab.absent.is_empty())
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
        let lab = match &self.lab {
            Ok(lab) => lab,
            Err(why) => {
                checks.push(Check::unknown("lab", why, "use programs of one release, in one folder"));
                return checks;
            }
        };
        match &lab.readiness {
            None => checks.push(Check::unknown(
                "lab",
                format!("looking at this machine took longer than {} s", LOOK.as_secs()),
                "try `mose lab up`, which says what is missing",
            )),
            Some(Readiness { missing, space }) => {
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
        let lab::Machine { folder, absent, .. } = lab;
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

/// A machine that has no lab's program in the folder of this one.
fn without_the_program(folder: PathBuf) -> lab::Machine {
    let missing = Missing {
        what: PROGRAM.to_owned(),
        why: "it brings the lab up".to_owned(),
        remedy: "cargo build --release, and keep the programs in one folder".to_owned(),
    };
    let readiness = Some(Readiness { missing: vec![missing], space: Vec::new() });
    lab::Machine { readiness, folder, absent: vec![PROGRAM.to_owned()] }
}

#[cfg(test)]
mod tests {
    use mose_protocol::RefusalCode;
    use mose_protocol::doctor::CheckState;

    use super::*;

    fn machine(missing: Vec<Missing>, space: Vec<Space>) -> Machine {
        let readiness = Some(Readiness { missing, space });
        Machine { lab: Ok(lab::Machine { readiness, folder: "/x".into(), absent: Vec::new() }) }
    }

    fn states(machine: &Machine, reached: &Reached) -> Vec<(String, CheckState)> {
        machine.checks(reached).into_iter().map(|check| (check.what, check.state)).collect()
    }

    fn nobody() -> Refusal {
        Refusal::new(RefusalCode::Unreachable, "no agent was found", "start one")
    }

    #[test]
    fn a_machine_that_reaches_agents_needs_no_lab_and_one_that_reaches_none_does() {
        let missing = Missing { what: "root".into(), why: "namespaces".into(), remedy: "sudo".into() };
        let machine = machine(vec![missing], Vec::new());
        let lab_of = |reached| states(&machine, &reached)[1].clone();
        assert_eq!(lab_of(Reached::Hosts(vec!["edge-a".into()])), ("lab".into(), CheckState::Fallback));
        assert_eq!(lab_of(Reached::NobodyNamed(nobody())).1, CheckState::Broken);
        assert_eq!(states(&machine, &Reached::NobodyNamed(nobody()))[0].1, CheckState::Broken);
    }

    #[test]
    fn without_agents_the_lab_is_the_fallback_if_nothing_else_was_asked_for() {
        let machine = machine(Vec::new(), Vec::new());
        let agents = |reached| states(&machine, &reached)[0].1;
        assert_eq!(agents(Reached::NobodyNamed(nobody())), CheckState::Fallback);
        assert_eq!(agents(Reached::Nobody(nobody())), CheckState::Broken);
        assert_eq!(agents(Reached::Untried("not root".into())), CheckState::Unknown);
    }

    #[test]
    fn what_is_not_beside_this_program_is_named_and_a_machine_that_hangs_is_unknown() {
        let lab = lab::Machine { readiness: None, folder: "/x".into(), absent: vec!["mose-agent".into()] };
        let machine = Machine { lab: Ok(lab) };
        let checks = machine.checks(&Reached::NobodyNamed(nobody()));
        assert_eq!((checks[1].what.as_str(), checks[1].state), ("lab", CheckState::Unknown));
        assert_eq!(checks[2].state, CheckState::Broken);
        assert!(checks[2].found.contains("mose-agent"), "{checks:?}");
    }

    #[test]
    fn only_room_that_suffices_is_ok() {
        let room = |free| Space { folder: "/var/cache".into(), free, needed: 10 };
        let of = |free| machine(Vec::new(), vec![room(free)]);
        let disks = |machine: Machine| {
            states(&machine, &Reached::Hosts(Vec::new()))
                .iter()
                .filter(|(what, _)| what == "free disk")
                .count()
        };
        assert_eq!((disks(of(10)), disks(of(9))), (1, 0));
    }

    #[test]
    fn without_the_lab_s_program_the_lab_is_missing_and_an_answer_that_is_none_leaves_it_unknown() {
        let machine = Machine { lab: Ok(without_the_program("/x".into())) };
        let checks = machine.checks(&Reached::Hosts(vec!["edge-a".into()]));
        let told: Vec<_> = checks.iter().map(|check| (check.what.as_str(), check.state)).collect();
        assert_eq!(told[1..], [("lab", CheckState::Fallback), ("programs", CheckState::Fallback)]);
        assert!(checks[1].found.contains(PROGRAM) && checks[2].found.contains(PROGRAM), "{checks:?}");
        let machine = Machine { lab: Err("mose-lab cannot be run".into()) };
        assert_eq!(states(&machine, &Reached::Nobody(nobody()))[1], ("lab".into(), CheckState::Unknown));
    }
}
