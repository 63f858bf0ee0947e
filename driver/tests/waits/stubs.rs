//! A host whose work, and whose words with other hosts, are scripted, and which notes what is done and when.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mose_driver::arrival::Asked;
use mose_driver::departure::{self, Control};
use mose_driver::{Ask, HandOvers, Tasks, arrival};
use mose_handover::SourceState;
use mose_handover::source::{Doubt, Why};
use mose_protocol::handover::{HandoverState, Prepare, Prepared, Rehearsed, Restored, Task};
use mose_protocol::record::{Downtime, Outcome, Record};
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, Response};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How something goes: after how many milliseconds, if ever, and with what.
#[derive(Debug, Clone)]
pub(crate) struct Turn<T> {
    after: Option<u64>,
    with: T,
}

/// How a piece of work goes.
pub(crate) type Piece = Turn<bool>;

/// What another host answers.
pub(crate) type Word = Turn<Response>;

impl<T> Turn<T> {
    pub(crate) fn taking(self, millis: u64) -> Self {
        Self { after: Some(millis), ..self }
    }

    async fn take(self) -> T {
        match self.after {
            Some(after) => sleep(Duration::from_millis(after)).await,
            None => std::future::pending().await,
        }
        self.with
    }
}

pub(crate) const WELL: Piece = Turn { after: Some(0), with: true };
pub(crate) const FAILS: Piece = Turn { after: Some(0), with: false };
pub(crate) const NEVER: Piece = Turn { after: None, with: true };

pub(crate) fn says(response: Response) -> Word {
    Turn { after: Some(0), with: response }
}

pub(crate) fn is(state: HandoverState) -> Word {
    says(Ok(Reply::Handover(state)))
}

pub(crate) fn restored() -> HandoverState {
    HandoverState::Restored(figures())
}

pub(crate) fn rehearsed() -> HandoverState {
    let figures = json!({"started_at": 1, "ended_at": 1, "criu_restore": null});
    HandoverState::Rehearsed(serde_json::from_value(figures).unwrap())
}

pub(crate) fn failed() -> Refusal {
    Refusal::new(RefusalCode::Failed, "it failed", "")
}

/// What cannot be reached, which is known at once.
pub(crate) fn unreachable() -> Word {
    says(Err(Refusal::new(RefusalCode::Unreachable, "it is not there", "")))
}

/// Whoever says nothing.
pub(crate) fn silent() -> Word {
    Turn { after: None, with: Ok(Reply::Ok) }
}

/// The record of a migration that ended so.
pub(crate) fn ended(outcome: Outcome) -> Word {
    let task = task("m", "a");
    let record: Record = serde_json::from_value(json!({
        "migration": task.migration, "simulated": true, "service": task.service, "from": task.from, "to": task.to,
        "plan": task.plan, "transport": null, "started_at": 1, "duration": 0.0, "outcome": outcome, "reason": null,
        "image": 0, "downtime": Downtime::default(), "steps": [],
    }))
    .unwrap();
    says(Ok(Reply::Record(Some(Box::new(record)))))
}

pub(crate) fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

/// An order to move the service `s` to `b`.
pub(crate) fn task(migration: &str, from: &str) -> Task {
    serde_json::from_value(json!({
        "migration": migration, "service": "s", "from": from, "to": "b",
        "plan": {"strategy": "cold", "iterations": null, "bandwidth": null}, "transport": null, "image_policy": "bring",
    }))
    .unwrap()
}

pub(crate) fn prepare(migration: &str, from: &str) -> Prepare {
    serde_json::from_value(json!({
        "task": task(migration, from), "epoch": 1,
        "place": {"name": "s", "address": "10.0.0.1/24", "mac": "02:00:00:00:00:01"},
        "container": {"image": "i"}, "image_id": "i", "limit": 1,
    }))
    .unwrap()
}

fn figures() -> Restored {
    serde_json::from_value(json!({
        "started_at": 1, "released_at": 1, "finished_at": 1, "criu_restore": null, "held": 0, "overflowed": 0
    }))
    .unwrap()
}

