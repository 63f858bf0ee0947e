//! The state together with what follows from it: the plan, what can be done, what is selected, the times of what is shown.
//!
//! Each of these is computed when it is first asked for after a change, and once. Whoever changes the state does so through
//! [`Settled`], which then forgets them all: nobody can read one that is older than the state. The time that is shown is part
//! of the state, so that what depends on it is forgotten too whenever time goes on. What costs most, the planner's answers, is
//! remembered beyond that, with what the planner was asked: the same question has the same answer.

mod chart;
mod course;
mod enabled;
mod headline;
mod plan;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use mose_protocol::record::Record;
use mose_protocol::{HostName, MigrationId, ServiceName};

use crate::action::Action;
use crate::pane::Pane;
use crate::state::{Failure, Located, State, Track};

pub use chart::Chart;
pub use course::Course;
pub(crate) use headline::moved;
pub use headline::{Act, Headline, Whose};
pub use plan::Designed;

/// The state, and what follows from it.
pub struct Settled {
    state: State,
    derived: Derived,
    planner: plan::Planner,
    charts: chart::Charts,
}

/// What follows from the state as it is now, as far as it was asked for.
#[derive(Default)]
struct Derived {
    service: OnceCell<Option<Place>>,
    destination: OnceCell<Option<HostName>>,
    plan: OnceCell<Result<Designed, String>>,
    obstacles: OnceCell<BTreeMap<Action, String>>,
    track: OnceCell<Option<usize>>,
    courses: RefCell<BTreeMap<MigrationId, Arc<Course>>>,
    history: OnceCell<Vec<usize>>,
    headline: OnceCell<Headline>,
}

/// Where a service is told of: by which host, and at which place of what it tells.
struct Place {
    host: HostName,
    index: usize,
}

impl From<State> for Settled {
    fn from(state: State) -> Self {
        let (planner, charts) = (plan::Planner::default(), chart::Charts::default());
        Self { state, derived: Derived::default(), planner, charts }
    }
}

impl Deref for Settled {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Settled {
    /// Whoever may change the state makes what followed from it unknown.
    fn deref_mut(&mut self) -> &mut State {
        self.derived = Derived::default();
        &mut self.state
    }
}

impl Settled {
    /// The selected service where it is: where it runs if several hosts tell of it.
    #[must_use]
    pub fn service(&self) -> Option<Located<'_>> {
        let place = self.derived.service.get_or_init(|| {
            let located = self.state.located(self.ui.service.as_ref()?)?;
            let told = &located.host.telemetry.as_ref()?.services;
            let index = told.iter().position(|info| std::ptr::eq(info, located.info))?;
            Some(Place { host: located.host.name.clone(), index })
        });
        let Place { host, index } = place.as_ref()?;
        let host = self.shown().fleet.host(host)?;
        Some(Located { host, info: host.telemetry.as_ref()?.services.get(*index)? })
    }

    /// Where the selected service is to go: what was chosen, else the first other live edge host.
    #[must_use]
    pub fn destination(&self) -> Option<&HostName> {
        let find = || self.state.destination_of(&self.service()?.host.name).cloned();
        self.derived.destination.get_or_init(find).as_ref()
    }

    /// The plan for the selected service and destination, or why there is none.
    ///
    /// # Errors
    /// What is missing, for a person.
    pub fn plan(&self) -> Result<&Designed, &str> {
        let plan = self.derived.plan.get_or_init(|| self.planner.outcome(self));
        plan.as_ref().map_err(String::as_str)
    }

    /// The region map of so many columns and rows around the plan.
    ///
    /// # Errors
    /// Why there is none, for a person.
    pub fn chart(&self, columns: usize, rows: usize) -> Result<Arc<Chart>, String> {
        self.charts.chart(self, columns, rows)
    }

    /// Whether an action can be done now, or why not.
    ///
    /// # Errors
    /// The reason, for a person.
    pub fn enabled(&self, action: Action) -> Result<(), &str> {
        if let Some(reason) = enabled::forbidden(action, self) {
            return Err(reason);
        }
        self.makes_sense(action)
    }

    /// Whether an action makes sense now, apart from what holds for all that change anything.
    ///
    /// # Errors
    /// The reason, for a person.
    pub fn makes_sense(&self, action: Action) -> Result<(), &str> {
        let obstacles = self.derived.obstacles.get_or_init(|| enabled::obstacles(self));
        obstacles.get(&action).map_or(Ok(()), |reason| Err(reason))
    }

    /// The migration that the timeline shows: the chosen one, else the newest of the selected service, else the newest.
    #[must_use]
    pub fn track(&self) -> Option<&Track> {
        let migrations = &self.shown().migrations;
        let place = self.derived.track.get_or_init(|| {
            let track = self.state.track_shown()?;
            migrations.all().position(|one| std::ptr::eq(one, track))
        });
        migrations.all().nth((*place)?)
    }

    /// The times of a migration that is shown.
    #[must_use]
    pub fn course(&self, track: &Track) -> Arc<Course> {
        let course = || Arc::new(Course::of(track, self.shown().now));
        // One of a held picture and what has become of it since are the same migration at two times.
        let shown = self.shown().migrations.get(&track.migration);
        if !shown.is_some_and(|shown| std::ptr::eq(shown, track)) {
            return course();
        }
        let mut courses = self.derived.courses.borrow_mut();
        Arc::clone(courses.entry(track.migration.clone()).or_insert_with(course))
    }

    /// The service that the handover theatre is about: the one that follows its mobile host, else the selected one.
    #[must_use]
    pub fn followed(&self) -> Option<&ServiceName> {
        let following = self.shown().following();
        let known = |service: &&ServiceName| self.located(service).is_some();
        following.map(|following| &following.service).filter(known).or(self.ui.service.as_ref())
    }

    /// For how long that service is stopped, or was in its last handover.
    #[must_use]
    pub fn headline(&self) -> Headline {
        *self.derived.headline.get_or_init(|| Headline::of(self.shown(), self.followed()))
    }

    /// The failure that is explained: the selected record's, else the shown migration's, else the last one's.
    #[must_use]
    pub fn failure(&self) -> Option<Failure<'_>> {
        self.state.failure_of(self.track())
    }

    /// The past migrations that the history shows, in its order.
    pub fn history(&self) -> impl ExactSizeIterator<Item = &Record> {
        let past = &self.shown().past;
        let find = || past.found(self.ui.filter(Pane::History), self.ui.order);
        self.derived.history.get_or_init(find).iter().map(|place| &past.records()[*place])
    }
}
