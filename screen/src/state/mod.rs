//! What the console knows, and how it is shown. One loop owns it: events change it, views read it.

mod aim;
pub mod checks;
pub mod fleet;
pub mod migrations;
pub mod notices;
pub mod past;
pub mod planning;
pub mod series;
pub mod still;
pub mod trail;
pub mod ui;

use mose_pam::Millis;
use mose_protocol::agent::{Role, ServiceInfo, ServiceState};
use mose_protocol::following::Aim;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::{HostName, ServiceName, Timestamp};

use crate::config::Config;
use crate::fleet_event::{FleetEvent, Following};

pub use fleet::{Fleet, Host, Presence};
pub use migrations::{Bar, Migrations, Track};
pub use notices::{Level, Notice, Notices};
pub use past::Past;
pub use planning::{Field, Planning};
pub use series::Series;
pub use still::Still;
pub use trail::Trail;
pub use ui::{Dialog, Ui};

/// Where what is shown comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Nothing yet: the operator chooses.
    Choosing,
    /// Agents that were found or named.
    Agents,
    /// The lab on this machine.
    Lab,
    /// Simulated agents in this process.
    Demo {
        /// The scenario's name.
        scenario: String,
    },
    /// A recording.
    Replay(Replay),
}

/// How a recording is played.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// The file's name.
    pub name: String,
    /// The time that is shown, and those of the recording's ends.
    pub at: Timestamp,
    /// When it begins.
    pub begin: Timestamp,
    /// When it ends.
    pub end: Timestamp,
    /// How much faster than it happened.
    pub speed: f64,
    /// Whether it stands still.
    pub paused: bool,
    /// Whether what was recorded was simulated.
    pub simulated: bool,
}

impl Source {
    /// Whether it is a recording.
    #[must_use]
    pub const fn is_replay(&self) -> bool {
        matches!(self, Self::Replay(_))
    }

    /// The word for the head line.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Choosing => "no agents yet".to_owned(),
            Self::Agents => "agents".to_owned(),
            Self::Lab => "lab".to_owned(),
            Self::Demo { scenario } => format!("SIM {scenario}"),
            Self::Replay(replay) => {
                format!("REPLAY{} {}", if replay.simulated { " SIM" } else { "" }, replay.name)
            }
        }
    }
}

/// How long it holds what another orchestrator said of what follows.
const SAID_AGAIN: Millis = Millis(3500.0);

/// What came from the agents. A frozen picture is a copy of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Data {
    /// The time up to which this is what is known, on the console's clock.
    pub now: Timestamp,
    /// The hosts.
    pub fleet: Fleet,
    /// The migrations seen under way.
    pub migrations: Migrations,
    /// The migrations that are over.
    pub past: Past,
    /// Whether this console has a service follow its mobile host, where it can.
    pub following_here: Option<Following>,
    /// What another orchestrator said last of that, and when.
    pub following_elsewhere: Option<(Following, Timestamp)>,
}

impl Data {
    /// Nothing is known any more.
    #[must_use]
    pub fn emptied(&self, now: Timestamp) -> Self {
        Self {
            now,
            fleet: self.fleet.emptied(),
            migrations: Migrations::default(),
            past: self.past.emptied(),
            following_here: None,
            following_elsewhere: None,
        }
    }

    /// Whether a service follows its mobile host, as far as anybody says so. Where this console has it follow, that counts.
    #[must_use]
    pub fn following(&self) -> Option<&Following> {
        self.elsewhere().or(self.following_here.as_ref())
    }

    /// What another orchestrator, a console or a command, has follow while nothing does here. It says so once a second.
    #[must_use]
    pub fn elsewhere(&self) -> Option<&Following> {
        let (told, heard) = self.following_elsewhere.as_ref()?;
        (told.on && !self.follows_here() && self.now.since(*heard) <= SAID_AGAIN).then_some(told)
    }

    /// Whether this console has a service follow its mobile host.
    #[must_use]
    pub fn follows_here(&self) -> bool {
        self.following_here.as_ref().is_some_and(|here| here.on)
    }

    /// Takes in what came from an agent at `now`.
    pub fn take(&mut self, event: FleetEvent, now: Timestamp) {
        self.now = now;
        match event {
            FleetEvent::Seen(host) => self.fleet.seen(host, now),
            FleetEvent::Hello(hello) => self.fleet.introduced(*hello, now),
            FleetEvent::Stranger { host, refusal } => self.fleet.stranger(host, refusal, now),
            FleetEvent::Gone(host) => self.fleet.gone(&host, now),
            FleetEvent::Telemetry(telemetry) => self.fleet.telemetry(*telemetry, now),
            FleetEvent::Step(step) => self.migrations.step(*step, now),
            FleetEvent::Record(record) => {
                let record = record.as_told_now();
                self.migrations.record(&record);
                self.past.take(record);
            }
            FleetEvent::Following(following) => self.following_here = Some(*following),
            FleetEvent::FollowingElsewhere(following) => self.following_elsewhere = Some((*following, now)),
            // Of the plan and of the notices, not of what is there.
            FleetEvent::Calibration { .. } | FleetEvent::Checked(_) | FleetEvent::Decided(_) => {}
        }
    }
}

/// What a service is, where it is, and who says so.
#[derive(Debug, Clone, Copy)]
pub struct Located<'a> {
    /// The host that tells of it.
    pub host: &'a Host,
    /// What it tells.
    pub info: &'a ServiceInfo,
}

