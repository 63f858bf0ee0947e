//! The timeline: a lane for each host, steps as bars as they happen, what was predicted behind them, and the time for which the
//! service stands still.

mod bars;

use mose_pam::{Bytes, Millis};
use mose_protocol::HostName;
use mose_protocol::forecast::Forecast;
use mose_protocol::record::{Outcome, Silence};
use mose_protocol::step::{Step, ended_early};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::{Scene, figure, words};
use crate::action::Action;
use crate::hit::{Hit, Hits};
use crate::phrase;
use crate::state::migrations::Placed;
use crate::state::{Presence, Still, Track};
use crate::theme::Role;
use bars::{Lane, Window};

/// What a migration is, for the pane's title.
pub(super) fn heading(scene: &Scene<'_>, track: &Track) -> String {
    let glyphs = &scene.theme.glyphs;
    let word = |word: Option<String>| word.unwrap_or_else(|| glyphs.gap.to_owned());
    let what = format!(
        "{} {} {} {}",
        word(track.service().map(ToString::to_string)),
        word(track.from().map(ToString::to_string)),
        glyphs.arrow,
        word(track.to().map(ToString::to_string))
    );
    let how = match track.outcome() {
        Some(outcome) => {
            track.record.as_ref().map_or_else(|| outcome.name().to_owned(), |record| record.outcome_name())
        }
        None if track.over => "over".to_owned(),
        None => match (track.doing(), track.round()) {
            (Some(bar), Some(round)) if matches!(bar.step, Step::PreDump | Step::Iteration) => {
                format!("{} {round}", bar.step.name())
            }
            (Some(bar), _) => bar.step.name().to_owned(),
            (None, _) => "ordered".to_owned(),
        },
    };
    let what = match track.is_rehearsal() && track.outcome().is_none() {
        true => format!("{what} {} rehearsal", glyphs.dot),
        false => what,
    };
    format!("{what} {} {how} {} {}", glyphs.dot, glyphs.dot, phrase::time(scene.state.course(track).elapsed))
}

/// How many rows each part has.
struct Rows {
    lane: u16,
    lanes: u16,
    promise: u16,
    axis: u16,
    summary: u16,
}

impl Rows {
    /// The clocks come first, then the lanes, then what was promised, then the axis; what is left makes the lanes higher.
    fn of(height: u16, hosts: u16, promised: bool) -> Self {
        let summary = match height {
            0..3 => 0,
            3..6 => 1,
            _ => 2,
        };
        let mut left = height - summary;
        let lanes = hosts.min(left);
        left -= lanes;
        let promise = u16::from(promised && left > 0);
        left -= promise;
        let axis = u16::from(left > 0 && lanes > 0);
        left -= axis;
        // One more is kept as a blank line above the clocks.
        let more = left.saturating_sub(1).checked_div(lanes).unwrap_or(0).min(3);
        Self { lane: 1 + more, lanes, promise, axis, summary }
    }
}

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let Some(track) = scene.state.track() else { return planned(scene, area, buf) };
    let course = scene.state.course(track);
    let forecast = forecast(track);
    let placed: Vec<Placed<'_>> = course.placed(track).collect();
    let hosts = hosts(track, &placed);
    let widest = hosts.iter().map(|host| host.as_str().len()).max().unwrap_or(0).clamp(8, 18);
    let left = u16::try_from(widest + 1).unwrap_or(9).min(area.width / 3);
    let plot = Rect { x: area.x + left, width: area.width - left, ..area };
    if plot.is_empty() {
        return;
    }
    let window = Window { whole: whole(track, forecast, &placed, course.elapsed), plot };
    let rows = Rows::of(area.height, u16::try_from(hosts.len()).unwrap_or(u16::MAX), forecast.is_some());
    let lanes = Rect { height: (rows.lanes * rows.lane).min(area.height), ..area };
    // What was predicted for a migration that is over would only hide how it was.
    let ghosts = forecast
        .filter(|_| !track.over)
        .map(|forecast| bars::ghosts(forecast, iterations(track), Some((track, course.elapsed))));
    bars::shade(scene, &course, &window, lanes, buf);
    for (place, host) in (0..rows.lanes).zip(&hosts) {
        let lane = Lane {
            host,
            rows: Rect { y: area.y + place * rows.lane, height: rows.lane, ..area }.intersection(area),
            placed: &placed,
            ghosts: ghosts.as_deref().unwrap_or_default(),
            is_source: track.from() == Some(host),
            is_destination: track.to() == Some(host),
        };
        if !lane.rows.is_empty() {
            lane.draw(scene, &window, left, buf);
        }
    }
    let row = |y: u16| Rect { y, height: 1, ..area };
    if let (Some(forecast), 1) = (forecast, rows.promise) {
        bars::promise(scene, forecast, &window, row(lanes.bottom()), left, buf);
    }
    if rows.axis > 0 {
        bars::axis(scene, &window, row(lanes.bottom() + rows.promise), buf);
    }
    let first = area.bottom() - rows.summary;
    let room = usize::from(area.width);
    for (line, y) in [clocks(scene, track, forecast, room), figures(scene, track, forecast, &placed, room)]
        .into_iter()
        .zip(first..)
    {
        if y < area.bottom() {
            line.render(row(y), buf);
        }
    }
    if let Some(record) = &track.record {
        hits.note(area, Hit::Record(record.migration.clone()));
    }
}

