//! Hundreds of connections that speak while their service moves: each is answered, and the gap told is the worst of theirs.

use mose_tests::{Testbed, mose, text};
use serde_json::Value;

fn steps(record: &Value) -> impl Iterator<Item = &Value> {
    record["steps"].as_array().into_iter().flatten()
}

#[test]
fn every_connection_is_answered_and_the_gap_told_is_the_worst() {
    let Some(_testbed) = Testbed::up() else { return };
    let output = mose(&["lab", "connections", "-n", "1", "--connections", "200", "--rate", "2", "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let client = &told["client"];
    for fault in ["lost", "repeated", "corrupted", "resets"] {
        assert_eq!(client[fault], 0, "{fault}: {client}");
    }
    assert_eq!((&client["connections"], &client["streams"]), (&200.into(), &200.into()));
    let migrations = told["migrations"].as_array().unwrap();
    assert_eq!(migrations.len(), 2);
    for migration in migrations {
        let record = &migration["record"];
        assert_eq!(record["outcome"], "done", "{record}");
        assert_eq!(migration["unanswered"], 0, "{migration}");
        // What was held is counted, and the service's return is the begin of the release, not its end.
        let of = |name: &str| {
            steps(record).find(|step| step["step"] == name).unwrap_or_else(|| panic!("no {name}"))
        };
        let (restore, release) = (of("restore"), of("release"));
        let held =
            release["detail"].as_str().and_then(|detail| detail.split(' ').next()?.parse::<u32>().ok());
        assert!(held.is_some_and(|held| held > 0), "{release}");
        let end = restore["start"].as_f64().unwrap() + restore["took"].as_f64().unwrap();
        assert!(release["start"].as_f64().unwrap() < end, "{restore} {release}");
        let seen = &record["downtime"]["clients"][0];
        assert_eq!(
            (&seen["resets"], &seen["accepted"], &seen["unanswered"]),
            (&0.into(), &0.into(), &0.into())
        );
        let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no figure in {migration}"));
        let (gap, worst) = (number(&seen["gap"]), number(&migration["worst_ms"]));
        // Four hundred requests a second: one was sent soon after the freeze, also where the clients get little of a processor.
        let blackout = number(&record["downtime"]["blackout"]);
        // Each of the 200 asks every 500 ms; half of those that ask in such a blackout, for a client that gets little of a processor.
        let asking = 200.0 * (blackout / 500.0).min(1.0);
        assert!(
            number(&seen["asked"]) >= asking / 2.0,
            "they were followed: {seen}, {asking} asked in {blackout} ms"
        );
        // Each that waited, by the client's own log, was seen to ask.
        assert!(
            number(&seen["asked"]) >= number(&migration["waited"]).min(200.0),
            "all were followed: {migration}"
        );
        assert!(gap >= blackout * 0.8 - 20.0, "a gap of {gap} in a blackout of {blackout}: {seen}");
        assert!((gap - worst).abs() <= worst * 0.1 + 20.0, "{gap} told, {worst} by the client's own log");
    }
}
