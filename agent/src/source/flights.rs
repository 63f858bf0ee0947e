//! What a migration did to the flight of vehicles. It shows some seconds after the service is back, when the record has long been
//! written; so they are asked then, and the record is amended.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mose_bus::peers::QUICK;
use mose_protocol::flight::{FlightReport, FlightTimes};
use mose_protocol::record::Record;
use mose_protocol::{HostName, MigrationId, Reply, Request, Timestamp};
use tokio::time::Instant;

use super::Source;
use crate::agent::Agent;
use crate::steps::Steps;

/// How long after the service is back its absence can be seen in a flight: a vehicle that has lost its way has caught up by then.
const SETTLED: Duration = Duration::from_secs(8);

/// How much later the vehicles are asked: what they measured last has reached their agents, and clocks may differ a little.
const LATER: Duration = Duration::from_millis(500);

/// The most vehicles that are asked.
const MOST_VEHICLES: usize = 16;

/// When a service was away, on the source's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Absence {
    /// When the migration began.
    pub(crate) begun: Timestamp,
    /// When the service was frozen.
    pub(crate) frozen: Timestamp,
    /// When it was back.
    pub(crate) back: Timestamp,
}

impl Absence {
    fn settled(&self) -> Timestamp {
        Timestamp(self.back.0.saturating_add(SETTLED.as_micros() as u64))
    }

    /// The times of its flight report, on a clock that is ahead by so much.
    fn times(&self, offset_us: i64) -> FlightTimes {
        FlightTimes {
            begun: self.begun.shifted(offset_us),
            frozen: self.frozen.shifted(offset_us),
            until: self.settled().shifted(offset_us),
        }
    }

    /// The time from `now` until the vehicles have measured all of it.
    fn left(&self, now: Timestamp) -> Duration {
        Duration::from_micros(self.settled().0.saturating_sub(now.0)) + LATER
    }
}

impl Source {
    /// Has the vehicles asked how they flew, once that is over. Nobody waits for it; where no host tells of a flight, nothing is done.
    pub(super) fn ask_vehicles(&self) {
        let Some(absence) = self.measured.absence() else { return };
        let now = Instant::now();
        let mut vehicles = self.mobile_peers();
        vehicles.retain(|host| self.agent.heard.flies(host, now));
        vehicles.truncate(MOST_VEHICLES);
        if !vehicles.is_empty() {
            let (agent, steps) = (self.agent.clone(), self.steps.clone());
            let migration = self.task().migration.clone();
            self.agent.spawn(agent.add_flights(migration, steps, absence, vehicles));
        }
    }
}

impl Agent {
    async fn add_flights(
        self: Arc<Self>,
        migration: MigrationId,
        steps: Steps,
        absence: Absence,
        vehicles: Vec<HostName>,
    ) {
        tokio::time::sleep(absence.left(Timestamp::now())).await;
        let flights = join_all(vehicles.iter().map(|host| self.flown(host, absence))).await;
        let flights: Vec<FlightReport> = flights.into_iter().flatten().collect();
        if let Some(record) = self.history.amend(&migration, |record| amended(record, flights)).await {
            // Whoever follows asks for the record again.
            steps.whole_ended(record.outcome, record.reason.as_ref());
        }
    }

    /// How a host's vehicle flew, as far as it says.
    async fn flown(&self, host: &HostName, absence: Absence) -> Option<FlightReport> {
        let asked = async {
            let clock = self.requests.clock_offset(host).await?;
            self.requests.ask(host, &Request::Flight(absence.times(clock.offset_us)), QUICK).await
        };
        match asked.await {
            Ok(Reply::Flight(report)) => report.map(|report| FlightReport { host: host.clone(), ..report }),
            Ok(_) => None,
            Err(refusal) => {
                tracing::warn!(%host, %refusal, "how the vehicle there flew is not known");
                None
            }
        }
    }
}

fn amended(record: &Record, flights: Vec<FlightReport>) -> Option<Record> {
    (!flights.is_empty() && record.flights != flights).then(|| Record { flights, ..record.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENCE: Absence =
        Absence { begun: Timestamp(60_000_000), frozen: Timestamp(63_000_000), back: Timestamp(64_000_000) };

    #[test]
    fn the_times_are_on_the_vehicles_clock() {
        let times = ABSENCE.times(-2_500_000);
        assert_eq!((times.begun.0, times.frozen.0, times.until.0), (57_500_000, 60_500_000, 69_500_000));
        assert_eq!(ABSENCE.times(0).until, Timestamp(72_000_000));
    }

    #[test]
    fn the_vehicles_are_asked_once_the_flight_has_settled_and_at_once_where_it_has() {
        assert_eq!(ABSENCE.left(Timestamp(65_000_000)), Duration::from_millis(7500));
        assert_eq!(ABSENCE.left(Timestamp(90_000_000)), LATER);
    }
}
