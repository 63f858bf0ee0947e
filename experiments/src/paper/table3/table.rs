//! From trials to the table: means, shares, what failed, and whether it shows what it was to show.

use mose_experiments::documents::{Claim, Failure, Kept, Measured, Setup, Spread, Table3, Table3Row, Trial};

use super::rows::{ROWS, Row, Way};

/// The table of these trials; `unable` says of a row why it cannot be measured here.
pub(crate) fn table(setup: &Setup, trials: Vec<Trial>, unable: impl Fn(&Row) -> Option<String>) -> Table3 {
    let rows: Vec<Table3Row> = ROWS.iter().map(|row| row_of(row, &trials, unable(row))).collect();
    let able = rows.iter().filter(|row| row.not_measured.is_none()).count();
    let all = u32::try_from(able).unwrap_or(u32::MAX).saturating_mul(setup.runs);
    Table3 {
        setup: setup.clone(),
        trials_left: all.saturating_sub(u32::try_from(trials.len()).unwrap_or(u32::MAX)),
        claims: claims(&rows),
        differences: differences(setup),
        rows,
        trials,
    }
}

fn row_of(row: &Row, trials: &[Trial], not_measured: Option<String>) -> Table3Row {
    let all: Vec<&Measured> =
        trials.iter().filter(|trial| trial.row == row.key).map(|trial| &trial.measured).collect();
    let done: Vec<&Measured> = all.iter().copied().filter(|measured| measured.done()).collect();
    let spread = |figure: fn(&Measured) -> Option<f64>| Spread::of(done.iter().filter_map(|one| figure(one)));
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let silence = spread(|one| one.client_silence_ms);
    Table3Row {
        row: row.key.to_owned(),
        name: row.name.to_owned(),
        how: row.how.to_owned(),
        not_measured,
        trials: count(all.len()),
        done: count(done.len()),
        failures: failures(&all),
        bandwidth_bps: spread(|one| one.bandwidth_bps.map(|bps| bps as f64)),
        rounds: spread(|one| one.rounds.map(f64::from)),
        client_silence_ms: silence,
        service_stopped_ms: spread(|one| one.service_stopped_ms),
        duration_ms: spread(|one| one.duration_ms),
        deviation_m: spread(|one| one.deviation_m),
        cross_track_m: spread(|one| one.cross_track_m),
        undisturbed_deviation_m: spread(|one| one.undisturbed_deviation_m),
        requests_lost: all.iter().map(|one| one.requests_lost).sum(),
        connections_kept: count(all.iter().filter(|one| one.connections_lost == 0).count()),
        downtime_held: Kept::of(done.iter().map(|one| one.downtime_held())),
        duration_held: Kept::of(done.iter().map(|one| one.duration_held())),
        published: Some(row.published),
        downtime_factor: silence.map(|silence| row.published.downtime_ms.mean / silence.mean),
    }
}

fn failures(all: &[&Measured]) -> Vec<Failure> {
    let mut found: Vec<Failure> = Vec::new();
    for one in all.iter().filter(|one| !one.done()) {
        match found.iter_mut().find(|failure| failure.outcome == one.outcome) {
            Some(failure) => failure.trials += 1,
            None => {
                let why = one.why.clone().unwrap_or_default();
                found.push(Failure { outcome: one.outcome, trials: 1, why });
            }
        }
    }
    found
}

/// The least share of bounds that are to hold.
const HELD: f64 = 0.95;