/// The iterations that are to be made in all: fewer than were planned, once one no longer pays.
fn iterations(track: &Track) -> Option<u32> {
    let plan = &track.task.as_ref()?.plan;
    let ended = ended_early(plan, track.bars.iter().filter_map(|bar| bar.round.as_ref()));
    ended.map(|number| number + 1).or(plan.iterations)
}

/// Nothing was moved yet: what would be done.
fn planned(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let key = (scene.key)(Action::Migrate).unwrap_or_default();
    let text = format!("no migration yet: {key} orders the selected service's");
    let mut lines = vec![Line::from(scene.span(Role::Dim, text))];
    let designed = scene.state.plan().ok().filter(|_| area.height >= 5);
    let Some(designed) = designed else { return super::lines(lines, 0, area, buf) };
    let forecast = designed.forecast(scene.state.planning.objective);
    let left = 10.min(area.width / 3);
    let plot = Rect { x: area.x + left, width: area.width - left, ..area };
    let whole = forecast.bound.duration.0 * 1.01;
    if plot.is_empty() || !whole.is_finite() {
        return super::lines(lines, 0, area, buf);
    }
    let window = Window { whole: whole.max(1.0), plot };
    let rounds = designed.proposal.iterations;
    let ghosts = bars::ghosts(&forecast, rounds, None);
    for (place, host) in (0..).zip([&designed.from, &designed.to]) {
        let rows = Rect { y: area.y + place, height: 1, ..area };
        let (is_source, is_destination) = (place == 0, place == 1);
        let lane = Lane { host, rows, placed: &[], ghosts: &ghosts, is_source, is_destination };
        lane.draw(scene, &window, left, buf);
    }
    let row = |y: u16| Rect { y: area.y + y, height: 1, ..area };
    bars::promise(scene, &forecast, &window, row(2), left, buf);
    bars::axis(scene, &window, row(3), buf);
    if let Some(line) = lines.pop() {
        line.render(row(area.height - 1), buf);
    }
}

