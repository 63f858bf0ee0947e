//! What the operator orders is carried out here, beside the loop; what comes of it goes back as events.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mose_orchestrator::calibrate::staleness;
use mose_orchestrator::fleet::{Fleet, Seen};
use mose_orchestrator::{movable, order};
use mose_pam::Calibration;
use mose_protocol::agent::Role;
use mose_protocol::record::Record;
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, Timestamp};
use mose_screen::effect::{Attach, Effect};
use mose_screen::event::{Answer, Event};
use mose_screen::fleet_event::{FleetEvent, Known};
use mose_screen::state::Level;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use super::attach::{Attachment, Start, send};
use super::recorder::Recorder;
use super::tasks::Tasks;

/// How long a command of the lab may take.
const COMMAND: Duration = Duration::from_secs(600);

/// Carries effects out.
pub struct Hands {
    events: mpsc::Sender<Event>,
    attachment: Attachment,
    recorder: Arc<Mutex<Option<Recorder>>>,
    /// What is asked for the recording: it ends with it.
    introductions: Tasks,
    /// Commands of the lab. They are about the lab and not about what is shown: they end when the console is left.
    commands: Tasks,
    folder: PathBuf,
}

impl Hands {
    /// Hands that write recordings and exports into `folder`.
    #[must_use]
    pub fn new(events: mpsc::Sender<Event>, folder: PathBuf) -> Self {
        Self {
            events,
            attachment: Attachment::default(),
            recorder: Arc::default(),
            introductions: Tasks::default(),
            commands: Tasks::default(),
            folder,
        }
    }

    /// Where what is recorded goes.
    #[must_use]
    pub fn recorder(&self) -> Arc<Mutex<Option<Recorder>>> {
        self.recorder.clone()
    }

    /// Attaches to what a start says, then carries out what is ordered. Returns when the loop has ended, or the program is to
    /// begin anew.
    pub async fn work(mut self, start: Start, mut effects: mpsc::UnboundedReceiver<Effect>) {
        self.attach(start).await;
        while let Some(effect) = effects.recv().await {
            if self.carry_out(effect).await {
                break;
            }
        }
        // All that was noted is written, before anything else is waited for.
        self.end_recording().await;
        self.commands.end().await;
        self.attachment.end().await;
    }

    async fn say(&self, level: Level, text: String) {
        send(&self.events, Answer::Said { level, text }).await;
    }

    async fn attach(&mut self, start: Start) {
        // What is recorded is of one testbed.
        self.end_recording().await;
        if let Err(refusal) = self.attachment.begin(start, &self.events).await {
            self.say(Level::Error, refusal.to_string()).await;
            send(&self.events, Answer::Choose(super::attach::choices().await)).await;
        }
    }

