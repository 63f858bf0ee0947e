//! Listening to the agents, ordering what is judged right, and telling how it stands.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder, Retryable};
use mose_protocol::agent::{Role, Telemetry};
use mose_protocol::following::NextMove;
use mose_protocol::handover::ImagePolicy;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::StepEvent;
use mose_protocol::{HostName, Refusal, RefusalCode, Timestamp, envelope, keys};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use zenoh::handlers::{FifoChannelHandler, RingChannel, RingChannelHandler};
use zenoh::pubsub::Subscriber;
use zenoh::sample::{Sample, SampleKind};

use super::judge::{Hindrance, Judge, Verdict};
use super::pair::{self, Pair};
use super::sight::Sight;
use super::{Aim, News, Orders, Planned, Standing};
use crate::design;
use crate::fleet::Fleet;
use crate::order::{self, Order};

/// After a migration that did not move the service, the next one waits.
const LONGEST: Duration = Duration::from_secs(12);
const AGAIN: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_secs(3))
    .with_max_delay(LONGEST)
    .without_max_times();
/// How long an agent that was just seen is asked what it is for.
const INTRODUCTION: Duration = Duration::from_secs(20);
const ASKED_AGAIN: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(250))
    .with_max_delay(Duration::from_secs(2))
    .without_max_times();
/// What is heard in this time is judged together.
const TOGETHER: Duration = Duration::from_millis(50);
/// How often it is judged, and told how it stands, while nobody tells anything.
const PERIOD: Duration = Duration::from_secs(1);
/// What may be so only between two hosts' telling is told after that.
const LASTING: Duration = Duration::from_secs(2);
/// Telemetry that waits; where it is more, the oldest goes.
const WAITING: usize = 2048;

type Moved = (NextMove, Result<Record, Refusal>);

pub(super) struct Task {
    fleet: Arc<Fleet>,
    /// Who follows whom, as somebody said.
    given: Option<Pair>,
    news: broadcast::Sender<News>,
    told: watch::Sender<Standing>,
    telemetry: Subscriber<RingChannelHandler<Sample>>,
    tokens: Subscriber<FifoChannelHandler<Sample>>,
    introductions: JoinSet<(HostName, Option<Role>)>,
    sight: Sight,
    judge: Judge,
    /// Who follows whom now. While it is on, that stays.
    pair: Option<Pair>,
    /// The migration that is being made.
    moving: JoinSet<Moved>,
    /// Why the last one did not move the service, until one does or it need not move any more.
    failed: Option<String>,
    pauses: ExponentialBackoff,
    not_before: Option<Instant>,
    /// What may pass, and since when it has not.
    passing: Option<(String, Instant)>,
}

