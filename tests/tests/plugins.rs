//! The plugins of this repository in a gateway. What each does in detail is tested beside it.

use aws_lc_rs::{
    digest, hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use stile_tests::{
    client::{Answer, Client, HOST, request, with},
    gateway::{Gateway, service},
    guest::plugin_with,
    upstream::{self, Upstream},
};

const KEY: &str = "a-key-of-the-file-itself";
const SECRET: &str = "a-secret-of-the-file";

fn config(plugin: Value, services: Value, listener: Value, route: Value) -> Value {
    let credentials = json!([
        { "id": "key", "type": "api-key", "key": KEY },
        { "id": "secret", "type": "hmac", "key_id": "k", "secret": SECRET },
    ]);
    json!({
        "listeners": [{ "name": "public", "address": "127.0.0.1:0", "filters": listener }],
        "plugins": [plugin],
        "services": services,
        "routes": [{ "name": "all", "service": "echo", "filters": route }],
        "consumers": [{ "name": "ann", "credentials": credentials }],
    })
}

async fn ask(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> Answer {
    Client::connect(gateway.address()).await.send(with(path, fields)).await
}

#[tokio::test]
async fn api_key_auth_lets_consumers_through() {
    let upstream = Upstream::echo().await;
    let plugin = plugin_with("api-key-auth", json!({ "allow": ["consumers"] }));
    let filters = json!([{ "plugin": "api-key-auth", "config": {} }]);
    let config = config(plugin, json!([service("echo", &[upstream.address()])]), json!([]), filters);
    let gateway = Gateway::start(config).await;
    let passed = ask(&gateway, "/", &[("x-api-key", KEY), ("x-consumer", "bob")]).await.json();
    assert_eq!((&passed["headers"]["x-consumer"], &passed["headers"]["x-api-key"]), (&json!("ann"), &Value::Null));
    let refused = ask(&gateway, "/", &[("x-api-key", "wrong")]).await;
    assert_eq!((refused.status.as_u16(), refused.header("www-authenticate")), (401, "ApiKey realm=\"api\""));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn canary_router_sends_some_elsewhere() {
    let (old, new) = (Upstream::named("old").await, Upstream::named("new").await);
    let services = json!([service("echo", &[old.address()]), service("next", &[new.address()])]);
    let canary = json!({ "service": "next", "headers": { "x-canary": "yes" }, "percent": 20, "key": "x-user" });
    let listener = json!([{ "plugin": "canary-router", "config": canary }]);
    let gateway = Gateway::start(config(plugin_with("canary-router", json!({})), services, listener, json!([]))).await;
    assert_eq!(ask(&gateway, "/", &[("x-canary", "yes")]).await.json()["name"], "new");
    let mut client = Client::connect(gateway.address()).await;
    for user in 0..500 {
        client.send(with("/", &[("x-user", &format!("user-{user}"))])).await;
    }
    assert!((60..=140).contains(&(new.count() - 1)), "{} of 500", new.count() - 1);
}

#[tokio::test]
async fn composer_makes_one_answer_of_two_services() {
    let users = Upstream::start(|received| match received.target() {
        "/users/7" => upstream::Answer::text(r#"{"name":"Ann"}"#),
        _ => upstream::Answer::Reply(404, Vec::new(), String::new()),
    })
    .await;
    let orders = Upstream::start(|received| upstream::Answer::text(&format!("[{:?}]", received.target()))).await;
    let echo = Upstream::echo().await;
    let services =
        [("echo", &echo), ("users", &users), ("orders", &orders)].map(|(name, it)| service(name, &[it.address()]));
    let reach = json!({ "allow": ["http-client"], "http": { "services": ["users", "orders"] } });
    let parts = json!({ "user": "service://users/users/{id}", "orders": "service://orders/orders?user={id}" });
    let filters = json!([{ "plugin": "composer", "config": { "path": "/profile/{id}", "parts": parts } }]);
    let gateway = Gateway::start(config(plugin_with("composer", reach), json!(services), json!([]), filters)).await;
    let whole = ask(&gateway, "/profile/7", &[]).await;
    assert_eq!(whole.json(), json!({ "orders": ["/orders?user=7"], "user": { "name": "Ann" } }));
    assert_eq!(ask(&gateway, "/profile/8", &[]).await.status, 404);
    assert_eq!(ask(&gateway, "/other", &[]).await.json()["target"], "/other");
    assert_eq!(echo.count(), 1);
}

/// A request as RFC 9421 would have it signed.
fn signed(nonce: &str, body: &'static str, sent: &'static str) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let created =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970").as_secs();
    let content = format!("sha-256=:{}:", base64(digest::digest(&digest::SHA256, body.as_bytes()).as_ref()));
    let components = r#"("@method" "@authority" "@path" "@query" "content-digest")"#;
    let params = format!(r#"{components};created={created};keyid="k";nonce="{nonce}";alg="hmac-sha256""#);
    let base = format!(
        "\"@method\": POST\n\"@authority\": {HOST}\n\"@path\": /x\n\"@query\": ?a=1\n\"content-digest\": {content}\n\
         \"@signature-params\": {params}"
    );
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), base.as_bytes());
    let (input, signature) = (format!("sig={params}"), format!("sig=:{}:", base64(tag.as_ref())));
    let fields = [("content-digest", &*content), ("signature-input", &input), ("signature", &signature)];
    request("POST", "/x?a=1", &fields, sent)
}

#[tokio::test]
async fn hmac_signature_lets_through_what_was_signed_once() {
    let upstream = Upstream::echo().await;
    let plugin = plugin_with("hmac-signature", json!({ "allow": ["consumers", "crypto", "key-value"] }));
    let services = json!([service("echo", &[upstream.address()])]);
    let config = config(plugin, services, json!([]), json!([{ "plugin": "hmac-signature", "config": {} }]));
    let gateway = Gateway::start(config).await;
    let mut client = Client::connect(gateway.address()).await;
    let passed = client.send(signed("one", "body", "body")).await;
    assert_eq!((&passed.json()["headers"]["x-consumer"], &passed.json()["body"]), (&json!("ann"), &json!("body")));
    for (nonce, sent, detail) in
        [("one", "body", "the signature was used before"), ("two", "bodY", "the body is not what was signed")]
    {
        let refused = client.send(signed(nonce, "body", sent)).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["detail"]), (401, &json!(detail)));
        assert_eq!(refused.header("www-authenticate"), "Signature");
    }
    let mut other = signed("three", "body", "body");
    *other.uri_mut() = "/x?a=2".parse().expect("a path");
    assert_eq!(client.send(other).await.status, 401);
    assert_eq!(upstream.count(), 1);
}