    /// Whether the program is to begin anew.
    async fn carry_out(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::Order(task) => self.ask(move |fleet, events| async move {
                let (migration, from) = (task.migration.clone(), task.from.clone());
                let result = fleet.ask(&from, &order::request(*task)).await.map(|_| ());
                send(&events, Answer::Ordered { migration, result }).await;
            }),
            Effect::Abort { migration, from } => self.request(from, Request::Abort(migration), "the abort"),
            Effect::Settle { migration, from, keep } => {
                self.request(from, Request::Settle { migration, keep }, "the decision");
            }
            Effect::AskCalibration { from, to } => self.ask(move |fleet, events| async move {
                match known(&fleet, &from, &to).await {
                    Ok(known) => {
                        let _ = events.send(Event::Fleet(FleetEvent::Calibration { from, to, known })).await;
                    }
                    Err(refusal) => send(&events, Answer::Unknown { from, to, refusal }).await,
                }
            }),
            Effect::AskCheck { service, from, to } => self.ask(move |fleet, events| async move {
                // A host that cannot say is asked again; the migration asks anyway.
                if let Ok(report) = movable::check(&fleet, &service, &from, Some(&to)).await {
                    let _ = events.send(Event::Fleet(FleetEvent::Checked(Box::new(report)))).await;
                }
            }),
            Effect::Calibrate { from, to, replace } => {
                let words = ["calibrate", from.as_str(), to.as_str(), "--quick"].into_iter();
                let words: Vec<String> =
                    words.chain(replace.then_some("--replace")).map(str::to_owned).collect();
                let done = Answer::Recalibrated { from: from.clone(), to: to.clone() };
                self.command(words, Some(done));
            }
            Effect::StartService { kind, name, address, on } => {
                let address = address.to_string();
                let words = ["lab", "service", "start", &kind, "--on", on.as_str()];
                let words = words.into_iter().chain(["--name", name.as_str(), "--address", &address]);
                let words: Vec<String> = words.map(str::to_owned).collect();
                let text = format!("{name} is started on {on}, at {address}");
                self.command(words, Some(Answer::Said { level: Level::Info, text }));
            }
            Effect::StopService { name, on } => {
                let words = ["lab", "service", "stop", name.as_str(), "--on", on.as_str()].map(str::to_owned);
                let text = format!("{name} is stopped on {on}");
                self.command(words.to_vec(), Some(Answer::Said { level: Level::Info, text }));
            }
            // Where it could not be begun, that was said.
            Effect::Follow(aim) => {
                if let Some(follow_me) = &self.attachment.follow_me {
                    let on = aim.is_some();
                    aim.into_iter().for_each(|aim| follow_me.aim(*aim));
                    follow_me.switch(on);
                }
            }
            Effect::Aim(aim) => {
                if let Some(follow_me) = &self.attachment.follow_me {
                    follow_me.aim(*aim);
                }
            }
            Effect::Export(records) => {
                let text = match export(&self.folder, &records) {
                    Ok(path) => (Level::Info, format!("{} records are in {}", records.len(), path.display())),
                    Err(error) => (Level::Error, format!("the history cannot be exported: {error}")),
                };
                self.say(text.0, text.1).await;
            }
            Effect::Record(under_way) => self.record(under_way).await,
            Effect::EndRecording => self.end_recording().await,
            Effect::Replay(playing) => {
                if let Some(player) = &self.attachment.playing {
                    let _ = player.send(playing);
                }
            }
            Effect::Offer => send(&self.events, Answer::Offered(super::attach::choices().await)).await,
            Effect::Attach(Attach::Demo(scenario)) => self.attach(Start::Demo(scenario)).await,
            Effect::Attach(Attach::Look) => self.attach(Start::Look).await,
            Effect::Attach(Attach::Lab) => return self.lab_up().await,
            // The loop's own.
            Effect::Suspend | Effect::Quit => {}
        }
        false
    }

    /// Does something with the agents, beside everything else, until something else is attached.
    fn ask<F, T>(&self, todo: F)
    where
        F: FnOnce(Arc<Fleet>, mpsc::Sender<Event>) -> T,
        T: Future<Output = ()> + Send + 'static,
    {
        if let Some(fleet) = self.attachment.fleet.clone() {
            self.attachment.tasks.spawn(todo(fleet, self.events.clone()));
        }
    }

    fn request(&self, host: HostName, request: Request, what: &'static str) {
        self.ask(move |fleet, events| async move {
            let said = match fleet.ask(&host, &request).await {
                Ok(_) => (Level::Info, format!("{host} takes {what}")),
                Err(refusal) => (Level::Error, format!("{host} does not take {what}: {refusal}")),
            };
            send(&events, Answer::Said { level: said.0, text: said.1 }).await;
        });
    }

    /// Runs this program with other words, for what needs the lab's own means.
    fn command(&self, words: Vec<String>, done: Option<Answer>) {
        let events = self.events.clone();
        self.commands.spawn(async move {
            let answer = match run(&words, &events).await {
                Ok(()) => done,
                Err(error) => Some(Answer::Said { level: Level::Error, text: error }),
            };
            if let Some(answer) = answer {
                send(&events, answer).await;
            }
        });
    }

    /// Brings the lab up; whether the program is to begin anew, in the lab's network.
    async fn lab_up(&mut self) -> bool {
        self.end_recording().await;
        self.attachment.end().await;
        self.say(Level::Info, "the lab is being brought up".into()).await;
        let words = ["lab", "up"].map(str::to_owned);
        match run(&words, &self.events).await {
            Ok(()) => true,
            Err(error) => {
                self.say(Level::Error, error).await;
                send(&self.events, Answer::Choose(super::attach::choices().await)).await;
                false
            }
        }
    }

    /// Ends the recording, if there is one, when all is written.
    async fn end_recording(&mut self) {
        self.introductions.end().await;
        let ended = self.recorder.lock().take();
        let Some(recorder) = ended else { return };
        // If it was broken off, a notice said so at the time.
        let told = recorder.is_broken_off();
        let result = recorder.end().await;
        if !told {
            send(&self.events, Answer::Recording(None)).await;
        }
        if let Err(error) = result {
            self.say(Level::Error, format!("the recording was broken off: {error}")).await;
        }
    }

    async fn record(&mut self, under_way: Vec<MigrationId>) {
        // One that was broken off may still be written.
        self.end_recording().await;
        let now = Timestamp::now();
        let path = self.folder.join(format!("mose-{}.ndjson", stamp()));
        let created = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || Recorder::create(&path, "console", now)).await
        };
        match created {
            Ok(Ok(begun)) => {
                *self.recorder.lock() = Some(begun);
                let file = path.display().to_string();
                send(&self.events, Answer::Recording(Some((file, now)))).await;
                if let Some(fleet) = self.attachment.fleet.clone() {
                    let events = self.events.clone();
                    self.introductions.spawn(async move { introduce_all(&fleet, &under_way, &events).await });
                }
            }
            Ok(Err(error)) => self.say(Level::Error, format!("nothing is recorded: {error}")).await,
            Err(error) => self.say(Level::Error, format!("nothing is recorded: {error}")).await,
        }
    }
}

