//! What a track makes of messages that come in any order, late, twice or not at all.

use super::*;

/// A vehicle whose host's clock is 1000 s when its own is 0, and that tells what is wanted of it.
struct Told {
    track: Track,
    begin: Instant,
}

impl Told {
    fn nothing() -> Self {
        Self { track: Track::default(), begin: Instant::now() }
    }

    fn now(&self, ms: u64) -> Instant {
        self.begin + Duration::from_millis(ms)
    }

    /// What came when so many milliseconds had gone by.
    fn take(&mut self, ms: u64, message: Message) {
        self.track.take(message, self.now(ms), at(ms));
    }

    fn position(&mut self, ms: u64, time_ms: u32, north: f64) {
        let (place, velocity) = (Ned::new(north, 0.0, -20.0), Ned::new(5.0, 0.0, 0.0));
        self.take(ms, Message::Position { time_ms, place, velocity });
    }

    fn reference(&mut self, ms: u64, time_ms: u32, north: f64) {
        self.take(ms, Message::Reference { time_ms, place: Ned::new(north, 0.0, -21.0) });
    }

    /// Flies at 50 Hz from one millisecond up to another, so far astray.
    fn fly(&mut self, ms: std::ops::Range<u64>, astray: f64) {
        for ms in ms.step_by(20) {
            let (time_ms, north) = (ms as u32, ms as f64 / 256.0);
            self.take(ms, Message::CrossTrack { metres: astray as f32 / 2.0 });
            self.position(ms, time_ms, north);
            self.reference(ms, time_ms, north + astray);
        }
    }

    fn deviation(&self, ms: u64) -> Option<f64> {
        self.track.flight(self.now(ms)).map(|error| error.deviation_m.0)
    }

    fn flown(&self, begun: u64, frozen: u64, until: u64) -> Option<Flown> {
        self.track.flown(&FlightTimes { begun: at(begun), frozen: at(frozen), until: at(until) })
    }
}

fn at(ms: u64) -> Timestamp {
    Timestamp(1_000_000_000 + ms * 1000)
}

fn error(deviation: f64) -> FlightError {
    FlightError { deviation_m: Metres(deviation), cross_track_m: Some(Metres(deviation / 2.0)) }
}

#[test]
fn a_reference_is_held_against_the_position_of_its_time_whichever_comes_first() {
    let mut told = Told::nothing();
    told.take(0, Message::CrossTrack { metres: 0.25 });
    told.position(0, 100, 10.0);
    told.reference(1, 100, 10.5);
    assert_eq!(told.deviation(1), Some(0.5), "the height is not counted");
    told.reference(2, 120, 12.0);
    assert_eq!(told.deviation(2), Some(0.5), "the position of its time is not there yet");
    told.position(3, 120, 11.0);
    assert_eq!(
        told.track.flight(told.now(3)),
        Some(FlightError { deviation_m: Metres(1.0), cross_track_m: Some(Metres(0.25)) })
    );
}

#[test]
fn between_two_positions_it_flew_straight_unless_they_are_far_apart() {
    let mut told = Told::nothing();
    told.take(0, Message::CrossTrack { metres: 0.0 });
    told.position(0, 100, 10.0);
    told.reference(0, 150, 12.0);
    told.position(1, 200, 11.0);
    assert_eq!(told.deviation(1), Some(1.5));
    told.reference(2, 400, 90.0);
    told.position(2, 600, 13.0);
    assert_eq!(told.deviation(2), Some(1.5), "where it was 200 ms from any place that it told, nobody knows");
    told.reference(3, 50, 90.0);
    assert_eq!(told.deviation(3), Some(1.5), "nor where it was before the first");
}

#[test]
fn a_late_position_is_not_where_it_is_now() {
    let mut told = Told::nothing();
    told.position(0, 1000, 10.0);
    told.position(1, 980, 9.9);
    assert_eq!(told.track.position(told.now(1)).unwrap().0.north, 10.0);
}

#[test]
fn what_it_told_three_seconds_ago_is_not_known_any_more() {
    let mut told = Told::nothing();
    told.take(0, Message::Cell { area: 2, signal_percent: Some(60) });
    told.fly(0..100, 0.5);
    let radio = Radio { cell: Cell(2), signal_percent: Some(60) };
    assert_eq!(told.track.radio(told.now(2999)), Some(radio));
    assert!(told.track.position(told.now(2999)).is_some() && told.deviation(2999).is_some());
    assert_eq!(told.track.radio(told.now(3000)), None);
    assert!(told.track.position(told.now(3080)).is_none() && told.deviation(3080).is_none());
}

