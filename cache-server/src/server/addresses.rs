//! How many connections each address has, so that one caller cannot take all of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bits of an IPv6 address that are one subscriber's (RFC 6177): the rest is theirs to vary.
const SUBSCRIBER_BITS: u32 = 64;

/// Connections by address. Its size is bounded by the connections that are open.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    connections: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place among those of its address, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    addresses: Arc<Addresses>,
    counted_as: IpAddr,
}

impl Addresses {
    /// Counts one more connection from `address`, unless it has `max` already.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Place> {
        let counted_as = counted_as(address);
        let mut connections = self.lock();
        let count = connections.entry(counted_as).or_insert(0);
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { addresses: Arc::clone(self), counted_as })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.addresses.lock();
        if let Some(count) = connections.get_mut(&self.counted_as) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.counted_as);
            }
        }
    }
}

/// An IPv4 address, also one in IPv6's clothes, counts for itself; an IPv6 address for its /64.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (u128::BITS - SUBSCRIBER_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let addresses = Arc::new(Addresses::default());
        let first = addresses.take(ip("192.0.2.1"), 2);
        let second = addresses.take(ip("192.0.2.1"), 2);
        assert!(first.is_some() && second.is_some());
        assert!(addresses.take(ip("192.0.2.1"), 2).is_none());
        assert!(addresses.take(ip("192.0.2.2"), 2).is_some(), "another has its own");
        drop(first);
        assert!(addresses.take(ip("192.0.2.1"), 2).is_some());
        drop(second);
        assert!(addresses.lock().is_empty(), "who has none is forgotten");
    }

    #[test]
    fn ipv6_counts_by_network_and_ipv4_in_ipv6_as_ipv4() {
        let addresses = Arc::new(Addresses::default());
        let _one = addresses.take(ip("2001:db8:0:1::1"), 1);
        assert!(addresses.take(ip("2001:db8:0:1:ffff::2"), 1).is_none());
        assert!(addresses.take(ip("2001:db8:0:2::1"), 1).is_some());
        let _two = addresses.take(ip("192.0.2.1"), 1);
        assert!(addresses.take(ip("::ffff:192.0.2.1"), 1).is_none());
    }
}
