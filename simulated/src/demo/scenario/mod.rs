//! Scenarios of the demo testbed: TOML files that say which simulated hosts, links and services there are, and what happens.

mod check;
mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use mose_orchestrator::by_hand::ByHand;
use mose_orchestrator::calibration::{self, LoadError};
use mose_orchestrator::follow_me::{Aim, Pair};
use mose_pam::{Calibration, Objective, Targets};
use mose_protocol::agent::Role;
use mose_protocol::{HostName, ServiceName};

use self::file::File;
use crate::{Fault, Motion, ServiceSpec, SimulatedLink};

/// The scenarios that are built in, by name; the first is the default.
const BUILT_IN: [(&str, &str); 3] = [
    ("uav-handover", include_str!("../../../../assets/scenarios/uav-handover.toml")),
    ("fleet", include_str!("../../../../assets/scenarios/fleet.toml")),
    ("faults", include_str!("../../../../assets/scenarios/faults.toml")),
];

/// The calibration that step times are drawn around unless a scenario names another one.
const SIMULATED: &str = include_str!("../../../../assets/profiles/simulated.toml");

/// A scenario is some kilobytes; what is larger is none.
const LARGEST_FILE: u64 = 1 << 20;

/// Why there is no such scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is not built in, and there is no such file.
    #[error("there is no scenario `{name}`: built in are {built_in}; or give a scenario's TOML file")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        built_in: String,
    },
    /// The file cannot be read.
    #[error("the scenario {path} cannot be read: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is far too large for a scenario.
    #[error("{0} is larger than 1 MB: that is no scenario")]
    TooLarge(PathBuf),
    /// It is no TOML, or a key is missing, unknown or of the wrong kind; the message shows the place.
    #[error("the scenario {origin} cannot be read: {source}")]
    Toml {
        /// Which scenario.
        origin: String,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// A figure that cannot be, or parts that do not fit together.
    #[error("the scenario {origin}: {place}: {reason}")]
    Impossible {
        /// Which scenario.
        origin: String,
        /// Where in it.
        place: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Its calibration cannot be had.
    #[error("the scenario {origin}: profile: {source}")]
    Calibration {
        /// Which scenario.
        origin: String,
        /// Why.
        source: Box<LoadError>,
    },
}

/// A host of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// What it is for.
    pub role: Role,
    /// Where it is; `None`: it does not say.
    pub motion: Option<Motion>,
    /// The overlay address of its clients, if it has any.
    pub client: Option<Ipv4Net>,
}

/// A service that follows a mobile host.
#[derive(Debug, Clone, PartialEq)]
pub struct Follow {
    /// Which service.
    pub service: ServiceName,
    /// Which mobile host.
    pub mobile: HostName,
    /// The hosts that it may run on.
    pub between: Vec<HostName>,
    /// θ_down and θ_mig.
    pub targets: Targets,
    /// What to minimise.
    pub objective: Objective,
}

impl Follow {
    /// Who follows whom.
    #[must_use]
    pub fn pair(&self) -> Pair {
        Pair { service: self.service.clone(), mobile: self.mobile.clone(), between: self.between.clone() }
    }

    /// What it is moved for.
    #[must_use]
    pub fn aim(&self) -> Aim {
        Aim::of(self.targets, self.objective)
    }
}

/// A scenario that is complete and possible.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it shows, in a line.
    pub about: String,
    /// What all draws follow from.
    pub seed: u64,
    /// What step times are drawn around, and what plans are made with.
    pub calibration: Calibration,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The links.
    pub links: Vec<SimulatedLink>,
    /// The services, each with the host that it starts on.
    pub services: Vec<(ServiceSpec, HostName)>,
    /// What is to go wrong.
    pub faults: Vec<Fault>,
    /// Which service follows whom.
    pub follow: Option<Follow>,
    /// What was moved by hand before it begins, to compare with; when is not told.
    pub by_hand: Vec<ByHand>,
}

