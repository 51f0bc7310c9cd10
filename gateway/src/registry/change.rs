//! What servers and operators change of endpoints: registering, heartbeats, deregistering, draining. Each is a commit to the store,
//! and is seen by requests when it returns; a heartbeat is not written.

use std::collections::HashSet;

use super::{Announcement, Registry, RegistryError, record::Subject};
use crate::store::{Commit, Expect, LeaseId, Revision, StoreError};

/// Tries to change an endpoint that others change at the same time.
const TRIES: usize = 16;

impl Registry {
    /// Registers an endpoint, or says anew what it is; true if it was not there. When this returns, requests see it.
    ///
    /// # Errors
    ///
    /// `UnknownService`, `Invalid`, `Full`, `Busy`, `Store`: nothing is changed.
    pub async fn register(&self, service: &str, id: &str, announcement: &Announcement) -> Result<bool, RegistryError> {
        self.service(service)?;
        let mistakes = announcement.mistakes(id);
        if !mistakes.is_empty() {
            return Err(RegistryError::Invalid(mistakes));
        }
        let (member, ttl) = (announcement.member(id), announcement.ttl.0);
        for _ in 0..TRIES {
            let found = self.found(service, id);
            let goes_on = found.as_ref().filter(|it| it.ttl == ttl && self.store.keep_alive(it.lease).is_ok());
            if goes_on.is_some_and(|found| *found.member == member) {
                self.announced(service, &HashSet::from([member.address]));
                return Ok(false);
            }
            let most = self.settings.load().endpoints_per_service;
            if found.is_none() && self.rolls.get(service).is_some_and(|roll| roll.registered.len() >= most) {
                return Err(RegistryError::Full(service.to_owned(), most));
            }
            let lease = match goes_on {
                Some(found) => found.lease,
                None => self.store.grant(ttl).await?,
            };
            let expect = found.as_ref().map_or(Expect::Absent, |found| Expect::At(found.revision));
            let key = Subject::Registered { service, id }.key();
            let mut commit = Commit::new().expect(&*key, expect).put_until(key, announcement.value(), Some(lease));
            if goes_on.is_none() && found.is_some() && self.is_drained(service, id) {
                commit = commit.put_until(Subject::Drained { service, id }.key(), "", Some(lease));
            }
            match self.commit(commit).await? {
                Some(revision) => {
                    self.saw(revision).await?;
                    if let Some(old) = found.as_ref().map(|found| found.lease).filter(|old| *old != lease) {
                        self.take_over(service, id, old, lease).await;
                    }
                    return Ok(found.is_none());
                }
                None if goes_on.is_none() => drop(self.store.revoke(lease).await),
                None => {}
            }
        }
        Err(RegistryError::Busy(service.to_owned(), id.to_owned()))
    }

    /// Ends a lease for another that the registration has now. What fails of it ends by itself, when the old one is over.
    async fn take_over(&self, service: &str, id: &str, old: LeaseId, new: LeaseId) {
        if self.is_drained(service, id) {
            let key = Subject::Drained { service, id }.key();
            let _ = self.commit(Commit::new().expect(&*key, Expect::Present).put_until(key, "", Some(new))).await;
        }
        let _ = self.store.revoke(old).await;
    }

    /// Gives a registration its whole time again. Nothing is written.
    pub fn heartbeat(&self, service: &str, id: &str) -> Result<(), RegistryError> {
        let lease = self.rolls.get(service).and_then(|roll| roll.registered.get(id).map(|record| record.lease));
        let kept = lease.is_some_and(|lease| self.store.keep_alive(lease).is_ok());
        kept.then_some(()).ok_or_else(|| RegistryError::Lapsed(service.to_owned(), id.to_owned()))
    }

    /// Takes a registration away. When this returns, no request begins on it.
    pub async fn deregister(&self, service: &str, id: &str) -> Result<(), RegistryError> {
        let unknown = || RegistryError::UnknownEndpoint(service.to_owned(), id.to_owned());
        let found = self.found(service, id).ok_or_else(unknown)?;
        match self.store.revoke(found.lease).await {
            Ok(revision) => self.saw(revision).await,
            Err(StoreError::NoLease) => Err(unknown()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets an endpoint, of the configuration too, take no new exchanges, or let it take them again. That of a registration ends
    /// with it. When this returns, requests keep to it.
    pub async fn drain(&self, service: &str, id: &str, drained: bool) -> Result<(), RegistryError> {
        let known = self.service(service)?;
        let key = Subject::Drained { service, id }.key();
        for _ in 0..TRIES {
            let found = self.found(service, id);
            // One that is away may come again.
            let lifts = || !drained && self.is_drained(service, id);
            let of_directories = || {
                let roll = self.rolls.get(service);
                roll.is_some_and(|roll| roll.found.values().flatten().any(|member| *member.id == *id))
            };
            if found.is_none()
                && known.listed.fixed.iter().all(|member| *member.id != *id)
                && !of_directories()
                && !lifts()
            {
                return Err(RegistryError::UnknownEndpoint(service.to_owned(), id.to_owned()));
            }
            let mut commit = Commit::new();
            if let Some(found) = &found {
                commit = commit.expect(Subject::Registered { service, id }.key(), Expect::At(found.revision));
            }
            let commit = match drained {
                true => commit.put_until(&*key, "", found.map(|found| found.lease)),
                false => commit.delete(&*key),
            };
            if let Some(revision) = self.commit(commit).await? {
                return self.saw(revision).await;
            }
        }
        Err(RegistryError::Busy(service.to_owned(), id.to_owned()))
    }

    /// None if somebody else was faster; then it has been seen what they did.
    async fn commit(&self, commit: Commit) -> Result<Option<Revision>, RegistryError> {
        match self.store.commit(commit).await {
            Ok(revision) => Ok(Some(revision)),
            Err(StoreError::Conflict { .. } | StoreError::NoLease) => {
                self.saw(self.store.revision()).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
