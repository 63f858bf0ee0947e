//! The one number that a handover is judged by: for how long its service was stopped, as its client saw it where one was watched.

use mose_pam::Millis;
use mose_protocol::record::{Outcome, Record, Silence};
use mose_protocol::{ServiceName, Timestamp};

use crate::state::{Data, Still, Track};

/// Who says for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The client, which heard nothing for so long.
    Client,
    /// The hosts, which stopped the service and started it again.
    Service,
}

/// What is happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// No handover is known.
    Waiting,
    /// One has begun, and the service runs on at its source.
    Copying,
    /// The service is stopped now.
    Stopped,
    /// It is back; what the hosts measured is not known yet.
    Back,
    /// It is over.
    Over(Outcome),
}

/// For how long a service is stopped, or was in its last handover.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Headline {
    /// What is happening.
    pub act: Act,
    /// How long; `None` where that is not known.
    pub time: Option<Millis>,
    /// Whether it may have been longer.
    pub at_least: bool,
    /// Who says so.
    pub whose: Whose,
    /// What was promised at most.
    pub worst_case: Option<Millis>,
    /// Whether that was kept; what is exceeded before the end is told at once.
    pub kept: Option<bool>,
    /// Whether the figures are of simulated hosts.
    pub simulated: bool,
    /// When it was over, on the source's clock.
    pub ended: Option<Timestamp>,
}

impl Headline {
    /// Of the newest handover of a service; of all services, where none is named.
    pub(super) fn of(data: &Data, service: Option<&ServiceName>) -> Self {
        let mine = |of: Option<&ServiceName>| service.is_none() || of == service;
        let newest = data.migrations.all().rev().find(|track| mine(track.service()) && !track.is_rehearsal());
        if let Some(track) = newest.filter(|track| !track.has_ended()) {
            return Self::so_far(data, track);
        }
        let past = data.past.records().iter().find(|record| mine(Some(&record.service)) && moved(record));
        // It is over, and what was measured is still on its way.
        let heard = |track: &&Track| matches!(Still::of(track, data.now), Still::Heard(_));
        let unmeasured = newest.filter(|track| track.record.is_none()).filter(heard);
        match (unmeasured, past) {
            (Some(track), _) => Self::so_far(data, track),
            (None, Some(record)) => Self::recorded(data, record),
            (None, None) => Self {
                act: Act::Waiting,
                time: None,
                at_least: false,
                whose: Whose::Service,
                worst_case: None,
                kept: None,
                simulated: false,
                ended: None,
            },
        }
    }

    /// Of one that goes on: by the steps that were heard, or by what a client waits for already where that is longer.
    fn so_far(data: &Data, track: &Track) -> Self {
        let still = Still::of(track, data.now);
        let act = match still {
            Still::SoFar(_) | Still::NotBack => Act::Stopped,
            Still::Never if !track.over => Act::Copying,
            _ => Act::Back,
        };
        let (mut time, mut whose) = (still.time(), Whose::Service);
        let silent = track.service().filter(|_| act == Act::Stopped).and_then(|name| waiting(data, name));
        if let Some(silent) = silent.filter(|silent| time.is_none_or(|time| silent.0 > time.0)) {
            (time, whose) = (Some(silent), Whose::Client);
        }
        let task = track.task.as_ref().and_then(|task| task.forecast.as_deref());
        let told = || track.record.as_ref().and_then(|record| record.forecast.as_deref());
        let worst_case = task.or_else(told).map(|forecast| forecast.bound.downtime);
        let over = time.zip(worst_case).is_some_and(|(time, worst)| time.0 > worst.0);
        let hosts = [track.from(), track.to()].into_iter().flatten();
        let simulated = hosts.filter_map(|name| data.fleet.host(name)?.hello()).any(|hello| hello.simulated);
        let at_least = act == Act::Stopped;
        let kept = over.then_some(false);
        Self { act, time, at_least, whose, worst_case, kept, simulated, ended: None }
    }

    /// Of one that is over.
    pub(crate) fn recorded(data: &Data, record: &Record) -> Self {
        let still = Still::recorded(record, data.now);
        let (time, at_least, whose) = match record.downtime.silence() {
            Silence::Known(gap) => (Some(gap), false, Whose::Client),
            Silence::AtLeast(gap) => (Some(gap), true, Whose::Client),
            Silence::Unwatched | Silence::Unknown => {
                (still.time(), matches!(still, Still::SoFar(_)), Whose::Service)
            }
        };
        let worst_case = record.forecast.as_deref().map(|forecast| forecast.bound.downtime);
        let kept = match time.zip(worst_case) {
            Some((time, worst)) if time.0 > worst.0 => Some(false),
            // Only a service that came where it should has kept a promise.
            Some(_) if !at_least && record.outcome == Outcome::Done => Some(true),
            _ => None,
        };
        let act = Act::Over(record.outcome);
        let (simulated, ended) = (record.simulated, Some(record.ended()));
        Self { act, time, at_least, whose, worst_case, kept, simulated, ended }
    }
}

/// Whether the service was to be moved, and was stopped for it or might have been.
pub(crate) fn moved(record: &Record) -> bool {
    record.rehearsal.is_none() && record.outcome != Outcome::Refused
}

/// For how long a client of the service has waited for an answer already.
fn waiting(data: &Data, service: &ServiceName) -> Option<Millis> {
    let address = data.fleet.services().filter(|located| &located.info.name == service);
    let address = address.filter_map(|located| located.info.address).next()?.addr();
    let silent = data.fleet.clients_of(address, data.now).filter_map(|(host, client)| {
        let since = host.age(data.now).unwrap_or_default();
        Some(Millis(client.silent?.0 + since.0.max(0.0)))
    });
    silent.filter(|silent| silent.0.is_finite()).max_by(|one, other| one.0.total_cmp(&other.0))
}