#[test]
fn a_vehicle_that_does_not_say_how_far_its_path_is_has_a_deviation_and_no_cross_track_error() {
    let mut told = Told::nothing();
    told.position(0, 100, 10.0);
    told.reference(0, 100, 10.5);
    let error = |cross_track_m| Some(FlightError { deviation_m: Metres(0.5), cross_track_m });
    assert_eq!(told.track.flight(told.now(0)), error(None));
    // One that said it too long ago does not say it either.
    told.take(1, Message::CrossTrack { metres: 0.25 });
    told.position(3001, 120, 10.0);
    told.reference(3001, 120, 10.5);
    assert_eq!(told.track.flight(told.now(3001)), error(None));
}

#[test]
fn the_worst_from_the_freeze_on_and_the_worst_of_as_long_a_time_before_are_told() {
    let mut told = Told::nothing();
    told.fly(0..1000, 9.0);
    told.fly(1000..20_000, 0.25);
    // From the begin to the freeze it is neither.
    told.fly(20_000..22_000, 7.0);
    told.fly(22_000..25_000, 0.75);
    told.fly(25_000..40_000, 0.25);
    let flown = told.flown(20_000, 22_000, 32_000).unwrap();
    assert_eq!(
        (flown.worst, flown.undisturbed),
        (error(0.75), Some(error(0.25))),
        "19 s before there was worse"
    );
    assert_eq!(flown.watched_ms, Millis(10_000.0));
    let early = told.flown(4000, 22_000, 32_000).unwrap();
    assert_eq!(early.undisturbed, None, "it had flown for 4 s");
    let short = told.flown(20_000, 26_000, 27_000).unwrap();
    assert_eq!(
        (short.worst, short.undisturbed),
        (error(0.25), Some(error(0.25))),
        "5 s before are looked at"
    );
    assert_eq!(told.flown(23_000, 22_000, 32_000), None, "it cannot be frozen before it began");
    assert_eq!(told.flown(20_000, 22_000, 21_000), None);
}

#[test]
fn a_vehicle_that_falls_silent_is_watched_for_as_long_as_it_tells() {
    let mut told = Told::nothing();
    told.fly(0..24_000, 0.25);
    let flown = told.flown(20_000, 22_000, 32_000).unwrap();
    assert_eq!(flown.watched_ms, Millis(1980.0));
    // It comes back 4 s later, far astray.
    told.fly(28_000..29_000, 6.0);
    let flown = told.flown(20_000, 22_000, 32_000).unwrap();
    assert_eq!((flown.worst, flown.watched_ms), (error(6.0), Millis(1980.0 + 980.0)));
    assert_eq!(told.flown(20_000, 24_500, 32_000), None, "it was not heard at the freeze");
    assert_eq!(Told::nothing().flown(0, 1, 2), None);
}

#[test]
fn a_vehicle_that_starts_again_is_heard_from_its_new_beginning() {
    let mut told = Told::nothing();
    told.fly(50_000..51_000, 0.25);
    // Its time is 0 again; the host's goes on.
    for ms in [52_000, 52_020, 52_040] {
        let time_ms = ms as u32 - 52_000;
        told.take(ms, Message::CrossTrack { metres: 0.5 });
        told.reference(ms, time_ms, 1.0);
        told.position(ms, time_ms, 0.0);
        assert_eq!(told.deviation(ms), Some(1.0), "{ms}");
        assert_eq!(told.track.position(told.now(ms)).unwrap().0.north, 0.0);
    }
    assert_eq!(told.flown(51_000, 51_500, 52_100).unwrap().worst.deviation_m, Metres(1.0));
}

#[test]
fn memory_is_bounded_and_ninety_seconds_are_kept_however_often_it_tells() {
    let mut told = Told::nothing();
    for ms in 0..200_000 {
        told.take(ms, Message::CrossTrack { metres: 0.0 });
        told.position(ms, ms as u32, 0.0);
        told.reference(ms, ms as u32, if ms == 110_007 { 3.0 } else { 0.5 });
    }
    let Track { places, references, samples, .. } = &told.track;
    assert!(samples.len() <= SAMPLES && places.len() <= WAITING && references.len() <= WAITING);
    let flown = told.flown(105_000, 110_000, 118_000).unwrap();
    assert_eq!(flown.worst.deviation_m, Metres(3.0), "the worst of those that were not kept one by one");
    for time_ms in 300_000..301_000 {
        told.reference(200_000, time_ms, 0.0);
    }
    assert!(told.track.references.len() <= WAITING, "those whose positions never come go");
}
