//! What the two services know. Each asks the other for what it does not know itself.

use anyhow::Result;
use serde_json::{Value, json};

use crate::Gateway;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Users,
    Orders,
}

const USERS: [(&str, &str); 2] = [("1", "Ann"), ("2", "Bob")];
/// With the user who ordered.
const ORDERS: [(&str, &str, &str); 3] = [("10", "1", "a chair"), ("11", "1", "a lamp"), ("12", "2", "a table")];

impl Kind {
    /// The name of its service.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Orders => "orders",
        }
    }
}

/// None if there is nothing at this path.
pub(crate) async fn answer(kind: Kind, gateway: &Gateway, path: &str) -> Result<Option<Value>> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    Ok(match (kind, parts.as_slice()) {
        (Kind::Users, ["users", id]) => user(id),
        // What somebody ordered is known elsewhere.
        (Kind::Users, ["users", id, "orders"]) => match user(id) {
            Some(mut user) => {
                let told = gateway.call(Kind::Orders.as_str(), &format!("/orders/of/{id}")).await?;
                user["orders"] = told["orders"].clone();
                Some(user)
            }
            None => None,
        },
        (Kind::Orders, ["orders", "of", user]) => Some(json!({ "orders": orders(|of| of == *user) })),
        // So is who ordered it.
        (Kind::Orders, ["orders", id]) => match ORDERS.iter().find(|(known, ..)| known == id) {
            Some((id, user, item)) => {
                let user = gateway.call(Kind::Users.as_str(), &format!("/users/{user}")).await?;
                Some(json!({ "id": id, "item": item, "user": user["name"] }))
            }
            None => None,
        },
        (_, ["neighbour"]) => {
            let other = if kind == Kind::Users { Kind::Orders } else { Kind::Users };
            Some(json!({ "neighbour": gateway.discover(other.as_str()).await? }))
        }
        _ => None,
    })
}

fn user(id: &str) -> Option<Value> {
    USERS.iter().find(|(known, _)| *known == id).map(|(id, name)| json!({ "id": id, "name": name }))
}

fn orders(of: impl Fn(&str) -> bool) -> Vec<Value> {
    let all = ORDERS.iter().filter(|(_, user, _)| of(user));
    all.map(|(id, _, item)| json!({ "id": id, "item": item })).collect()
}
