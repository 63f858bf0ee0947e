//! Services that were moved by hand, without the agents: noted for comparison.

use mose_pam::Millis;
use mose_protocol::flight::FlightReport;
use mose_protocol::record::{ClientGap, Downtime, Record};
use mose_protocol::{HostName, Refusal, Request, ServiceName, Timestamp};

use crate::fleet::Fleet;
use crate::order::identity;

/// What was done, and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ByHand {
    /// Which service.
    pub service: ServiceName,
    /// From where.
    pub from: HostName,
    /// Whereto.
    pub to: HostName,
    /// When it was begun.
    pub started_at: Timestamp,
    /// From then until the service was back.
    pub duration: Millis,
    /// For how long the service stood still.
    pub stopped: Option<Millis>,
    /// What a client says for how long it heard nothing.
    pub client: Option<(HostName, Millis)>,
    /// How far a vehicle was off its course.
    pub flight: Option<FlightReport>,
}

/// Has the agent at the source keep a record of it.
///
/// # Errors
/// Where that agent does not answer, or refuses.
pub async fn note(fleet: &Fleet, moved: ByHand) -> Result<(), Refusal> {
    let source = moved.from.clone();
    let record = record(moved)?;
    fleet.ask(&source, &Request::Note(Box::new(record))).await.map(drop)
}

fn record(moved: ByHand) -> Result<Record, Refusal> {
    let ByHand { service, from, to, started_at, duration, stopped, client, flight } = moved;
    let clients = client.map(|(host, gap)| ClientGap {
        host,
        gap: Some(gap),
        at_least: false,
        note: Some("as the client tells: its packets were not watched".to_owned()),
        asked: 1,
        unanswered: 0,
        packets: 0,
        resets: 0,
        accepted: 0,
        answers_ms: Vec::new(),
    });
    let downtime =
        Downtime { blackout: stopped, clients: clients.into_iter().collect(), ..Downtime::default() };
    let flights = flight.into_iter().collect();
    Ok(Record {
        downtime,
        flights,
        ..Record::by_hand(identity()?, service, (from, to), started_at, duration)
    })
}

#[cfg(test)]
mod tests {
    use mose_protocol::record::Silence;

    use super::*;

    #[test]
    fn what_is_known_of_it_is_in_its_record_and_nothing_else() {
        let moved = ByHand {
            service: "web".parse().unwrap(),
            from: "edge-a".parse().unwrap(),
            to: "edge-b".parse().unwrap(),
            started_at: Timestamp(5_000_000),
            duration: Millis(2500.0),
            stopped: Some(Millis(1900.0)),
            client: Some(("uav".parse().unwrap(), Millis(2000.0))),
            flight: None,
        };
        let told = record(moved.clone()).unwrap();
        assert_eq!((told.how().as_str(), told.ended()), ("by hand", Timestamp(7_500_000)));
        assert_eq!(told.downtime.silence(), Silence::Known(Millis(2000.0)));
        assert_eq!((told.downtime.blackout, told.steps.len()), (Some(Millis(1900.0)), 0));
        let unseen = record(ByHand { client: None, ..moved }).unwrap();
        assert_eq!(unseen.downtime.silence(), Silence::Unwatched);
    }
}
