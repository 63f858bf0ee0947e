//! Command-line definitions that more than one command has, in `mose` and in `mose-lab`.

use std::ffi::OsString;

use clap::ValueEnum;
use mose_pam::{Plan, Strategy};
use mose_protocol::handover::PreCopyWay;
use mose_protocol::transfer::TransportKind;

/// The options that all commands share.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Shared {
    /// Zenoh endpoint of an agent, such as tcp/10.0.0.1:7447; may be repeated. Without it: the agents of the lab on
    /// this machine if one is up, else those that multicast finds.
    #[arg(long, global = true, env = "MOSE_CONNECT", value_delimiter = ',', value_parser = endpoint, value_name = "ENDPOINT")]
    pub connect: Vec<String>,
    /// Print JSON: one document, or one per line where things happen over time.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Shared {
    /// These options as words of a command line.
    #[must_use]
    pub fn words(&self) -> Vec<OsString> {
        let json = self.json.then(|| "--json".into());
        let connect = self.connect.iter().flat_map(|endpoint| ["--connect".into(), endpoint.into()]);
        json.into_iter().chain(connect).collect()
    }
}

/// Which way the images go.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Transport {
    /// A data connection of its own, announced over Zenoh.
    Tcp,
    /// Chunks over Zenoh.
    Zenoh,
}

impl From<Transport> for TransportKind {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Zenoh => Self::Zenoh,
        }
    }
}

/// How pre-copy reads the running service.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PreCopy {
    /// The agent reads its pages while it runs: on every kernel.
    Live,
    /// CRIU's chain of pre-dumps: on kernels with soft-dirty bits.
    Chain,
}

impl From<PreCopy> for PreCopyWay {
    fn from(way: PreCopy) -> Self {
        match way {
            PreCopy::Live => Self::Live,
            PreCopy::Chain => Self::Chain,
        }
    }
}

/// A plan in so many words; the iterations count where the strategy has any, and whether they fit is for the agent to say.
#[must_use]
pub fn plan(strategy: Strategy, iterations: Option<u32>) -> Plan {
    let iterations = match strategy {
        Strategy::IterativePrecopy => iterations,
        Strategy::Cold | Strategy::Precopy => None,
    };
    Plan { strategy, iterations, ..Plan::cold() }
}

/// An endpoint of Zenoh, as this release speaks it: over TCP.
fn endpoint(text: &str) -> Result<String, String> {
    let wrong = |fault: &str| Err(format!("{fault}: write tcp/ADDRESS:PORT, such as tcp/192.0.2.11:7447"));
    let Some(place) = text.strip_prefix("tcp/") else {
        return match text.split_once('/') {
            Some((protocol, _)) => wrong(&format!("agents do not speak `{protocol}`")),
            None => wrong("it does not say how to get there"),
        };
    };
    // What follows are Zenoh's own settings of a link.
    let place = place.split(['?', '#']).next().unwrap_or_default();
    match place.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
            Ok(text.to_owned())
        }
        Some(("", _)) => wrong("it names no address"),
        _ => wrong("it names no port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_refused_with_what_it_lacks() {
        for good in [
            "tcp/192.0.2.11:7447",
            "tcp/[2001:db8::1]:7447",
            "tcp/edge-a:7447?prio=6-7",
            "tcp/a:1#iface=eth0",
        ] {
            assert_eq!(endpoint(good).as_deref(), Ok(good));
        }
        for (bad, lacks) in [
            ("192.0.2.11:7447", "how to get there"),
            ("udp/192.0.2.11:7447", "`udp`"),
            ("tcp/192.0.2.11", "no port"),
            ("tcp/192.0.2.11:0", "no port"),
            ("tcp/:7447", "no address"),
            ("", "how to get there"),
        ] {
            let error = endpoint(bad).unwrap_err();
            assert!(error.contains(lacks) && error.contains("tcp/192.0.2.11:7447"), "{bad}: {error}");
        }
    }
}
