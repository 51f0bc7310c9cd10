//! Bearer tokens and roles: who may call what. Tokens are compared by their digests, so that time tells nothing.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::{
        Method, StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;

use super::{Admin, Problem};
use crate::{
    config::schema::{Role, Token},
    plugin::Digest256,
};

/// How much of a refused body is read, and for how long.
const UNREAD: usize = 16 << 20;
const UNREAD_TIME: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Tokens(Vec<(Digest256, String, Role)>);

impl Tokens {
    pub(crate) fn new(tokens: &[Token]) -> Self {
        let entry = |token: &Token| (Digest256::of(token.secret.as_bytes()), token.name.clone(), token.role);
        Self(tokens.iter().map(entry).collect())
    }

    fn role(&self, presented: &str) -> Option<(&str, Role)> {
        let digest = Digest256::of(presented.as_bytes());
        self.0.iter().find(|(known, ..)| *known == digest).map(|(_, name, role)| (name.as_str(), *role))
    }
}

/// Lets a request pass that has a token with a role for it.
pub(super) async fn check(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    match permit(&admin, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            // A connection closed with unread data is reset, and the reset may overtake the refusal.
            let mut body = Limited::new(request.into_body(), UNREAD);
            let _ = timeout(UNREAD_TIME, async { while let Some(Ok(_)) = body.frame().await {} }).await;
            refusal
        }
    }
}

#[expect(clippy::result_large_err, reason = "an answer is what axum takes")]
fn permit(admin: &Admin, request: &Request) -> Result<(), Response> {
    let presented = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    let Some((name, role)) = presented.and_then(|token| admin.tokens.role(token)) else {
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "a bearer token of this gateway is needed");
        return Err(([(WWW_AUTHENTICATE, "Bearer")], problem).into_response());
    };
    if !may(role, request.method()) {
        let problem = Problem::new(StatusCode::FORBIDDEN, format!("the role of token \"{name}\" is too small"));
        return Err(problem.into_response());
    }
    if !is_reading(request.method()) {
        tracing::info!(token = name, method = %request.method(), path = request.uri().path(), "admin call");
    }
    Ok(())
}

/// The scheme is compared without regard to case (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn may(role: Role, method: &Method) -> bool {
    match role {
        Role::Admin | Role::Publisher => true,
        Role::Viewer => is_reading(method),
    }
}

fn is_reading(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}