/// Everything.
#[derive(Debug, Clone)]
pub struct State {
    /// Where what is shown comes from.
    pub source: Source,
    /// Whether nothing may be changed.
    pub read_only: bool,
    /// What came from the agents.
    pub data: Data,
    /// The picture that is held, if one is.
    pub frozen: Option<Box<Data>>,
    /// Targets and plan.
    pub planning: Planning,
    /// What one should know.
    pub notices: Notices,
    /// What is focused, selected, open.
    pub ui: Ui,
    /// Since when what happens is recorded, and into which file.
    pub recording: Option<(String, Timestamp)>,
    /// Makes the identities of this console's orders differ from another's.
    pub salt: u32,
    /// What can be done beyond asking the agents.
    pub abilities: Abilities,
    /// What a service that follows was last told to be moved for.
    pub aimed: Option<Aim>,
}

/// What is known of a failure.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// The step that failed, where it was seen.
    pub bar: Option<&'a Bar>,
    /// What remains of the migration.
    pub record: Option<&'a Record>,
}

/// What can be done beyond asking the agents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// The lab can be brought up, and its services started and stopped.
    pub lab: bool,
    /// A calibration can be run.
    pub calibrate: bool,
    /// A service can follow its mobile host by itself.
    pub follow: bool,
}

impl State {
    /// What is known at the start: nothing but what the operator set.
    #[must_use]
    pub fn new(source: Source, config: &Config, now: Timestamp) -> Self {
        Self {
            source,
            read_only: config.read_only,
            data: Data {
                now,
                fleet: Fleet::new(config.stale_after),
                migrations: Migrations::default(),
                past: Past::new(config.history),
                following_here: None,
                following_elsewhere: None,
            },
            frozen: None,
            planning: Planning::of(config),
            notices: Notices::default(),
            ui: Ui::default(),
            recording: None,
            salt: 0,
            abilities: Abilities::default(),
            aimed: None,
        }
    }

    /// What was known is of elsewhere, or of another time.
    pub fn forget(&mut self, now: Timestamp) {
        self.data = self.data.emptied(now);
        self.frozen = None;
        self.planning.calibrations.clear();
        self.planning.asked.clear();
        (self.ui.track, self.ui.record, self.ui.marked) = (None, None, None);
        self.aimed = None;
    }

    /// What views show: the held picture, or the newest.
    #[must_use]
    pub fn shown(&self) -> &Data {
        self.frozen.as_deref().unwrap_or(&self.data)
    }

    /// A service where it is.
    #[must_use]
    pub fn located(&self, service: &ServiceName) -> Option<Located<'_>> {
        let rank = |located: &Located<'_>| match located.info.state {
            ServiceState::Migrating => 0,
            ServiceState::Running => 1,
            ServiceState::InDoubt => 2,
            ServiceState::Stopped => 3,
        };
        // While a service moves, both ends may tell of it: its source is the one that the migration names.
        let source = self.shown().migrations.current(service).and_then(|track| track.from());
        self.shown()
            .fleet
            .services()
            .filter(|located| &located.info.name == service)
            .min_by_key(|located| (source != Some(&located.host.name), rank(located)))
    }

    /// Where a service of the host `from` is to go: what was chosen, else the first other live edge host.
    #[must_use]
    pub(crate) fn destination_of(&self, from: &HostName) -> Option<&HostName> {
        let fleet = &self.shown().fleet;
        let usable = |host: &&Host| {
            host.role() == Some(Role::Edge)
                && &host.name != from
                && host.presence(self.shown().now).is_there()
        };
        let chosen = self.ui.destination.as_ref().and_then(|name| fleet.host(name)).filter(usable);
        chosen.or_else(|| fleet.hosts().find(usable)).map(|host| &host.name)
    }

    /// The migration that the timeline shows: the chosen one, else the newest of the selected service, else the newest.
    #[must_use]
    pub(crate) fn track_shown(&self) -> Option<&Track> {
        let migrations = &self.shown().migrations;
        let chosen = self.ui.track.as_ref().and_then(|id| migrations.get(id));
        let own = || self.ui.service.as_ref().and_then(|service| migrations.newest_of(service));
        chosen.or_else(own).or_else(|| migrations.newest())
    }

    /// The migration of the selected service that is under way.
    #[must_use]
    pub fn under_way(&self) -> Option<&Track> {
        self.data.migrations.current(self.ui.service.as_ref()?)
    }

    /// The service in doubt that an order would be about, and its migration.
    #[must_use]
    pub fn in_doubt(&self) -> Option<&Track> {
        let service = self.ui.service.as_ref()?;
        let doubtful = |track: &&Track| track.is_in_doubt();
        self.data.migrations.newest_of(service).filter(doubtful)
    }

    /// The failure that is explained: the selected record's, else that of the migration that is shown, else the last one's.
    #[must_use]
    pub(crate) fn failure_of<'a>(&'a self, track: Option<&'a Track>) -> Option<Failure<'a>> {
        let past = &self.shown().past;
        let of_record = |record: &'_ Record| {
            !matches!(record.outcome, Outcome::Done | Outcome::Aborted) && record.reason.is_some()
        };
        let recorded = |record| Failure { bar: None, record: Some(record) };
        let selected = self.ui.record.as_ref().and_then(|id| past.get(id)).filter(|record| of_record(record));
        let shown = || {
            let track = track.filter(|track| !track.is_aborted())?;
            Some(Failure { bar: Some(track.failure()?), record: track.record.as_deref() })
        };
        let last = || past.records().iter().find(|record| of_record(record)).map(recorded);
        selected.map(recorded).or_else(shown).or_else(last)
    }
}
