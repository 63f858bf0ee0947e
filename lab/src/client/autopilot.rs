//! `mose-uav`: a quadcopter that JSBSim flies as the service tells it.
//!
//! It runs among the clients, from where the service is reached; the agent, which hears where it is, is in the host's own network
//! namespace.

use serde::Deserialize;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

use super::{ClientReport, ClientSpec, Gap, Output, Recipe};
use crate::config::{AGENT_MAVLINK, RADIO_MAVLINK};
use crate::simulator::PYTHON;

/// What it says at its end.
#[derive(Deserialize)]
struct Flown {
    reported: u64,
    answered: u64,
    out_of_order: u64,
    in_flight: u64,
    connections_lost: u64,
    offboard_losses: u64,
    worst_deviation_m: f64,
    worst_cross_track_m: f64,
    pauses: Vec<Pause>,
    behind_ms: f64,
    recorder_intact_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct Pause {
    from_ms: u64,
    duration_ms: f64,
}

/// The flight recorder of the service, in bytes: its usual size.
const RECORDER: u64 = 24 << 20;

/// The vehicle's command line, among the clients of the UAV's host. It flies for a time, or until it is ended.
pub fn command_line(autopilot: SocketAddr, duration: Option<Duration>) -> Vec<String> {
    let (agent, radio) = (AGENT_MAVLINK.to_string(), RADIO_MAVLINK.to_string());
    let connect = autopilot.to_string();
    let mut argv = vec!["mose-uav", "--connect", &connect, "--tell", &agent, "--tell", &radio];
    argv.extend(["--tell-netns", "/proc/1/ns/net", "--python", PYTHON]);
    let mut argv: Vec<String> = argv.into_iter().map(str::to_owned).collect();
    if let Some(duration) = duration {
        argv.extend(["--duration".to_owned(), duration.as_secs_f64().to_string()]);
    }
    argv
}

pub(super) fn recipe(spec: &ClientSpec) -> Recipe {
    let argv = command_line(spec.target, Some(spec.duration));
    // Its first line comes once it is connected.
    Recipe { argv, mark: "\"round_trip_ms\":", settle: Duration::from_millis(500) }
}

pub(super) fn read(spec: &ClientSpec, output: &Output) -> Result<ClientReport, String> {
    let said = output.stdout.iter().rev().find(|line| line.text.contains("\"reported\""));
    let said = said.ok_or("the vehicle did not say how its flight was")?;
    let flown: Flown = serde_json::from_str(&said.text).map_err(|error| error.to_string())?;
    let (first, last) = (output.stdout.first(), output.stdout.last());
    let gaps: Vec<Gap> =
        flown.pauses.iter().map(|pause| Gap { at_unix_ms: pause.from_ms, ms: pause.duration_ms }).collect();
    let mut report = ClientReport {
        workload: spec.kind.name().to_owned(),
        sent: flown.reported,
        received: flown.answered,
        lost: flown.reported.saturating_sub(flown.answered + flown.out_of_order + flown.in_flight),
        reordered: flown.out_of_order,
        corrupted: flown.recorder_intact_bytes.map_or(0, |intact| RECORDER.saturating_sub(intact)),
        resets: flown.connections_lost,
        connections: 1 + flown.connections_lost,
        streams: 1,
        longest_gap_ms: gaps.iter().fold(0.0, |longest, gap| gap.ms.max(longest)),
        gaps,
        from_unix_ms: first.map_or(output.started_unix_ms, |line| line.at_unix_ms),
        to_unix_ms: last.map_or(output.started_unix_ms, |line| line.at_unix_ms),
        ..ClientReport::default()
    };
    if flown.recorder_intact_bytes.is_none() {
        report
            .errors
            .push("the service did not say at the end whether its flight recorder is whole".to_owned());
    }
    for (name, value) in [
        ("worst_deviation_m", json!(flown.worst_deviation_m)),
        ("worst_cross_track_m", json!(flown.worst_cross_track_m)),
        ("offboard_losses", json!(flown.offboard_losses)),
        ("behind_ms", json!(flown.behind_ms)),
        ("recorder_intact_bytes", json!(flown.recorder_intact_bytes)),
    ] {
        report.extra.insert(name.to_owned(), value);
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::super::{ClientKind, Line};
    use super::*;

    const TOLD: &str = r#"{"at_ms":1796060722793,"place_m":[45.8,70.3,-20.0],"velocity_m_s":[-2.1,4.7,0.0],"deviation_m":0.163,
        "cross_track_m":0.086,"round_trip_ms":0.15,"smoothed_round_trip_ms":0.16,"silence_ms":0.09,"offboard_lost":false}"#;
    const FLOWN: &str = r#"{"reported":1000,"answered":996,"out_of_order":1,"in_flight":1,"connections_lost":0,"offboard_losses":0,
        "worst_deviation_m":0.31,"worst_cross_track_m":0.2,"pauses":[{"from_ms":5000,"duration_ms":161.5}],"behind_ms":4.8,
        "recorder_intact_bytes":25165760}"#;

    fn read_lines(lines: &[&str]) -> Result<ClientReport, String> {
        let line = |text: &&str| Line { at_unix_ms: 1000, text: text.replace('\n', "") };
        let output = Output { stdout: lines.iter().map(line).collect(), ..Output::default() };
        let target = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        read(&ClientSpec::new(ClientKind::Autopilot, target, Duration::from_secs(1)), &output)
    }

    #[test]
    fn what_was_not_answered_is_lost_and_a_recorder_with_a_hole_is_damage() {
        let report = read_lines(&[TOLD, FLOWN]).unwrap();
        assert_eq!((report.sent, report.received, report.lost, report.reordered), (1000, 996, 2, 1));
        assert_eq!((report.corrupted, report.longest_gap_ms), (64, 161.5));
        assert!(!report.is_clean());
        let whole = FLOWN
            .replace("25165760", "25165824")
            .replace("996", "999")
            .replace(r#""out_of_order":1"#, r#""out_of_order":0"#);
        assert!(read_lines(&[TOLD, &whole]).unwrap().is_clean());
        let mute = whole.replace("25165824", "null");
        assert!(
            !read_lines(&[TOLD, &mute]).unwrap().is_clean(),
            "a recorder that was not looked at is not said to be whole"
        );
    }

    #[test]
    fn a_vehicle_that_died_has_no_report() {
        assert!(read_lines(&[TOLD]).unwrap_err().contains("did not say"));
    }
}