impl Scenario {
    /// The names of the scenarios that are built in, the default first.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The scenario with that name, if it is built in, else the one in that file. `None`: the default.
    ///
    /// # Errors
    /// [`ScenarioError`], naming the place and what is wrong there.
    pub fn load(name_or_file: Option<&str>) -> Result<Self, ScenarioError> {
        let name = name_or_file.unwrap_or(BUILT_IN[0].0);
        if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Self::from_toml(text, name);
        }
        let path = Path::new(name);
        let unreadable = |source| ScenarioError::Unreadable { path: path.to_owned(), source };
        let size = match std::fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let built_in = Self::built_in().collect::<Vec<_>>().join(", ");
                return Err(ScenarioError::Unknown { name: name.to_owned(), built_in });
            }
            Err(error) => return Err(unreadable(error)),
        };
        if size > LARGEST_FILE {
            return Err(ScenarioError::TooLarge(path.to_owned()));
        }
        Self::from_toml(&std::fs::read_to_string(path).map_err(unreadable)?, name)
    }

    /// Reads a scenario; `origin` is what errors call it.
    ///
    /// # Errors
    /// [`ScenarioError`], naming the place and what is wrong there.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, ScenarioError> {
        let file: File = toml::from_str(text)
            .map_err(|source| ScenarioError::Toml { origin: origin.to_owned(), source: Box::new(source) })?;
        let calibration = match file.profile.as_deref() {
            None | Some("simulated") => Ok(simulated_calibration()),
            Some(other) => calibration::load(other),
        };
        let calibration = calibration.map_err(|source| ScenarioError::Calibration {
            origin: origin.to_owned(),
            source: Box::new(source),
        })?;
        file.check(calibration).map_err(|(place, reason)| ScenarioError::Impossible {
            origin: origin.to_owned(),
            place,
            reason,
        })
    }

    /// The hosts that run services.
    pub fn edges(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.iter().filter(|host| host.role == Role::Edge).map(|host| &host.name)
    }

    /// Where the hosts are.
    #[must_use]
    pub fn motions(&self) -> BTreeMap<HostName, Motion> {
        self.hosts.iter().filter_map(|host| Some((host.name.clone(), host.motion?))).collect()
    }
}

