//! Where a service should be now, what comes next, and why it is not moved although it should be. No I/O and no clock.

use mose_pam::Millis;
use mose_protocol::agent::{Cell, Position, ServiceState, Telemetry};
use mose_protocol::following::NextMove;
use mose_protocol::{HostName, Timestamp};

use super::foresight::{self, Station};
use super::pair::Pair;
use super::sight::{Instance, Sight};

/// How long a migration takes until one was seen.
const TAKES: Millis = Millis(3000.0);
/// A move back so soon after a move waits until the wish for it has lasted.
const RETURN: Millis = Millis(10_000.0);
const LASTS: Millis = Millis(1500.0);
/// How long nobody needs to have told of the service after a move.
const QUIET: Millis = Millis(3000.0);

/// What stands against a move, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// It is so, and is told.
    Sure(String),
    /// It may be so only between two hosts' telling: it is told if it lasts.
    Passing(String),
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Verdict {
    /// The next move.
    pub(super) next: Option<NextMove>,
    /// Whether it is to be made now.
    pub(super) go: bool,
    /// Whether the service is where it should be.
    pub(super) settled: bool,
    /// Why nothing is done although something should be, or why it cannot be said what should be.
    pub(super) hindrance: Option<Hindrance>,
}

impl Verdict {
    fn hindered(text: String) -> Self {
        Self { hindrance: Some(Hindrance::Sure(text)), ..Self::default() }
    }

    fn passing(text: String) -> Self {
        Self { hindrance: Some(Hindrance::Passing(text)), ..Self::default() }
    }
}

/// What is kept in mind from one judgement to the next.
#[derive(Debug, Clone)]
pub(super) struct Judge {
    /// How long the last migration took.
    takes: Millis,
    /// The last move, and when it was over.
    moved: Option<(HostName, HostName, Timestamp)>,
    /// What was told of the service before is of no use.
    since: Timestamp,
    /// Where it is to go, and since when.
    wish: Option<(HostName, Timestamp)>,
}

impl Default for Judge {
    fn default() -> Self {
        Self { takes: TAKES, moved: None, since: Timestamp(0), wish: None }
    }
}

impl Judge {
    /// A migration is over.
    pub(super) fn ended(&mut self, now: Timestamp) {
        (self.since, self.wish) = (now, None);
    }

    /// It moved the service.
    pub(super) fn moved(&mut self, from: HostName, to: HostName, took: Millis, now: Timestamp) {
        self.takes = took;
        self.moved = Some((from, to, now));
    }

    /// What is to be done at `now`.
    pub(super) fn judge(&mut self, sight: &Sight, pair: &Pair, now: Timestamp) -> Verdict {
        let wish = self.wish.take();
        self.weigh(sight, pair, wish, now)
    }

    fn weigh(
        &mut self,
        sight: &Sight,
        pair: &Pair,
        wish: Option<(HostName, Timestamp)>,
        now: Timestamp,
    ) -> Verdict {
        let here = match self.located(sight, pair, now) {
            Ok(here) => here,
            Err(Some(hindrance)) => return Verdict { hindrance: Some(hindrance), ..Verdict::default() },
            Err(None) => return Verdict::default(),
        };
        let mobile = match sight.fresh(&pair.mobile, now) {
            Ok(mobile) => mobile,
            // At the start nobody has told anything yet.
            Err(why) if !sight.knows(&pair.mobile) => return Verdict::passing(why),
            Err(why) => return Verdict::hindered(format!("{why}: {} stays at {here}", pair.service)),
        };
        let stations = pair.stations(sight);
        let there: Vec<(&HostName, &Telemetry)> =
            stations.iter().filter_map(|host| Some((*host, sight.fresh(host, now).ok()?))).collect();
        let mut places: Vec<Station<'_>> =
            there.iter().filter_map(|(host, told)| Some((*host, told.position?))).collect();
        if !places.iter().any(|(host, _)| *host == here) {
            // It runs where it may not stay: how far that is, is known all the same.
            places.extend(sight.place(here).map(|place| (here, place)));
        }
        let cell = mobile.radio.map(|radio| radio.cell);
        let by_cell = cell.and_then(|cell| serving(cell, here, mobile.position, &there));
        if let (None, Some(cell)) = (by_cell, cell)
            && let Some(silent) = stations.iter().find(|host| stands_at(sight, host, cell))
            && *silent != here
        {
            let why = sight.fresh(silent, now).err().unwrap_or_default();
            return Verdict::hindered(format!("cell {} serves {}, but {why}", cell.0, pair.mobile));
        }
        let to = match (by_cell, mobile.position) {
            (Some(to), _) => (to != here).then(|| {
                let cell = cell.map_or(0, |cell| cell.0);
                (to, format!("cell {cell} serves {}", pair.mobile))
            }),
            (None, Some(place)) => {
                if !places.iter().any(|(host, _)| *host == here) {
                    return Verdict::passing(format!("{here} does not tell where it is"));
                }
                foresight::nearer((place.x.0, place.y.0), here, &places).map(|(to, away, own)| {
                    (to, format!("{to} is nearer to {} ({away:.0} m, {here} {own:.0} m)", pair.mobile))
                })
            }
            (None, None) => return Verdict::passing(format!("{} does not tell where it is", pair.mobile)),
        };
        match to {
            Some((to, why)) => {
                let since = wish.filter(|(wished, _)| wished == to).map_or(now, |(_, since)| since);
                self.wish = Some((to.clone(), since));
                let due = NextMove { from: here.clone(), to: to.clone(), at: since, why };
                self.due(sight, pair, due, &places, now)
            }
            None => Verdict { next: ahead(sight, pair, here, &places), settled: true, ..Verdict::default() },
        }
    }

