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
    plugin::{Digest256, loader::MAX_MODULE},
};

/// How long the body of a refused request is read.
const READ_AWAY: Duration = Duration::from_secs(5);

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
    let presented = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    let refusal = match presented.and_then(|token| admin.tokens.role(token)) {
        Some((name, role)) if may(role, request.method()) => {
            tracing::debug!(token = name, method = %request.method(), path = request.uri().path(), "admin call");
            return next.run(request).await;
        }
        Some((name, _)) => Problem::new(StatusCode::FORBIDDEN, format!("the role of token \"{name}\" is too small"))
            .into_response(),
        None => {
            let problem = Problem::new(StatusCode::UNAUTHORIZED, "a bearer token of this gateway is needed");
            ([(WWW_AUTHENTICATE, "Bearer")], problem).into_response()
        }
    };
    read_away(request).await;
    refusal
}

/// An answer that overtakes a module still being sent would be lost in the reset that follows it (RFC 9112 §9.6).
async fn read_away(request: Request) {
    let mut body = Limited::new(request.into_body(), MAX_MODULE);
    // Whether it ended, broke off, was too long or too slow: the answer is the same.
    let _ = timeout(READ_AWAY, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}

/// The scheme is compared without regard to case (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn may(role: Role, method: &Method) -> bool {
    match role {
        Role::Admin | Role::Publisher => true,
        Role::Viewer => [Method::GET, Method::HEAD].contains(method),
    }
}