/// A set of one key, and a token that it verifies.
fn issued(pair: &EcdsaKeyPair, claims: &Value) -> (Value, String) {
    let base64 = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let point = pair.public_key().as_ref();
    let key =
        json!({ "kty": "EC", "crv": "P-256", "kid": "one", "x": base64(&point[1..33]), "y": base64(&point[33..]) });
    let header = json!({ "alg": "ES256", "kid": "one" }).to_string();
    let signed = format!("{}.{}", base64(header.as_bytes()), base64(claims.to_string().as_bytes()));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
    (json!({ "keys": [key] }), format!("{signed}.{}", base64(signature.as_ref())))
}

#[tokio::test]
async fn jwt_auth_fetches_keys_and_lets_through_whom_tokens_name() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let claims = json!({ "iss": "https://idp", "sub": "ann-7", "aud": "orders", "exp": 4_000_000_000_u64 });
    let (set, token) = issued(&pair, &claims);
    let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let (_, forged) = issued(&other, &claims);
    let (echo, keys) =
        (Upstream::echo().await, Upstream::start(move |_| upstream::Answer::text(&set.to_string())).await);
    let reach = json!({
        "allow": ["consumers", "crypto", "http-client", "key-value"],
        "http": { "hosts": [format!("http://{}", keys.address())] },
    });
    let filter = json!({
        "issuer": "https://idp", "audiences": ["orders"], "algorithms": ["ES256"], "claims": { "x-subject": "sub" },
        "jwks_url": format!("http://{}/keys", keys.address()),
    });
    let services = json!([service("echo", &[echo.address()])]);
    let filters = json!([{ "plugin": "jwt-auth", "config": filter }]);
    let mut config = config(plugin_with("jwt-auth", reach), services, json!([]), filters);
    let named = json!({ "id": "token", "type": "jwt", "issuer": "https://idp", "subject": "ann-7" });
    config["consumers"] = json!([{ "name": "ann", "credentials": [named] }]);
    let gateway = Gateway::start(config).await;
    let by = async |token: &str| ask(&gateway, "/", &[("authorization", &format!("Bearer {token}"))]).await;
    for _ in 0..10 {
        let passed = by(&token).await;
        assert_eq!(passed.status, 200, "{}", passed.text());
        assert_eq!(passed.json()["headers"]["x-subject"], "ann-7");
    }
    let refused = by(&forged).await;
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").starts_with("Bearer error=\"invalid_token\""), "{refused:?}");
    assert_eq!((echo.count(), ask(&gateway, "/", &[]).await.status.as_u16()), (10, 401));
    // Once for the tick, and perhaps once for the first token.
    assert!((1..=2).contains(&keys.count()), "{}", keys.count());
}
