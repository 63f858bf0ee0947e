//! What a vehicle has told lately, made into where it is and how far it is from where it ought to be. It knows no clock and no socket.

use std::collections::VecDeque;
use std::time::Duration;

use mose_flight::ned::Ned;
use mose_flight::wire::Message;
use mose_pam::{Metres, Millis};
use mose_protocol::Timestamp;
use mose_protocol::agent::{Cell, Radio};
use mose_protocol::flight::{FlightError, FlightTimes};
use tokio::time::Instant;

/// How old what a vehicle told may be: from then on it is not known any more.
const FRESH: Duration = Duration::from_secs(3);

/// The most samples that are kept, and the least time between two of them: the last 90 s at least.
const SAMPLES: usize = 4500;
const APART_US: u64 = 20_000;

/// The most positions and references that wait for each other.
const WAITING: usize = 64;

/// How far apart two positions may be for the vehicle to have flown straight between them, in milliseconds.
const STRAIGHT_MS: u32 = 250;

/// By how much the vehicle's time goes back where it has started again, and not only a datagram came late, in milliseconds.
const BACK_MS: u32 = 1000;

/// A pause between samples that is longer is none that the vehicle was watched in.
const PAUSE_US: u64 = 1_000_000;

/// How long undisturbed flight has to be watched to be told.
const LEAST_UNDISTURBED_US: u64 = 5_000_000;

/// How far the vehicle was from where it ought to be.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Timestamp,
    error: FlightError,
}

/// What a time was like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Flown {
    pub(super) worst: FlightError,
    pub(super) undisturbed: Option<FlightError>,
    pub(super) watched_ms: Millis,
}

/// What a vehicle has told lately.
#[derive(Default)]
pub(super) struct Track {
    newest: Option<(Instant, Ned, Ned)>,
    cross_track: Option<(Instant, f64)>,
    radio: Option<(Instant, Radio)>,
    error: Option<(Instant, FlightError)>,
    /// The newest time of the vehicle's own.
    time_ms: u32,
    /// Where it was, and where it ought to have been, by its own time.
    places: VecDeque<(u32, Ned)>,
    references: VecDeque<(u32, Ned)>,
    samples: VecDeque<Sample>,
}

/// What was told, if that is not too long ago.
fn fresh<T>(told: Option<(Instant, T)>, now: Instant) -> Option<T> {
    told.filter(|(at, _)| now.saturating_duration_since(*at) < FRESH).map(|(_, told)| told)
}

/// Puts one in by its time, and lets the oldest go where there are too many.
fn put(all: &mut VecDeque<(u32, Ned)>, time_ms: u32, place: Ned) {
    let index = all.partition_point(|(time, _)| *time < time_ms);
    all.insert(index, (time_ms, place));
    if all.len() > WAITING {
        all.pop_front();
    }
}

impl Track {
    /// Takes in what the vehicle says, at `now` by a clock that nobody sets, `at` by the host's.
    pub(super) fn take(&mut self, message: Message, now: Instant, at: Timestamp) {
        match message {
            Message::Position { time_ms, place, velocity } => {
                self.notice_start(time_ms);
                if time_ms >= self.time_ms {
                    self.newest = Some((now, place, velocity));
                }
                self.time_ms = self.time_ms.max(time_ms);
                put(&mut self.places, time_ms, place);
                self.pair(now, at);
            }
            Message::Reference { time_ms, place } => {
                self.notice_start(time_ms);
                self.time_ms = self.time_ms.max(time_ms);
                put(&mut self.references, time_ms, place);
                self.pair(now, at);
            }
            Message::CrossTrack { metres } => self.cross_track = Some((now, metres.into())),
            Message::Cell { area, signal_percent } => {
                self.radio = Some((now, Radio { cell: Cell(area), signal_percent }));
            }
            Message::Setpoint { .. } | Message::AskLog | Message::Log { .. } => {}
        }
    }

    /// A vehicle that starts again begins its time anew: what it told before is of another flight.
    fn notice_start(&mut self, time_ms: u32) {
        if time_ms.saturating_add(BACK_MS) < self.time_ms {
            self.places.clear();
            self.references.clear();
            self.time_ms = 0;
        }
    }

