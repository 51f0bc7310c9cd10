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
    /// Returns the next endpoint by the policy of those that are up; where none is known to be up, of all, as balancing does for
    /// requests. The caller connects to it itself.
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
        let fits = |index: usize| wanted.takes(&table.members[index]);
        let mut cursor = self.cursors.entry(Arc::clone(&known.name)).or_insert_with(|| Cursor::new(0));
        let up = balancer.pick(&mut cursor, |index| table.endpoints[index].is_up() && fits(index));
        let chosen = up.or_else(|| balancer.pick(&mut cursor, fits));
        chosen
            .and_then(|index| table.members.get(index))
            .cloned()
            .ok_or_else(|| RegistryError::NoneUsable(service.to_owned()))
    }
}
