//! What a flight says of itself: a line per handover, and what it all came to.

use std::fmt::Write as _;

use mose_experiments::documents::{UavFlight, UavHandover, UavRun};
use mose_pam::Millis;
use mose_protocol::record::Outcome;

/// In which way an autopilot is moved.
pub(super) const fn way(by_hand: bool) -> &'static str {
    if by_hand { "by hand (a script over SSH)" } else { "by MOSE" }
}

fn ms(ms: Option<f64>) -> String {
    ms.map_or_else(|| "unknown".to_owned(), |ms| Millis(ms).to_string())
}

fn metres(metres: Option<f64>) -> String {
    metres.map_or_else(|| "unknown".to_owned(), |metres| format!("{metres:.2} m"))
}

/// A handover, in a line of at most 140 characters where all went well.
pub(super) fn line(handover: &UavHandover) -> String {
    let UavHandover { number, outcome, from, to, .. } = handover;
    let mut line = format!("{number:>3}  {from} → {to}  ");
    if *outcome != Outcome::Done {
        let _ =
            write!(line, "{}: {}; ", outcome.name(), handover.why.as_deref().unwrap_or("no reason is known"));
    }
    let _ = write!(
        line,
        "client silence {}, service stopped {}",
        ms(handover.client_silence_ms),
        ms(handover.service_stopped_ms)
    );
    if let Some(worst) = handover.worst_case_downtime_ms {
        let _ = write!(line, " (worst case {})", Millis(worst));
    }
    let _ = write!(
        line,
        ", {} off course ({} before)",
        metres(handover.deviation_m),
        metres(handover.undisturbed_deviation_m)
    );
    line
}

/// What the flights came to.
pub(super) fn summary(run: &UavRun) -> String {
    run.flights.iter().map(flight).collect::<Vec<_>>().join("\n")
}

fn flight(flight: &UavFlight) -> String {
    let of = |figure: fn(&UavHandover) -> Option<f64>| (flight.median(figure), flight.greatest(figure));
    let (silence, longest) = of(|handover| handover.client_silence_ms);
    let (_, furthest) = of(|handover| handover.deviation_m);
    let (undisturbed, _) = of(|handover| handover.undisturbed_deviation_m);
    let done = flight.done().count();
    let connection = match flight.connections_lost {
        0 => "connection kept".to_owned(),
        lost => format!("connection lost {lost} times"),
    };
    let mut text = format!(
        "\n{} handovers {}: client silence {} (median), {} at most; at most {} off course ({} before, median)\n\
         {} of {} reports answered, {} lost, {connection}",
        done,
        way(flight.by_hand),
        ms(silence),
        ms(longest),
        metres(furthest),
        metres(undisturbed),
        flight.answered,
        flight.reported,
        flight.lost,
    );
    let failed = flight.handovers.len() - done;
    for (count, what) in [
        (failed as u64, "handovers failed"),
        (flight.out_of_order, "answers out of order"),
        (flight.offboard_losses.into(), "times the UAV took the control away from its autopilot"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text += match flight.recorder_intact_bytes {
        None => "; the autopilot did not say whether its flight recorder is whole",
        Some(_) if flight.clean() => "; flight recorder whole",
        Some(_) => "",
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handover(outcome: Outcome) -> UavHandover {
        UavHandover {
            number: 3,
            outcome,
            why: (outcome != Outcome::Done).then(|| "CRIU could not dump it".to_owned()),
            from: "edge-a".into(),
            to: "edge-b".into(),
            began_unix_ms: 0,
            duration_ms: Some(1000.0),
            service_stopped_ms: Some(171.0),
            worst_case_downtime_ms: Some(231.0),
            client_silence_ms: Some(183.0),
            deviation_m: Some(0.21),
            cross_track_m: Some(0.1),
            undisturbed_deviation_m: Some(0.15),
        }
    }

    #[test]
    fn a_handover_is_a_line_and_one_that_failed_says_why() {
        let told = line(&handover(Outcome::Done));
        assert_eq!(
            told,
            "  3  edge-a → edge-b  client silence 183 ms, service stopped 171 ms (worst case 231 ms), 0.21 m off course \
             (0.15 m before)"
        );
        assert!(told.chars().count() <= 140);
        assert!(line(&handover(Outcome::RolledBack)).contains("rolled back: CRIU could not dump it; "));
    }

    #[test]
    fn the_summary_says_what_was_lost_and_that_nothing_was() {
        let flight = UavFlight {
            by_hand: false,
            handovers: vec![handover(Outcome::Done)],
            reported: 100,
            answered: 99,
            lost: 0,
            out_of_order: 0,
            connections_lost: 0,
            offboard_losses: 0,
            recorder_intact_bytes: Some(24 << 20),
            behind_ms: 5.0,
        };
        let told = summary(&UavRun { flights: vec![flight.clone()] });
        assert!(
            told.contains("99 of 100 reports answered, 0 lost, connection kept; flight recorder whole"),
            "{told}"
        );
        let bad = UavFlight { lost: 2, connections_lost: 1, offboard_losses: 1, ..flight };
        let told = summary(&UavRun { flights: vec![bad] });
        assert!(told.contains("2 lost, connection lost 1 times, 1 times the UAV took"), "{told}");
        assert!(!told.contains("whole"), "{told}");
    }
}
