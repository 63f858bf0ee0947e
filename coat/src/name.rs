//! Names and numbers that both ends, and a restarted agent, must come to by themselves: device names (the kernel allows
//! 15 characters), tunnel identifiers, flow cookies.

use std::net::Ipv4Addr;

use crate::CoatError;

/// The largest epoch: a flow's cookie has 56 bits for it.
pub const MAX_EPOCH: u64 = (1 << 56) - 1;

/// The cookie's first byte: says that the flow is one of ours.
const COOKIE_MARK: u64 = 0x4d << 56;

/// Refuses what could not be a file name, a database value and a word in a log alike.
pub(crate) fn validate(what: &'static str, name: &str) -> Result<(), CoatError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric();
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(allowed);
    if first && name.len() <= 63 && bytes.all(|b| allowed(b) || matches!(b, b'_' | b'.' | b'-')) {
        Ok(())
    } else {
        Err(CoatError::Name { what, name: name.chars().take(80).collect() })
    }
}

/// FNV-1a, 32 bit: short, and the same on every host and in every version.
fn fnv1a(parts: &[&[u8]]) -> u32 {
    parts
        .iter()
        .flat_map(|part| part.iter())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The device of an endpoint that is the bridge's port.
pub(crate) fn endpoint_device(bridge: &str, name: &str) -> String {
    format!("mo-{:08x}", fnv1a(&[bridge.as_bytes(), b"/", name.as_bytes()]))
}

/// The VXLAN device to a host.
pub(crate) fn tunnel_device(bridge: &str, host: &str) -> String {
    format!("mt-{:08x}", fnv1a(&[bridge.as_bytes(), b"/", host.as_bytes()]))
}

/// The VXLAN network identifier between two hosts.
///
/// Linux allows a network identifier once per UDP port and namespace, so a host with two peers cannot use one identifier for
/// both. Each pair gets its own, which both ends derive from the configured one and the two underlay addresses.
pub(crate) fn pair_vni(base: u32, one: Ipv4Addr, other: Ipv4Addr) -> u32 {
    let (low, high) = (one.min(other), one.max(other));
    let hash = fnv1a(&[&base.to_be_bytes(), &low.octets(), &high.octets()]);
    // FNV's own way to 24 bits; 0 is no identifier.
    ((hash >> 24) ^ (hash & 0x00ff_ffff)).max(1)
}

/// The cookie of a wall's flow.
pub(crate) const WALL_COOKIE: u64 = 0x57 << 56;

/// The cookie of the flows of a route.
pub(crate) fn cookie(epoch: u64) -> Result<u64, CoatError> {
    if epoch > MAX_EPOCH {
        return Err(CoatError::Epoch(epoch));
    }
    Ok(COOKIE_MARK | epoch)
}

/// The epoch in a cookie, if it is one of ours.
pub(crate) fn epoch(cookie: u64) -> Option<u64> {
    (cookie & !MAX_EPOCH == COOKIE_MARK).then_some(cookie & MAX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_or_options_are_refused() {
        for good in ["a", "A", "0", "web-1", "a.b_c", &"x".repeat(63)] {
            assert!(validate("an endpoint", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "_a", "a/b", "a b", "é", "a\0", &"x".repeat(64)] {
            assert!(validate("an endpoint", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn device_names_fit_the_kernel_and_differ_by_kind_and_bridge() {
        let device = endpoint_device("br-mose", "service");
        assert!(device.len() <= 15);
        assert_ne!(device, endpoint_device("br-other", "service"));
        assert_ne!(device, tunnel_device("br-mose", "service"));
    }

    #[test]
    fn both_ends_of_a_tunnel_derive_the_same_identifier() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(pair_vni(77, a, b), pair_vni(77, b, a));
        assert_ne!(pair_vni(77, a, b), pair_vni(78, a, b));
        assert!(pair_vni(77, a, b) < 1 << 24);
    }

    #[test]
    fn hosts_of_one_network_get_different_identifiers() {
        let mut seen = std::collections::HashSet::new();
        let mut pairs = 0;
        for a in 1..=20u8 {
            for b in a + 1..=20 {
                pairs += 1;
                seen.insert(pair_vni(77, Ipv4Addr::new(10, 0, 0, a), Ipv4Addr::new(10, 0, 0, b)));
            }
        }
        assert_eq!(seen.len(), pairs);
    }

    #[test]
    fn cookies_keep_the_epoch_and_know_their_own() {
        assert_eq!(epoch(cookie(7).unwrap()), Some(7));
        assert_eq!(epoch(cookie(MAX_EPOCH).unwrap()), Some(MAX_EPOCH));
        assert!(cookie(MAX_EPOCH + 1).is_err());
        assert_eq!(epoch(0), None);
        assert_eq!(epoch(u64::MAX), None);
    }
}
