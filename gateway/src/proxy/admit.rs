//! Whether who calls may use the version of an API that a route is of, and what the answer says of it.

use std::time::SystemTime;

use http::{HeaderName, HeaderValue};

use super::{Error, ending::Ending};
use crate::{
    access::{Denied, Left, quota_fields},
    exchange::Exchange,
    snapshot::{Route, Snapshot},
};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Before anything is done for it.
pub(super) fn enter(route: &Route, exchange: &mut Exchange) -> Result<(), Error> {
    exchange.notices.extend_from_slice(&route.notices);
    match &route.product {
        Some(product) if product.retired => Err(Error::Retired),
        _ => Ok(()),
    }
}

/// Once it is known who calls.
pub(super) fn admit(snapshot: &Snapshot, route: &Route, exchange: &mut Exchange) -> Result<(), Error> {
    let Some(product) = &route.product else { return Ok(()) };
    let who = exchange.consumer.as_ref().map(|consumer| (consumer.name.as_str(), consumer.groups.as_slice()));
    let admitted = snapshot.access.admit(product, who, SystemTime::now());
    match &admitted {
        Ok(left) => tell(exchange, left),
        Err(Denied::Exceeded(exceeded)) => tell(exchange, &exceeded.left),
        Err(_) => {}
    }
    admitted.map(drop).map_err(Error::NotAdmitted)
}

/// Has it counted as use of the version by who calls.
pub(super) fn count(snapshot: &Snapshot, route: &Route, ending: &mut Ending) {
    let Some(product) = &route.product else { return };
    let consumer = ending.exchange.consumer.as_ref().map(|consumer| consumer.name.as_str());
    ending.used(snapshot.access.usage(product, consumer));
}

fn tell(exchange: &mut Exchange, left: &[Left]) {
    if left.is_empty() {
        return;
    }
    let (policy, limit) = quota_fields(left);
    let fields = [(POLICY, policy), (LIMIT, limit)];
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?)));
    exchange.notices.extend(fields);
}
