//! Filters on routes: what they may do to an exchange, in which order, and what becomes of it when they fail.

use serde_json::json;
use stile_tests::{
    gateway::{Gateway, filtered},
    guest::plugin,
    upstream::Upstream,
};

#[tokio::test]
async fn a_filter_edits_both_heads() {
    let upstream = Upstream::echo().await;
    let filters = json!([{ "plugin": "stamp", "config": { "mark": "a" } }]);
    let gateway = Gateway::start(filtered(upstream.address(), json!([plugin("stamp")]), filters)).await;
    let answer = gateway.get("/x").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-stamp"), "0/a");
    assert_eq!(answer.json()["headers"]["x-stamp"], "0/a");
}