impl Task {
    /// Listens to the agents from now on.
    pub(super) async fn listening(
        fleet: Arc<Fleet>,
        given: Option<Pair>,
        news: broadcast::Sender<News>,
        told: watch::Sender<Standing>,
    ) -> Result<Self, Refusal> {
        let failed = |error: &dyn std::fmt::Display| {
            Refusal::new(
                RefusalCode::Failed,
                format!("the agents cannot be listened to: {error}"),
                "begin anew",
            )
        };
        let session = fleet.session();
        let telemetry = session
            .declare_subscriber(keys::TELEMETRY_ALL)
            .with(RingChannel::new(WAITING))
            .await
            .map_err(|error| failed(&error))?;
        let tokens = session
            .liveliness()
            .declare_subscriber(keys::LIVE_ALL)
            .history(true)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Self {
            fleet,
            given,
            news,
            told,
            telemetry,
            tokens,
            introductions: JoinSet::new(),
            sight: Sight::default(),
            judge: Judge::default(),
            pair: None,
            moving: JoinSet::new(),
            failed: None,
            pauses: AGAIN.build(),
            not_before: None,
            passing: None,
        })
    }

    /// Goes on until the session is closed, or nobody can switch it any more.
    pub(super) async fn run(mut self, mut orders: watch::Receiver<Orders>) {
        let mut periods = tokio::time::interval(PERIOD);
        periods.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut due: Option<Instant> = None;
        loop {
            let judged_at = due.unwrap_or_else(Instant::now);
            tokio::select! {
                sample = self.telemetry.recv_async() => {
                    let Ok(sample) = sample else { return };
                    if let Ok(telemetry) = envelope::open::<Telemetry>(&sample.payload().to_bytes()) {
                        self.sight.take(telemetry, Timestamp::now());
                        due = due.or_else(|| Some(Instant::now() + TOGETHER));
                    }
                    continue;
                }
                token = self.tokens.recv_async() => {
                    let Ok(token) = token else { return };
                    self.token(&token);
                    continue;
                }
                Some(introduced) = self.introductions.join_next() => {
                    if let Ok((host, Some(role))) = introduced {
                        self.sight.introduced(&host, role);
                    }
                    continue;
                }
                Some(moved) = self.moving.join_next() => match moved {
                    Ok((due, result)) => self.ended(&due, result),
                    Err(error) => tracing::error!(%error, "a migration could not be followed to its end"),
                },
                // Whoever could switch it is gone.
                changed = orders.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(judged_at), if due.is_some() => {}
                _ = periods.tick() => {}
            }
            due = None;
            let orders = orders.borrow_and_update().clone();
            self.look(&orders);
        }
    }

    fn token(&mut self, token: &Sample) {
        let Some(host) = keys::host_of_live(token.key_expr().as_str()) else { return };
        if token.kind() == SampleKind::Delete {
            return self.sight.gone(&host);
        }
        self.sight.seen(&host);
        let fleet = self.fleet.clone();
        self.introductions.spawn(async move {
            let deadline = Instant::now() + INTRODUCTION;
            let later =
                |refusal: &Refusal| refusal.code == RefusalCode::Unreachable && Instant::now() < deadline;
            let hello = (|| fleet.introduce(&host)).retry(ASKED_AGAIN).when(later).await;
            (host, hello.ok().map(|hello| hello.role))
        });
    }

    /// Judges, orders what is to be done now, and tells how it stands.
    fn look(&mut self, orders: &Orders) {
        let now = Timestamp::now();
        let unclear = self.find(orders, now);
        let pair = self.pair.clone();
        let verdict = match &pair {
            Some(pair) if self.moving.is_empty() => self.judge.judge(&self.sight, pair, now),
            _ => Verdict::default(),
        };
        if !orders.on {
            (self.pauses, self.not_before) = (AGAIN.build(), None);
        }
        if !orders.on || verdict.settled {
            self.failed = None;
        }
        let hindrance = match verdict.hindrance {
            Some(Hindrance::Sure(text)) => {
                self.passing = None;
                Some(text)
            }
            Some(Hindrance::Passing(text)) => self.lasted(text),
            None => {
                self.passing = None;
                None
            }
        };
        let trouble = match orders.on {
            true => unclear.or(hindrance).or_else(|| self.failed.clone()),
            false => unclear,
        };
        let mut next = verdict.next;
        if verdict.go
            && orders.on
            && self.not_before.is_none_or(|at| at <= Instant::now())
            && let (Some(pair), Some(due)) = (pair.as_ref(), next.take())
        {
            self.migrate(pair, due, &orders.aim);
        }
        self.tell(Standing { on: orders.on, pair, trouble, next });
    }

    /// Who follows whom, or why that is not clear.
    fn find(&mut self, orders: &Orders, now: Timestamp) -> Option<String> {
        if self.given.is_some() {
            self.pair = self.given.clone();
            return None;
        }
        if orders.on && self.told.borrow().on && self.pair.is_some() {
            return None;
        }
        match pair::find(&self.sight, orders.aim.selected.as_ref(), now) {
            Ok(pair) => {
                self.pair = Some(pair);
                None
            }
            Err(why) => {
                self.pair = None;
                Some(why)
            }
        }
    }

    /// A hindrance that may pass, once it has lasted.
    fn lasted(&mut self, text: String) -> Option<String> {
        let since = match &self.passing {
            Some((known, since)) if *known == text => *since,
            _ => Instant::now(),
        };
        self.passing = Some((text.clone(), since));
        (since.elapsed() >= LASTING).then_some(text)
    }

    fn tell(&self, standing: Standing) {
        let before = self.told.borrow().clone();
        if let Some(trouble) = standing.trouble.as_ref().filter(|_| standing.on)
            && !(before.on && before.trouble.as_ref() == Some(trouble))
        {
            let _ = self.news.send(News::Trouble(trouble.clone()));
        }
        if standing.on || standing != before {
            self.told.send_replace(standing);
        }
    }

    fn migrate(&mut self, pair: &Pair, due: NextMove, aim: &Aim) {
        let speed = self.sight.place(&pair.mobile).map(|place| place.speed);
        let (fleet, news, pair, aim) = (self.fleet.clone(), self.news.clone(), pair.clone(), aim.clone());
        self.moving.spawn(async move {
            let result = Box::pin(migrate(&fleet, &news, &pair, &due, &aim, speed)).await;
            (due, result)
        });
    }

    fn ended(&mut self, due: &NextMove, result: Result<Record, Refusal>) {
        let now = Timestamp::now();
        self.judge.ended(now);
        self.failed = match result {
            Ok(record) => {
                let failed = match record.outcome {
                    Outcome::Done => {
                        self.judge.moved(due.from.clone(), due.to.clone(), record.duration, now);
                        None
                    }
                    other => {
                        let why = record.reason.as_ref().map(|why| format!(": {}", why.reason));
                        let (why, outcome) = (why.unwrap_or_default(), other.name());
                        Some(format!("{} → {} was {outcome}{why}", due.from, due.to))
                    }
                };
                let _ = self.news.send(News::Ended(Box::new(record)));
                failed
            }
            Err(refusal) => Some(format!("{} → {} is not possible now: {refusal}", due.from, due.to)),
        };
        match self.failed {
            None => (self.pauses, self.not_before) = (AGAIN.build(), None),
            Some(_) => {
                let pause = self.pauses.next().unwrap_or(LONGEST);
                self.not_before = Some(Instant::now() + pause);
            }
        }
    }
}

async fn migrate(
    fleet: &Fleet,
    news: &broadcast::Sender<News>,
    pair: &Pair,
    due: &NextMove,
    aim: &Aim,
    speed: Option<mose_pam::MetresPerSec>,
) -> Result<Record, Refusal> {
    let (from, to) = (&due.from, &due.to);
    let wanted = super::wanted(aim, speed).map_err(|error| {
        Refusal::new(RefusalCode::Malformed, format!("the targets are not possible: {error}"), "give others")
    })?;
    let design = design::design(fleet, &pair.service, from, to, &wanted).await?;
    let (plan, forecast) = (design.plan(), Some(Box::new(design.forecast())));
    let service = pair.service.clone();
    let planned = Planned { service: service.clone(), due: due.clone(), design };
    let _ = news.send(News::Planned(Box::new(planned)));
    let order = Order {
        service,
        from: Some(from.clone()),
        to: to.clone(),
        plan,
        transport: None,
        image_policy: ImagePolicy::Bring,
        files: Default::default(),
        pre_copy: None,
        rehearsal: false,
        forecast,
    };
    let step = |event: &StepEvent| {
        let _ = news.send(News::Step(Box::new(event.clone())));
    };
    Box::pin(order::carry_out(fleet, &order, step)).await
}
