//! The hosts, by their agents.

use std::time::Duration;

use futures_util::future::join_all;
use mose_orchestrator::fleet::{Fleet, Seen};
use mose_orchestrator::told::{Silent, ago};
use mose_protocol::agent::Hello;
use mose_protocol::doctor::{Check, bounded};
use mose_protocol::time::ClockOffset;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, Timestamp};

use super::HostReport;

/// How long an agent may take to look at its host; it bounds itself below this.
const LOOK: Duration = Duration::from_secs(35);

/// How long a clock may be asked for.
const CLOCK: Duration = Duration::from_secs(10);

/// Clocks that differ by no more than this (µs) are taken for one.
const SAME_CLOCK: u64 = 100_000;

/// Has the agents of the hosts that are `wanted`, or of all, look at them; the hosts whose agents are live, and what was found. Of
/// silent hosts it is told what the others heard last of them.
///
/// # Errors
/// Where the session fails.
pub async fn examine(fleet: &Fleet, wanted: &[HostName]) -> Result<(Vec<String>, Vec<HostReport>), Refusal> {
    let (seen, silent) = fleet.roll(wanted).await?;
    let heard_of = |host: &HostName| silent.iter().any(|silent| &silent.host == host);
    // An agent that is there and says nothing is not reached.
    let reached = seen.iter().filter(|agent| !heard_of(&agent.host));
    let live: Vec<String> = reached.map(|agent| agent.host.to_string()).collect();
    let is_wanted = |host: &HostName| wanted.is_empty() || wanted.contains(host);
    let unknown = |host: &&HostName| seen.iter().all(|agent| &agent.host != *host) && !heard_of(host);
    let absent = wanted.iter().filter(unknown).map(|host| {
        let remedy = match live.as_slice() {
            [] => format!("start mose-agent on {host}"),
            live => {
                format!("start mose-agent on {host}, or name another host; live are: {}", live.join(", "))
            }
        };
        let check = Check::broken("agent", format!("no agent of a host {host} is live"), remedy);
        HostReport { host: host.clone(), checks: vec![check] }
    });
    let mut reports: Vec<HostReport> = absent.collect();
    let now = Timestamp::now();
    reports
        .extend(silent.iter().filter(|silent| is_wanted(&silent.host)).map(|silent| of_silent(silent, now)));
    let asked = seen.iter().filter(|agent| is_wanted(&agent.host) && !heard_of(&agent.host));
    reports.extend(join_all(asked.map(|agent| report(fleet, agent))).await);
    reports.sort_by(|a, b| a.host.cmp(&b.host));
    Ok((live, reports))
}

async fn report(fleet: &Fleet, agent: &Seen) -> HostReport {
    let host = &agent.host;
    let hello = match &agent.hello {
        Ok(hello) => hello,
        Err(refusal) => {
            let check = Check::broken("agent", &refusal.reason, &refusal.remedy);
            return HostReport { host: host.clone(), checks: vec![check] };
        }
    };
    // The clock first: an agent that is busy with looking answers late.
    let offset = tokio::time::timeout(CLOCK, fleet.clock_offset(host)).await;
    let mut checks = vec![release(hello), clock(host, offset.ok())];
    match fleet.ask_within(host, &Request::Doctor, LOOK).await {
        Ok(Reply::Doctor(found)) => checks.extend(bounded(found)),
        Ok(_) => {
            checks.push(unlooked("the agent gave an answer of another kind", "run the same release on both"))
        }
        Err(refusal) if refusal.code == RefusalCode::Malformed => {
            checks.push(unlooked(
                "the agent does not know how to look at its host",
                "run this console's release there",
            ));
        }
        Err(refusal) => checks.push(unlooked(&refusal.reason, &refusal.remedy)),
    }
    HostReport { host: host.clone(), checks }
}