/// The milliseconds that are shown. While it goes on, the whole of what was promised is in sight.
fn whole(track: &Track, forecast: Option<&Forecast>, placed: &[Placed<'_>], elapsed: Millis) -> f64 {
    let last = placed.iter().map(|placed| placed.end.0).fold(elapsed.0, f64::max);
    let bound = forecast.map_or(0.0, |forecast| forecast.bound.duration.0);
    let whole = if track.over { last.max(bound.min(last * 1.6)) } else { last.max(bound) } * 1.01;
    if whole.is_finite() { whole.max(1.0) } else { 1.0 }
}

fn forecast(track: &Track) -> Option<&Forecast> {
    let task = track.task.as_ref().and_then(|task| task.forecast.as_deref());
    task.or_else(|| track.record.as_ref().and_then(|record| record.forecast.as_deref()))
}

/// The source first, then the destination, then the others as they were heard of.
fn hosts(track: &Track, placed: &[Placed<'_>]) -> Vec<HostName> {
    let mut hosts: Vec<HostName> = track.from().into_iter().chain(track.to()).cloned().collect();
    for placed in placed {
        if !hosts.contains(&placed.bar.host) {
            hosts.push(placed.bar.host.clone());
        }
    }
    hosts
}

/// For how long the service stands or stood still, against the worst case and the target; then what the other clocks say.
fn clocks<'a>(scene: &Scene<'_>, track: &Track, forecast: Option<&Forecast>, room: usize) -> Line<'a> {
    let mut line = vec![scene.span(Role::Frozen, "downtime  ")];
    let still = scene.state.course(track).still;
    let done = track.record.as_deref().filter(|record| record.outcome == Outcome::Done);
    let bound = forecast.map(|forecast| forecast.bound.downtime);
    match (still, done.and_then(|record| record.downtime.blackout).zip(bound)) {
        (_, Some((blackout, bound))) => line.extend(figure::verdict(scene, blackout, bound)),
        (Still::SoFar(_) | Still::Heard(_), None) => line.extend(figure::so_far(scene, still, forecast)),
        (Still::Never, None) if !track.has_ended() => {
            line.push(scene.span(Role::Good, "none yet: the service runs"));
            if let Some(forecast) = forecast {
                let (bound, expected) = (forecast.bound.downtime, forecast.expected.downtime);
                let text =
                    format!("; worst case {}, expected {}", phrase::time(bound), phrase::time(expected));
                line.push(scene.span(Role::Dim, text));
            }
        }
        (Still::Never, None) => line.push(scene.span(Role::Good, "none: the service ran all the time")),
        (Still::NotBack, None) => line.push(scene.span(Role::Bad, "the service was not heard of again")),
        (Still::Unknown, None) => line.push(scene.span(Role::Dim, "not known")),
        (Still::Measured(_), None) => {
            let (role, text) = figure::still(scene, still);
            line.push(scene.span(role, text));
        }
    }
    let Some(record) = track.record.as_deref().filter(|_| track.has_ended()) else { return Line::from(line) };
    let silence = record.downtime.silence();
    let silence = (silence != Silence::Unwatched).then(|| figure::silence(scene, silence));
    let would = record.would_stand_still().map(phrase::time);
    for (name, time) in [
        ("would have been ", would),
        ("client silence ", silence),
        ("process frozen ", record.downtime.criu.frozen.map(phrase::time)),
    ] {
        // What does not fit is left out whole, and what was not measured too.
        let Some(time) = time else { continue };
        if words::length(&line) + 4 + name.len() + words::width(&time) > room {
            break;
        }
        line.extend([scene.span(Role::Dim, format!("    {name}")), scene.span(Role::Text, time)]);
    }
    Line::from(line)
}

/// Steps in which the service's data travel.
fn travels(step: Step) -> bool {
    matches!(
        step,
        Step::Transfer
            | Step::PreDump
            | Step::Iteration
            | Step::RootfsPrecopy
            | Step::VolumePrecopy
            | Step::ContainerImage
    )
}