const fn name_of(state: &HandoverState) -> &'static str {
    match state {
        HandoverState::Unknown => "unknown",
        HandoverState::Preparing => "preparing",
        HandoverState::Restoring => "restoring",
        HandoverState::Restored(_) => "restored",
        HandoverState::Refused(_) => "refused",
        HandoverState::Rehearsed(_) => "rehearsed",
    }
}

/// What is scripted, and what was done.
pub(crate) struct Script {
    begun: Instant,
    done: Mutex<Vec<(Duration, String)>>,
    pieces: Mutex<BTreeMap<String, VecDeque<Piece>>>,
    words: Mutex<BTreeMap<String, VecDeque<Word>>>,
    /// Bytes that have come.
    pub(crate) received: AtomicU64,
}

/// The next of what is scripted under a name. The last one is repeated.
fn next<T: Clone>(script: &Mutex<BTreeMap<String, VecDeque<T>>>, name: &str) -> Option<T> {
    let mut script = script.lock().unwrap();
    let turns = script.get_mut(name)?;
    if turns.len() > 1 { turns.pop_front() } else { turns.front().cloned() }
}

impl Script {
    fn note(&self, what: impl Into<String>) {
        self.done.lock().unwrap().push((self.begun.elapsed(), what.into()));
    }

    /// Does a piece of work, which goes well at once unless it is scripted.
    async fn piece(&self, name: &str) -> Result<(), Refusal> {
        self.note(name);
        let piece = next(&self.pieces, name).unwrap_or(WELL);
        if piece.take().await { Ok(()) } else { Err(failed()) }
    }
}

#[async_trait]
impl Ask for Script {
    async fn ask(&self, to: &HostName, request: &Request, deadline: Duration) -> Response {
        let name = request.name();
        self.note(format!("{name} to {to}"));
        let word = next(&self.words, name).unwrap_or_else(silent);
        timeout(deadline, word.take()).await.unwrap_or_else(|_| {
            self.note(format!("{name}: no answer"));
            Err(Refusal::new(RefusalCode::Unreachable, "no answer", ""))
        })
    }
}

/// A host; `a` is the source and `b` the destination of what is moved.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) script: Arc<Script>,
    pub(crate) hand_overs: Arc<HandOvers>,
}

impl Host {
    pub(crate) fn new(name: &str) -> Self {
        let script = Arc::new(Script {
            begun: Instant::now(),
            done: Mutex::default(),
            pieces: Mutex::default(),
            words: Mutex::default(),
            received: AtomicU64::default(),
        });
        Self { hand_overs: HandOvers::new(host(name), script.clone(), Tasks::default()), script }
    }

    /// Says how a piece of work goes each time that it is done.
    pub(crate) fn does<const N: usize>(&self, name: &str, pieces: [Piece; N]) {
        self.script.pieces.lock().unwrap().insert(name.to_owned(), pieces.into());
    }

    /// Says what other hosts answer to a request each time that they are asked; nothing where this is not said.
    pub(crate) fn hears<const N: usize>(&self, name: &str, words: [Word; N]) {
        self.script.words.lock().unwrap().insert(name.to_owned(), words.into());
    }

    /// Waits until so many milliseconds after the begin.
    pub(crate) async fn until(&self, millis: u64) {
        sleep_until(self.script.begun + Duration::from_millis(millis)).await;
    }

    /// What was done, with the second in which it was begun.
    pub(crate) fn all(&self) -> Vec<String> {
        self.since(0)
    }

    /// What was done from a millisecond on.
    pub(crate) fn since(&self, millis: u64) -> Vec<String> {
        let done = self.script.done.lock().unwrap();
        let since = done.iter().filter(|(at, _)| *at >= Duration::from_millis(millis));
        since.map(|(at, what)| format!("{:.3} {what}", at.as_secs_f64())).collect()
    }

    /// At which milliseconds something was done.
    pub(crate) fn times(&self, of: &str) -> Vec<u64> {
        let done = self.script.done.lock().unwrap();
        done.iter().filter(|(_, what)| what == of).map(|(at, _)| at.as_micros() as u64 / 1000).collect()
    }

    /// Begins to move the service away from here.
    pub(crate) fn order(&self) {
        let work = |control: &Arc<Control>| Leaving { script: self.script.clone(), control: control.clone() };
        self.hand_overs.order(task("m", "a"), work).unwrap();
    }

