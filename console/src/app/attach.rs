//! What the console is attached to: agents somewhere, the lab, the demo testbed, a recording.

use std::sync::Arc;
use std::time::Duration;

use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::follow_me::FollowMe;
use mose_protocol::{Refusal, RefusalCode};
use mose_screen::effect::{Attach, Playing};
use mose_screen::event::{Answer, Event};
use mose_screen::recording::Recording;
use mose_screen::state::ui::Choice;
use mose_screen::state::{Abilities, Level, Source};
use mose_simulated::demo::{Demo, Scenario};
use tokio::sync::mpsc;

use super::follow::follow;
use super::follow_me;
use super::player::Player;
use super::tasks::Tasks;
use crate::lab::{self, Machine, Topic};

/// The workloads of the lab that can be started from the console.
pub const WORKLOADS: &[&str] =
    &["sockperf", "counter", "redis", "memcached", "iperf3", "mosquitto", "busybox", "autopilot"];

/// How long the end of a session or of a demo is waited for.
const ENDING: Duration = Duration::from_secs(2);

/// What can be done where there are agents.
const ASKING: Abilities = Abilities { lab: false, calibrate: false, follow: true };

/// What the console begins with.
#[derive(Debug, Clone)]
pub enum Start {
    /// Look for agents by multicast; without any, the operator chooses.
    Look,
    /// The operator chooses at once.
    Choose,
    /// Agents at these Zenoh endpoints.
    Named(Vec<String>),
    /// The lab's agents, at these endpoints; its network was entered.
    Lab(Vec<String>),
    /// A scenario of the demo testbed, by name or file.
    Demo(String),
    /// A recording, and its name.
    Replay(Box<Recording>, String),
}

/// What is attached now.
#[derive(Default)]
pub struct Attachment {
    /// The session to the agents.
    pub(super) fleet: Option<Arc<Fleet>>,
    /// What is done with the agents, and the player: it ends with the attachment.
    pub(super) tasks: Tasks,
    demo: Option<Demo>,
    /// Has a service follow its mobile host.
    pub(super) follow_me: Option<Arc<FollowMe>>,
    /// Orders to the player of a replay.
    pub(super) playing: Option<mpsc::UnboundedSender<Playing>>,
}

impl Attachment {
    /// Attaches to what a start says; what was attached before is let go.
    ///
    /// # Errors
    /// Where the agents cannot be reached, or the demo does not start.
    pub async fn begin(&mut self, start: Start, events: &mpsc::Sender<Event>) -> Result<(), Refusal> {
        self.end().await;
        let (source, abilities) = match start {
            Start::Choose => return Ok(()),
            Start::Look => return self.look(events).await,
            Start::Named(endpoints) => {
                self.join(&endpoints).await?;
                (Source::Agents, ASKING)
            }
            Start::Lab(endpoints) => {
                self.join(&endpoints).await?;
                (Source::Lab, Abilities { lab: true, calibrate: true, ..ASKING })
            }
            Start::Demo(name) => {
                let scenario = Scenario::load(Some(name.as_str()).filter(|name| !name.is_empty()))
                    .map_err(|error| Refusal::new(RefusalCode::Malformed, error.to_string(), ""))?;
                let demo = Demo::start(&scenario).await?;
                self.join(demo.endpoints()).await?;
                self.demo = Some(demo);
                (Source::Demo { scenario: scenario.name.clone() }, ASKING)
            }
            Start::Replay(recording, name) => {
                let (orders, taken) = mpsc::unbounded_channel();
                let player = Player::new(*recording, &name);
                let source = Source::Replay(player.replay().clone());
                send(events, Answer::Attached(source, Abilities::default())).await;
                self.tasks.spawn(player.play(taken, events.clone()));
                self.playing = Some(orders);
                return Ok(());
            }
        };
        send(events, Answer::Attached(source, abilities)).await;
        self.follow(events).await;
        Ok(())
    }

