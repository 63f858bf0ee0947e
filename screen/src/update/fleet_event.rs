//! What comes from the agents, and what of it is worth a notice.

use mose_protocol::Timestamp;
use mose_protocol::record::{Outcome, Record, Silence};

use super::calibration;
use crate::derived::Settled;
use crate::effect::Effect;
use crate::fleet_event::{Decision, FleetEvent, Following};
use crate::phrase::time;
use crate::state::{Level, Presence, Source};

pub(super) fn on_fleet_event(state: &mut Settled, told: FleetEvent, now: Timestamp) -> Vec<Effect> {
    // What was attached to is being let go.
    if state.source == Source::Choosing {
        return Vec::new();
    }
    let presence = |state: &Settled, host| state.data.fleet.host(host).map(|host| host.presence(now));
    match &told {
        FleetEvent::Seen(host) if presence(state, host) == Some(Presence::Lost) => {
            state.notices.say(Level::Info, format!("{host} is back"), now);
        }
        FleetEvent::Gone(host)
            if presence(state, host).is_some_and(|presence| presence != Presence::Lost) =>
        {
            state.notices.say(Level::Warning, format!("{host} is lost: its agent's token is gone"), now);
        }
        FleetEvent::Stranger { host, refusal } => {
            state.notices.say(Level::Warning, format!("{host} cannot be spoken to: {refusal}"), now);
        }
        FleetEvent::Telemetry(telemetry) => {
            let before = state.data.fleet.host(&telemetry.host).and_then(|host| host.telemetry.as_ref());
            let known = before.and_then(|before| before.trouble.as_ref());
            if let Some(trouble) = telemetry.trouble.as_ref().filter(|trouble| Some(*trouble) != known) {
                state.notices.say(Level::Warning, format!("{}: {trouble}", telemetry.host), now);
            }
        }
        FleetEvent::Record(record) => {
            let told = |known: &Record| known.outcome == record.outcome && known.reason == record.reason;
            let old = state.data.past.get(&record.migration).is_some_and(told);
            // What was over before anybody looked is no news.
            if !old && state.data.migrations.get(&record.migration).is_some() {
                match ended(record) {
                    (Level::Info, text) if record.outcome == Outcome::Done => state.notices.stage(text, now),
                    (level, text) => state.notices.say(level, text, now),
                }
            }
        }
        FleetEvent::Calibration { from, to, known } => {
            calibration::told(state, (from.clone(), to.clone()), known, now);
        }
        FleetEvent::Following(following) => {
            let before = state.data.following_here.clone();
            follow(state, following, before.as_ref(), "", now);
        }
        // Where this console has it follow, that is what counts and what is said.
        FleetEvent::FollowingElsewhere(_) if state.data.follows_here() => {}
        FleetEvent::FollowingElsewhere(following) => {
            let before = state.data.elsewhere().cloned();
            follow(state, following, before.as_ref(), " (another console or command)", now);
        }
        FleetEvent::Decided(decision) => {
            let Decision { service, from, to, why } = &**decision;
            state.notices.stage(format!("follow: {service} {from} → {to}: {why}"), now);
        }
        FleetEvent::Checked(report) => state.planning.checks.take((**report).clone()),
        _ => {}
    }
    // With the figures that a plan is made of, which come once a second.
    let figures = matches!(told, FleetEvent::Telemetry(_));
    state.data.take(told, now);
    if figures { ask_check(state, now) } else { Vec::new() }
}

/// Says whether a service follows, as far as that is new, and `by` whom.
fn follow(state: &mut Settled, told: &Following, before: Option<&Following>, by: &str, now: Timestamp) {
    let Following { service, mobile, on, trouble, .. } = told;
    let switched = before.is_some_and(|before| before.on) != *on;
    let troubled = trouble.is_some() && before.and_then(|before| before.trouble.as_ref()) != trouble.as_ref();
    if switched {
        let text = match on {
            true => format!("follow on: {service} follows {mobile}{by}"),
            false => format!("follow off: {service} stays where it is{by}"),
        };
        state.notices.say(Level::Info, text, now);
    }
    if let Some(trouble) = trouble.as_ref().filter(|_| *on && (switched || troubled)) {
        state.notices.say(Level::Warning, format!("follow: {trouble}"), now);
    }
}

/// Asks now and then whether the selected service can move, unless it does.
fn ask_check(state: &mut Settled, now: Timestamp) -> Vec<Effect> {
    if state.source.is_replay() || state.under_way().is_some() {
        return Vec::new();
    }
    let Some((service, from)) =
        state.service().map(|located| (located.info.name.clone(), located.host.name.clone()))
    else {
        return Vec::new();
    };
    let Some(to) = state.destination().cloned() else { return Vec::new() };
    let way = (service, from, to);
    if !state.planning.checks.ask(&way, now) {
        return Vec::new();
    }
    vec![Effect::AskCheck { service: way.0, from: way.1, to: way.2 }]
}

/// What a migration came to, and how bad that is. What the operator wanted is no error.
fn ended(record: &Record) -> (Level, String) {
    let way = format!("{} {} → {}", record.service, record.from, record.to);
    let way = if record.rehearsal.is_some() { format!("rehearsal of {way}") } else { way };
    let reason = record.reason.as_ref().map(|refusal| format!(": {refusal}")).unwrap_or_default();
    match record.outcome {
        Outcome::Done => {
            let downtime = record.downtime.blackout;
            let downtime = downtime.map(|ms| format!(", downtime {}", time(ms))).unwrap_or_default();
            // The client's silence is longer. Without it, the hosts' figure looks like another handover's.
            let client = match record.downtime.silence() {
                Silence::Known(gap) => format!(" ({} for its client)", time(gap)),
                Silence::AtLeast(gap) => format!(" (at least {} for its client)", time(gap)),
                Silence::Unwatched | Silence::Unknown => String::new(),
            };
            let missed = record.targets_met().filter(|targets| *targets != "met");
            let missed = missed.map(|missed| format!(" ({missed})")).unwrap_or_default();
            (
                Level::Info,
                format!("{way} done in {}{downtime}{client}{missed}{reason}", time(record.duration)),
            )
        }
        Outcome::Rehearsed => {
            let stood = record.downtime.blackout.map(|ms| format!(", it stood still for {}", time(ms)));
            let would = record.would_stand_still().map(|ms| format!(" (a migration: {})", time(ms)));
            let (stood, would) = (stood.unwrap_or_default(), would.unwrap_or_default());
            (Level::Info, format!("{way} went well in {}{stood}{would}{reason}", time(record.duration)))
        }
        Outcome::Aborted => {
            let still = match record.downtime.blackout {
                Some(still) => format!(", after it stood still for {}", time(still)),
                None => String::new(),
            };
            let (from, sent) = (&record.from, record.image);
            (
                Level::Info,
                format!("{way} aborted by the operator: it runs at {from}{still}; {sent} were sent"),
            )
        }
        Outcome::Refused => (Level::Error, format!("{way} refused, nothing was changed{reason}")),
        Outcome::RolledBack => {
            (Level::Error, format!("{way} rolled back, it runs at {}{reason}", record.from))
        }
        Outcome::InDoubt => (
            Level::Error,
            format!("{way} is in doubt: look at {} before you decide for a side{reason}", record.to),
        ),
        Outcome::GivenUp => (Level::Error, format!("{way} given up{reason}")),
    }
}