    /// Begins to rehearse that.
    pub(crate) fn rehearse(&self) {
        let work = |control: &Arc<Control>| Leaving { script: self.script.clone(), control: control.clone() };
        self.hand_overs.order(Task { rehearsal: true, ..task("m", "a") }, work).unwrap();
    }

    /// Is asked to prepare for a rehearsal, and notes the answer.
    pub(crate) fn prepare_rehearsal(&self) {
        let (host, mut prepare) = (self.clone(), prepare("m", "a"));
        prepare.task.rehearsal = true;
        tokio::spawn(async move {
            let script = host.script.clone();
            let answer = host.hand_overs.prepare(prepare, |_| Coming { script }).await;
            host.answered("m", "prepare", &answer);
        });
    }

    /// Begins another life of the agent, which finds this in the journal of a migration that left.
    pub(crate) fn take_up_departure(&self, state: SourceState) {
        let work = |control: &Arc<Control>| Leaving { script: self.script.clone(), control: control.clone() };
        self.hand_overs.take_up_departure(task("m", "a"), state, work);
    }

    /// Begins another life of the agent, which finds this in the journal of a migration that came.
    pub(crate) fn take_up_arrival(&self, state: HandoverState) {
        let work = |_: &Prepare| Coming { script: self.script.clone() };
        self.hand_overs.take_up_arrival(prepare("m", "a"), state, false, work);
    }

    /// Is asked to prepare for the service, and notes the answer.
    pub(crate) fn prepare(&self, migration: &'static str, from: &str) {
        let (host, prepare) = (self.clone(), prepare(migration, from));
        tokio::spawn(async move {
            let script = host.script.clone();
            let answer = host.hand_overs.prepare(prepare, |_| Coming { script }).await;
            host.answered(migration, "prepare", &answer);
        });
    }

    /// Is asked something about the migration `m`, and notes the answer.
    pub(crate) fn asked(&self, asked: Asked) {
        let host = self.clone();
        let name = match &asked {
            Asked::Prepare => "prepare",
            Asked::Create => "create",
            Asked::Hold => "hold",
            Asked::Relinquish(_) => "relinquish",
            Asked::Rehearse(_) => "rehearse",
            Asked::Inquire => "inquire",
            Asked::Withdraw => "withdraw",
            Asked::Close => "close",
        };
        tokio::spawn(async move {
            let answer = host.hand_overs.of_arrival(&"m".parse().unwrap(), asked).await;
            host.answered("m", name, &answer);
        });
    }

    fn answered(&self, migration: &str, asked: &str, answer: &Response) {
        let said = match answer {
            Ok(Reply::Handover(state)) => name_of(state).to_owned(),
            Ok(Reply::Prepared(_)) => "prepared".to_owned(),
            Ok(_) => "ok".to_owned(),
            Err(refusal) => format!("{:?}", refusal.code),
        };
        self.script.note(format!("{migration} {asked}: {said}"));
    }
}

/// The work for a service that leaves.
struct Leaving {
    script: Arc<Script>,
    control: Arc<Control>,
}

impl Leaving {
    /// Does a piece of work that can be broken off.
    async fn breakable(&self, name: &str) -> Result<(), Refusal> {
        tokio::select! {
            biased;
            refusal = self.control.broken_off() => {
                self.script.note(format!("{name}: broken off"));
                Err(refusal)
            }
            ended = self.script.piece(name) => ended,
        }
    }
}

#[async_trait]
impl departure::Work for Leaving {
    async fn inspect(&mut self) -> Result<(), Refusal> {
        self.script.piece("inspect").await
    }

    async fn write(&mut self, state: &SourceState) -> Result<(), Refusal> {
        let name = match state {
            SourceState::Preparing => "preparing",
            SourceState::Dumping => "dumping",
            SourceState::Relinquished { .. } => "relinquished",
            SourceState::Reclaiming => "reclaiming",
            SourceState::Restored => "restored",
            SourceState::GivenUp => "given up",
        };
        self.script.piece(&format!("write {name}")).await
    }

    async fn make_ready(&mut self) -> Result<(), Refusal> {
        self.breakable("make ready").await
    }

