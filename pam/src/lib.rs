//! The processing-aware migration model: units, strategies, targets, plans, and how a plan is found.
//!
//! Pure and synchronous: no I/O, no clock. What a plan *is* lives in [`Plan`], which the protocol, the agents and the
//! console all speak of. How one is *found*: a [`Calibration`] makes a [`Model`]; the model and a [`PlanRequest`] make
//! a [`Proposal`], with its bounds and its reason; a [`Trajectory`] says what will probably happen beside what is
//! promised. [`fit()`] makes a calibration of measured migrations.
//!
//! Sources: Calagna, Yu, Giaccone, Chiasserini, "Design, Modeling, and Implementation of Robust Migration of Stateful
//! Edge Microservices", IEEE TNSM 21(2), 2024, and the same authors' WCNC 2024 paper (arXiv 2506.09159).

mod application;
mod axis;
mod calibration;
mod designer;
mod files;
mod fit;
mod input_error;
mod kpi;
mod model;
mod parameter;
mod plan;
mod region;
mod request;
mod rounds;
mod service;
mod sweep;
mod trajectory;
mod units;
mod why;

pub use application::{Handovers, Vehicle, downtime_for_frames, lost_frames};
pub use axis::Axis;
pub use calibration::{
    Calibration, CalibrationError, Grid, Parameters, Provenance, Residuals, RoundCost, Spread,
};
pub use designer::{Components, Proposal, Verdict, plan};
pub use files::FileCosts;
pub use fit::{FitError, FitOptions, Pass, Sample, fit};
pub use input_error::InputError;
pub use kpi::{least_bandwidth, most_iterations};
pub use model::{Costs, Line, Model};
pub use parameter::Parameter;
pub use plan::{Plan, Strategy, UnknownStrategy};
pub use region::{Map, Region, region};
pub use request::{Limits, Objective, PlanRequest, UnknownObjective};
pub use rounds::{Rounds, RoundsRule, UnknownRoundsRule};
pub use service::{DirtyRate, NormalizedRate, Service, Targets};
pub use sweep::{ParseSweepError, Scale, Sweep};
pub use trajectory::{Iteration, Kpis, Trajectory};
pub use units::{BitsPerSec, Bytes, FramesPerSec, Metres, MetresPerSec, Millis, PagesPerSec, ParseUnitError};
pub use why::{Nearest, Why};
