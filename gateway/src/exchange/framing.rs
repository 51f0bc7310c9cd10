//! What the head of a message says of its framing (RFC 9112 §6), and which heads of services cannot be passed on.

use http::{
    HeaderMap, HeaderName, Method, Response, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body::Body;
use thiserror::Error;

use super::headers::{names_websocket, options, set_length};

/// Why a Transfer-Encoding field cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CodingError {
    /// It is valid, and has a coding besides `chunked`.
    #[error("a transfer coding other than chunked")]
    Unsupported,
    /// An empty coding, `chunked` twice, or another coding behind it (RFC 9112 §6.1).
    #[error("the Transfer-Encoding field is not valid")]
    Invalid,
}

/// Why the head of a service's response cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unsound {
    #[error("its transfer coding is not chunked")]
    Coding,
    #[error("its Content-Length is not one number")]
    Length,
    #[error("its status is {0}")]
    Status(StatusCode),
    #[error("it switches protocols, and the request did not ask for that")]
    Switch,
}

/// Says whether a message is chunked, by all its Transfer-Encoding fields together: they are one list (RFC 9110 §5.3).
///
/// # Errors
///
/// The list is not `chunked` alone.
pub fn is_chunked(headers: &HeaderMap) -> Result<bool, CodingError> {
    let mut fields = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(first) = fields.next() else { return Ok(false) };
    if fields.next().is_none() && first.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Ok(true);
    }
    let codings: Vec<&[u8]> = items(headers, &TRANSFER_ENCODING).collect();
    let before_last = codings.split_last().map_or(&[][..], |(_, before)| before);
    let is_invalid = codings.iter().any(|coding| coding.is_empty())
        || before_last.iter().any(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    Err(if is_invalid { CodingError::Invalid } else { CodingError::Unsupported })
}

/// Checks what hyper does not of the head of a response, and makes its Content-Length one number where no body follows.
///
/// # Errors
///
/// The response cannot be passed on.
pub fn check_response(
    response: &mut Response<impl Body>,
    method: &Method,
    asks_websocket: bool,
) -> Result<(), Unsound> {
    let status = response.status();
    if status.as_u16() >= 600 {
        return Err(Unsound::Status(status));
    }
    if status == StatusCode::SWITCHING_PROTOCOLS && !(asks_websocket && names_websocket(response.headers())) {
        return Err(Unsound::Switch);
    }
    // A body has a known length only where hyper found no coding, and one length.
    if response.body().size_hint().exact().is_some_and(|length| length > 0) {
        return Ok(());
    }
    is_chunked(response.headers()).map_err(|_| Unsound::Coding)?;
    // Where a body follows, hyper has read its length.
    let is_bodyless = *method == Method::HEAD || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    if is_bodyless && let Some(length) = content_length(response.headers())? {
        set_length(response.headers_mut(), length);
    }
    Ok(())
}

/// The one number that all Content-Length fields say.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Unsound> {
    let mut length = None;
    for item in items(headers, &CONTENT_LENGTH) {
        let digits = std::str::from_utf8(item).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let said = digits.and_then(|text| text.parse::<u64>().ok()).ok_or(Unsound::Length)?;
        if length.is_some_and(|length| length != said) {
            return Err(Unsound::Length);
        }
        length = Some(said);
    }
    Ok(length)
}

/// The items of a list-valued field, over all its lines.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().flat_map(options)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn head(name: &HeaderName, lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_static(line))).fold(
            HeaderMap::new(),
            |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            },
        )
    }

    #[test]
    fn all_transfer_codings_are_one_list() {
        for (lines, expected) in [
            (&[][..], Ok(false)),
            (&["Chunked"], Ok(true)),
            (&["gzip", "chunked"], Err(CodingError::Unsupported)),
            (&["gzip, chunked"], Err(CodingError::Unsupported)),
            (&["identity"], Err(CodingError::Unsupported)),
            (&["xchunked"], Err(CodingError::Unsupported)),
            (&["chunked", "chunked"], Err(CodingError::Invalid)),
            (&["chunked", "gzip, chunked"], Err(CodingError::Invalid)),
            (&["chunked, identity"], Err(CodingError::Invalid)),
            (&["chunked,"], Err(CodingError::Invalid)),
            (&[""], Err(CodingError::Invalid)),
        ] {
            assert_eq!(is_chunked(&head(&TRANSFER_ENCODING, lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_length_is_said_once() {
        for (lines, expected) in [
            (&[][..], Ok(None)),
            (&["5"], Ok(Some(5))),
            (&["5", "5, 05"], Ok(Some(5))),
            (&["5", "6"], Err(Unsound::Length)),
            (&["+5"], Err(Unsound::Length)),
            (&["5,"], Err(Unsound::Length)),
            (&["99999999999999999999"], Err(Unsound::Length)),
        ] {
            assert_eq!(content_length(&head(&CONTENT_LENGTH, lines)), expected, "{lines:?}");
        }
    }
}
