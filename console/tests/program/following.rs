//! A service that follows its mobile host on the demo testbed: by a scenario's targets, and by those on the screen.

use std::time::Duration;

use mose_console::app::{Hands, Start};
use mose_orchestrator::follow_me::News;
use mose_pam::{Limits, Metres, MetresPerSec, Millis, Objective, RoundsRule, Vehicle};
use mose_protocol::HostName;
use mose_protocol::following::Aim;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::{Phase, Step};
use mose_screen::effect::Effect;
use mose_screen::event::Event;
use mose_screen::fleet_event::{Decision, FleetEvent, Following};
use tokio::sync::mpsc;

use crate::demo::{CALM, PATIENCE, end, started};

/// Longer than the UAV is in one half: whoever followed it would have moved again.
const HALF_A_ROUND: Duration = Duration::from_secs(8);

fn at(name: &str) -> HostName {
    name.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_follows_its_mobile_host_by_the_scenarios_targets_once_it_is_switched_on() {
    let (demo, fleet) = started().await;
    let follow_me = demo.follow().await.unwrap().unwrap();
    let mut news = follow_me.news();
    assert!(!follow_me.is_on() && news.try_recv().is_err());
    follow_me.switch(true);
    let mut planned = None;
    let first = async {
        loop {
            match news.recv().await.unwrap() {
                News::Planned(one) => {
                    let forecast = one.design.forecast();
                    assert!(forecast.bound.downtime.0 <= 500.0, "{forecast:?}");
                    assert!(one.why().starts_with("cell 2 serves uav; "), "{}", one.why());
                    assert!(one.why().contains(", worst case "), "{}", one.why());
                    planned = Some((one.due.from, one.due.to));
                }
                News::Step(_) => {}
                News::Ended(record) => return record,
                News::Trouble(why) => panic!("{why}"),
            }
        }
    };
    let record = tokio::time::timeout(PATIENCE, first).await.expect("the circle leads past both stations");
    assert_eq!(record.outcome, Outcome::Done, "{:?}", record.reason);
    assert_eq!(planned, Some((at("a"), at("b"))));
    assert!(record.forecast.is_some() && record.simulated);
    follow_me.switch(false);
    assert!(!follow_me.is_on());
    drop(follow_me);
    end(demo, fleet).await;
}

/// What the screen wants, and what its program is told.
struct Console {
    effects: mpsc::UnboundedSender<Effect>,
    events: mpsc::Receiver<Event>,
}

impl Console {
    /// The next event of which there is something to tell.
    async fn next<T>(&mut self, what: &str, told: impl Fn(FleetEvent) -> Option<T>) -> T {
        let next = async {
            loop {
                match self.events.recv().await.expect("the console goes on") {
                    Event::Fleet(event) => {
                        if let Some(found) = told(event) {
                            return found;
                        }
                    }
                    Event::Answer(answer) => eprintln!("{answer:?}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("{what} was not told"))
    }

    async fn following(&mut self, what: &str, wanted: impl Fn(&Following) -> bool) -> Following {
        let told = |event| match event {
            FleetEvent::Following(following) if wanted(&following) => Some(*following),
            _ => None,
        };
        self.next(what, told).await
    }

    async fn decision(&mut self) -> Decision {
        let told = |event| if let FleetEvent::Decided(decision) = event { Some(*decision) } else { None };
        self.next("a decision", told).await
    }

    async fn record(&mut self) -> Record {
        let told = |event| if let FleetEvent::Record(record) = event { Some(*record) } else { None };
        self.next("a record", told).await
    }
}

/// What is wanted: a deviation of the UAV, which flies at 20 m/s, while 5 m/s are configured.
fn aim(metres: f64) -> Box<Aim> {
    Box::new(Aim {
        downtime: Millis(900.0),
        deviation: Some((Metres(metres), Vehicle::going_on(MetresPerSec(5.0)))),
        duration: Millis(2000.0),
        objective: Objective::Downtime,
        limits: Limits::default(),
        rounds: RoundsRule::default(),
        selected: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_follows_by_the_targets_on_the_screen_and_stays_once_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody says who follows whom: it is found by the client on the UAV.
    let scenario = folder.path().join("calm.toml");
    std::fs::write(&scenario, &CALM[..CALM.find("[follow]").unwrap()]).unwrap();
    let (effects, asked) = mpsc::unbounded_channel();
    let (out, events) = mpsc::channel(mose_console::app::WAITING);
    let hands = Hands::new(out, folder.path().to_owned());
    let start = Start::Demo(scenario.display().to_string());
    let hands = tokio::spawn(hands.work(start, asked));
    let mut console = Console { effects, events };

    let found = console.following("who follows whom", |_| true).await;
    assert_eq!((found.service.as_str(), found.mobile.as_str(), found.on), ("one", "uav", false));
    console.effects.send(Effect::Follow(Some(aim(12.0)))).unwrap();
    let decided = console.decision().await;
    assert_eq!((&decided.from, &decided.to), (&at("a"), &at("b")));
    assert!(decided.why.starts_with("cell 2 serves uav; "), "{}", decided.why);
    let record = console.record().await;
    assert_eq!(record.outcome, Outcome::Done, "{:?}", record.reason);
    // 12 m at the UAV's own 20 m/s.
    let targets = record.forecast.unwrap().targets;
    assert_eq!((targets.downtime, targets.duration), (Millis(600.0), Millis(2000.0)));

    // The way back is foreseen before it is due. What is wanted now counts for it.
    let foreseen = console.following("the next move", |told| told.on && told.next.is_some()).await;
    let next = foreseen.next.unwrap();
    assert_eq!((&next.from, &next.to), (&at("b"), &at("a")));
    console.effects.send(Effect::Aim(aim(10.0))).unwrap();
    let back = console.decision().await;
    assert_eq!((&back.from, &back.to), (&at("b"), &at("a")));
    let record = console.record().await;
    assert_eq!(record.outcome, Outcome::Done, "{:?}", record.reason);
    assert_eq!(record.forecast.unwrap().targets.downtime, Millis(500.0));

    console.effects.send(Effect::Follow(None)).unwrap();
    console.following("that it is off", |told| !told.on).await;
    let moved = async {
        loop {
            match console.events.recv().await.expect("the console goes on") {
                Event::Fleet(FleetEvent::Decided(decision)) => panic!("it was moved: {decision:?}"),
                Event::Fleet(FleetEvent::Step(step))
                    if step.step == Step::Migration && step.phase == Phase::Started =>
                {
                    panic!("it was moved: {step:?}");
                }
                _ => {}
            }
        }
    };
    assert!(tokio::time::timeout(HALF_A_ROUND, moved).await.is_err());
    drop(console.effects);
    tokio::time::timeout(PATIENCE, hands).await.unwrap().unwrap();
}
