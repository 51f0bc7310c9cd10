//! What each client address takes up, over all workers: connections of a listener, bodies in the hands of a filter.

use std::{net::IpAddr, sync::Arc};

use dashmap::DashMap;

/// Counts by address; an address that has nothing takes no room. Its shard locks are held for one look-up.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<DashMap<IpAddr, usize>>);

/// One connection or body, counted until dropped.
#[derive(Debug)]
pub struct Counted {
    clients: Clients,
    address: IpAddr,
}

impl Clients {
    /// Counts one more; `None` if the address has `limit` already.
    pub fn admit(&self, address: IpAddr, limit: usize) -> Option<Counted> {
        if limit == 0 {
            return None;
        }
        let mut count = self.0.entry(address).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Counted { clients: self.clone(), address })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.clients.0.remove_if_mut(&self.address, |_, count| {
            *count -= 1;
            *count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
