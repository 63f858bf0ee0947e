//! The trials of a run, one after another, whatever they are flown on.

use std::time::Instant;

use color_eyre::eyre::{WrapErr, bail};
use mose_experiments::documents::{Measured, Trial};

use super::super::order::Cell;
use super::super::results::Results;
use super::rows::{ROWS, Row};

/// Where trials are flown.
pub(crate) trait Testbed {
    /// Why a row cannot be measured there; `None` where it can.
    fn unable(&self, row: &Row) -> Option<String>;

    /// Brings the service to its first host, flies until the flight is steady, moves the service as the row says, flies on until the
    /// vehicle has caught up, and says what was measured. A move that failed is such a result.
    ///
    /// # Errors
    /// Nothing was measured, and the next trial would not be either.
    fn fly(&mut self, row: &Row) -> color_eyre::Result<Measured>;
}

/// Flies the trials that are not there yet. Each is on disk before the next begins.
pub(crate) fn fly_all(
    bed: &mut impl Testbed,
    cells: &[Cell],
    results: &mut Results,
    say: &mut impl FnMut(&str),
) -> color_eyre::Result<()> {
    for row in &ROWS {
        if let Some(why) = bed.unable(row) {
            say(&format!("{} cannot be measured here and is left out: {why}", row.name));
        }
    }
    let able: Vec<&Cell> = cells.iter().filter(|cell| bed.unable(&ROWS[cell.row]).is_none()).collect();
    let there = results.trials.len();
    // They were flown in this order, so that what is left is the rest of it.
    for (trial, cell) in results.trials.iter().zip(&able) {
        if (trial.cell, trial.row.as_str()) != (cell.number, ROWS[cell.row].key) {
            bail!(
                "trial {} of the results is one of {}, where {} is due: they are of another order. Begin anew with --replace",
                trial.cell,
                trial.row,
                ROWS[cell.row].name
            );
        }
    }
    if there > able.len() {
        bail!(
            "the results have {there} trials, more than the {} of this run; begin anew with --replace",
            able.len()
        );
    }
    for (number, cell) in able.iter().enumerate().skip(there) {
        let row = &ROWS[cell.row];
        say(&format!("{:>4}/{}  {}", number + 1, able.len(), row.name));
        let begun = Instant::now();
        let measured = bed.fly(row).wrap_err_with(|| {
            format!("{} cannot be flown; {number} trials are kept, --resume goes on", row.name)
        })?;
        let took_s = begun.elapsed().as_secs_f64();
        let told = told(&measured);
        results.add(Trial {
            cell: cell.number,
            row: row.key.to_owned(),
            repetition: cell.repetition,
            took_s,
            measured,
        })?;
        let mean = results.trials.iter().map(|trial| trial.took_s).sum::<f64>() / (number + 1) as f64;
        say(&format!(
            "           {told} · {took_s:.0} s, {} left",
            left(mean * (able.len() - number - 1) as f64)
        ));
    }
    Ok(())
}

fn told(measured: &Measured) -> String {
    if !measured.done() {
        return format!(
            "{}: {}",
            measured.outcome.name().to_uppercase(),
            measured.why.clone().unwrap_or_default()
        );
    }
    let known =
        |figure: Option<f64>, unit: f64| figure.map_or_else(|| "?".into(), |ms| format!("{:.2}", ms / unit));
    let mut text = format!(
        "silence {} s · deviation {} m",
        known(measured.client_silence_ms, 1e3),
        known(measured.deviation_m, 1.0)
    );
    if measured.requests_lost > 0 || measured.connections_lost > 0 {
        text += &format!(
            " · {} requests and {} connections LOST",
            measured.requests_lost, measured.connections_lost
        );
    }
    if measured.downtime_held() == Some(false) || measured.duration_held() == Some(false) {
        text += " · WORST CASE EXCEEDED";
    }
    text
}

