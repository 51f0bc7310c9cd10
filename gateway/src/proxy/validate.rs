//! Whether a request is what the description of its version says of requests.

use std::mem;

use http::header::CONTENT_TYPE;

use super::Error;
use crate::{
    exchange::{Body, BodyError, Exchange, body::Uncollected},
    filter::Unread,
    snapshot::Route,
};

/// Reads the body where it is described. It is the request as the client has sent it: filters behind the last authenticator have
/// not seen it.
pub(super) async fn validate(route: &Route, exchange: &Exchange, body: &mut Body) -> Result<(), Error> {
    let Some(validation) = &route.validation else { return Ok(()) };
    let path = below(exchange.request.target.path(), validation.prefix);
    let Some(described) = validation.description.check(&exchange.request, path)? else { return Ok(()) };
    if body.is_empty() {
        return Ok(described.none()?);
    }
    let headers = &exchange.request.headers;
    let held = match described.of(headers) {
        Ok(None) => return Ok(()),
        // Without a length and a type it may turn out to be none.
        Err(invalid) if headers.contains_key(CONTENT_TYPE) => return Err(invalid.into()),
        held => held,
    };
    let whole = match mem::take(body).collect(validation.body, validation.body_timeout).await {
        Ok(whole) => whole,
        Err(Uncollected::TooLarge(unread)) => {
            *body = unread;
            return Err(Error::TooLarge(validation.body));
        }
        Err(Uncollected::TooSlow | Uncollected::Broken(BodyError::Stalled(_))) => {
            return Err(Unread::SlowRequest.into());
        }
        Err(Uncollected::Broken(_)) => return Err(Unread::BrokenRequest.into()),
    };
    let checked = match held {
        _ if whole.bytes.is_empty() => described.none(),
        Ok(held) => held.map_or(Ok(()), |held| held.check(&whole.bytes)),
        Err(invalid) => Err(invalid),
    };
    *body = whole.into();
    Ok(checked?)
}

/// A path without so many of its first segments, which the route has matched.
fn below(path: &str, segments: usize) -> &str {
    let slash = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').nth(segments);
    slash.map_or(if segments == 0 { path } else { "/" }, |(at, _)| &path[at..])
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn the_prefix_of_a_version_is_taken_off_by_segments() {
        for (path, segments, rest) in [
            ("/users/7", 0, "/users/7"),
            ("/v1/users/7", 1, "/users/7"),
            ("/t/acme/users", 2, "/users"),
            ("/v1", 1, "/"),
            ("/v1/", 1, "/"),
        ] {
            assert_eq!(below(path, segments), rest, "{path}");
        }
    }
}
