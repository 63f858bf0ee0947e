//! How long a service may be kept waiting between its freeze and its release, by the plan that it is moved by.
//!
//! Whoever waits meanwhile has to know when to stop: what was promised of the service is what its plan says, and a deadline that has
//! nothing to do with that is too long for one service and too short for another.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use mose_protocol::handover::Task;

/// How long nothing at all may happen where there is no plan.
const UNPLANNED: Duration = Duration::from_secs(5);

/// The least and the most of that where there is one. A busy machine may do nothing for a second or two.
const QUIET: RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(15);

/// How much longer than by its plan it may take, as long as something happens. By then it is likelier that it never ends than that
/// it ends soon; and to have the service back takes no longer than it has waited.
const LATE: u32 = 2;

/// What a hand-over takes where next to nothing has to be moved.
pub(crate) const LEAST: Duration = Duration::from_secs(2);

/// The least of the whole, as long as something happens: machines are slow, or busy.
const WHOLE: Duration = Duration::from_secs(10);

/// The same for a restore, and what it takes where nothing was foretold and next to nothing has to be restored.
const RESTORE: Duration = Duration::from_secs(15);
const RESTORING: Duration = Duration::from_secs(15);

/// What CRIU restores in a second at the least: state moves through memory and page cache.
const RESTORED: u64 = 50_000_000;

/// How long is waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// While nothing happens: no byte is sent, CRIU writes nothing and computes nothing.
    pub(crate) quiet: Duration,
    /// In all: from the freeze to the images at the destination, and again for the restore.
    pub(crate) whole: Duration,
}

impl Patience {
    /// By an order: the worst case of its downtime, or the most that was asked for, whichever is more. `unplanned` says what to expect
    /// where nothing was foretold.
    pub(crate) fn of(task: &Task, unplanned: impl FnOnce() -> Duration) -> Self {
        let Some(forecast) = &task.forecast else {
            return Self {
                quiet: UNPLANNED,
                whole: unplanned().saturating_mul(LATE).saturating_add(UNPLANNED),
            };
        };
        // An order's forecast was checked: its figures are finite.
        let worst = forecast.bound.downtime.0.max(forecast.targets.downtime.0);
        let worst = Duration::try_from_secs_f64(worst / 1e3).unwrap_or(UNPLANNED);
        let quiet = worst.clamp(*QUIET.start(), *QUIET.end());
        let whole = worst.saturating_mul(LATE).saturating_add(quiet);
        Self { quiet, whole: whole.max(WHOLE) }
    }

    /// For the restore of a container from images that lie in that folder.
    pub(crate) fn of_restore(task: &Task, images: &Path) -> Self {
        let Self { quiet, whole } = Self::of(task, || {
            let files = std::fs::read_dir(images).into_iter().flatten().flatten();
            let bytes: u64 = files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
            RESTORING + Duration::from_secs(bytes / RESTORED)
        });
        Self { quiet, whole: whole.max(RESTORE) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An order whose plan has that worst case, and that much was asked for, in milliseconds.
    fn order(worst_ms: f64, wanted_ms: f64) -> Task {
        let figures = |downtime: f64| json!({"downtime": downtime, "duration": 1e4});
        serde_json::from_value(json!({
            "migration": "m", "service": "s", "from": "a", "to": "b",
            "plan": {"strategy": "cold", "iterations": null, "bandwidth": null}, "transport": null, "image_policy": "bring",
            "forecast": {
                "profile": "p", "state": 1, "dirty_rate": 0.0, "normalized_dirty_rate": 0.0, "available": 1,
                "objective": "resources", "targets": figures(wanted_ms), "bound": figures(worst_ms),
                "expected": figures(worst_ms), "why": "",
                "components": serde_json::to_value(mose_pam::Components::default()).unwrap(),
            },
        }))
        .unwrap()
    }

    #[test]
    fn it_is_waited_as_long_as_the_service_may_stand_still_within_bounds() {
        let seconds = |patience: Patience| (patience.quiet.as_secs_f64(), patience.whole.as_secs_f64());
        let of = |worst, wanted| seconds(Patience::of(&order(worst, wanted), || panic!("it was foretold")));
        assert_eq!(of(250.0, 500.0), (3.0, 10.0), "no machine is that even");
        assert_eq!(
            of(3_000.0, 500.0),
            (3.0, 10.0),
            "the plan is as good as can be, and misses what was asked for"
        );
        assert_eq!(of(300.0, 4_000.0), (4.0, 12.0), "more is allowed than it takes");
        assert_eq!(of(60_000.0, 0.0), (15.0, 135.0), "a large state is sent for long, and never stops");
    }

    #[test]
    fn a_restore_is_given_time_for_its_images() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::File::create(folder.path().join("pages-1.img")).unwrap().set_len(500_000_000).unwrap();
        let order = Task { forecast: None, ..order(1.0, 1.0) };
        assert_eq!(Patience::of_restore(&order, folder.path()).whole, Duration::from_secs(55));
        assert_eq!(Patience::of_restore(&order, &folder.path().join("none")).whole, Duration::from_secs(35));
        let foretold = self::order(200.0, 500.0);
        assert_eq!(Patience::of_restore(&foretold, folder.path()).whole, Duration::from_secs(15));
    }

    #[test]
    fn where_nothing_was_foretold_it_goes_by_what_is_expected() {
        let order = Task { forecast: None, ..order(1.0, 1.0) };
        let patience = Patience::of(&order, || Duration::from_secs(7));
        assert_eq!((patience.quiet, patience.whole), (Duration::from_secs(5), Duration::from_secs(19)));
    }
}
