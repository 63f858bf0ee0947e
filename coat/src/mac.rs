//! Ethernet addresses. An endpoint keeps its own wherever it goes, so that no peer's ARP entry goes stale.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The address an endpoint gets when nobody chose one: locally administered, unicast, and the same on every host because
    /// it is made of the IPv4 address (`02:4d` and its four bytes).
    #[must_use]
    pub fn for_address(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x4d, a, b, c, d])
    }

    /// The six bytes, first on the wire first.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether a device can have it: neither a group address nor all zeros.
    #[must_use]
    pub fn is_device(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no MAC address: write six bytes in hexadecimal, as in 02:4d:0a:4d:00:14")]
pub struct MacAddrError(pub String);

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || MacAddrError(text.chars().take(64).collect());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(wrong)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(wrong()),
        }
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for MacAddr {
    type Error = MacAddrError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_agree_both_ways() {
        let mac = MacAddr::for_address(Ipv4Addr::new(10, 77, 0, 20));
        assert_eq!(mac.to_string(), "02:4d:0a:4d:00:14");
        assert_eq!("02:4D:0a:4d:00:14".parse(), Ok(mac));
        assert_eq!(serde_json::to_string(&mac).unwrap(), "\"02:4d:0a:4d:00:14\"");
        assert!(mac.is_device());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "02:4d:0a:4d:00", "02:4d:0a:4d:00:14:15", "2:4d:0a:4d:00:14", "+2:4d:0a:4d:00:14"] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
        assert!(!MacAddr([1, 0, 0x5e, 0, 0, 1]).is_device());
        assert!(serde_json::from_str::<MacAddr>("\"x\"").is_err());
    }
}