/// The built-in calibration of simulated hosts.
#[expect(clippy::expect_used, reason = "the text is part of the program, and a test reads it")]
fn simulated_calibration() -> Calibration {
    Calibration::from_toml(SIMULATED).expect("a valid profile")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default() -> &'static str {
        BUILT_IN[0].1
    }

    fn complaint(from: &str, to: &str) -> String {
        assert!(default().contains(from), "{from}");
        Scenario::from_toml(&default().replacen(from, to, 1), "test.toml").unwrap_err().to_string()
    }

    #[test]
    fn every_built_in_scenario_is_read_and_called_by_its_name() {
        for name in Scenario::built_in() {
            let scenario = Scenario::load(Some(name)).unwrap();
            assert_eq!(scenario.name, name);
            assert!(scenario.edges().count() >= 2 && !scenario.services.is_empty(), "{name}");
        }
        assert_eq!(Scenario::load(None).unwrap().name, "uav-handover");
        assert_eq!(Scenario::load(None).unwrap().calibration.name, "simulated");
    }

    #[test]
    fn an_unknown_scenario_is_told_with_those_that_there_are() {
        let text = Scenario::load(Some("nowhere.toml")).unwrap_err().to_string();
        assert!(text.contains("`nowhere.toml`") && text.contains("uav-handover, fleet, faults"), "{text}");
    }

    #[test]
    fn an_unknown_or_missing_key_is_named_with_its_line() {
        let text = complaint("rtt = \"0.4ms\"", "rt = \"0.4ms\"");
        assert!(text.contains("unknown field `rt`") && text.contains("line "), "{text}");
        let text = complaint("image = \"localhost/navigation:demo\"\n", "");
        assert!(text.contains("missing field `image`") && text.contains("line "), "{text}");
        let text = complaint("state = \"32MiB\"", "state = \"32 elephants\"");
        assert!(text.contains("32 elephants") && text.contains("line ") && text.contains("10MB"), "{text}");
        let text = complaint("role = \"edge\"", "role = \"cloud\"");
        assert!(text.contains("cloud") && text.contains("line "), "{text}");
    }

    #[test]
    fn impossible_figures_are_named_with_their_place() {
        for (from, to, place, reason) in [
            ("state = \"32MiB\"", "state = \"64GiB\"", "service `navigation`: state", "at most"),
            (
                "working_set = \"8MiB\"",
                "working_set = \"33MiB\"",
                "writing.working_set",
                "no more than the state",
            ),
            ("for = \"3s\"", "for = \"9s\"", "writing.for", "shorter than `every`"),
            ("quiet = \"60p/s\"", "quiet = \"301p/s\"", "writing.quiet", "no more than"),
            ("rate = 50", "rate = 0", "clients", "between"),
            ("on = \"edge-a\"", "on = \"uav\"", "service `navigation`: on", "edge host"),
            ("on = \"edge-a\"", "on = \"edge-z\"", "service `navigation`: on", "no host `edge-z`"),
            ("mean = \"150Mbps\"", "mean = \"950Mbps\"", "link `edge-a` – `edge-b`: cross", "leave"),
            ("bandwidth = \"1Gbps\"", "bandwidth = \"1kbps\"", "bandwidth", "at least"),
            ("speed = \"10m/s\"", "speed = \"0m/s\"", "host `uav`: circle", "speed"),
            ("name = \"edge-b\"", "name = \"edge-a\"", "host `edge-a`", "twice"),
            ("mobile = \"uav\"", "mobile = \"edge-b\"", "follow: mobile", "mobile host"),
            ("service = \"navigation\"", "service = \"nav\"", "follow: service", "no service `nav`"),
            ("target_downtime = \"500ms\"", "target_downtime = \"9s\"", "follow", "does not fit"),
            ("between = [\"edge-a\", \"edge-b\"]", "between = [\"edge-a\", \"uav\"]", "link", "twice"),
        ] {
            let text = complaint(from, to);
            assert!(text.contains(place) && text.contains(reason), "{to}: {text}");
        }
    }

    #[test]
    fn a_fault_that_cannot_strike_is_refused() {
        let with =
            |fault: &str| Scenario::from_toml(&format!("{}\n[[fault]]\n{fault}", default()), "test.toml");
        assert!(with("fail = { step = \"restore\" }").is_ok() && with("stale_page = {}").is_ok());
        for (fault, reason) in [
            ("fail = { step = \"restore\", times = 0 }", "at least 1"),
            ("fail = { step = \"resore\" }", "resore"),
            ("fail = { step = \"dump\", service = \"x\" }", "no service `x`"),
            ("agent_lost = { step = \"pre_dump\" }", "prepare, dump or restore"),
            ("", "one of fail, stale_page and agent_lost"),
        ] {
            let text = with(fault).unwrap_err().to_string();
            assert!(text.contains(reason), "{fault}: {text}");
        }
    }

    #[test]
    fn what_was_moved_by_hand_went_from_an_edge_host_to_another_and_was_silent_for_no_longer_than_it_took() {
        let moved =
            |text: &str| Scenario::from_toml(&format!("{}\n[[by_hand]]\n{text}", default()), "test.toml");
        let table = |to: &str, silence: &str| {
            format!(
                "service = \"navigation\"\nfrom = \"edge-a\"\nto = \"{to}\"\nclient = \"uav\"\nduration = \"2s\"\n\
                 silence = \"{silence}\""
            )
        };
        let last = moved(&table("edge-b", "1.5s")).unwrap().by_hand.pop().unwrap();
        assert_eq!((last.duration.0, last.client.unwrap().1.0), (2000.0, 1500.0));
        for (to, silence, why) in [
            ("edge-a", "1.5s", "to another host"),
            ("uav", "1.5s", "choose an edge host"),
            ("nowhere", "1.5s", "there is no host"),
            ("edge-b", "3s", "longer than"),
        ] {
            let wrong = moved(&table(to, silence)).unwrap_err().to_string();
            assert!(wrong.contains("by_hand") && wrong.contains(why), "{wrong}");
        }
    }

    #[test]
    fn two_edge_hosts_without_a_link_are_named() {
        let begin = default().find("[[link]]").unwrap();
        let end = begin + default()[begin..].find("[[link]]\nbetween = [\"uav\", \"edge-a\"]").unwrap();
        let text = [&default()[..begin], &default()[end..]].concat();
        let text = Scenario::from_toml(&text, "test.toml").unwrap_err().to_string();
        assert!(text.contains("edge-a and edge-b") && text.contains("[[link]]"), "{text}");
    }
}
