//! The autopilot follows the UAV: MOSE decides when, and moves it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::lab::Running;
use mose_console::lab::commands::Uav;
use mose_lab::{Lab, ServiceOptions, start_service, stop_service};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::follow_me::{Aim, FollowMe, News, Pair};
use mose_pam::Targets;
use mose_protocol::record::Record;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;

use super::{Mover, SERVICE};
use crate::course::{EDGES, MOBILE};
use crate::moved::Moved;
use crate::testbed::running;

/// News that wait to be told.
const NEWS: usize = 64;

/// How long a migration that is under way may take to end.
const ENDING: Duration = Duration::from_secs(60);

/// What the follower says.
enum Said {
    /// It has ordered a migration.
    Ordered(String),
    /// That one ended.
    Ended(Box<Record>),
    /// It could not, and why.
    Trouble(String),
    /// It follows no more, and why.
    Over(String),
}

/// An autopilot that follows. Dropping this removes it.
pub(super) struct Following<'a> {
    lab: &'a Lab,
    aim: Aim,
    thread: Option<Thread>,
    under_way: bool,
}

/// The follower's own thread: it enters the controller's network for good.
struct Thread {
    said: Receiver<Said>,
    stop: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

impl<'a> Following<'a> {
    /// Starts the autopilot at the first edge host, whose cell serves the UAV where its flight begins.
    pub(super) fn begin(lab: &'a Lab, options: &Uav) -> color_eyre::Result<Self> {
        let targets = Targets::new(options.max_downtime, options.max_duration)?;
        let following =
            Self { lab, aim: Aim::of(targets, options.objective), thread: None, under_way: false };
        start_service(lab, SERVICE, EDGES[0], &ServiceOptions::of(SERVICE))?;
        Ok(following)
    }

    fn took(&mut self, said: Said) -> color_eyre::Result<Option<Moved>> {
        match said {
            Said::Ordered(why) => {
                self.under_way = true;
                eprintln!("     {why}");
                Ok(None)
            }
            Said::Ended(record) => {
                self.under_way = false;
                Ok(Some(Moved::by_mose(&record)))
            }
            Said::Trouble(why) => {
                self.under_way = false;
                eprintln!("     {why}");
                Ok(None)
            }
            Said::Over(why) => Err(eyre!("the autopilot follows no more: {why}")),
        }
    }
}

impl Mover for Following<'_> {
    const BY_HAND: bool = false;

    fn ready(&mut self) -> color_eyre::Result<()> {
        let (tell, said) = sync_channel(NEWS);
        let (stop, stopped) = oneshot::channel();
        let (agents, aim) = (running(self.lab), self.aim.clone());
        let follow = move || {
            let why = match followed(&agents, aim, stopped, &tell) {
                Ok(()) => "it was switched off".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            let _ = tell.send(Said::Over(why));
        };
        let handle = std::thread::Builder::new().name("follow".to_owned()).spawn(follow)?;
        self.thread = Some(Thread { said, stop, handle });
        Ok(())
    }

    fn next(&mut self, patience: Duration) -> color_eyre::Result<Option<Moved>> {
        let Some(thread) = &self.thread else { return Ok(None) };
        match thread.said.recv_timeout(patience) {
            Ok(said) => self.took(said),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(eyre!("the follower has panicked")),
        }
    }

    fn end(&mut self) -> color_eyre::Result<()> {
        let deadline = Instant::now() + ENDING;
        while self.under_way && Instant::now() < deadline {
            // One that ends now is not counted: the flight was over.
            self.next(Duration::from_millis(200))?;
        }
        let Some(Thread { said, stop, handle }) = self.thread.take() else { return Ok(()) };
        let _ = stop.send(());
        drop(said);
        handle.join().map_err(|_| eyre!("the follower has panicked"))
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "following did not end well");
        }
        for host in EDGES {
            if let Err(error) = stop_service(self.lab, host, SERVICE) {
                tracing::warn!(host, %error, "a service is left over");
            }
        }
    }
}

/// Follows until it is stopped.
fn followed(
    lab: &Running,
    aim: Aim,
    mut stopped: oneshot::Receiver<()>,
    tell: &SyncSender<Said>,
) -> color_eyre::Result<()> {
    mose_console::lab::enter(lab)?;
    let runtime = tokio::runtime::Runtime::new().wrap_err("the follower cannot be started")?;
    runtime.block_on(async {
        let joined = Fleet::join(&lab.agents).await;
        let fleet = joined.map_err(|refusal| eyre!("the lab's agents cannot be reached: {refusal}"))?;
        let pair = Pair {
            service: SERVICE.parse()?,
            mobile: MOBILE.parse()?,
            between: EDGES.iter().map(|host| host.parse()).collect::<Result<_, _>>()?,
        };
        let follow_me =
            FollowMe::start(Arc::new(fleet), Some(pair), aim).await.map_err(|refusal| eyre!("{refusal}"))?;
        let mut news = follow_me.news();
        follow_me.switch(true);
        loop {
            let told = tokio::select! {
                _ = &mut stopped => return Ok(()),
                told = news.recv() => told,
            };
            let said = match told {
                Ok(News::Planned(planned)) => Said::Ordered(planned.why()),
                Ok(News::Ended(record)) => Said::Ended(record),
                Ok(News::Trouble(why)) => Said::Trouble(why),
                Ok(News::Step(_)) => continue,
                Err(RecvError::Lagged(missed)) => Said::Trouble(format!("{missed} news were missed")),
                Err(RecvError::Closed) => return Err(eyre!("the session has ended")),
            };
            if tell.send(said).is_err() {
                return Ok(());
            }
        }
    })
}