    /// Makes samples of the references whose time has come.
    fn pair(&mut self, now: Instant, at: Timestamp) {
        let Some((newest, _)) = self.places.back().copied() else { return };
        while let Some((time_ms, wanted)) =
            self.references.front().copied().filter(|(time, _)| *time <= newest)
        {
            self.references.pop_front();
            let Some(place) = self.place_at(time_ms) else { continue };
            // On the ground plane, as the vehicle's orbit has it.
            let deviation_m = Metres((place - wanted).horizontal());
            let cross_track_m = fresh(self.cross_track, now).map(Metres);
            self.sample(at, FlightError { deviation_m, cross_track_m }, now);
        }
    }

    /// Where it was at a time of its own: as it told, or on the straight line between two places that it told.
    fn place_at(&self, time_ms: u32) -> Option<Ned> {
        let index = self.places.partition_point(|(time, _)| *time < time_ms);
        let (later, place) = *self.places.get(index)?;
        if later == time_ms {
            return Some(place);
        }
        let (earlier, before) = *self.places.get(index.checked_sub(1)?)?;
        let part = f64::from(time_ms - earlier) / f64::from(later - earlier);
        (later - earlier <= STRAIGHT_MS).then(|| before + (place - before) * part)
    }

    fn sample(&mut self, at: Timestamp, error: FlightError, now: Instant) {
        self.error = Some((now, error));
        if let Some(last) = self.samples.back_mut()
            && at.0.abs_diff(last.at.0) < APART_US
        {
            last.error = last.error.worse(error);
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at, error });
    }

    /// Where it is and how fast, in its local frame.
    pub(super) fn position(&self, now: Instant) -> Option<(Ned, Ned)> {
        fresh(self.newest.map(|(at, place, velocity)| (at, (place, velocity))), now)
    }

    /// What its modem says.
    pub(super) fn radio(&self, now: Instant) -> Option<Radio> {
        fresh(self.radio, now)
    }

    /// How far it is from where it ought to be.
    pub(super) fn flight(&self, now: Instant) -> Option<FlightError> {
        fresh(self.error, now)
    }

    /// How it flew; `None` where it was not heard when the service was frozen.
    pub(super) fn flown(&self, times: &FlightTimes) -> Option<Flown> {
        let FlightTimes { begun, frozen, until } = *times;
        if begun > frozen {
            return None;
        }
        let (worst, watched_us) = self.worst(frozen, until, PAUSE_US)?;
        let length = until.0.saturating_sub(frozen.0).max(LEAST_UNDISTURBED_US);
        let undisturbed = self.worst(Timestamp(begun.0.saturating_sub(length)), begun, u64::MAX);
        let undisturbed = undisturbed.filter(|(_, watched_us)| *watched_us >= LEAST_UNDISTURBED_US);
        Some(Flown {
            worst,
            undisturbed: undisturbed.map(|(worst, _)| worst),
            watched_ms: Millis(watched_us as f64 / 1e3),
        })
    }

    /// The worst of a time, and for how much of it the vehicle was heard; `None` where the first of it came later than `latest` after
    /// its begin.
    fn worst(&self, from: Timestamp, until: Timestamp, latest: u64) -> Option<(FlightError, u64)> {
        let mut within = self.samples.iter().filter(|sample| (from..until).contains(&sample.at));
        let first = within.next().filter(|first| first.at.0 - from.0 <= latest)?;
        let heard = |pause: u64| if pause <= PAUSE_US { pause } else { 0 };
        let begin = (first.error, heard(first.at.0 - from.0), first.at);
        let (worst, watched_us, last) = within.fold(begin, |(worst, watched, last), sample| {
            let pause = sample.at.0.saturating_sub(last.0);
            (worst.worse(sample.error), watched + heard(pause), sample.at)
        });
        Some((worst, watched_us + heard(until.0.saturating_sub(last.0))))
    }
}

#[cfg(test)]
mod tests;
