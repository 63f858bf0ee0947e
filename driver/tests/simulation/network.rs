//! The simulated network, which loses, doubles, delays and reorders, and the simulated agents' ears.

use std::time::Duration;

use async_trait::async_trait;
use mose_driver::Ask;
use mose_driver::arrival::Asked;
use mose_protocol::handover::{HandoverState, Prepare};
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, Response};
use tokio::time::{sleep, timeout};

use crate::works::{Arriving, Departing};
use crate::world::World;

/// What befalls a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ill {
    RequestLost,
    AnswerLost,
    Doubled,
    /// Comes after whoever asked has ceased to wait.
    Late,
    /// Comes after what was sent next.
    Reordered,
}

/// What befalls the requests of one kind, so many times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) request: &'static str,
    pub(crate) ill: Ill,
    pub(crate) times: u32,
}

/// How a message goes.
#[derive(Debug, Clone, Copy)]
struct Way {
    lost: bool,
    answer_lost: bool,
    doubled: bool,
    there: Duration,
    back: Duration,
}

/// A host's requests to others.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) world: World,
    pub(crate) from: HostName,
}

#[async_trait]
impl Ask for Asking {
    async fn ask(&self, to: &HostName, request: &Request, deadline: Duration) -> Response {
        let (from, world) = (&self.from, &self.world);
        let name = request.name();
        let way = world.way(request, deadline);
        world.log(format_args!("{from} → {to}: {name}"));
        let asked = async {
            if way.doubled {
                let (world, from, to, request) = (world.clone(), from.clone(), to.clone(), request.clone());
                let later = way.there + Duration::from_millis(world.state().random.u64(0..3000));
                tokio::spawn(async move {
                    sleep(later).await;
                    deliver(&world, &from, &to, request).await;
                });
            }
            sleep(way.there).await;
            if way.lost {
                std::future::pending::<()>().await;
            }
            let answer = deliver(world, from, to, request.clone()).await;
            sleep(way.back).await;
            match answer {
                Some(answer) if !way.answer_lost && !world.is_cut(from, to) => answer,
                _ => std::future::pending().await,
            }
        };
        let answer = timeout(deadline, asked).await.unwrap_or_else(|_| {
            let reason = format!("{to} did not answer {name}");
            Err(Refusal::new(RefusalCode::Unreachable, reason, ""))
        });
        world.hear(from, request, &answer);
        answer
    }
}

impl World {
    /// How a request goes, by the odds or by the fault that is wanted.
    fn way(&self, request: &Request, deadline: Duration) -> Way {
        let mut state = self.state();
        let odds = state.odds;
        let mut way = Way {
            lost: state.random.f64() < odds.loss,
            answer_lost: state.random.f64() < odds.loss,
            doubled: state.random.f64() < odds.double,
            there: Duration::from_millis(state.random.u64(0..20)),
            back: Duration::from_millis(state.random.u64(0..20)),
        };
        if state.random.f64() < odds.silence && matches!(request.name(), "relinquish" | "rehearse") {
            way.answer_lost = true;
            way.lost |= state.random.bool();
        }
        if state.random.f64() < odds.late {
            way.there += Duration::from_millis(state.random.u64(0..5000));
        }
        if let Some(fault) = state.fault
            && fault.request == request.name()
            && state.befell < fault.times
        {
            state.befell += 1;
            match fault.ill {
                Ill::RequestLost => way.lost = true,
                Ill::AnswerLost => way.answer_lost = true,
                Ill::Doubled => way.doubled = true,
                Ill::Late => way.there = deadline + Duration::from_secs(1),
                Ill::Reordered => way.there += Duration::from_millis(400),
            }
        }
        way
    }

    pub(crate) fn is_cut(&self, one: &HostName, other: &HostName) -> bool {
        let state = self.state();
        [(one, other), (other, one)].iter().any(|(a, b)| state.cut.contains(&((*a).clone(), (*b).clone())))
    }

    /// Notes what a source hears: an answer once given is never contradicted.
    fn hear(&self, from: &HostName, request: &Request, answer: &Response) {
        let name = request.name();
        let mut state = self.state();
        let restored = match answer {
            Ok(Reply::Handover(HandoverState::Restored(_))) => true,
            // Neither runs there ever.
            Ok(Reply::Handover(HandoverState::Refused(_) | HandoverState::Rehearsed(_))) => false,
            Ok(_) => return state.log(format_args!("{from} ← {name}")),
            Err(refusal) => return state.log(format_args!("{from} ← {name}: {refusal}")),
        };
        let word = if restored { "restored" } else { "refused" };
        state.log(format_args!("{from} ← {name}: {word}"));
        if let Some(migration) = migration_of(request)
            && let Some(before) = state.heard.insert(migration.clone(), restored)
            && before != restored
            && !state.forced
        {
            state.violate(format_args!(
                "of {migration} it was said otherwise before it was said to be {word}"
            ));
        }
    }
}

const fn migration_of(request: &Request) -> Option<&MigrationId> {
    match request {
        Request::Inquire(migration) | Request::Withdraw(migration) => Some(migration),
        Request::Relinquish { migration, .. } | Request::Rehearse { migration, .. } => Some(migration),
        _ => None,
    }
}

/// A request comes to a host; its answer, if its agent lives as long.
pub(crate) async fn deliver(
    world: &World,
    from: &HostName,
    to: &HostName,
    request: Request,
) -> Option<Response> {
    if world.is_cut(from, to) {
        return None;
    }
    let (hand_overs, life) =
        world.with(to, |host| host.hand_overs.clone().map(|hand_overs| (hand_overs, host.life)))?;
    world.log(format_args!("{to}: asked {}", request.name()));
    let answer = match request {
        Request::Prepare(prepare) => {
            let work = |prepare: &Prepare| Arriving::new(world, to, prepare, false);
            hand_overs.prepare(*prepare, work).await
        }
        Request::Create(migration) => hand_overs.of_arrival(&migration, Asked::Create).await,
        Request::Hold(migration) => hand_overs.of_arrival(&migration, Asked::Hold).await,
        Request::Relinquish { migration, digest } => {
            hand_overs.of_arrival(&migration, Asked::Relinquish(digest)).await
        }
        Request::Rehearse { migration, digest } => {
            hand_overs.of_arrival(&migration, Asked::Rehearse(digest)).await
        }
        Request::Inquire(migration) => hand_overs.of_arrival(&migration, Asked::Inquire).await,
        Request::Withdraw(migration) => hand_overs.of_arrival(&migration, Asked::Withdraw).await,
        Request::Close(migration) => hand_overs.of_arrival(&migration, Asked::Close).await,
        Request::Record(migration) => {
            let record = world.with(to, |host| host.records.get(&migration).cloned());
            Ok(Reply::Record(record.map(Box::new)))
        }
        Request::Migrate(task) | Request::OrderRehearsal(task) => {
            let known = world.with(to, |host| host.records.contains_key(&task.migration));
            let work = |control: &_| Departing::new(world, to, control);
            if known { Ok(Reply::Ok) } else { hand_overs.order(*task, work).map(|()| Reply::Ok) }
        }
        Request::Became { .. } => Ok(Reply::Ok),
        other => Err(Refusal::new(RefusalCode::Malformed, other.name(), "")),
    };
    world.with(to, |host| host.life == life && host.hand_overs.is_some()).then_some(answer)
}
