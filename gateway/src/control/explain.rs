//! What a configuration makes of one request, without serving it: the route, what follows from it, and why no other.
//! It opens no socket, store or module.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, Method, StatusCode, Version, header::HOST};

use crate::{
    config::{Document, Errors, schema},
    exchange::{
        Refusal, RequestHead,
        canonical::{canonical, check_coding, servable},
        headers::remove_hop_by_hop,
        path::strip_prefix,
        query::escaped,
    },
    snapshot::{
        CALL,
        compile::{Explained, explain as explained},
    },
};

/// A request as a client would send it.
#[derive(Debug)]
pub struct Question {
    pub method: Method,
    /// The path and the query.
    pub target: String,
    pub headers: HeaderMap,
}

#[derive(Debug)]
pub struct Explanation<'a> {
    pub outcome: Outcome<'a>,
    /// Normalised; as it came if it has no normal form.
    pub path: String,
    /// Every other route with the reason, the nearest miss first.
    pub passed: Vec<(Cow<'a, schema::Route>, String)>,
    /// Listeners on which it is a page of their portal instead.
    pub pages: Vec<Arc<str>>,
}

#[derive(Debug)]
pub enum Outcome<'a> {
    Served {
        /// None if the path names the service.
        route: Option<Box<schema::Route>>,
        /// In the order they run on a request.
        filters: Vec<schema::Filter>,
        service: &'a schema::Service,
        /// The path that the service sees.
        forwarded: String,
    },
    /// Before any route is looked for.
    Refused(Refusal),
    /// The path has an encoded slash, which this route does not allow.
    EncodedSlash,
    NoRoute,
    /// A version of an API has the path for these methods.
    NoMethod(Vec<Method>),
    /// The path names a service that there is not.
    NoService(String),
}

impl Outcome<'_> {
    /// What the gateway answers by itself.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Served { .. } => None,
            Self::Refused(Refusal::BadRequest(_)) | Self::EncodedSlash => Some(StatusCode::BAD_REQUEST),
            Self::Refused(Refusal::NotImplemented(_)) => Some(StatusCode::NOT_IMPLEMENTED),
            Self::Refused(Refusal::Loop(_)) => Some(StatusCode::LOOP_DETECTED),
            Self::Refused(Refusal::TooManyFields(_)) => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Self::NoMethod(_) => Some(StatusCode::METHOD_NOT_ALLOWED),
            Self::NoRoute | Self::NoService(_) => Some(StatusCode::NOT_FOUND),
        }
    }
}

/// Explains what would become of a request. Its fields are taken as they are: a client that is not trusted has some
/// replaced, such as `X-Forwarded-For`.
///
/// # Errors
///
/// Everything that is wrong with the routes and what they name.
pub fn explain<'a>(document: &'a Document, question: Question) -> Result<Explanation<'a>, Errors> {
    let as_it_came = question.target.split('?').next().unwrap_or_default().to_owned();
    let head = head(question);
    let explained = match explained(&document.config, head.as_ref().ok().map(|(head, _)| head)) {
        Ok(explained) if document.is_sound() => explained,
        Ok(_) => return Err(document.errors(Vec::new())),
        Err(problems) => return Err(document.errors(problems)),
    };
    let (head, encoded_slash) = match head {
        Ok(head) => head,
        Err(refusal) => {
            let (outcome, passed, pages) = (Outcome::Refused(refusal), Vec::new(), Vec::new());
            return Ok(Explanation { outcome, path: as_it_came, passed, pages });
        }
    };
    let path = head.target.path().to_owned();
    let service = |name: &str| document.config.services.iter().find(|service| service.name == name);
    if document.config.listeners.iter().any(|listener| listener.call)
        && let Some(called) = path.strip_prefix(CALL)
    {
        let name = called.split_once('/').map_or(called, |(name, _)| name);
        let outcome = match service(name) {
            None => Outcome::NoService(name.to_owned()),
            Some(service) => {
                let forwarded = strip_prefix(&path, &format!("{CALL}{name}")).unwrap_or_default();
                Outcome::Served { route: None, filters: service.filters.clone(), service, forwarded }
            }
        };
        return Ok(Explanation { outcome, path, passed: Vec::new(), pages: explained.pages });
    }
    let Explained { route, mut passed, allowed, pages } = explained;
    let outcome = match route.and_then(|route| Some((service(&route.service)?, route))) {
        None if allowed.is_empty() => Outcome::NoRoute,
        None => Outcome::NoMethod(allowed),
        Some((_, route)) if encoded_slash && !route.matches.allow_encoded_slash => {
            passed.insert(0, (route, "matches, but does not allow an encoded slash, backslash or NUL".to_owned()));
            Outcome::EncodedSlash
        }
        Some((service, route)) => {
            let prefix = route.rewrite.strip_prefix.as_deref();
            let stripped = prefix.and_then(|prefix| strip_prefix(&path, prefix));
            let filters = route.filters.iter().chain(&service.filters).cloned().collect();
            let forwarded = stripped.unwrap_or_else(|| path.clone());
            Outcome::Served { route: Some(Box::new(route.into_owned())), filters, service, forwarded }
        }
    };
    Ok(Explanation { outcome, path, passed, pages })
}

/// The head in the form that routes are found by, and whether its path hides a separator.
fn head(question: Question) -> Result<(RequestHead, bool), Refusal> {
    let Question { method, target, headers } = question;
    // As the gateway reads a request line.
    let target = match target.split_once('?') {
        Some((path, query)) => format!("{path}?{}", escaped(query)),
        None => target,
    };
    let target = target.parse().map_err(|error| Refusal::BadRequest(format!("the path is not valid: {error}")))?;
    // Only HTTP/1.0 may go without a host.
    let version = if headers.contains_key(HOST) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut head = RequestHead { method, target, version, headers, ..RequestHead::default() };
    servable(&head, true)?;
    check_coding(&head.headers)?;
    let encoded_slash = canonical(&mut head, &mut None)?;
    remove_hop_by_hop(&mut head.headers);
    Ok((head, encoded_slash))
}
