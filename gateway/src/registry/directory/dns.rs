//! Names: their addresses, or where their SRV records lead; asked for again when the shortest TTL is over.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, Record, RecordType},
};

use super::Told;
use crate::upstream::Member;

/// However short or long a TTL is.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);
/// What is said not to be there is asked for again.
const NOTHING: Duration = Duration::from_secs(5);

pub(super) struct Dns {
    resolver: TokioResolver,
    name: String,
    port: Option<u16>,
}

impl Dns {
    pub(super) fn new(name: &str, port: Option<u16>, servers: &[SocketAddr]) -> Result<Self, String> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|error| format!("the machine's resolvers are not known: {error}"))?
        } else {
            let server = |address: &SocketAddr| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = address.port();
                    connection
                });
                NameServerConfig::new(address.ip(), true, connections.to_vec())
            };
            let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        // How long something is good for is kept track of here.
        builder.options_mut().cache_size = 0;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        // With a dot at its end: as it is, whatever domains the machine searches.
        let name = if name.ends_with('.') { name.to_owned() } else { format!("{name}.") };
        Ok(Self { resolver, name, port })
    }

    pub(super) async fn next(&self) -> Result<Told, String> {
        let mut ttl = LONGEST;
        let members = match self.port {
            Some(port) => {
                let found = self.addresses(&self.name, &mut ttl).await?;
                found.into_iter().map(|ip| Member::of(SocketAddr::new(ip, port), 1)).collect()
            }
            None => self.services(&mut ttl).await?,
        };
        let wait = if members.is_empty() { NOTHING } else { ttl.max(SHORTEST) };
        Ok(Told { members, wait })
    }

    /// Those of the lowest priority that has addresses.
    async fn services(&self, ttl: &mut Duration) -> Result<Vec<Member>, String> {
        let mut records: Vec<_> = self
            .records(&self.name, RecordType::SRV, ttl)
            .await?
            .into_iter()
            .filter_map(|record| match record.data {
                RData::SRV(srv) => Some(srv),
                _ => None,
            })
            .collect();
        records.sort_by_key(|srv| srv.priority);
        for group in records.chunk_by(|a, b| a.priority == b.priority) {
            let mut members = Vec::new();
            for srv in group {
                let found = self.addresses(&srv.target.to_string(), ttl).await?;
                members.extend(found.into_iter().map(|ip| Member::of(SocketAddr::new(ip, srv.port), srv.weight)));
            }
            if !members.is_empty() {
                return Ok(members);
            }
        }
        Ok(Vec::new())
    }

    async fn addresses(&self, name: &str, ttl: &mut Duration) -> Result<Vec<IpAddr>, String> {
        let mut found = Vec::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            for record in self.records(name, kind, ttl).await? {
                match record.data {
                    RData::A(address) => found.push(address.0.into()),
                    RData::AAAA(address) => found.push(address.0.into()),
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// None where it is said that there are none; an error where nobody could say.
    async fn records(&self, name: &str, kind: RecordType, ttl: &mut Duration) -> Result<Vec<Record>, String> {
        match self.resolver.lookup(name, kind).await {
            Ok(lookup) => {
                let records = lookup.answers().to_vec();
                for record in &records {
                    *ttl = (*ttl).min(Duration::from_secs(record.ttl.into()));
                }
                Ok(records)
            }
            Err(error) if is_nothing(&error) => Ok(Vec::new()),
            Err(error) => Err(format!("{kind} records of {name}: {error}")),
        }
    }
}

fn is_nothing(error: &NetError) -> bool {
    error.is_no_records_found() || error.is_nx_domain()
}
