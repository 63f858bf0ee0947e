//! What an agent heard last of another: all that can be told of a host once it does not answer.

use mose_pam::Millis;
use serde::{Deserialize, Serialize};

use crate::HostName;
use crate::agent::{Hello, ServiceInfo};
use crate::link::LinkMetrics;

/// The most hosts that an agent remembers.
pub const MAX_HOSTS: usize = 256;

/// The longest telemetry, in bytes as it came, of which more is remembered than that it came.
pub const MAX_REMEMBERED: usize = 256 << 10;

/// The most that an answer holds of what hosts told, in bytes of JSON: well below the largest message.
pub const MAX_ANSWER: usize = 3 << 20;

/// What was heard last of a host. Times are told as how long ago they were, by a clock that nobody sets, so that no two hosts' clocks need
/// agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// The host.
    pub host: HostName,
    /// How long ago its last telemetry came.
    pub ago: Millis,
    /// How it introduced itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello: Option<Box<Hello>>,
    /// What ran there by the last telemetry whose container engine answered; `None` where none did, or where it is left out for its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<HeardServices>,
    /// Its links by its last telemetry; `None` where they are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<Vec<LinkMetrics>>,
    /// What the agent that says all this knows itself of its own link to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub towards: Option<LinkMetrics>,
}

/// What ran on a host, and how long ago it said so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeardServices {
    /// How long ago.
    pub ago: Millis,
    /// What ran.
    pub services: Vec<ServiceInfo>,
}

#[cfg(test)]
mod tests {
    use crate::{RefusalCode, Reply, Request, Response, Timestamp, envelope};

    #[test]
    fn what_a_later_release_adds_does_not_hide_what_was_heard() {
        let text = r#"{"version":2,"body":{"Ok":{"heard":{"at":7,"hosts":[{"host":"edge-b","ago":34000.0,"mood":"good"}]}}}}"#;
        let Ok(Ok(Reply::Heard { at, hosts })) = envelope::open::<Response>(text.as_bytes()) else {
            panic!("{text} is not read")
        };
        assert_eq!((at, hosts[0].host.as_str(), hosts[0].ago.0), (Timestamp(7), "edge-b", 34_000.0));
        assert_eq!((&hosts[0].services, &hosts[0].links), (&None, &None));
    }

    #[test]
    fn the_request_is_one_that_an_agent_of_an_earlier_release_refuses_as_unreadable() {
        let sealed = envelope::seal(&Request::Heard).unwrap();
        assert_eq!(std::str::from_utf8(&sealed).unwrap(), r#"{"version":2,"body":"heard"}"#);
        // To such an agent it is what this is to this one.
        let later = envelope::open::<Request>(br#"{"version":2,"body":"of-a-later-release"}"#);
        assert_eq!(later.unwrap_err().code, RefusalCode::Malformed);
    }
}
