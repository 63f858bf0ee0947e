//! A move of the autopilot: what the hosts say of it, by MOSE or by hand, and what the vehicle saw of it.

use mose_flight::vehicle::live::{Flown, Told};
use mose_lab::baseline::{BaselineError, BaselineRun};
use mose_pam::Millis;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::Step;

/// For how long after the service is back its absence shows in the flight.
pub(crate) const AFTER_MS: u64 = 8_000;

/// How long undisturbed flight is looked at before the order.
pub(crate) const BEFORE_MS: u64 = 10_000;

/// What the hosts say of a move.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moved {
    pub(crate) outcome: Outcome,
    pub(crate) why: Option<String>,
    pub(crate) from: String,
    pub(crate) to: String,
    /// In milliseconds since 1970, as the next two: hosts and vehicle are on this machine's clock.
    pub(crate) began_ms: u64,
    /// `None` where the service was never stopped.
    pub(crate) frozen_ms: Option<u64>,
    pub(crate) back_ms: Option<u64>,
    pub(crate) stopped_ms: Option<f64>,
    pub(crate) duration_ms: Option<f64>,
    pub(crate) bandwidth_bps: Option<u64>,
    pub(crate) rounds: Option<u32>,
    pub(crate) worst_case: Option<(Millis, Millis)>,
    pub(crate) calibration: Option<String>,
}

impl Moved {
    /// By MOSE.
    pub(crate) fn by_mose(record: &Record) -> Self {
        let done = record.outcome == Outcome::Done;
        let began = record.started_at.0 / 1000;
        let frozen = record.steps.iter().find(|step| step.step == Step::Freeze && step.host == record.from);
        let after = |time: Millis| began + time.0.max(0.0) as u64;
        let forecast = record.forecast.as_deref();
        // Without a limit it may use all that there is.
        let bandwidth = record.plan.bandwidth.or(forecast.map(|forecast| forecast.available));
        Self {
            outcome: record.outcome,
            why: record.reason.as_ref().map(ToString::to_string),
            from: record.from.to_string(),
            to: record.to.to_string(),
            began_ms: began,
            frozen_ms: frozen.map(|freeze| after(freeze.start)),
            back_ms: Some(after(record.duration)),
            stopped_ms: record.downtime.blackout.map(|ms| ms.0),
            duration_ms: done.then_some(record.duration.0),
            bandwidth_bps: bandwidth.map(|bandwidth| bandwidth.0),
            rounds: (!record.rounds.is_empty()).then(|| record.iterations_made()),
            worst_case: forecast.map(|forecast| (forecast.bound.downtime, forecast.bound.duration)),
            calibration: forecast.map(|forecast| forecast.profile.clone()),
        }
    }

    /// By hand, over a link of so many bits a second.
    pub(crate) fn by_hand(run: &BaselineRun, bandwidth_bps: Option<u64>) -> Self {
        let (frozen, back) = run.span_of_blackout_unix_ms();
        Self {
            outcome: Outcome::Done,
            why: None,
            from: run.from.clone(),
            to: run.to.clone(),
            began_ms: run.steps.first().map_or(0, |step| step.start_unix_ns / 1_000_000),
            frozen_ms: Some(frozen),
            back_ms: Some(back),
            stopped_ms: Some(run.blackout_ms()),
            duration_ms: Some(run.duration_ms()),
            bandwidth_bps,
            rounds: u32::try_from(run.iterations()).ok().filter(|rounds| *rounds > 0),
            worst_case: None,
            calibration: None,
        }
    }

    /// By hand, and it failed: the script has taken the service back, if it was frozen at all.
    pub(crate) fn not_by_hand(
        error: &BaselineError,
        way: (&str, &str),
        began_ms: u64,
        ended_ms: u64,
    ) -> Self {
        Self {
            outcome: Outcome::RolledBack,
            why: Some(error.to_string()),
            from: way.0.to_owned(),
            to: way.1.to_owned(),
            began_ms,
            frozen_ms: None,
            back_ms: Some(ended_ms),
            stopped_ms: None,
            duration_ms: None,
            bandwidth_bps: None,
            rounds: None,
            worst_case: None,
            calibration: None,
        }
    }
}

/// What the vehicle saw of a move, each figure as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Seen {
    /// The longest pause between two answers.
    pub(crate) silence_ms: Option<f64>,
    /// The greatest distance from the moving reference, and from the path.
    pub(crate) deviation_m: Option<f64>,
    pub(crate) cross_track_m: Option<f64>,
    /// The same before the order.
    pub(crate) undisturbed_deviation_m: Option<f64>,
    pub(crate) undisturbed_cross_track_m: Option<f64>,
}