fn claims(rows: &[Table3Row]) -> Vec<Claim> {
    let of = |key: &str| rows.iter().find(|row| row.row == key);
    let mut claims = vec![
        ascending([of("md-5s"), of("mr-3s"), of("mr-5s")], "max duration 5 s"),
        ascending([of("md-10s"), of("mr-3s"), of("mr-5s")], "max duration 10 s"),
    ];
    let by_mose: Vec<&Table3Row> = rows
        .iter()
        .filter(|row| super::rows::named(&row.row).is_some_and(|row| matches!(row.way, Way::Mose { .. })))
        .collect();
    let kept = |what: &str, all: &mut dyn Iterator<Item = Option<Kept>>| {
        let sum = all.flatten().reduce(|a, b| Kept { held: a.held + b.held, of: a.of + b.of });
        Claim {
            claim: format!("the worst case of the {what} held in at least 95 % of MOSE's moves"),
            holds: sum.map(|sum| sum.share() >= HELD),
            figures: sum.map_or_else(unmeasured, |sum| {
                format!("{} of {}, {:.1} %", sum.held, sum.of, sum.share() * 100.0)
            }),
        }
    };
    claims.push(kept("downtime", &mut by_mose.iter().map(|row| row.downtime_held)));
    claims.push(kept("duration", &mut by_mose.iter().map(|row| row.duration_held)));
    let flown: u32 = by_mose.iter().map(|row| row.trials).sum();
    let lost: u64 = by_mose.iter().map(|row| row.requests_lost).sum();
    let connections: u32 = by_mose.iter().map(|row| row.connections_kept).sum();
    claims.push(Claim {
        claim: "MOSE lost no request, and every connection was kept".into(),
        holds: (flown > 0).then_some(lost == 0 && connections == flown),
        figures: format!("{lost} lost, {connections} of {flown} connections kept"),
    });
    let downtime: Vec<&Table3Row> =
        by_mose.iter().copied().filter(|row| row.row.starts_with("md-")).collect();
    let factors: Vec<f64> = downtime.iter().filter_map(|row| row.downtime_factor).collect();
    let least = factors.iter().copied().reduce(f64::min);
    claims.push(Claim {
        claim: "objective downtime: the client's silence is below the published downtime".into(),
        holds: least.filter(|_| factors.len() == downtime.len()).map(|least| least > 1.0),
        figures: least.map_or_else(unmeasured, |least| format!("by a factor of {least:.1} at least")),
    });
    claims
}

fn unmeasured() -> String {
    "not measured".into()
}

/// Whether the vehicle is the farther off the longer the service is stopped.
fn ascending(rows: [Option<&Table3Row>; 3], md: &str) -> Claim {
    let spreads = rows.map(|row| row.and_then(|row| row.deviation_m));
    let claim = format!("deviation: MD {md} < MR max downtime 3 s < MR max downtime 5 s");
    let [Some(a), Some(b), Some(c)] = spreads else {
        return Claim { claim, holds: None, figures: unmeasured() };
    };
    let apart = |low: Spread, high: Spread| Some(low.mean + low.interval? < high.mean - high.interval?);
    let intervals = match (apart(a, b), apart(b, c)) {
        (Some(true), Some(true)) => "; the 90 % intervals are apart",
        (None, _) | (_, None) => "",
        _ => "; the 90 % intervals overlap",
    };
    Claim {
        claim,
        holds: Some(a.mean < b.mean && b.mean < c.mean),
        figures: format!("{:.2} m, {:.2} m, {:.2} m{intervals}", a.mean, b.mean, c.mean),
    }
}

/// In what this testbed is not the paper's.
fn differences(setup: &Setup) -> Vec<String> {
    let machine = &setup.machine;
    vec![
        format!(
            "Hosts: network namespaces on one machine that share {} × {} and the kernel {}; the paper's were four virtual machines with 4 \
             virtual CPUs each.",
            machine.processors, machine.processor, machine.kernel
        ),
        "Vehicle: simulated. JSBSim flies an F450 quadcopter in real time; the paper had Gazebo.".into(),
        "Flight controller: none of PX4 runs. Its rules for offboard control are re-implemented: control is taken away after 1.0 s \
         without a setpoint (COM_OF_LOSS_T), the vehicle brakes and holds, and goes back once setpoints have come at more than 2 Hz for \
         1 s. Which rules the paper's PX4 was set to is not published."
            .into(),
        format!("Link between the edge hosts: {}, shaped by the kernel; the paper's was a link of 1 Gb/s.", setup.link),
        "Service: an autopilot of our own with 24 MiB of flight recorder, as large as the paper's (25 MB) and about as busy (r = 0.03)."
            .into(),
        format!("Trials: {} of each row; the paper made 100.", setup.runs),
        "SotA: our own script over SSH with Podman's checkpoint and restore. It opens its connections and makes the destination's \
         namespace before the freeze, so that it stops the service for less than one that does not."
            .into(),
        "Downtime: the vehicle's own silence comes first here; beside it, the time from the freeze to the restored service by the hosts' \
         clocks."
            .into(),
        "Deviation: the greatest distance from the moving reference from the freeze until 8 s after the service is back, at 10 Hz.".into(),
    ]
}

#[cfg(test)]
mod tests {
    use mose_protocol::record::Outcome;

    use super::super::super::samples::{measured, setup, trial};
    use super::*;