/// A time that is left, for people.
fn left(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use color_eyre::eyre::eyre;
    use mose_experiments::documents::Setup;
    use mose_protocol::record::Outcome;

    use super::super::super::order::order;
    use super::super::super::results::{FILE, Mode};
    use super::super::super::samples::{measured, setup};
    use super::*;

    /// A testbed that measures how often it was asked; it breaks at a trial, and a move fails at another.
    #[derive(Default)]
    struct Fake {
        flown: Vec<&'static str>,
        breaks_at: Option<usize>,
        fails_at: Option<usize>,
        unable: Option<&'static str>,
    }

    impl Testbed for Fake {
        fn unable(&self, row: &Row) -> Option<String> {
            (self.unable == Some(row.key)).then(|| "no soft-dirty bits".into())
        }

        fn fly(&mut self, row: &Row) -> color_eyre::Result<Measured> {
            if self.breaks_at == Some(self.flown.len()) {
                return Err(eyre!("the vehicle has crashed"));
            }
            let failed = self.fails_at == Some(self.flown.len());
            self.flown.push(super::super::rows::named(row.key).unwrap().key);
            let why = failed.then(|| "CRIU failed".to_owned());
            let outcome = if failed { Outcome::RolledBack } else { Outcome::Done };
            Ok(Measured { outcome, why, rounds: u32::try_from(self.flown.len()).ok(), ..measured() })
        }
    }

    struct Run {
        folder: PathBuf,
        setup: Setup,
        said: Vec<String>,
    }

    impl Run {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("mose-fly-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            Self { folder, setup: setup(), said: Vec::new() }
        }

        fn fly(&mut self, mode: Mode, bed: &mut Fake) -> color_eyre::Result<Vec<Trial>> {
            let cells = order(ROWS.len(), self.setup.runs, self.setup.seed);
            let mut say = |text: &str| self.said.push(text.to_owned());
            let mut results = Results::open(&self.folder, mode, &self.setup, &mut say)?;
            fly_all(bed, &cells, &mut results, &mut say)?;
            Ok(results.trials)
        }
    }

    impl Drop for Run {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    fn in_order(trials: &[Trial]) -> Vec<(u32, &str, u32)> {
        trials.iter().map(|trial| (trial.cell, trial.row.as_str(), trial.repetition)).collect()
    }

    fn shorten(file: &Path, by: usize) {
        let text = std::fs::read_to_string(file).unwrap();
        std::fs::write(file, &text[..text.len() - by]).unwrap();
    }

    #[test]
    fn a_run_that_was_killed_goes_on_in_the_same_order_and_flies_nothing_twice() {
        let mut whole = Run::new("whole");
        let undisturbed = whole.fly(Mode::Fresh, &mut Fake::default()).unwrap();
        assert_eq!(undisturbed.len(), 16);

        let mut run = Run::new("killed");
        let mut first = Fake { breaks_at: Some(6), ..Fake::default() };
        let why = format!("{:#}", run.fly(Mode::Fresh, &mut first).unwrap_err());
        assert!(
            why.contains("6 trials are kept") && why.contains("--resume") && why.contains("crashed"),
            "{why}"
        );
        // Killed while it wrote the sixth.
        shorten(&run.folder.join(FILE), 30);
        let mut second = Fake { breaks_at: Some(4), ..Fake::default() };
        drop(run.fly(Mode::Resume, &mut second).unwrap_err());
        assert!(run.said.iter().any(|line| line.contains("cut short")), "{:?}", run.said);
        let mut third = Fake::default();
        let trials = run.fly(Mode::Resume, &mut third).unwrap();
        assert_eq!(in_order(&trials), in_order(&undisturbed));
        let flown: Vec<&str> = [&first.flown[..5], &second.flown, &third.flown].concat();
        assert_eq!(flown, trials.iter().map(|trial| trial.row.as_str()).collect::<Vec<_>>());
        let mut fourth = Fake::default();
        assert_eq!(run.fly(Mode::Resume, &mut fourth).unwrap(), trials);
        assert!(fourth.flown.is_empty(), "all is there");
    }

    #[test]
    fn another_seed_flies_in_another_order_and_the_same_one_in_the_same() {
        let trials = |name: &str, seed: u64| {
            let mut run = Run::new(name);
            run.setup.seed = seed;
            run.setup.runs = 4;
            let trials = run.fly(Mode::Fresh, &mut Fake::default()).unwrap();
            trials.iter().map(|trial| trial.row.clone()).collect::<Vec<_>>()
        };
        assert_eq!(trials("seed-1a", 1), trials("seed-1b", 1));
        assert_ne!(trials("seed-1c", 1), trials("seed-2", 2));
    }

    #[test]
    fn a_move_that_failed_is_a_result_and_the_run_goes_on() {
        let mut run = Run::new("failed");
        let mut bed = Fake { fails_at: Some(3), ..Fake::default() };
        let trials = run.fly(Mode::Fresh, &mut bed).unwrap();
        assert_eq!(trials.len(), 16);
        assert_eq!(trials[3].measured.outcome, Outcome::RolledBack);
        assert!(run.said.iter().any(|line| line.contains("ROLLED BACK: CRIU failed")), "{:?}", run.said);
        assert!(
            run.said.iter().any(|line| line.contains("silence 0.21 s · deviation 0.31 m · 0 s, 0 s left"))
        );
    }

    #[test]
    fn a_row_that_cannot_be_measured_is_left_out_and_told() {
        let mut run = Run::new("unable");
        let bed = || Fake { unable: Some("sota-iterative"), ..Fake::default() };
        let mut broken = Fake { breaks_at: Some(9), ..bed() };
        drop(run.fly(Mode::Fresh, &mut broken).unwrap_err());
        let trials = run.fly(Mode::Resume, &mut bed()).unwrap();
        assert_eq!(trials.len(), 14);
        assert!(trials.iter().all(|trial| trial.row != "sota-iterative"));
        assert!(run.said[0].contains("SotA iterative cannot be measured here"), "{:?}", run.said);
        let why = run.fly(Mode::Resume, &mut Fake::default()).unwrap_err().to_string();
        assert!(why.contains("another order"), "{why}");
    }

    #[test]
    fn times_that_are_left_are_told_in_a_fitting_unit() {
        assert_eq!([left(40.0), left(600.0), left(9000.0)], ["40 s", "10 min", "2.5 h"]);
    }
}
