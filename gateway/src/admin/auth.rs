//! Bearer tokens and roles: who may call what. Tokens are compared by their digests, so that time tells nothing.

mod attempts;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{
        Method, StatusCode,
        header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, Limited};
use tokio::time::{Instant, timeout};

use self::attempts::Attempts;
use super::{Admin, Problem};
use crate::{
    config::schema::{Role, Token},
    plugin::Digest256,
};

/// How much of a refused body is read, and for how long.
const UNREAD: usize = 16 << 20;
const UNREAD_TIME: Duration = Duration::from_secs(1);

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
}

impl Tokens {
    pub(crate) fn new(tokens: &[Token]) -> Self {
        let entry = |token: &Token| {
            let actor = Actor { name: token.name.as_str().into(), role: token.role };
            (Digest256::of(token.secret.as_bytes()), actor)
        };
        Self { known: tokens.iter().map(entry).collect(), attempts: Attempts::default() }
    }

    fn actor(&self, presented: &str) -> Option<&Actor> {
        let digest = Digest256::of(presented.as_bytes());
        self.known.iter().find(|(known, _)| *known == digest).map(|(_, actor)| actor)
    }
}

/// Lets a request pass that has a token with this role or a greater one.
pub(super) async fn check(
    needed: Role,
    State(admin): State<Admin>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    match permit(&admin, needed, client, &request) {
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            next.run(request).await
        }
        Err(refusal) => {
            // A connection closed with unread data is reset, and the reset may overtake the refusal.
            let mut body = Limited::new(request.into_body(), UNREAD);
            let _ = timeout(UNREAD_TIME, async { while let Some(Ok(_)) = body.frame().await {} }).await;
            refusal
        }
    }
}

#[expect(clippy::result_large_err, reason = "an answer is what axum takes")]
fn permit(admin: &Admin, needed: Role, client: SocketAddr, request: &Request) -> Result<Actor, Response> {
    let (attempts, now) = (&admin.tokens.attempts, Instant::now());
    if let Some(wait) = attempts.wait(client.ip(), now) {
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens came from this address");
        return Err(([(RETRY_AFTER, wait.as_secs().max(1).to_string())], problem).into_response());
    }
    let presented = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    let Some(actor) = presented.and_then(|token| admin.tokens.actor(token)) else {
        // Asking without a token is no guess.
        if presented.is_some() {
            attempts.failed(client.ip(), now);
        }
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "a bearer token of this gateway is needed");
        return Err(([(WWW_AUTHENTICATE, "Bearer")], problem).into_response());
    };
    let Actor { name, role } = actor;
    if rank(*role) < rank(needed) {
        let problem = Problem::new(
            StatusCode::FORBIDDEN,
            format!("this takes the role {}, token \"{name}\" has {}", name_of(needed), name_of(*role)),
        );
        return Err(problem.into_response());
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        tracing::info!(token = &**name, method = %request.method(), path = request.uri().path(), "admin call");
    }
    Ok(actor.clone())
}

pub(super) fn name_of(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Publisher => "publisher",
        Role::Admin => "admin",
    }
}

/// Each role may do what those below it may.
fn rank(role: Role) -> u8 {
    match role {
        Role::Viewer => 0,
        Role::Publisher => 1,
        Role::Admin => 2,
    }
}

/// The scheme is compared without regard to case (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
