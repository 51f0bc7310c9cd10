//! Finding an endpoint of a service by a policy and by its metadata.

use std::sync::Arc;

use super::{Registry, RegistryError};
use crate::{
    balance::{Balancer, Cursor, Policy},
    upstream::Member,
};

/// What is asked for.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Without it, that of the service.
    pub policy: Option<Policy>,
    /// Entries that the endpoint's metadata has, all of them.
    pub metadata: Vec<(String, String)>,
}

/// The next endpoint.
pub type Discovered = Arc<Member>;

impl Wanted {
    fn takes(&self, member: &Member) -> bool {
        self.metadata.iter().all(|(key, value)| member.metadata.get(key.as_str()).is_some_and(|it| it == value))
    }
}

impl Registry {
    /// An endpoint of a service that is usable as far as is known here, the next one by the policy. Who asks connects to it
    /// itself.
    pub fn discover(&self, service: &str, wanted: &Wanted) -> Result<Discovered, RegistryError> {
        let known = self.service(service)?;
        let table = known.table.load_full();
        let policy = wanted.policy.unwrap_or(known.listed.policy);
        let own;
        let balancer = if policy == known.listed.policy {
            &table.balancer
        } else {
            own = Balancer::new(policy, &table.weights);
            &own
        };
        let usable = |index: usize| table.endpoints[index].is_up() && wanted.takes(&table.members[index]);
        let mut cursor = self.cursors.entry(Arc::clone(&known.name)).or_insert_with(|| Cursor::new(0));
        let chosen = balancer.pick(&mut cursor, usable).and_then(|index| table.members.get(index));
        chosen.cloned().ok_or_else(|| RegistryError::NoneUsable(service.to_owned()))
    }
}
