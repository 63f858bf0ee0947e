//! How long a full frame takes, and an update: two hundred hosts, a thousand services, 200 × 60 cells.
//!
//! `cargo run --release -p mose-screen --example frame-bench`

use std::time::Instant;

#[path = "../tests/support/mod.rs"]
#[expect(
    dead_code,
    clippy::expect_used,
    reason = "the tests use more of it, and a fixture that cannot be made is a fault in it"
)]
mod support;

use mose_screen::derived::Settled;
use mose_screen::event::Event;
use mose_screen::fleet_event::FleetEvent;
use mose_screen::hit::Hits;
use mose_screen::pane::Pane;
use mose_screen::state::State;
use mose_screen::update::{Surroundings, update};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use support::canvas::Easel;
use support::fleet::{LOADS, ago, link, telemetry};
use support::{crowd, moments};

/// How often each is measured.
const TIMES: usize = 400;

/// The median and the 99th percentile of so many runs, in milliseconds.
fn measured(mut run: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..TIMES)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[TIMES / 2], times[TIMES * 99 / 100])
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
fn told(name: &str, (median, slow): (f64, f64)) {
    println!("{name:<44} median {median:>7.3} ms   p99 {slow:>7.3} ms");
}

fn main() {
    let easel = Easel::new("dark");
    let area = Rect::new(0, 0, 200, 60);
    let mut buffer = Buffer::empty(area);
    let mut frame = |name: &str, state: &State| {
        let mut state = Settled::from(state.clone());
        let figures = measured(|| {
            // Time goes on between two pictures.
            state.data.now.0 += 1;
            buffer.reset();
            easel.draw_into(&state, area, &mut buffer);
        });
        told(name, figures);
    };
    let mut crowd = moments::with_past(crowd::crowd());
    frame("frame, 200 hosts, 1000 services", &crowd);
    // With a plan, so that the map is drawn too.
    crowd.ui.service = "sockperf".parse().ok();
    crowd.ui.destination = "edge-b".parse().ok();
    for layout in 0..easel.layouts.len() {
        crowd.ui.layout = layout;
        easel.focus_first(&mut crowd, (200, 60));
        frame(&format!("frame, the same with a plan, {}", easel.layouts[layout].name), &crowd);
    }
    frame("frame, 4 hosts, a migration under way", &moments::restoring());

    let hits = Hits::default();
    let mut crowd = Settled::from(crowd);
    let mut number = 0;
    let figures = measured(|| {
        number += 1;
        let at = mose_protocol::Timestamp(ago(0).0 + number * 1000);
        let links = vec![link("edge-b", 981_000_000, 40_000_000, at)];
        let told = telemetry("edge-a", at, &LOADS, links, number);
        let mut around = Surroundings {
            keys: &mut |_, _| None,
            hits: &hits,
            panes: &Pane::ALL,
            layouts: 3,
            themes: 5,
            workloads: &[],
        };
        update(&mut crowd, Event::Fleet(FleetEvent::Telemetry(Box::new(told))), at, &mut around);
    });
    told("update with a telemetry, 200 hosts", figures);
}
