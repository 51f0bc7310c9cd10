//! Bearer tokens and roles: who may call what. Tokens are compared by their digests, so that time tells nothing.

mod attempts;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    RequestPartsExt,
    extract::{ConnectInfo, RawPathParams, Request, State},
    http::{
        HeaderValue, Method, StatusCode,
        header::{AUTHORIZATION, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE},
        request::Parts,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body::Body;
use tokio::time::Instant;

use self::attempts::Attempts;
use super::{
    Admin, Problem,
    operations::{Bound, Needs},
};
use crate::{
    config::schema::{Role, Token},
    plugin::Digest256,
};

#[derive(Debug)]
pub(crate) struct Tokens {
    known: Vec<(Digest256, Actor)>,
    attempts: Attempts,
}

/// Whose token a request came with.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    /// Of the role `service`: what it may announce, and what it may find beside that.
    pub(crate) services: Arc<Services>,
}

/// Names of services; `*` is all.
#[derive(Debug, Default)]
pub(crate) struct Services {
    own: Vec<String>,
    discover: Vec<String>,
}

impl Tokens {
    pub(crate) fn new(tokens: &[Token]) -> Self {
        let entry = |token: &Token| {
            let services = Services { own: token.services.clone(), discover: token.discover.clone() };
            let actor = Actor { name: token.name.as_str().into(), role: token.role, services: services.into() };
            (Digest256::of(token.secret.as_bytes()), actor)
        };
        Self { known: tokens.iter().map(entry).collect(), attempts: Attempts::default() }
    }

    fn actor(&self, presented: Digest256) -> Option<&Actor> {
        self.known.iter().find(|(known, _)| *known == presented).map(|(_, actor)| actor)
    }
}

impl Actor {
    /// Whether it may call an operation that needs this, about the service of this name.
    fn may(&self, needs: Needs, name: Option<&str>) -> bool {
        match (self.role, needs.bound, name) {
            (Role::Service, Some(Bound::Own), Some(name)) => self.services.owns(name),
            (Role::Service, Some(Bound::Discover), Some(name)) => self.services.discovers(name),
            (Role::Service, Some(Bound::Filtered), _) => true,
            (Role::Service, ..) => false,
            (role, ..) => rank(role) >= rank(needs.role),
        }
    }
}

impl Services {
    fn owns(&self, name: &str) -> bool {
        self.own.iter().any(|own| own == "*" || own == name)
    }

    pub(crate) fn discovers(&self, name: &str) -> bool {
        self.owns(name) || self.discover.iter().any(|known| known == "*" || known == name)
    }
}

/// Lets a request pass that has a token that may call this.
pub(super) async fn check(
    needs: Needs,
    State(admin): State<Admin>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let params = parts.extract::<RawPathParams>().await.ok();
    let name = params.as_ref().and_then(|params| params.iter().find(|(key, _)| *key == "name"));
    match permit(&admin, needs, client, &parts, name.map(|(_, name)| name)) {
        Ok(actor) => {
            parts.extensions.insert(actor);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(mut refusal) => {
            // The body is not asked for (RFC 9110 §10.1.1), so the connection cannot be used again.
            if !body.is_end_stream() {
                refusal.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            refusal
        }
    }
}

#[expect(clippy::result_large_err, reason = "an answer is what axum takes")]
fn permit(
    admin: &Admin,
    needs: Needs,
    client: SocketAddr,
    request: &Parts,
    service: Option<&str>,
) -> Result<Actor, Response> {
    let (attempts, now) = (&admin.tokens.attempts, Instant::now());
    let presented = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    let presented = presented.map(|token| Digest256::of(token.as_bytes()));
    if let Some(wait) = attempts.wait(client.ip(), presented, now) {
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens came from this address");
        return Err(([(RETRY_AFTER, wait.as_secs().max(1).to_string())], problem).into_response());
    }
    // Asking without a token is no guess.
    let Some((token, actor)) = presented.and_then(|token| Some((token, admin.tokens.actor(token)?))) else {
        presented.inspect(|token| attempts.wrong(client.ip(), *token, now));
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "a bearer token of this gateway is needed");
        return Err(([(WWW_AUTHENTICATE, "Bearer")], problem).into_response());
    };
    attempts.right(client.ip(), token, now);
    let Actor { name, role, .. } = actor;
    if !actor.may(needs, service) {
        let detail = match (role, needs.bound, service) {
            (Role::Service, Some(_), Some(service)) => {
                format!("token \"{name}\" is not for service \"{}\"", service.escape_debug())
            }
            _ => format!("this takes the role {}, token \"{name}\" has {}", name_of(needs.role), name_of(*role)),
        };
        return Err(Problem::new(StatusCode::FORBIDDEN, detail).into_response());
    }
    if ![Method::GET, Method::HEAD].contains(&request.method) {
        tracing::info!(token = &**name, method = %request.method, path = request.uri.path(), "admin call");
    }
    Ok(actor.clone())
}

pub(super) fn name_of(role: Role) -> &'static str {
    match role {
        Role::Service => "service",
        Role::Viewer => "viewer",
        Role::Publisher => "publisher",
        Role::Admin => "admin",
    }
}

/// Each role may do what those below it may; that of services only what says that they may.
fn rank(role: Role) -> u8 {
    match role {
        Role::Service => 0,
        Role::Viewer => 1,
        Role::Publisher => 2,
        Role::Admin => 3,
    }
}

/// The scheme is compared without regard to case (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