/// The rate of the newest step in which data travel, once it is long enough to tell.
fn rate(placed: &[Placed<'_>]) -> Option<mose_pam::BitsPerSec> {
    placed.iter().rev().filter(|placed| travels(placed.bar.step)).find_map(|placed| {
        let took = placed.end.0 - placed.start.0;
        let bytes = placed.bar.bytes?;
        (took > 5.0).then(|| mose_pam::BitsPerSec((bytes.0 as f64 * 8e3 / took) as u64))
    })
}

fn figures<'a>(
    scene: &Scene<'_>,
    track: &Track,
    forecast: Option<&Forecast>,
    placed: &[Placed<'_>],
    room: usize,
) -> Line<'a> {
    let mut line = vec![scene.span(Role::Dim, "duration  ")];
    let elapsed = scene.state.course(track).elapsed;
    match (track.outcome(), forecast) {
        (Some(Outcome::Done), Some(forecast)) => {
            line.extend(figure::verdict(scene, elapsed, forecast.bound.duration));
        }
        // What is exceeded before the end stays so.
        (None | Some(Outcome::InDoubt), Some(forecast)) if elapsed > forecast.bound.duration => {
            line.extend(figure::verdict(scene, elapsed, forecast.bound.duration));
        }
        _ => line.push(scene.span(Role::Text, phrase::time(elapsed))),
    }
    if let Some(lost) = lost(scene, track) {
        let text = format!("    {} the agent on {lost} is disconnected", scene.theme.glyphs.lost);
        line.push(scene.span(Role::Bad, text));
        return Line::from(line);
    }
    if let Some((what, why)) = ended_badly(track) {
        let mut end = Vec::new();
        if let Some(key) = (scene.key)(Action::CriuLog) {
            let log = track.record.as_ref().and_then(|record| record.reason.as_ref()?.log.as_ref());
            let word = if log.is_some() { " CRIU's log" } else { " why" };
            end = vec![scene.span(Role::Key, format!("[{key}]")), scene.span(Role::Text, word)];
        }
        let lead = format!("    {} {what}: ", scene.theme.glyphs.no);
        let taken = words::length(&line) + words::width(&lead) + words::length(&end) + 2;
        let why = words::fit(scene, why, room.saturating_sub(taken));
        line.push(scene.span(Role::Bad, format!("{lead}{why}")));
        return words::justified(line, end, room);
    }
    if track.is_aborted() {
        line.push(scene.span(Role::Text, "    aborted by the operator"));
    }
    let sent = sent(track);
    if sent > 0 {
        line.push(scene.span(Role::Dim, "    sent "));
        line.push(scene.span(Role::Text, Bytes(sent).to_string()));
    }
    if let Some(rounds) = track.round().filter(|rounds| *rounds > 0) {
        line.push(scene.span(Role::Dim, format!(" in {} rounds", rounds.saturating_add(1))));
    }
    if let Some(rate) = rate(placed) {
        line.push(scene.span(Role::Dim, if track.over { ", the last at " } else { ", now at " }));
        line.push(scene.span(Role::Text, rate.to_string()));
    }
    Line::from(line)
}

/// The bytes that were sent: as the source counted them, or in the steps that were heard of.
fn sent(track: &Track) -> u64 {
    let moved = || track.bars.iter().filter(|bar| travels(bar.step)).filter_map(|bar| bar.bytes);
    // What is on the wire is not trusted to add up.
    let heard = || moved().fold(0_u64, |sum, bytes| sum.saturating_add(bytes.0));
    track.record.as_ref().map_or_else(heard, |record| record.image.0)
}

/// What failed, and why; nothing failed where the operator aborted it.
fn ended_badly(track: &Track) -> Option<(String, &str)> {
    if track.is_aborted() {
        return None;
    }
    // What was given up is told by what that means, not by what failed before it.
    let given_up = track.record.as_deref().filter(|record| record.outcome == Outcome::GivenUp);
    if let Some(reason) = given_up.and_then(|record| record.reason.as_ref()) {
        return Some((Outcome::GivenUp.name().to_owned(), first_line(&reason.reason)));
    }
    let failure = track.failure()?;
    let why = failure.detail.as_deref().map(first_line).unwrap_or_default();
    Some((format!("{} failed", failure.step.name()), why))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The host of the two whose agent is gone while the migration is in progress.
fn lost<'a>(scene: &'a Scene<'_>, track: &'a Track) -> Option<&'a HostName> {
    let data = scene.state.shown();
    let gone = |host: &&HostName| {
        data.fleet.host(host).is_some_and(|host| host.presence(data.now) == Presence::Lost)
    };
    track.from().into_iter().chain(track.to()).filter(|_| !track.has_ended()).find(gone)
}
