//! Grants: which versions of APIs a consumer may use, and how often. Those of its own come before those of its groups.

use std::{sync::Arc, time::SystemTime};

use dashmap::DashMap;

use super::{
    quota::{Exceeded, Left, Meter, Quotas, Reading},
    table::Lookup,
};

/// A version of an API, as far as it is about who may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    pub api: Arc<str>,
    pub version: Arc<str>,
    pub retired: bool,
    /// It may be used without a grant.
    pub anonymous: bool,
    /// What a grant must have, all of them.
    pub scopes: Box<[Box<str>]>,
}

/// What a consumer may use, or each consumer of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub api: Arc<str>,
    /// None is each version.
    pub version: Option<Arc<str>>,
    pub scopes: Box<[Box<str>]>,
    pub quotas: Quotas,
}

/// Whose grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder<'a> {
    Consumer(&'a str),
    Group(&'a str),
}

/// What has been taken of each grant that has quotas, by each consumer. It outlives grants, so that taking one away and giving
/// it again gives nobody more.
#[derive(Debug, Default)]
pub struct Meters(DashMap<Box<str>, Meter>);

/// Why somebody may not use a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nobody has told who it is.
    Unknown,
    NoGrant,
    /// There is a grant, without these scopes.
    Scopes(Vec<Box<str>>),
    Exceeded(Box<Exceeded>),
}

impl Product {
    fn is_of(&self, grant: &Grant) -> bool {
        grant.api == self.api && grant.version.as_ref().is_none_or(|version| *version == self.version)
    }

    fn lacks(&self, grant: &Grant) -> Vec<Box<str>> {
        self.scopes.iter().filter(|scope| !grant.scopes.contains(scope)).cloned().collect()
    }
}

impl<'a> Holder<'a> {
    pub fn kind(self) -> &'static str {
        match self {
            Self::Consumer(_) => "consumer",
            Self::Group(_) => "group",
        }
    }

    pub fn name(self) -> &'a str {
        let (Self::Consumer(name) | Self::Group(name)) = self;
        name
    }

    /// What its grants are kept under.
    pub(super) fn lookup(self) -> Lookup {
        Lookup::of(self.kind(), &[self.name()])
    }
}

impl Meters {
    pub(super) fn take(
        &self,
        holder: Holder<'_>,
        grant: &Grant,
        consumer: &str,
        now: SystemTime,
    ) -> Result<Vec<Left>, Exceeded> {
        if grant.quotas.is_unlimited() {
            return Ok(Vec::new());
        }
        let version = grant.version.as_deref().unwrap_or("*");
        let key = format!("{consumer}/{}/{}/{}/{version}", holder.kind(), holder.name(), grant.api);
        if let Some(meter) = self.0.get(key.as_str()) {
            return meter.take(&grant.quotas, now);
        }
        // Whoever is first makes it, and holds it while taking.
        self.0.entry(key.into()).or_default().take(&grant.quotas, now)
    }

    /// What each reads, but for those whose windows are over, which are let go of.
    pub fn sweep(&self, now: SystemTime) -> Vec<(Box<str>, Reading)> {
        self.0.retain(|_, meter| !meter.is_over(now));
        self.0.iter().map(|meter| (meter.key().clone(), meter.read())).collect()
    }

    /// Goes on from what was read once.
    pub fn resume(&self, key: &str, reading: Reading) {
        self.0.insert(key.into(), Meter::of(reading));
    }
}

/// The grant that counts: the first that is for this product and has its scopes, one for this version before one for each.
pub(super) fn find<'g>(
    product: &Product,
    held: impl Iterator<Item = (Holder<'g>, &'g [Grant])>,
) -> Result<(Holder<'g>, &'g Grant), Denied> {
    let mut denied = Denied::NoGrant;
    for (holder, grants) in held {
        let mut fitting: Vec<&Grant> = grants.iter().filter(|grant| product.is_of(grant)).collect();
        fitting.sort_by_key(|grant| grant.version.is_none());
        for grant in fitting {
            let lacking = product.lacks(grant);
            if lacking.is_empty() {
                return Ok((holder, grant));
            }
            denied = Denied::Scopes(lacking);
        }
    }
    Err(denied)
}