    fn with(row: &str, cell: u32, deviation_m: f64) -> Trial {
        let deviation_m = Some(deviation_m);
        Trial { measured: Measured { deviation_m, ..measured() }, ..trial(row, cell) }
    }

    fn all(trials: Vec<Trial>) -> Table3 {
        table(&setup(), trials, |row| (row.key == "sota-iterative").then(|| "no soft-dirty bits".into()))
    }

    fn claim<'a>(table: &'a Table3, word: &str) -> &'a Claim {
        table.claims.iter().find(|claim| claim.claim.contains(word)).unwrap()
    }

    #[test]
    fn what_failed_is_counted_and_in_no_mean() {
        let failed = |cell, why: &str| {
            let measured = Measured {
                outcome: Outcome::RolledBack,
                why: Some(why.into()),
                deviation_m: Some(1000.0),
                requests_lost: 3,
                connections_lost: 1,
                ..measured()
            };
            Trial { measured, ..trial("md-5s", cell) }
        };
        let table = all(vec![with("md-5s", 1, 0.4), failed(2, "CRIU failed"), failed(3, "again")]);
        let row = table.rows.iter().find(|row| row.row == "md-5s").unwrap();
        assert_eq!((row.trials, row.done, row.requests_lost, row.connections_kept), (3, 1, 6, 1));
        assert_eq!(row.deviation_m.unwrap().mean, 0.4);
        let expected = Failure { outcome: Outcome::RolledBack, trials: 2, why: "CRIU failed".into() };
        assert_eq!(row.failures, [expected]);
        assert!(!table.good());
        assert_eq!(claim(&table, "lost no request").holds, Some(false));
        assert_eq!(table.trials_left, 7 * 2 - 3);
    }

    #[test]
    fn the_order_of_deviations_is_judged_and_so_is_whether_the_intervals_are_apart() {
        let rows = [("md-5s", [0.3, 0.32]), ("mr-3s", [2.0, 2.02]), ("mr-5s", [11.0, 11.02])];
        let trials = |swap: bool| -> Vec<Trial> {
            let mut rows = rows;
            if swap {
                (rows[1].1, rows[2].1) = (rows[2].1, rows[1].1);
            }
            rows.iter().flat_map(|(row, both)| both.map(|metres| with(row, 1, metres))).collect()
        };
        let good = all(trials(false));
        let first = claim(&good, "MD max duration 5 s");
        assert_eq!(first.holds, Some(true));
        assert!(
            first.figures.contains("0.31 m, 2.01 m, 11.01 m") && first.figures.contains("apart"),
            "{first:?}"
        );
        assert_eq!(claim(&all(trials(true)), "MD max duration 5 s").holds, Some(false));
        assert_eq!(claim(&good, "MD max duration 10 s").holds, None, "nobody has flown it");
        let wide = vec![
            with("md-5s", 1, 0.1),
            with("md-5s", 2, 4.0),
            with("mr-3s", 3, 1.0),
            with("mr-3s", 4, 5.0),
            with("mr-5s", 5, 11.0),
            with("mr-5s", 6, 11.1),
        ];
        assert!(claim(&all(wide), "MD max duration 5 s").figures.contains("overlap"));
    }

    #[test]
    fn bounds_that_did_not_hold_are_counted() {
        let late = |cell| {
            let service_stopped_ms = Some(250.1);
            Trial { measured: Measured { service_stopped_ms, ..measured() }, ..trial("mr-3s", cell) }
        };
        let mut trials: Vec<Trial> = (1..=38).map(|cell| trial("md-5s", cell)).collect();
        trials.extend([late(39), late(40)]);
        let table = all(trials.clone());
        assert_eq!(claim(&table, "of the downtime").holds, Some(true));
        assert!(claim(&table, "of the downtime").figures.contains("38 of 40, 95.0 %"));
        trials.push(late(41));
        assert_eq!(claim(&all(trials), "of the downtime").holds, Some(false));
        assert_eq!(claim(&all(Vec::new()), "of the downtime").holds, None);
    }

    #[test]
    fn a_factor_is_the_published_downtime_over_the_clients_silence() {
        let table = all(vec![trial("md-5s", 1)]);
        let row = table.rows.iter().find(|row| row.row == "md-5s").unwrap();
        assert!((row.downtime_factor.unwrap() - 1080.0 / 210.0).abs() < 1e-9);
        assert_eq!(claim(&table, "below the published").holds, None, "not all rows were flown");
    }
}
