//! Services that were moved by hand, without the agents: their records are kept beside those of migrations, for comparison.

use mose_protocol::record::{MOST_ANSWERS, Outcome, Record};
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Response};

use crate::agent::Agent;

/// The most clients and vehicles that such a record may tell of.
const MOST_SEEN: usize = 16;

impl Agent {
    /// Keeps such a record, and tells whoever follows migrations that it is there.
    pub(crate) async fn note(&self, record: Record) -> Response {
        fits(&record, &self.config.host)?;
        if self.history.get(&record.migration).is_some_and(|known| !known.by_hand) {
            return Err(malformed(&format!("{} is a migration of the agents", record.migration)));
        }
        let record = Record { simulated: !self.surroundings.measured(), ..record };
        let steps = self.steps.of(&record.migration);
        self.history.add(record).await;
        steps.whole_ended(Outcome::Done, None);
        Ok(Reply::Ok)
    }
}

fn malformed(reason: &str) -> Refusal {
    Refusal::new(RefusalCode::Malformed, format!("that is no record of a move by hand: {reason}"), "")
}

/// Whether a record is one of a move by hand from this host: no agent measured it, and nobody may say that one did.
fn fits(record: &Record, host: &HostName) -> Result<(), Refusal> {
    let measured = !record.steps.is_empty() || !record.rounds.is_empty() || record.forecast.is_some();
    let clients = &record.downtime.clients;
    let long = clients.len() > MOST_SEEN
        || record.flights.len() > MOST_SEEN
        || clients.iter().any(|client| client.answers_ms.len() > 2 * MOST_ANSWERS);
    let wrong = if !record.by_hand {
        "it does not say so"
    } else if &record.from != host {
        "it began at another host"
    } else if record.outcome != Outcome::Done || record.rehearsal.is_some() || record.reason.is_some() {
        "the service was not moved"
    } else if measured {
        "it tells of what only agents do"
    } else if long {
        "it tells of too many clients, answers or vehicles"
    } else if !record.duration.0.is_finite() || record.duration.0 < 0.0 {
        "its duration is no time"
    } else {
        return Ok(());
    };
    Err(malformed(wrong))
}

#[cfg(test)]
mod tests {
    use mose_pam::Millis;
    use mose_protocol::Timestamp;
    use mose_protocol::record::{ClientGap, StepTime};
    use mose_protocol::step::Step;

    use super::*;

    fn record() -> Record {
        let way = ("edge-a".parse().unwrap(), "edge-b".parse().unwrap());
        let (id, service) = ("m1".parse().unwrap(), "web".parse().unwrap());
        Record::by_hand(id, service, way, Timestamp(1_000_000), Millis(2500.0))
    }

    #[test]
    fn only_what_was_moved_by_hand_from_here_is_kept() {
        let here: HostName = "edge-a".parse().unwrap();
        fits(&record(), &here).unwrap();
        let step = StepTime {
            host: here.clone(),
            step: Step::Freeze,
            start: Millis(0.0),
            took: Millis(1.0),
            bytes: None,
            detail: None,
        };
        let client: ClientGap = serde_json::from_value(
            serde_json::json!({"host": "uav", "gap": 2000.0, "packets": 0, "resets": 0, "accepted": 0}),
        )
        .unwrap();
        let told = |clients: Vec<ClientGap>| {
            let mut told = record();
            told.downtime.clients = clients;
            told
        };
        fits(&told(vec![client.clone()]), &here).unwrap();
        let answers = ClientGap { answers_ms: vec![Millis(1.0); 2 * MOST_ANSWERS + 1], ..client.clone() };
        for (wrong, why) in [
            (Record { by_hand: false, ..record() }, "does not say so"),
            (Record { from: "edge-b".parse().unwrap(), ..record() }, "another host"),
            (Record { outcome: Outcome::RolledBack, ..record() }, "not moved"),
            (Record { steps: vec![step], ..record() }, "only agents do"),
            (told(vec![client; MOST_SEEN + 1]), "too many"),
            (told(vec![answers]), "too many"),
            (Record { duration: Millis(f64::NAN), ..record() }, "no time"),
        ] {
            let refusal = fits(&wrong, &here).unwrap_err();
            assert!(refusal.code == RefusalCode::Malformed && refusal.reason.contains(why), "{refusal}");
        }
    }
}
