//! A service that follows its mobile host, as the screen sees it: what it is moved for goes there, how it stands comes back.

use std::sync::Arc;

use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::follow_me::{Aim, FollowMe, News};
use mose_pam::Targets;
use mose_protocol::Refusal;
use mose_screen::config::Config;
use mose_screen::event::{Answer, Event};
use mose_screen::fleet_event::FleetEvent;
use mose_screen::state::Level;
use mose_simulated::demo::Follow;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// Says it in the notices; at the end nobody listens any more.
async fn say(events: &mpsc::Sender<Event>, level: Level, text: String) {
    let _ = events.send(Event::Answer(Answer::Said { level, text })).await;
}

/// Makes ready to follow, as a scenario says, or whoever is found. It is moved for what the screen says when it is switched on.
pub(super) async fn start(fleet: Arc<Fleet>, given: Option<&Follow>) -> Result<FollowMe, Refusal> {
    let aim = match given {
        Some(follow) => follow.aim(),
        None => usual()?,
    };
    FollowMe::start(fleet, given.map(Follow::pair), aim).await
}

fn usual() -> Result<Aim, Refusal> {
    let wanted = Config::default().targets;
    let targets = Targets::new(wanted.downtime, wanted.duration).map_err(|error| {
        Refusal::new(mose_protocol::RefusalCode::Failed, format!("the usual targets: {error}"), "")
    })?;
    Ok(Aim::of(targets, wanted.objective))
}

/// Tells the screen how it stands and what it decides, until nobody listens.
pub(super) async fn tell(follow_me: Arc<FollowMe>, events: mpsc::Sender<Event>) {
    let (mut standing, mut news) = (follow_me.standing(), follow_me.news());
    loop {
        tokio::select! {
            changed = standing.changed() => {
                if changed.is_err() {
                    let text = "no service follows its mobile host any more: the session has ended".to_owned();
                    return say(&events, Level::Error, text).await;
                }
                let now = standing.borrow_and_update().clone();
                if let (true, None, Some(why)) = (now.on, &now.pair, &now.trouble) {
                    follow_me.switch(false);
                    say(&events, Level::Warning, format!("follow: {why}")).await;
                }
                let Some(following) = now.following() else { continue };
                if events.send(Event::Fleet(FleetEvent::Following(Box::new(following)))).await.is_err() {
                    return;
                }
            }
            told = news.recv() => match told {
                Ok(News::Planned(decided)) => {
                    let _ = events.send(Event::Fleet(FleetEvent::Decided(Box::new(decided.decision())))).await;
                }
                // The steps and the record come from the agents, as of every migration; what troubles it, with how it stands.
                Ok(News::Step(_) | News::Ended(_) | News::Trouble(_)) => {}
                Err(RecvError::Lagged(missed)) => tracing::warn!("{missed} news of what follows are left out"),
                Err(RecvError::Closed) => return,
            }
        }
    }
}
