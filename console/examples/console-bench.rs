//! What the console costs with many agents: its processor time, its frames, how old what it is told is, and whether a step is lost.
//!
//! `cargo run --release -p mose-console --example console-bench [AGENTS] [SERVICES EACH] [SECONDS]`
//!
//! The agents are simulated, in a process of their own; Zenoh between the two is real. The pictures go to a terminal in memory.

use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mose_console::app::{self, Inputs, Screen, Start, follow};
use mose_orchestrator::fleet::Fleet;
use mose_protocol::step::{Phase, Step, StepEvent};
use mose_protocol::{Timestamp, envelope, keys};
use mose_screen::event::Event;
use mose_screen::fleet_event::FleetEvent;
use mose_screen::loaded::{Files, Loaded};
use mose_simulated::swarm::swarm;
use nix::sys::resource::{UsageWho, getrusage};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tokio::sync::mpsc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How often each agent tells of itself.
const PERIOD: Duration = Duration::from_millis(500);
/// Steps of a migration in a second, beside that.
const STEPS: u64 = 50;

fn processor() -> Result<Duration, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let time = |at: nix::sys::time::TimeVal| {
        Duration::new(at.tv_sec().unsigned_abs(), at.tv_usec().unsigned_abs() as u32 * 1000)
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// The agents' process: prints its endpoint, and tells until its input ends.
async fn agents(count: usize, services: usize) -> Result<(), Failure> {
    let swarm = swarm(count, services, PERIOD).await.map_err(|refusal| refusal.to_string())?;
    let (session, beside) =
        mose_bus::session::open_alone(None, &[]).await.map_err(|refusal| refusal.to_string())?;
    writeln!(stdout(), "{} {beside}", swarm.endpoint())?;
    let stop = tokio::task::spawn_blocking(|| std::io::stdin().lock().read_line(&mut String::new()));
    let publishing = async {
        // Whoever looks must have subscribed first.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / STEPS as u32);
        for seq in 0.. {
            ticks.tick().await;
            let event = StepEvent {
                migration: "m1-bench".parse()?,
                seq,
                host: "source".parse()?,
                step: Step::Iteration,
                phase: if seq % 2 == 0 { Phase::Started } else { Phase::Finished },
                at: Timestamp::now(),
                bytes: None,
                round: None,
                detail: None,
                task: None,
            };
            let key = keys::steps(&event.migration, &event.host);
            let bytes = envelope::seal(&event).map_err(|refusal| refusal.to_string())?;
            session
                .put(key, bytes)
                .congestion_control(zenoh::qos::CongestionControl::Block)
                .express(true)
                .await?;
        }
        Ok::<(), Failure>(())
    };
    tokio::select! {
        _ = stop => {}
        result = publishing => result?,
    }
    swarm.stop().await;
    Ok(())
}

#[derive(Default)]
struct Told {
    telemetry: u64,
    steps: u64,
    /// The number of the last step: they are counted from zero.
    last: Option<u64>,
    delays: Vec<f64>,
}

async fn console(endpoints: Vec<String>, seconds: u64) -> Result<(), Failure> {
    let fleet = Arc::new(Fleet::join(&endpoints).await.map_err(|refusal| refusal.to_string())?);
    let (told_in, mut told_out) = mpsc::channel(app::WAITING);
    let (events_in, events) = mpsc::channel(app::WAITING);
    let (effects, _ignored) = mpsc::unbounded_channel();
    let inputs = Inputs { events, effects, recorder: Arc::default() };
    let loaded = Loaded::read(&Files::default(), false);
    let mut app = app::app(&Start::Named(endpoints), loaded, 1);
    let mut terminal = Terminal::new(TestBackend::new(200, 60))?;
    let told = Arc::new(Mutex::new(Told::default()));
    let noted = told.clone();
    let following = tokio::spawn(follow(fleet.clone(), told_in));
    let handing = tokio::spawn(async move {
        while let Some(event) = told_out.recv().await {
            if let Ok(mut told) = noted.lock() {
                match &event {
                    Event::Fleet(FleetEvent::Telemetry(telemetry)) => {
                        told.telemetry += 1;
                        told.delays.push(Timestamp::now().since(telemetry.at).0);
                    }
                    Event::Fleet(FleetEvent::Step(step)) => {
                        told.steps += 1;
                        told.last = told.last.max(Some(step.seq));
                    }
                    _ => {}
                }
            }
            if events_in.send(event).await.is_err() {
                return;
            }
        }
    });
    let (before, begun) = (processor()?, Instant::now());
    let ending = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        following.abort();
        handing.abort();
    });
    let mut screen = Screen::in_memory();
    Box::pin(app::run(&mut app, &mut terminal, &mut screen, inputs)).await?;
    let (took, spent) = (begun.elapsed(), processor()? - before);
    ending.await?;
    let told = told.lock().map_err(|error| error.to_string())?;
    let mut delays = told.delays.clone();
    delays.sort_by(f64::total_cmp);
    let at = |list: &[f64], share: f64| {
        list.get((list.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
    };
    let area = Rect::new(0, 0, 200, 60);
    let mut frames: Vec<f64> = (0..300)
        .map(|_| {
            let mut buffer = Buffer::empty(area);
            let begun = Instant::now();
            app.draw(area, &mut buffer, &|_, _| {});
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    frames.sort_by(f64::total_cmp);
    let data = &app.state().data;
    let bars: usize = data.migrations.all().map(|track| track.bars.len()).sum();
    let mut out = stdout().lock();
    writeln!(out, "simulated agents  {}, services {}", data.fleet.len(), data.fleet.services().count())?;
    writeln!(
        out,
        "telemetry         {:.0} a second; delay ms: median {:.1}, p99 {:.1}, most {:.1}",
        told.telemetry as f64 / took.as_secs_f64(),
        at(&delays, 0.5),
        at(&delays, 0.99),
        at(&delays, 0.999_999)
    )?;
    writeln!(
        out,
        "steps             {} told, {} lost; {bars} bars shown, {} lost",
        told.steps,
        told.last.map_or(0, |last| last + 1).saturating_sub(told.steps),
        told.steps.div_ceil(2) as i64 - bars as i64
    )?;
    writeln!(out, "processor         {:.1} % of one core", spent.as_secs_f64() / took.as_secs_f64() * 100.0)?;
    writeln!(out, "frame at 200x60   median {:.2} ms, p99 {:.2} ms", at(&frames, 0.5), at(&frames, 0.99))?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, usual: u64| words.get(place).map_or(Ok(usual), |word| word.parse());
    if words.first().is_some_and(|word| word == "agents") {
        return Box::pin(agents(number(1, 200)? as usize, number(2, 5)? as usize)).await;
    }
    let (count, services, seconds) = (number(0, 200)?, number(1, 5)?, number(2, 20)?);
    let mut child = Command::new(std::env::current_exe()?)
        .args(["agents", &count.to_string(), &services.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut endpoints = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut endpoints)?;
    let endpoints = endpoints.split_whitespace().map(str::to_owned).collect();
    let result = Box::pin(console(endpoints, seconds)).await;
    drop(child.stdin.take());
    child.wait()?;
    result
}