    /// A move that should be made since its time: whether it is now.
    fn due(
        &self,
        sight: &Sight,
        pair: &Pair,
        due: NextMove,
        places: &[Station<'_>],
        now: Timestamp,
    ) -> Verdict {
        let (here, to, lasted) = (&due.from, &due.to, now.since(due.at));
        let back = |(from, last, at): &(HostName, HostName, Timestamp)| {
            from == to && last == here && now.since(*at) < RETURN
        };
        if self.moved.as_ref().is_some_and(back) && lasted < LASTS {
            return Verdict { next: Some(due), ..Verdict::default() };
        }
        // Whoever is back before the move is done needs none. That is foreseen, and may be wrong: it is not waited on for ever.
        let returns = sight.motion(&pair.mobile).is_some_and(|(motion, heard)| {
            let passed = now.since(heard).0.max(0.0) / 1e3;
            let there = foresight::nearer(motion.after(passed), to, places).is_none();
            let back = foresight::next(&motion, to, places).filter(|(host, _)| *host == here);
            there && back.is_some_and(|(_, late)| late > passed && (late - passed) * 1e3 < self.takes.0)
        });
        if returns && lasted < self.takes {
            let text = format!("{} flies back to {here} before a move to {to} would be done", pair.mobile);
            return Verdict { next: Some(due), hindrance: Some(Hindrance::Sure(text)), ..Verdict::default() };
        }
        Verdict { next: Some(due), go: true, ..Verdict::default() }
    }

    /// The host that runs the service, or what stands against it, if that is worth telling.
    fn located<'a>(
        &self,
        sight: &'a Sight,
        pair: &Pair,
        now: Timestamp,
    ) -> Result<&'a HostName, Option<Hindrance>> {
        let service = &pair.service;
        let found: Vec<Instance<'a>> = sight.instances(service, self.since, now);
        let state = |wanted| found.iter().find(|instance| instance.info.state == wanted);
        let sure = |text| Err(Some(Hindrance::Sure(text)));
        if let Some(doubtful) = state(ServiceState::InDoubt) {
            return sure(format!("{service} is in doubt at {}: decide for a side first", doubtful.host));
        }
        if let Some(moving) = state(ServiceState::Migrating) {
            let text = format!("{service} is being migrated from {} already: waiting", moving.host);
            // Right after a move its own end may still tell so.
            return match self.moved.as_ref().is_some_and(|(.., at)| now.since(*at) < QUIET) {
                true => Err(Some(Hindrance::Passing(text))),
                false => sure(text),
            };
        }
        let mut running = found.iter().filter(|instance| instance.info.state == ServiceState::Running);
        match (running.next(), running.next()) {
            (Some(one), None) => return Ok(one.host),
            (Some(one), Some(other)) => {
                let (one, other) = (one.host.min(other.host), one.host.max(other.host));
                return Err(Some(Hindrance::Passing(format!("{service} runs at {one} and at {other}"))));
            }
            (None, _) => {}
        }
        if let Some(stopped) = state(ServiceState::Stopped) {
            return sure(format!("{service} is stopped at {}", stopped.host));
        }
        if now.since(self.since) < QUIET {
            return Err(None);
        }
        let silent = sight.last_with(service).and_then(|host| sight.fresh(host, now).err());
        Err(Some(match silent {
            Some(why) => Hindrance::Sure(format!("{why}, and {service} ran there")),
            None => Hindrance::Passing(format!("no host runs {service}")),
        }))
    }
}

/// The station at the cell that serves the mobile host: that where the service is, else the nearest of them.
fn serving<'a>(
    cell: Cell,
    here: &HostName,
    mobile: Option<Position>,
    there: &[(&'a HostName, &Telemetry)],
) -> Option<&'a HostName> {
    let at_it = || there.iter().filter(|(_, told)| told.radio.is_some_and(|radio| radio.cell == cell));
    let away = |told: &Telemetry| Some(told.position?.distance(&mobile?).0);
    let own = at_it().find(|(host, _)| *host == here);
    let nearest = || {
        at_it().min_by(|(_, one), (_, other)| {
            let far = f64::INFINITY;
            away(one).unwrap_or(far).total_cmp(&away(other).unwrap_or(far))
        })
    };
    own.or_else(nearest).map(|(host, _)| *host)
}

/// Whether a host told last that it stands at a cell.
fn stands_at(sight: &Sight, host: &HostName, cell: Cell) -> bool {
    sight.radio(host).is_some_and(|radio| radio.cell == cell)
}

/// The move that comes next, if that can be foreseen.
fn ahead(sight: &Sight, pair: &Pair, here: &HostName, places: &[Station<'_>]) -> Option<NextMove> {
    let (motion, heard) = sight.motion(&pair.mobile)?;
    let (to, late) = foresight::next(&motion, here, places)?;
    let at = Timestamp(heard.0 + (late * 1e6) as u64);
    let why = format!("{to} will be nearer to {} than {here}", pair.mobile);
    Some(NextMove { from: here.clone(), to: to.clone(), at, why })
}

#[cfg(test)]
mod tests;
