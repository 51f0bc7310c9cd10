//! What each client address takes up, over all workers: connections of a listener, bodies in the hands of a filter.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use dashmap::DashMap;

/// Bits of the network that one client of IPv6 has: providers give each client a whole /64 at least (RFC 6177).
const PREFIX: u32 = 64;

/// Counts by client; a client that has nothing takes no room. The shard locks are held for one look-up.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<DashMap<IpAddr, usize>>);

/// One connection or body, counted until dropped.
#[derive(Debug)]
pub struct Counted {
    clients: Clients,
    client: IpAddr,
}

impl Clients {
    /// Counts one more of the client that has this address; `None` if it has `limit` already.
    pub fn admit(&self, address: IpAddr, limit: usize) -> Option<Counted> {
        if limit == 0 {
            return None;
        }
        let client = client(address);
        let mut count = self.0.entry(client).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Counted { clients: self.clone(), client })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.clients.0.remove_if_mut(&self.client, |_, count| {
            *count -= 1;
            *count == 0
        });
    }
}

/// The address that stands for a client: of IPv4 its own, of IPv6 that of its network.
pub fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> PREFIX << PREFIX).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one_client() {
        let clients = Clients::default();
        let admit = |address: &str| clients.admit(address.parse().expect("an address"), 2);
        let _one = admit("2001:db8:0:1::1").expect("first");
        let _other = admit("2001:db8:0:1:ffff:ffff:ffff:ffff").expect("second");
        assert!(admit("2001:db8:0:1::2").is_none());
        assert!(admit("2001:db8:0:2::1").is_some(), "another network");
        let _mapped = admit("::ffff:192.0.2.1").expect("first");
        let _same = admit("192.0.2.1").expect("second");
        assert!(admit("192.0.2.1").is_none(), "the same client, however its address is written");
        assert!(admit("::ffff:192.0.2.2").is_some(), "another client");
    }

    #[test]
    fn counts_each_address_and_forgets_it_with_its_last_connection() {
        let clients = Clients::default();
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let first = clients.admit(a, 2).expect("first");
        let second = clients.admit(a, 2).expect("second");
        assert!(clients.admit(a, 2).is_none());
        let other = clients.admit(b, 2).expect("another address");
        drop(first);
        let third = clients.admit(a, 2).expect("room again");
        drop((second, third, other));
        assert_eq!(clients.0.len(), 0);
    }

    #[test]
    fn a_limit_of_zero_admits_nobody_and_leaves_nothing() {
        let clients = Clients::default();
        assert!(clients.admit(IpAddr::from([192, 0, 2, 1]), 0).is_none());
        assert_eq!(clients.0.len(), 0);
    }
}
