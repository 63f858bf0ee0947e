//! The workloads, as data: what is in the image, what runs in the container, which client looks at it. Everything else treats
//! them alike; a new one is a row here.

use crate::client::ClientKind;
use crate::error::LabError;

/// One workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Its name; also its image's: `localhost/NAME`.
    pub name: &'static str,
    /// Programs of the root file system that go into the image, with the libraries they name.
    pub programs: &'static [&'static str],
    /// Further files in the image: path and content.
    pub files: &'static [(&'static str, &'static str)],
    /// What the container runs.
    pub command: &'static [&'static str],
    /// The TCP port it listens on.
    pub port: u16,
    /// A program of the project's own that it needs in `LabConfig::binaries`.
    pub own_binary: Option<&'static str>,
    /// The client that looks at it from outside, if there is one.
    pub client: Option<ClientKind>,
}

/// All workloads.
pub static WORKLOADS: [Workload; 10] = [
    Workload {
        name: "sockperf",
        programs: &["/usr/bin/sockperf"],
        command: &["sockperf", "server", "--tcp", "-i", "0.0.0.0", "-p", "11111"],
        port: 11111,
        client: Some(ClientKind::Sockperf),
        ..EMPTY
    },
    Workload {
        name: "iperf3",
        programs: &["/usr/bin/iperf3"],
        command: &["iperf3", "-s"],
        port: 5201,
        client: Some(ClientKind::Iperf3),
        ..EMPTY
    },
    Workload {
        name: "counter",
        programs: &["/usr/local/bin/mose-counter"],
        command: &["mose-counter", "serve"],
        port: 7070,
        client: Some(ClientKind::Counter),
        own_binary: Some("mose-counter"),
        ..EMPTY
    },
    Workload {
        name: "holdall",
        programs: &["/usr/local/bin/mose-holdall"],
        command: &["mose-holdall", "serve"],
        port: 7171,
        own_binary: Some("mose-holdall"),
        ..EMPTY
    },
    Workload {
        name: "redis",
        programs: &["/usr/bin/redis-server", "/usr/bin/redis-cli"],
        command: &["redis-server", "--save", "", "--bind", "0.0.0.0", "--protected-mode", "no"],
        port: 6379,
        client: Some(ClientKind::Redis),
        ..EMPTY
    },
    Workload {
        name: "memcached",
        programs: &["/usr/bin/memcached"],
        command: &["memcached", "-u", "root", "-l", "0.0.0.0"],
        port: 11211,
        client: Some(ClientKind::Memcached),
        ..EMPTY
    },
    Workload {
        name: "mosquitto",
        programs: &["/usr/sbin/mosquitto"],
        files: &[("/etc/mosquitto.conf", "listener 1883 0.0.0.0\nallow_anonymous true\nuser root\n")],
        command: &["mosquitto", "-c", "/etc/mosquitto.conf"],
        port: 1883,
        ..EMPTY
    },
    Workload {
        name: "autopilot",
        programs: &["/usr/local/bin/mose-autopilot"],
        command: &["mose-autopilot"],
        port: 5760,
        client: Some(ClientKind::Autopilot),
        own_binary: Some("mose-autopilot"),
        ..EMPTY
    },
    Workload {
        name: "holder",
        programs: &["/usr/local/bin/mose-holder"],
        command: &["mose-holder", "hold"],
        own_binary: Some("mose-holder"),
        ..EMPTY
    },
    Workload {
        name: "busybox",
        files: &[("/www/index.html", "MOSE\n")],
        command: &["busybox", "httpd", "-f", "-p", "80", "-h", "/www"],
        port: 80,
        ..EMPTY
    },
];

const EMPTY: Workload =
    Workload { name: "", programs: &[], files: &[], command: &[], port: 0, own_binary: None, client: None };

impl Workload {
    /// The workload of this name.
    ///
    /// # Errors
    /// There is none; the error lists those there are.
    pub fn named(name: &str) -> Result<&'static Workload, LabError> {
        WORKLOADS.iter().find(|w| w.name == name).ok_or_else(|| LabError::UnknownService {
            name: name.to_owned(),
            known: WORKLOADS.map(|w| w.name).join(", "),
        })
    }

    /// The client that looks at it.
    ///
    /// # Errors
    /// It has none; the error lists the workloads that have.
    pub fn client_kind(&self) -> Result<ClientKind, LabError> {
        self.client.ok_or_else(|| {
            let known: Vec<_> = WORKLOADS.iter().filter(|w| w.client.is_some()).map(|w| w.name).collect();
            LabError::NoClient { name: self.name.to_owned(), known: known.join(", ") }
        })
    }

    /// Its image.
    pub fn image(&self) -> String {
        format!("localhost/{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_ours_is_brought_to_the_hosts() {
        for program in WORKLOADS.iter().filter_map(|workload| workload.own_binary) {
            assert!(crate::config::OWN_BINARIES.contains(&program), "{program} is not in OWN_BINARIES");
        }
    }

    #[test]
    fn an_unknown_workload_is_answered_with_the_known_ones() {
        let error = Workload::named("doom").unwrap_err().to_string();
        assert!(WORKLOADS.iter().all(|w| error.contains(w.name)), "{error}");
    }

    #[test]
    fn a_client_bears_the_name_of_its_workload() {
        for workload in WORKLOADS {
            assert!(workload.client.is_none_or(|client| client.name() == workload.name), "{workload:?}");
        }
    }

    #[test]
    fn a_workload_without_a_client_is_answered_with_those_that_have_one() {
        assert_eq!(Workload::named("redis").unwrap().client_kind().unwrap(), ClientKind::Redis);
        let error = Workload::named("busybox").unwrap().client_kind().unwrap_err().to_string();
        assert!(error.contains("`busybox`") && error.contains("iperf3, counter"), "{error}");
        assert!(!error.contains("mosquitto"), "{error}");
    }
}