impl Moved {
    /// What the vehicle saw of it: from the freeze until [`AFTER_MS`] after the service was back, and [`BEFORE_MS`] before the order.
    pub(crate) fn seen(&self, told: &[Told]) -> Seen {
        let greatest = |span: Option<(u64, u64)>, figure: fn(&Told) -> f64| {
            let (from, to) = span?;
            told.iter().filter(|told| (from..=to).contains(&told.at_ms)).map(figure).reduce(f64::max)
        };
        let before = Some((self.began_ms.saturating_sub(BEFORE_MS), self.began_ms.saturating_sub(1)));
        let disturbed = self.frozen_ms.zip(self.back_ms).map(|(frozen, back)| (frozen, back + AFTER_MS));
        Seen {
            silence_ms: greatest(disturbed, |told| told.pause_ms),
            deviation_m: greatest(disturbed, |told| told.deviation_m),
            cross_track_m: greatest(disturbed, |told| told.cross_track_m),
            undisturbed_deviation_m: greatest(before, |told| told.deviation_m),
            undisturbed_cross_track_m: greatest(before, |told| told.cross_track_m),
        }
    }
}

/// Reports that were never answered, but those that were under way when the flight ended.
pub(crate) fn lost(flown: &Flown) -> u64 {
    flown.reported.saturating_sub(flown.answered + flown.out_of_order + flown.in_flight)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a pause of a hundred times as many milliseconds.
    fn told(at_ms: u64, deviation_m: f64) -> Told {
        Told {
            at_ms,
            place_m: [0.0; 3],
            velocity_m_s: [0.0; 3],
            deviation_m,
            cross_track_m: deviation_m / 2.0,
            round_trip_ms: Some(1.0),
            smoothed_round_trip_ms: Some(1.0),
            silence_ms: 0.0,
            pause_ms: deviation_m * 100.0,
            offboard_lost: false,
        }
    }

    fn flown() -> Flown {
        Flown {
            reported: 5000,
            answered: 4999,
            out_of_order: 0,
            in_flight: 1,
            connections_lost: 0,
            offboard_losses: 0,
            worst_deviation_m: 99.0,
            worst_cross_track_m: 99.0,
            pauses: Vec::new(),
            behind_ms: 3.0,
            recorder_intact_bytes: Some(25_165_824),
        }
    }

    /// Ordered at 100 s, frozen 300 ms later for 200 ms.
    fn moved() -> Moved {
        Moved {
            outcome: Outcome::Done,
            why: None,
            from: "edge-a".into(),
            to: "edge-b".into(),
            began_ms: 100_000,
            frozen_ms: Some(100_300),
            back_ms: Some(100_500),
            stopped_ms: Some(200.0),
            duration_ms: Some(500.0),
            bandwidth_bps: Some(1_000_000_000),
            rounds: Some(2),
            worst_case: Some((Millis(190.0), Millis(700.0))),
            calibration: Some("a-b".into()),
        }
    }

    #[test]
    fn the_worst_deviation_is_that_from_the_freeze_until_8_s_after_the_service_is_back() {
        let line = [
            (89_999, 50.0),
            (90_000, 0.2),
            (99_999, 0.3),
            (100_299, 60.0),
            (100_300, 0.4),
            (103_000, 1.5),
            (108_500, 1.6),
            (108_501, 70.0),
        ];
        let told: Vec<Told> = line.iter().map(|(at, deviation)| told(*at, *deviation)).collect();
        let found = moved().seen(&told);
        assert_eq!((found.deviation_m, found.cross_track_m), (Some(1.6), Some(0.8)));
        assert_eq!((found.undisturbed_deviation_m, found.undisturbed_cross_track_m), (Some(0.3), Some(0.15)));
        assert_eq!(found.silence_ms, Some(160.0), "no pause of before or after");
    }

    #[test]
    fn what_nobody_told_is_unknown() {
        assert_eq!(moved().seen(&[]), Seen::default());
        let never_frozen = Moved { frozen_ms: None, ..moved() };
        let found = never_frozen.seen(&[told(100_400, 9.0)]);
        assert_eq!((found.deviation_m, found.silence_ms), (None, None));
    }

    #[test]
    fn what_was_under_way_at_the_end_is_not_lost() {
        assert_eq!(lost(&flown()), 0);
        assert_eq!(lost(&Flown { answered: 4995, ..flown() }), 4);
        assert_eq!(lost(&Flown { answered: 4000, out_of_order: 998, in_flight: 0, ..flown() }), 2);
    }

    #[test]
    fn a_move_by_hand_has_the_scripts_own_times() {
        let step = |name: &str, from: u64, to: u64| serde_json::json!({"step": name, "start_unix_ns": from * 1_000_000, "end_unix_ns": to * 1_000_000});
        let run: BaselineRun = serde_json::from_value(serde_json::json!({
            "service": "autopilot-hand", "from": "edge-a", "to": "edge-b",
            "steps": [step("connect", 1000, 1200), step("pre-checkpoint", 1200, 1500), step("pre-copy", 1500, 1700),
                step("checkpoint", 1800, 2100), step("copy", 2100, 2300), step("restore", 2300, 2800),
                step("flows", 2800, 2900), step("clean", 2900, 3500)],
        }))
        .unwrap();
        let moved = Moved::by_hand(&run, Some(7));
        assert_eq!((moved.began_ms, moved.frozen_ms, moved.back_ms), (1000, Some(1800), Some(2900)));
        assert_eq!(
            (moved.stopped_ms, moved.duration_ms, moved.rounds),
            (Some(1100.0), Some(1900.0), Some(1))
        );
        assert_eq!((moved.bandwidth_bps, moved.worst_case), (Some(7), None));
    }
}
