//! The experiment as a picture: what was chosen for each target, and what was measured beside what was promised.

use color_eyre::eyre::eyre;
use mose_experiments::documents::Promise;
use mose_pam::{Millis, Objective, RoundsRule};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Colour-blind safe (Okabe and Ito).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Four panels, as SVG.
pub(super) fn svg(points: &[Promise]) -> color_eyre::Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (1200, 900)).into_drawing_area();
        draw(&area, points).map_err(|error| eyre!("the plot cannot be drawn: {error}"))?;
    }
    Ok(text)
}

fn draw(area: &Area<'_>, points: &[Promise]) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    let panels = area.split_evenly((2, 2));
    let of = |objective: Objective| points.iter().filter(move |point| point.forecast.objective == objective);
    // A cold plan has no rule: it is the first point of both lines.
    let by_rule: Vec<(String, f64, f64)> = of(Objective::Downtime)
        .flat_map(|point| {
            let rounds = point.forecast.rounds;
            let rules = RoundsRule::ALL.into_iter().filter(move |r| rounds.is_none_or(|of| of.rule == *r));
            let iterations = point.record.plan.iterations.map_or(-1.0, f64::from);
            rules.map(move |rule| {
                let name = format!("{}, {rule}", point.service);
                (name, point.forecast.targets.duration.0 / 1e3, iterations)
            })
        })
        .collect();
    let chosen: Vec<(&str, f64, f64)> = by_rule.iter().map(|(name, x, y)| (name.as_str(), *x, *y)).collect();
    steps(&panels[0], "rounds planned, by rule (-1: cold)", "max duration (s)", &chosen)?;
    let allotted: Vec<(&str, f64, f64)> = of(Objective::Resources)
        .map(|point| {
            let bandwidth = point.record.plan.bandwidth.map_or(0.0, |bandwidth| bandwidth.0 as f64 / 1e6);
            (point.service, point.forecast.targets.downtime.0 / 1e3, bandwidth)
        })
        .collect();
    steps(&panels[1], "bandwidth allotted (Mb/s)", "target downtime (s)", &allotted)?;
    let downtimes: Vec<(&str, Millis, Millis)> = points
        .iter()
        .filter_map(|p| Some((p.service, p.record.downtime.blackout?, p.forecast.bound.downtime)))
        .collect();
    against(&panels[2], "downtime (s): measured and bound", &downtimes)?;
    let durations: Vec<(&str, Millis, Millis)> =
        points.iter().map(|p| (p.service, p.record.duration, p.forecast.bound.duration)).collect();
    against(&panels[3], "duration (s): measured and bound", &durations)?;
    area.present()?;
    Ok(())
}

/// The services by name, each with its colour.
fn services<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, RGBColor)> {
    let mut found: Vec<&str> = names.collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().zip(COLOURS.into_iter().cycle()).collect()
}

fn ceiling(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, f64::max).max(1e-3) * 1.08
}

fn steps(
    area: &Area<'_>,
    title: &str,
    axis: &str,
    points: &[(&str, f64, f64)],
) -> Result<(), Box<dyn std::error::Error>> {
    let (right, top) = (ceiling(points.iter().map(|p| p.1)), ceiling(points.iter().map(|p| p.2)));
    let floor = points.iter().map(|p| p.2).fold(0.0, f64::min) * 1.5;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..right, floor..top)?;
    chart.configure_mesh().x_desc(axis).light_line_style(WHITE).draw()?;
    for (service, colour) in services(points.iter().map(|p| p.0)) {
        let mut line: Vec<(f64, f64)> =
            points.iter().filter(|p| p.0 == service).map(|p| (p.1, p.2)).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart
            .draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)).point_size(4))?
            .label(service)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    Ok(())
}

/// Every migration as a point: to the right what was measured, upwards its bound. Below the diagonal a bound was broken.
fn against(
    area: &Area<'_>,
    title: &str,
    points: &[(&str, Millis, Millis)],
) -> Result<(), Box<dyn std::error::Error>> {
    let end = ceiling(points.iter().flat_map(|p| [p.1.0 / 1e3, p.2.0 / 1e3]));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..end, 0.0..end)?;
    chart.configure_mesh().x_desc("measured").y_desc("bound").light_line_style(WHITE).draw()?;
    chart.draw_series(LineSeries::new([(0.0, 0.0), (end, end)], BLACK.mix(0.5)))?;
    for (service, colour) in services(points.iter().map(|p| p.0)) {
        let dots = points.iter().filter(|p| p.0 == service);
        chart
            .draw_series(dots.map(|p| Circle::new((p.1.0 / 1e3, p.2.0 / 1e3), 4, colour.mix(0.7).filled())))?
            .label(service)
            .legend(move |(x, y)| Circle::new((x + 9, y), 4, colour.filled()));
    }
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    Ok(())
}
