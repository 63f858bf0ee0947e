//! Which targets are met over the plane of two inputs: the paper's feasibility regions.

use crate::designer::Bounds;
use crate::input_error::InputError;
use crate::model::Model;
use crate::request::PlanRequest;
use crate::sweep::Sweep;

/// What the plan at one point meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Region {
    /// θ_down and θ_mig.
    Both,
    /// θ_down alone.
    DowntimeOnly,
    /// θ_mig alone.
    DurationOnly,
    /// None.
    Neither,
}

/// The regions over a plane, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    across: Sweep,
    down: Sweep,
    cells: Vec<Region>,
}

impl Map {
    /// Plans at every point of the plane that two sweeps span; what they do not vary is the request's.
    ///
    /// # Errors
    ///
    /// [`InputError::SameAxes`] where both vary the same.
    pub fn new(model: &Model, request: &PlanRequest, across: Sweep, down: Sweep) -> Result<Self, InputError> {
        if across.axis() == down.axis() {
            return Err(InputError::SameAxes { axis: across.axis() });
        }
        let mut cells = Vec::with_capacity(across.steps() * down.steps());
        for row in 0..down.steps() {
            let request = down.apply(request, row);
            cells.extend((0..across.steps()).map(|column| region(model, &across.apply(&request, column))));
        }
        Ok(Self { across, down, cells })
    }

    /// What varies from column to column.
    #[must_use]
    pub const fn across(&self) -> &Sweep {
        &self.across
    }

    /// What varies from row to row.
    #[must_use]
    pub const fn down(&self) -> &Sweep {
        &self.down
    }

    /// The region at a column and a row, both from 0 on; `None` outside.
    #[must_use]
    pub fn at(&self, column: usize, row: usize) -> Option<Region> {
        if column >= self.across.steps() {
            return None;
        }
        self.cells.get(row * self.across.steps() + column).copied()
    }

    /// The rows, each as wide as the first sweep has steps.
    pub fn rows(&self) -> impl Iterator<Item = &[Region]> {
        self.cells.chunks(self.across.steps())
    }
}

/// What the plan for a request meets.
#[must_use]
pub fn region(model: &Model, request: &PlanRequest) -> Region {
    let rate = model.normalized(&request.service);
    let bounds = Bounds::new(model, &request.service, rate, request.overlay);
    let bound = bounds.decide(&request.targets, request.bandwidth, request.objective, request.limits).bound;
    match (bound.downtime <= request.targets.downtime, bound.duration <= request.targets.duration) {
        (true, true) => Region::Both,
        (true, false) => Region::DowntimeOnly,
        (false, true) => Region::DurationOnly,
        (false, false) => Region::Neither,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axis::Axis;
    use crate::calibration::Calibration;
    use crate::designer::plan;
    use crate::request::Objective;
    use crate::service::{DirtyRate, NormalizedRate, Service, Targets};
    use crate::units::{BitsPerSec, Bytes, Millis};

    fn request(objective: Objective) -> PlanRequest {
        let rate = DirtyRate::Normalized(NormalizedRate::new(0.2).unwrap());
        let service = Service::new(Bytes(10_000_000), rate, Millis(1000.0)).unwrap();
        let targets = Targets::new(Millis(1000.0), Millis(5000.0)).unwrap();
        PlanRequest::new(service, BitsPerSec(1_000_000_000), targets, objective).unwrap()
    }

    #[test]
    fn every_cell_of_every_pair_of_axes_is_what_its_plan_meets() {
        let model = Model::new(&Calibration::tnsm2024());
        let sweeps: Vec<Sweep> = [
            "target-downtime=100ms..4s/7",
            "target-duration=200ms..9s/6",
            "bandwidth=100kbps..10Gbps/5/log",
            "state-size=10kB..1GB/8/log",
            "normalized-dirty-rate=0..1/4",
            "dirty-rate=0..3000/4",
        ]
        .map(|text| text.parse().unwrap())
        .to_vec();
        let mut seen = std::collections::HashSet::new();
        for objective in Objective::ALL {
            for (across, down) in sweeps.iter().flat_map(|a| sweeps.iter().map(move |b| (*a, *b))) {
                let map = Map::new(&model, &request(objective), across, down);
                if across.axis() == down.axis() {
                    assert_eq!(map, Err(InputError::SameAxes { axis: across.axis() }));
                    continue;
                }
                let map = map.unwrap();
                assert_eq!(map.rows().count(), down.steps());
                assert_eq!(map.at(across.steps(), 0), None);
                assert_eq!(map.at(0, down.steps()), None);
                for (row, regions) in map.rows().enumerate() {
                    for (column, region) in regions.iter().enumerate() {
                        let here = across.apply(&down.apply(&request(objective), row), column);
                        let proposal = plan(&model, &here);
                        let met = (proposal.downtime.met(), proposal.duration.met());
                        let wanted = match region {
                            Region::Both => (true, true),
                            Region::DowntimeOnly => (true, false),
                            Region::DurationOnly => (false, true),
                            Region::Neither => (false, false),
                        };
                        assert_eq!(met, wanted);
                        assert_eq!(map.at(column, row), Some(*region));
                        seen.insert(*region);
                    }
                }
            }
        }
        assert_eq!(seen.len(), 4, "every region is met with: {seen:?}");
        assert_eq!(Axis::ALL.len(), sweeps.len());
    }
}