    async fn join(&mut self, endpoints: &[String]) -> Result<(), Refusal> {
        self.fleet = Some(Arc::new(Fleet::stay(endpoints).await?));
        Ok(())
    }

    async fn follow(&mut self, events: &mpsc::Sender<Event>) {
        let Some(fleet) = self.fleet.clone() else { return };
        let given = self.demo.as_ref().and_then(|demo| demo.scenario().follow.as_ref());
        match follow_me::start(fleet.clone(), given).await {
            Ok(started) => {
                let started = Arc::new(started);
                self.tasks.spawn(follow_me::tell(started.clone(), events.clone()));
                self.follow_me = Some(started);
            }
            Err(refusal) => {
                let text = format!("no service can follow its mobile host: {refusal}");
                send(events, Answer::Said { level: Level::Error, text }).await;
            }
        }
        let events = events.clone();
        self.tasks.spawn(async move {
            if let Err(refusal) = follow(fleet, events.clone()).await {
                let text = format!("the agents are followed no more: {refusal}");
                send(&events, Answer::Said { level: Level::Error, text }).await;
            }
        });
    }

    /// Looks for agents on this network; without any the operator is asked.
    async fn look(&mut self, events: &mpsc::Sender<Event>) -> Result<(), Refusal> {
        self.join(&[]).await?;
        let found = match &self.fleet {
            Some(fleet) => fleet.agents(&[]).await?,
            None => Vec::new(),
        };
        if found.is_empty() {
            self.end().await;
            send(events, Answer::Choose(choices().await)).await;
            return Ok(());
        }
        send(events, Answer::Attached(Source::Agents, ASKING)).await;
        self.follow(events).await;
        Ok(())
    }

    /// Lets go of what is attached. Migrations under way go on, but for the demo's.
    pub async fn end(&mut self) {
        self.playing = None;
        self.follow_me = None;
        self.tasks.end().await;
        if let Some(fleet) = self.fleet.take() {
            let _ = tokio::time::timeout(ENDING, fleet.session().close()).await;
        }
        if let Some(demo) = self.demo.take() {
            match tokio::time::timeout(ENDING, demo.stop()).await {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => tracing::warn!(%refusal, "the demo left something over"),
                Err(_) => tracing::warn!("the demo did not end in time"),
            }
        }
    }
}

/// What can be attached to: the lab only where this machine can run it, which another program is asked.
pub(super) async fn choices() -> Vec<Choice> {
    tokio::task::spawn_blocking(find_choices).await.unwrap_or_default()
}

fn find_choices() -> Vec<Choice> {
    let choice = |attach, title: &str, description: &str| Choice {
        attach,
        title: title.to_owned(),
        description: description.to_owned(),
    };
    let mut choices: Vec<Choice> = Scenario::built_in()
        .filter_map(|name| Scenario::load(Some(name)).ok())
        .map(|scenario| {
            let attach = Attach::Demo(scenario.name.clone());
            choice(attach, &format!("demo: {}", scenario.name), &format!("SIM: {}", scenario.about))
        })
        .collect();
    if lab_possible() {
        let what = "four hosts on this machine, real containers; brought up if it is not";
        choices.push(choice(Attach::Lab, "lab", what));
    }
    let what = "those that multicast finds; others: mose --connect tcp/HOST:7447";
    choices.push(choice(Attach::Look, "agents on this network", what));
    choices
}

/// Whether this machine can run the lab, and this user may.
fn lab_possible() -> bool {
    let nothing_missing = |machine: Machine| machine.readiness.is_some_and(|ready| ready.missing.is_empty());
    nix::unistd::geteuid().is_root()
        && lab::ask(Topic::Machine, lab::LOOK + lab::SOON).is_ok_and(nothing_missing)
}

pub(super) async fn send(events: &mpsc::Sender<Event>, answer: Answer) {
    // Nobody listens any more at the end.
    let _ = events.send(Event::Answer(answer)).await;
}
