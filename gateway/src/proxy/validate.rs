//! Whether a request is what the description of its version says of requests.

use std::mem;

use super::Error;
use crate::{
    exchange::{Body, Exchange, body::Uncollected, path::strip_prefix},
    filter::Unread,
    openapi::Invalid,
    snapshot::Route,
};

/// Reads the body where it is described. It is the request as the client has sent it: filters behind the last authenticator have
/// not seen it.
pub(super) async fn validate(route: &Route, exchange: &Exchange, body: &mut Body) -> Result<(), Error> {
    let Some(validation) = &route.validation else { return Ok(()) };
    let path = exchange.request.target.path();
    let stripped = validation.prefix.as_deref().map(|prefix| strip_prefix(path, prefix).ok_or(Invalid::NoPath));
    let stripped = stripped.transpose()?;
    let path = stripped.as_deref().unwrap_or(path);
    let Some(content) = validation.description.check(&exchange.request, path, !body.is_empty())? else { return Ok(()) };
    let whole = match mem::take(body).collect(validation.body, validation.body_timeout).await {
        Ok(whole) => whole,
        Err(Uncollected::TooLarge(unread)) => {
            *body = unread;
            return Err(Error::TooLarge(validation.body));
        }
        Err(Uncollected::TooSlow) => return Err(Unread::SlowRequest.into()),
        Err(Uncollected::Broken(_)) => return Err(Unread::BrokenRequest.into()),
    };
    let checked = content.check(&whole.bytes);
    *body = whole.into();
    Ok(checked?)
}