/// A recording that begins later than the console must say who is there, and what has been done of the migrations that are
/// under way: all introduce themselves again, and tell their steps from the first.
async fn introduce_all(fleet: &Fleet, under_way: &[MigrationId], events: &mpsc::Sender<Event>) {
    let Ok(agents) = fleet.agents(&[]).await else { return };
    let hosts: Vec<HostName> = agents.iter().map(|agent| agent.host.clone()).collect();
    let edge = |agent: &Seen| agent.hello.as_ref().is_ok_and(|hello| hello.role == Role::Edge);
    let edges: Vec<HostName> =
        agents.iter().filter(|agent| edge(agent)).map(|agent| agent.host.clone()).collect();
    for agent in agents {
        let told = match agent.hello {
            Ok(hello) => vec![FleetEvent::Seen(agent.host), FleetEvent::Hello(Box::new(hello))],
            Err(refusal) => {
                vec![FleetEvent::Seen(agent.host.clone()), FleetEvent::Stranger { host: agent.host, refusal }]
            }
        };
        for event in told {
            let _ = events.send(Event::Fleet(event)).await;
        }
    }
    // All are asked at once: one that is slow to answer does not delay what the others tell.
    let calibrations = edges
        .iter()
        .enumerate()
        .map(|(number, host)| tell_calibrations(fleet, host, &edges[..number], events));
    let steps = under_way
        .iter()
        .flat_map(|migration| hosts.iter().map(move |host| tell_steps(fleet, host, migration, events)));
    tokio::join!(join_all(calibrations), join_all(steps));
}