/// What can be told of a host that does not answer: since when, and what it told before.
fn of_silent(silent: &Silent, now: Timestamp) -> HostReport {
    let Silent { host, refused, last } = silent;
    let Some(last) = last else {
        let check = Check::broken("agent", &refused.reason, &refused.remedy);
        return HostReport { host: host.clone(), checks: vec![check] };
    };
    let agent =
        format!("silent; heard last at {}, {}: {}", clock_time(last.at), ago(last.at, now), refused.reason);
    let mut checks = vec![Check::broken("agent", agent, &refused.remedy)];
    let look = format!("look there with podman ps: what {host} told last is not how it is now");
    checks.push(match &last.services {
        None => Check::unknown("services", "nobody who answers has heard what runs there", look),
        Some((at, services)) => {
            let listed: Vec<String> = services
                .iter()
                .map(|service| format!("{} was {}", service.name, service.state.name()))
                .collect();
            let listed = if listed.is_empty() { "nothing ran there".to_owned() } else { listed.join(", ") };
            Check::unknown("services", format!("last told {}: {listed}", ago(*at, now)), look)
        }
    });
    if let Some(hello) = &last.hello {
        let tools: Vec<String> =
            hello.tools.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let found = format!(
            "when it was met: release {}, {} host at {}{}{}",
            hello.release,
            hello.role.name(),
            hello.underlay,
            if tools.is_empty() { "" } else { ", " },
            tools.join(", ")
        );
        checks.push(Check::unknown("versions", found, ""));
    }
    HostReport { host: host.clone(), checks }
}

fn clock_time(at: Timestamp) -> String {
    let micros = i64::try_from(at.0).unwrap_or_default();
    let at = chrono::DateTime::from_timestamp_micros(micros);
    at.map_or_else(|| "?".to_owned(), |at| at.format("%H:%M:%S UTC").to_string())
}

fn unlooked(reason: &str, remedy: &str) -> Check {
    Check::unknown("host", reason, remedy)
}

fn release(hello: &Hello) -> Check {
    let here = env!("CARGO_PKG_VERSION");
    if hello.release == here {
        return Check::ok("agent", format!("release {here}, {} host", hello.role.name()));
    }
    Check::fallback(
        "agent",
        format!("release {}, and this console is of {here}", hello.release),
        format!("both speak protocol version {}", hello.protocol),
        "run the same release everywhere",
    )
}

/// Whether a host's clock can be taken for this one's; `None` where it did not tell the time soon enough.
fn clock(host: &HostName, offset: Option<Result<ClockOffset, Refusal>>) -> Check {
    const WHAT: &str = "clock";
    let remedy = format!("run chrony or systemd-timesyncd on {host} and here");
    let offset = match offset {
        Some(Ok(offset)) => offset,
        Some(Err(refusal)) => return Check::unknown(WHAT, refusal.reason, refusal.remedy),
        None => {
            return Check::unknown(WHAT, format!("{host} did not tell the time soon enough"), "ask again");
        }
    };
    let ClockOffset { offset_us, uncertainty_us } = offset;
    let shown = format!(
        "{:+.2} ms against this machine's, ± {:.2} ms",
        offset_us as f64 / 1e3,
        uncertainty_us as f64 / 1e3
    );
    let apart = offset_us.unsigned_abs();
    if apart.saturating_add(uncertainty_us) <= SAME_CLOCK {
        Check::ok(WHAT, shown)
    } else if apart.saturating_sub(uncertainty_us) > SAME_CLOCK {
        Check::fallback(
            WHAT,
            shown,
            "records are put on their source's clock, by an offset that the two agents measure before each freeze; `mose \
             watch` shows each host's own time",
            remedy,
        )
    } else {
        Check::unknown(WHAT, format!("{shown}: the way there is too slow to say more"), remedy)
    }
}

#[cfg(test)]
mod tests {
    use mose_protocol::doctor::CheckState;

    use super::*;

    #[test]
    fn a_clock_is_ok_only_if_the_uncertainty_leaves_no_doubt() {
        let host: HostName = "edge-a".parse().unwrap();
        let of = |offset_us, uncertainty_us| {
            clock(&host, Some(Ok(ClockOffset { offset_us, uncertainty_us }))).state
        };
        assert_eq!(of(-3_000, 200), CheckState::Ok);
        assert_eq!(of(-2_000_000, 200), CheckState::Fallback);
        assert_eq!(of(90_000, 20_000), CheckState::Unknown);
        assert_eq!(of(i64::MIN, u64::MAX), CheckState::Unknown);
        assert_eq!(clock(&host, None).state, CheckState::Unknown);
    }
}
