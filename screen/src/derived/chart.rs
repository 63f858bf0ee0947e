//! The region map around the plan: where on a plane the targets are met.

use std::cell::RefCell;
use std::sync::Arc;

use mose_pam::{Axis, Map, Model, Request, Scale, Sweep};

use super::{Designed, Settled};
use crate::state::planning::PLANES;

/// A region map, and where on it the operator stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// The regions.
    pub map: Map,
    /// The plan's figures: on the axis across, and on the one down.
    pub here: (f64, f64),
}

/// What a chart is made from: each cell is a plan.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    model: Model,
    request: Request,
    rate: f64,
    plane: usize,
    size: (usize, usize),
}

/// What was made of it.
type Made = Result<Arc<Chart>, String>;

/// The chart that was made last, or why it could not be: where the same is asked for, it is not made again.
#[derive(Default)]
pub(super) struct Charts {
    last: RefCell<Option<(Asked, Made)>>,
}

impl Charts {
    pub(super) fn chart(&self, settled: &Settled, columns: usize, rows: usize) -> Made {
        let designed = settled.plan()?;
        let (pair, planning) = ((designed.from.clone(), designed.to.clone()), &settled.planning);
        let calibrated = planning.calibrations.get(&pair).ok_or("the hosts were never calibrated")?;
        let asked = Asked {
            model: calibrated.model.clone(),
            request: designed.request,
            rate: designed.proposal.rate.get(),
            plane: planning.axes % PLANES,
            size: (columns, rows),
        };
        let mut last = self.last.borrow_mut();
        if let Some((of, chart)) = &*last
            && *of == asked
        {
            return chart.clone();
        }
        let chart = made(&asked, designed).map(Arc::new);
        last.insert((asked, chart)).1.clone()
    }
}

fn made(asked: &Asked, designed: &Designed) -> Result<Chart, String> {
    let (across, down) = axes(asked.plane);
    let (x_here, x_from, x_to, x_scale) = span(designed, across);
    let (y_here, y_from, y_to, y_scale) = span(designed, down);
    // Greater values are further up.
    let sweeps = Sweep::new(across, x_from, x_to, asked.size.0, x_scale)
        .and_then(|x| Ok((x, Sweep::new(down, y_from, y_to, asked.size.1, y_scale)?)));
    let map = sweeps.and_then(|(x, y)| Map::new(&asked.model, &asked.request, x, y));
    let map = map.map_err(|error| error.to_string())?;
    Ok(Chart { map, here: (x_here, y_here) })
}

/// What a plane varies: across, down.
const fn axes(plane: usize) -> (Axis, Axis) {
    match plane {
        0 => (Axis::StateSize, Axis::TargetDuration),
        1 => (Axis::NormalizedDirtyRate, Axis::TargetDuration),
        _ => (Axis::Bandwidth, Axis::TargetDowntime),
    }
}

/// The figure of a plan on an axis, and the stretch that is shown around it.
fn span(designed: &Designed, axis: Axis) -> (f64, f64, f64, Scale) {
    let request = &designed.request;
    match axis {
        Axis::StateSize => {
            let here = request.service().memory().0.max(1) as f64;
            (here, here / 10.0, here * 10.0, Scale::Logarithmic)
        }
        Axis::NormalizedDirtyRate => (designed.proposal.rate.get(), 0.0, 1.0, Scale::Linear),
        Axis::Bandwidth => {
            let here = request.bandwidth().0.max(1) as f64;
            (here, here / 30.0, here * 3.0, Scale::Logarithmic)
        }
        Axis::TargetDowntime => {
            let here = request.targets().downtime().0;
            (here, 50.0_f64.min(here), 2500.0_f64.max(here), Scale::Linear)
        }
        _ => {
            let here = request.targets().duration().0;
            (here, 200.0_f64.min(here), 8000.0_f64.max(here), Scale::Linear)
        }
    }
}