/// Tells what a host did in a migration so far.
async fn tell_steps(fleet: &Fleet, host: &HostName, migration: &MigrationId, events: &mpsc::Sender<Event>) {
    let request = Request::Steps { migration: migration.clone(), from: 0 };
    let Ok(Reply::Steps(steps)) = fleet.ask(host, &request).await else {
        tracing::debug!(%host, %migration, "the first steps are not recorded");
        return;
    };
    for step in steps {
        let _ = events.send(Event::Fleet(FleetEvent::Step(Box::new(step)))).await;
    }
}

/// The most edge hosts whose calibrations are recorded, the first: there is one for each two of them, and each way.
const CALIBRATED: usize = 8;

/// Tells what an edge host and others know of migrations between them, as a recording must: a replay plans with it.
pub async fn tell_calibrations(
    fleet: &Fleet,
    host: &HostName,
    others: &[HostName],
    events: &mpsc::Sender<Event>,
) {
    if others.len() >= CALIBRATED {
        return;
    }
    let ways = others.iter().flat_map(|other| [(host, other), (other, host)]);
    join_all(ways.map(|(from, to)| async move {
        // What is not told is missing in the recording, and the replay says so.
        let Ok(known) = known(fleet, from, to).await else { return };
        let (from, to) = (from.clone(), to.clone());
        let _ = events.send(Event::Fleet(FleetEvent::Calibration { from, to, known })).await;
    }))
    .await;
}

fn stamp() -> String {
    chrono::Local::now().format("%Y%m%d-%H%M%S").to_string()
}

async fn known(fleet: &Fleet, from: &HostName, to: &HostName) -> Result<Known, Refusal> {
    let reply = fleet.ask(from, &Request::Calibration(to.clone())).await?;
    let Reply::Calibration(profile) = reply else {
        return Err(Refusal::new(
            RefusalCode::Malformed,
            format!("{from} gave an answer of another kind"),
            "update the older of agent and console",
        ));
    };
    let doubt = match profile.as_ref().and_then(|text| Calibration::from_toml(text).ok()) {
        Some(profile) => {
            let hello = fleet.introduce(to).await.ok();
            hello
                .and_then(|hello| staleness(&profile, &hello))
                .map(|why| format!("the calibration is stale: {why}"))
        }
        None => None,
    };
    Ok(Known { profile, doubt })
}

/// Runs this program with other words; its progress is told as it comes.
async fn run(words: &[String], events: &mpsc::Sender<Event>) -> Result<(), String> {
    let shown = format!("mose {}", words.join(" "));
    let failed = |error: &dyn std::fmt::Display| format!("{shown} failed: {error}");
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut child = tokio::process::Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&error))?;
    let (mut last, mut why) = (String::new(), None);
    if let Some(errors) = child.stderr.take() {
        let mut lines = BufReader::new(errors).lines();
        let deadline = tokio::time::Instant::now() + COMMAND;
        while let Ok(Ok(Some(line))) = tokio::time::timeout_at(deadline, lines.next_line()).await {
            last = line.trim().chars().take(300).collect();
            // What comes below is the details.
            why = why.or_else(|| last.strip_prefix("mose: ").map(str::to_owned));
            tracing::info!("{shown}: {last}");
            send(events, Answer::Said { level: Level::Info, text: last.clone() }).await;
        }
    }
    let ended = tokio::time::timeout(COMMAND, child.wait()).await;
    let status = ended.map_err(|_| failed(&"it takes too long"))?.map_err(|error| failed(&error))?;
    if status.success() { Ok(()) } else { Err(format!("{shown} failed: {}", why.unwrap_or(last))) }
}

/// Writes records into a new file, one JSON line each.
fn export(folder: &Path, records: &[Record]) -> std::io::Result<PathBuf> {
    use std::io::Write;
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("mose-history-{}.ndjson", stamp()));
    let mut out = std::io::BufWriter::new(std::fs::File::create_new(&path)?);
    for record in records {
        serde_json::to_writer(&mut out, record)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(path)
}