    async fn stop_and_copy(&mut self) -> Result<String, Refusal> {
        self.breakable("stop and copy").await.map(|()| "digest".to_owned())
    }

    fn rehearsed(&mut self, _: Rehearsed) {
        self.script.note("hears that it was rehearsed");
    }

    async fn undo(&mut self) {
        let _ = self.script.piece("undo").await;
    }

    async fn take_back(&mut self) -> Result<(), Refusal> {
        self.script.piece("take back").await
    }

    async fn tell_back(&mut self) {
        let _ = self.script.piece("tell back").await;
    }

    async fn measure(&mut self) {
        let _ = self.script.piece("measure").await;
    }

    async fn clean_up(&mut self, restored: Option<Restored>) -> bool {
        let figures = if restored.is_some() { "with" } else { "without" };
        self.script.piece(&format!("clean up {figures} figures")).await.is_ok()
    }

    async fn discard(&mut self) -> bool {
        self.script.piece("discard").await.is_ok()
    }

    async fn doubt(&mut self, doubt: &Doubt<Refusal>) {
        let why = match doubt {
            Doubt::Silent => "silent",
            Doubt::Undecided => "undecided",
            Doubt::NotTakenBack { .. } => "not taken back",
        };
        self.script.note(format!("doubt: {why}"));
    }

    async fn forget(&mut self) {
        self.script.note("forget");
    }

    async fn conclude(&mut self, outcome: Outcome, _: Option<Why<Refusal>>) {
        self.script.note(format!("end: {}", outcome.name()));
    }

    fn tell_end(&mut self) {
        self.script.note("tell end");
    }
}

/// The work for a service that comes.
struct Coming {
    script: Arc<Script>,
}

fn offer() -> Prepared {
    let bounds = json!({"chunk": 1, "window": 1, "total": 1, "stall_ms": 1, "entries": 1});
    let offer = json!({"kind": "tcp", "address": "10.0.0.1:1", "token": "0", "bounds": bounds});
    Prepared { offer: serde_json::from_value(offer).unwrap(), needs_image: false }
}

#[async_trait]
impl arrival::Work for Coming {
    async fn admit(&mut self) -> Result<(), Refusal> {
        self.script.piece("admit").await
    }

    async fn write(&mut self, state: &HandoverState, left: bool) -> Result<(), Refusal> {
        let left = if left { ", left" } else { "" };
        self.script.piece(&format!("write {}{left}", name_of(state))).await
    }

    async fn make_ready(&mut self) -> Result<Prepared, Refusal> {
        self.script.piece("make ready").await.map(|()| offer())
    }

    async fn create(&mut self) -> Result<Prepared, Refusal> {
        self.script.piece("create").await.map(|()| offer())
    }

    async fn hold(&mut self) -> Result<(), Refusal> {
        self.script.piece("hold").await
    }

    async fn verify(&mut self, _: &str) -> Result<(), Refusal> {
        self.script.piece("verify").await
    }

    async fn restore(&mut self) -> Result<Restored, Refusal> {
        self.script.piece("restore").await.map(|()| figures())
    }

    async fn rehearse(&mut self) -> Result<Rehearsed, Refusal> {
        let rehearsed = json!({"started_at": 1, "ended_at": 1, "criu_restore": null});
        self.script.piece("rehearse").await.map(|()| serde_json::from_value(rehearsed).unwrap())
    }

    async fn release(&mut self) -> Result<Restored, Refusal> {
        self.script.piece("release").await.map(|()| figures())
    }

    async fn keep(&mut self) {
        let _ = self.script.piece("keep").await;
    }

    async fn disarm(&mut self) -> Result<(), Refusal> {
        self.script.piece("disarm").await
    }

    async fn remove(&mut self) -> Result<(), Refusal> {
        self.script.piece("remove").await
    }

    /// The service runs here, or the engine does not say.
    async fn look(&mut self) -> Option<bool> {
        self.script.piece("look").await.is_ok().then_some(true)
    }

    async fn forget(&mut self) {
        self.script.note("forget");
    }

    fn received(&self) -> u64 {
        self.script.received.load(Ordering::Relaxed)
    }
}
