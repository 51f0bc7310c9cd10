//! What an OpenAPI document says of requests, compiled: which paths there are, with which parameters and bodies. It collects no
//! body and answers nothing, and nothing is fetched for it.

mod adapt;
mod body;
mod counted;
mod document;
mod parameter;
mod schema;
mod shape;
mod steps;
#[cfg(test)]
mod tests;

use http::{HeaderName, Method};
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;

pub use self::{
    body::{Body, Held},
    document::{At, Document, pattern},
    steps::in_turn,
};
use self::{
    parameter::{Parameter, Sent},
    schema::Schemas,
};
use crate::{
    exchange::{RequestHead, path::normalize_pattern},
    json,
    router::{Router, Rule, RuleCause, Subject},
};

/// So many things that are wrong with one request are told.
const MOST_FINDINGS: usize = 16;

/// A compiled document.
#[derive(Debug)]
pub struct Description {
    paths: Router<usize>,
    items: Vec<Vec<(Method, Operation)>>,
    digest: [u8; 32],
}

/// One method of one path.
#[derive(Debug)]
struct Operation {
    parameters: Vec<Parameter>,
    body: Option<Body>,
}

/// What is wrong with a document, as a JSON Pointer tells where (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{pointer}: {message}")]
pub struct Mistake {
    pub pointer: String,
    pub message: String,
}

/// Why a request is not what the document says of requests.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Invalid {
    #[error("the API has no such path")]
    NoPath,
    #[error("the API has no {method} for this path; it has {}", listed(allowed))]
    NoMethod { method: Method, allowed: Vec<Method> },
    #[error("{0}")]
    MediaType(String),
    #[error("the request is not as the API describes it: {}", told(.0))]
    Findings(Vec<Finding>),
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place} {name}: {message}")]
pub struct Finding {
    /// `path`, `query`, `header`, `cookie` or `body`.
    pub place: &'static str,
    /// Of the parameter; in a body, a JSON Pointer with `#`.
    pub name: String,
    pub message: String,
}

impl Description {
    /// Compiles a document, OpenAPI 3.0 or 3.1.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with what it says of requests.
    pub fn compile(root: &Value) -> Result<Self, Vec<Mistake>> {
        let written = Document::read(root).map_err(|mistake| vec![mistake])?;
        let adapted = adapt::adapted(&written);
        let document = Document::read(&adapted).map_err(|mistake| vec![mistake])?;
        let mut schemas = Schemas::new(&document);
        let (mut paths, mut items, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
        for (path, item) in document.items() {
            // In its one form, by whose segments parameters are found; what has none is refused as a route's is.
            let whole = pattern(path);
            let normal = normalize_pattern(path).unwrap_or_else(|_| path.to_owned());
            match item.and_then(|item| operations(&document, &mut schemas, &normal, &item)) {
                Ok(operations) => {
                    paths.push((path, whole));
                    items.push(operations);
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        let rules = paths.iter().map(|(name, path)| Rule { name, path: Some(path), ..Rule::default() });
        let router = Router::compile(rules.enumerate().map(|(n, rule)| (rule, n))).map_err(|errors| {
            mistakes.extend(errors.into_iter().map(|error| unmatchable(&document, paths[error.rule].0, error.cause)));
        });
        if mistakes.is_empty()
            && let Err(wrong) = schemas.compile()
        {
            mistakes = wrong;
        }
        match router {
            Ok(paths) if mistakes.is_empty() => Ok(Self { paths, items, digest: digest(root) }),
            _ => Err(mistakes),
        }
    }

    /// The header fields that are parameters of some operation.
    pub fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        let operations = self.items.iter().flatten().map(|(_, operation)| operation);
        operations.flat_map(|operation| &operation.parameters).filter_map(Parameter::header_name)
    }

    /// Whether it was compiled from such a document.
    pub fn is_of(&self, root: &Value) -> bool {
        self.digest == digest(root)
    }

    /// Checks the head of a request for a path of the document.
    ///
    /// # Errors
    ///
    /// It is not what the document says.
    pub fn check(&self, head: &RequestHead, path: &str) -> Result<(), Invalid> {
        let operation = self.operation(&head.method, path)?;
        let sent = Sent::new(head, path);
        valid(operation.parameters.iter().flat_map(|it| it.check(&sent)).collect())
    }

    /// Returns what the document says of the body of a request, if anything.
    ///
    /// # Errors
    ///
    /// The document has no such path, or not with this method.
    pub fn body(&self, method: &Method, path: &str) -> Result<Option<&Body>, Invalid> {
        Ok(self.operation(method, path)?.body.as_ref())
    }

    fn operation(&self, method: &Method, path: &str) -> Result<&Operation, Invalid> {
        let subject = Subject { host: "", path, method, query: None, headers: &http::HeaderMap::new() };
        let item = self.paths.find(&subject).and_then(|item| self.items.get(*item)).ok_or(Invalid::NoPath)?;
        let find = |method: &Method| item.iter().find(|(it, _)| it == method);
        // RFC 9110 §9.3.2: HEAD is GET without what comes of it.
        let found = find(method).or_else(|| (*method == Method::HEAD).then(|| find(&Method::GET)).flatten());
        found.map(|(_, operation)| operation).ok_or_else(|| {
            let allowed = item.iter().map(|(method, _)| method.clone()).collect();
            Invalid::NoMethod { method: method.clone(), allowed }
        })
    }
}

fn operations<'a>(
    document: &Document<'a>,
    schemas: &mut Schemas<'a>,
    path: &str,
    item: &At<'a>,
) -> Result<Vec<(Method, Operation)>, Mistake> {
    let all = document.operations(item).map(|(method, operation)| {
        let body = operation.get("requestBody").map(|body| Body::compile(document, schemas, &body));
        let parameters = Parameter::compile(document, schemas, path, item, &operation)?;
        Ok((method, Operation { parameters, body: body.transpose()? }))
    });
    all.collect()
}

/// What is wrong with a path.
fn unmatchable(document: &Document<'_>, path: &str, cause: RuleCause) -> Mistake {
    document.paths().key(path).mistake(match cause {
        RuleCause::Duplicate { first, second, .. } => {
            format!("\"{first}\" and \"{second}\" are the same but for the names of their parts")
        }
        other => other.to_string(),
    })
}

/// No findings, or not too many.
fn valid(mut findings: Vec<Finding>) -> Result<(), Invalid> {
    if findings.is_empty() {
        return Ok(());
    }
    findings.truncate(MOST_FINDINGS);
    Err(Invalid::Findings(findings))
}

/// Whether some branch of a schema allows a list.
pub fn may_be_list(document: &Document<'_>, schema: &At<'_>) -> bool {
    shape::Shape::of(document, schema).list.is_some()
}

/// As the field `Allow` has them.
pub fn listed(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

fn told(findings: &[Finding]) -> String {
    match findings {
        [first] => first.to_string(),
        [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
        [] => String::new(),
    }
}

fn digest(root: &Value) -> [u8; 32] {
    Sha256::digest(root.to_string()).into()
}
