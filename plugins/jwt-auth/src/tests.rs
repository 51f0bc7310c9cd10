//! The examples of RFC 7515 (appendix A) and RFC 8037 (appendix A.4), and every way to be refused.

use std::cell::Cell;
use std::rc::Rc;

use data_encoding::BASE64URL_NOPAD;
use stile_sdk::{
    crypto::{self, Hash},
    http::{Answer, CallError},
    testing::{self, Filter, json},
};

use super::*;
use crate::jws::Jwk;

const NOW: u64 = 1_700_000_000;
const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const A1: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const A2: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-\
                  SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UT\
                  o7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkM\
                  Ls91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const A2_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5juj\
                            Gbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe\
                            7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8\
                            np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const A4_SIGNATURE: &str = "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSw\
                            FKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";

/// A set's key, and a token that is signed with it.
fn examples() -> [(Value, String); 5] {
    let rsa = json!({ "kty": "RSA", "n": A2, "e": "AQAB" });
    let p256 = json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    let p521 = json!({
        "kty": "EC", "crv": "P-521",
        "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
        "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
    });
    let ed25519 = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    let es256 = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let eddsa = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let hs256 = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    [
        (json!({ "kty": "oct", "k": A1 }), format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}.{hs256}")),
        (rsa, format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.{A2_SIGNATURE}")),
        (p256, format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.{es256}")),
        (p521, format!("eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.{A4_SIGNATURE}")),
        (ed25519, format!("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.{eddsa}")),
    ]
}

fn key(jwk: &Value) -> Key {
    Key::of(serde_json::from_value::<Jwk>(jwk.clone()).unwrap()).unwrap().expect("it is of use")
}

#[test]
fn the_examples_of_the_rfcs_are_verified_by_their_keys_alone() {
    let examples = examples();
    for (n, (jwk, text)) in examples.iter().enumerate() {
        let token = Token::parse(text).unwrap();
        assert!(token.verified(&key(jwk)).is_some(), "example {n}");
        for (m, (other, _)) in examples.iter().enumerate().filter(|(m, _)| *m != n) {
            assert!(token.verified(&key(other)).is_none(), "example {n} by the key of {m}");
        }
        // One bit of the signature, and one of the payload.
        let (rest, signature) = text.rsplit_once('.').unwrap();
        let mut broken = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        broken[10] ^= 1;
        let broken = format!("{rest}.{}", BASE64URL_NOPAD.encode(&broken));
        assert!(Token::parse(&broken).unwrap().verified(&key(jwk)).is_none(), "example {n}, broken");
        let (header, payload) = rest.split_once('.').unwrap();
        let changed = format!("{header}.{}A.{signature}", &payload[..payload.len() - 2]);
        assert!(Token::parse(&changed).is_err() || Token::parse(&changed).unwrap().verified(&key(jwk)).is_none());
    }
}

/// RFC 7515, appendix A.5, and what else asks to be taken at its word.
#[test]
fn what_is_not_signed_is_no_token() {
    for (text, why) in [
        (format!("eyJhbGciOiJub25lIn0.{CLAIMS}."), "the token's algorithm is not known"),
        (made(&json!({ "alg": "None" }), "e30", b""), "the token's algorithm is not known"),
        (made(&json!({ "alg": "hs256" }), "e30", b""), "the token's algorithm is not known"),
        (
            made(&json!({ "alg": "HS256", "crit": ["exp"] }), "e30", b""),
            "the token's header has critical parts that are not understood",
        ),
        (
            made(&json!({ "alg": "HS256", "crit": [] }), "e30", b""),
            "the token's header has critical parts that are not understood",
        ),
        (made(&json!({}), "e30", b""), "the token's header cannot be read"),
        ("e30".to_owned(), "the token has not three parts"),
        ("a.b.c.d".to_owned(), "the token has not three parts"),
        ("a=.e30.".to_owned(), "the token is not in base64url"),
        ("A".repeat(20_000), "the token is too long"),
    ] {
        assert_eq!(Token::parse(&text).map(drop), Err(why), "{text}");
    }
    // Twice the same header is read in two ways by two readers.
    let twice = format!("{}.e30.", BASE64URL_NOPAD.encode(br#"{"alg":"HS256","alg":"none"}"#));
    assert!(Token::parse(&twice).is_err());
}

fn made(header: &Value, payload: &str, signature: &[u8]) -> String {
    format!("{}.{payload}.{}", BASE64URL_NOPAD.encode(header.to_string().as_bytes()), BASE64URL_NOPAD.encode(signature))
}

/// A token with these claims, signed with the secret of example A.1.
fn token(header: &Value, claims: &Value) -> String {
    let payload = BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
    let unsigned = made(header, &payload, b"");
    let secret = BASE64URL_NOPAD.decode(A1.as_bytes()).unwrap();
    let signature = crypto::hmac(Hash::Sha256, &secret, unsigned.trim_end_matches('.').as_bytes());
    made(header, &payload, &signature)
}

fn good() -> Value {
    json!({ "iss": "joe", "sub": "ann", "aud": ["x", "orders"], "exp": NOW + 100, "iat": NOW, "admin": true })
}

fn config() -> Value {
    json!({
        "issuer": "joe", "audiences": ["orders"], "algorithms": ["HS256"], "jwks": { "keys": [{ "kty": "oct", "k": A1 }] },
        "claims": { "x-subject": "sub", "x-admin": "admin" },
    })
}

fn filter(config: Value) -> Filter<JwtAuth> {
    testing::set_time(Duration::from_secs(NOW));
    let mobile = testing::consumer("mobile");
    testing::known(&Presented::Jwt { issuer: "joe", subject: "ann" }, &mobile);
    testing::filter(config).unwrap()
}

fn ask(filter: &Filter<JwtAuth>, token: &str) -> (Identity, Request) {
    let request =
        testing::request("GET", "/").header("authorization", format!("bearer {token}")).header("x-admin", "me");
    filter.authenticate(request).unwrap()
}

fn why(filter: &Filter<JwtAuth>, token: &str) -> Option<String> {
    match ask(filter, token).0 {
        Identity::Refused(refusal) => {
            assert!(refusal.challenges[0].starts_with("Bearer error=\"invalid_token\""), "{refusal:?}");
            Some(refusal.detail)
        }
        _ => None,
    }
}

#[test]
fn a_good_token_tells_who_calls_and_its_claims_go_on() {
    let filter = filter(config());
    let (identity, request) = ask(&filter, &token(&json!({ "alg": "HS256" }), &good()));
    assert_eq!(identity, Identity::Known(testing::consumer("mobile")));
    let (_, request) = filter.request_of(request).unwrap();
    assert_eq!(
        (request.header("x-subject").unwrap(), request.header("x-admin").unwrap()),
        ("ann".into_value(), "true".into_value())
    );
}

#[test]
fn what_a_client_claims_does_not_go_on_whoever_has_told_who_calls() {
    let filter = filter(config());
    let (_, request) = filter.request(testing::request("GET", "/").header("x-subject", "root")).unwrap();
    assert_eq!(request.header("x-subject"), None);
}

trait IntoValue {
    fn into_value(self) -> HeaderValue;
}

impl IntoValue for &str {
    fn into_value(self) -> HeaderValue {
        HeaderValue::new(self).unwrap()
    }
}

#[test]
fn claims_must_hold() {
    let filter = filter(config());
    let header = json!({ "alg": "HS256" });
    for (claim, value, reason) in [
        ("exp", json!(NOW - 60), "the token has expired"),
        ("exp", json!(null), "a time of the token is no number"),
        ("exp", json!("tomorrow"), "a time of the token is no number"),
        ("nbf", json!(NOW + 61), "the token is not good yet"),
        ("iat", json!(NOW + 61), "the token is not good yet"),
        ("iss", json!("jo"), "the token is of another issuer"),
        ("aud", json!("order"), "the token is for somebody else"),
        ("aud", json!(["a", 1]), "the token is for somebody else"),
        ("sub", json!("bob"), "whom it names is not known here"),
    ] {
        let mut claims = good();
        claims[claim] = value.clone();
        assert_eq!(why(&filter, &token(&header, &claims)).as_deref(), Some(reason), "{claim}: {value}");
    }
    let mut claims = good();
    claims.as_object_mut().unwrap().remove("exp");
    assert_eq!(why(&filter, &token(&header, &claims)).unwrap(), "the token does not say when it expires");
    claims["exp"] = json!(NOW as f64 - 59.5);
    assert_eq!(why(&filter, &token(&header, &claims)), None, "within the leeway");
}

#[test]
fn an_algorithm_that_was_not_asked_for_is_refused() {
    // A public key is no secret, whatever the header says (RFC 8725 §2.1).
    let (rsa, signed) = &examples()[1];
    let mut asked = config();
    asked["algorithms"] = json!(["RS256"]);
    asked["jwks"] = json!({ "keys": [rsa] });
    let filter = filter(asked);
    let header = json!({ "alg": "HS256" });
    let reason = "the token's algorithm is not one of those that are taken";
    assert_eq!(why(&filter, &token(&header, &good())).unwrap(), reason);
    assert_eq!(why(&filter, signed).unwrap(), "the token has expired", "its signature is right");
    let mut ps256 = signed.replacen("eyJhbGciOiJSUzI1NiJ9", &BASE64URL_NOPAD.encode(br#"{"alg":"PS256"}"#), 1);
    assert_eq!(why(&filter, &ps256).unwrap(), reason);
    ps256.truncate(10);
    assert!(why(&filter, &ps256).is_some());
}

#[test]
fn no_token_or_another_scheme_is_refused_unless_it_is_optional() {
    let strict = filter(config());
    let mut optional = config();
    optional["optional"] = json!(true);
    let optional = filter(optional);
    let request = || testing::request("GET", "/");
    for request in [request(), request().header("authorization", "Basic YTpi")] {
        let Identity::Refused(refusal) = strict.authenticate(request).unwrap().0 else { panic!() };
        assert_eq!((refusal.status, refusal.challenges), (401, vec!["Bearer".to_owned()]));
    }
    assert_eq!(optional.authenticate(request()).unwrap().0, Identity::Unknown);
    let basic = optional.authenticate(request().header("authorization", "Basic YTpi")).unwrap().0;
    assert!(matches!(basic, Identity::Refused(_)));
    let mut anybody = config();
    anybody["consumer"] = json!("optional");
    let mut claims = good();
    claims["sub"] = json!("bob");
    assert_eq!(ask(&filter(anybody), &token(&json!({ "alg": "HS256" }), &claims)).0, Identity::Unknown);
}

/// An issuer whose set of keys changes.
fn issuer(set: &Rc<Cell<usize>>) -> impl Fn(&stile_sdk::http::Call) -> Result<Answer, CallError> + use<> {
    let (set, asked) = (Rc::clone(set), Cell::new(0));
    move |call| {
        asked.set(asked.get() + 1);
        assert_eq!(call.url, "https://idp/keys");
        let [_, (rsa, _), (p256, _), ..] = examples();
        let named = |mut key: Value, kid: &str| {
            key["kid"] = json!(kid);
            key
        };
        match set.get() {
            0 => Err(CallError::Timeout),
            1 => Ok(Answer::new(200, json!({ "keys": [named(rsa, "one"), { "kty": "new" }, 5] }).to_string())),
            _ => Ok(Answer::new(200, json!({ "keys": [named(p256, "two"), { "kty": "oct", "k": A1 }] }).to_string())),
        }
    }
}

#[test]
fn keys_are_fetched_kept_and_rotated() {
    let set = Rc::new(Cell::new(1));
    let config = json!({ "issuer": "joe", "algorithms": ["RS256", "ES256"], "jwks_url": "https://idp/keys" });
    let filter = filter(config);
    testing::answer_calls(issuer(&set));
    let expired = "the token has expired";
    let [_, (_, rsa), (_, p256), ..] = examples();
    let two = p256.replacen("eyJhbGciOiJFUzI1NiJ9", &BASE64URL_NOPAD.encode(br#"{"alg":"ES256","kid":"two"}"#), 1);
    assert_eq!(why(&filter, &rsa).unwrap(), expired);
    assert_eq!(why(&filter, &p256).unwrap(), "the token's signature is not right", "it is of no key of the set");
    // The issuer rotates: a key that is named and not there is looked for, though not again and again.
    set.set(2);
    assert_eq!(why(&filter, &two).unwrap(), "the token's signature is not right", "the header is another");
    assert_eq!(why(&filter, &p256).unwrap(), expired, "the set is the new one");
    assert_eq!(why(&filter, &rsa).unwrap(), "the token's signature is not right");
    // The issuer is down, and what it said last is good for a day.
    set.set(0);
    testing::set_time(Duration::from_secs(NOW + 700));
    assert_eq!(why(&filter, &p256).unwrap(), expired);
    testing::set_time(Duration::from_secs(NOW + 100_000));
    let request = testing::request("GET", "/").header("authorization", format!("Bearer {p256}"));
    assert!(filter.authenticate(request).is_err(), "nobody knows any more");
    filter.tick().unwrap_err();
    set.set(2);
    filter.tick().unwrap();
    assert_eq!(why(&filter, &p256).unwrap(), expired);
}

#[test]
fn what_a_set_that_is_fetched_has_of_secrets_is_not_used() {
    let config = json!({ "issuer": "joe", "algorithms": ["ES256"], "jwks_url": "https://idp/keys" });
    let filter = filter(config);
    testing::answer_calls(issuer(&Rc::new(Cell::new(2))));
    assert_eq!(
        why(&filter, &token(&json!({ "alg": "HS256" }), &good())).unwrap(),
        "the token's algorithm is not one of those that are taken"
    );
}

#[test]
fn a_configuration_that_proves_nothing_is_refused() {
    let keys = json!({ "keys": [{ "kty": "oct", "k": A1 }] });
    let short = json!({ "keys": [{ "kty": "oct", "k": "c2hvcnQ" }] });
    for config in [
        json!({ "issuer": "joe", "algorithms": [], "jwks": keys }),
        json!({ "issuer": "joe", "algorithms": ["none"], "jwks": keys }),
        json!({ "issuer": "joe", "algorithms": ["HS256"] }),
        json!({ "issuer": "joe", "algorithms": ["HS256"], "jwks": { "keys": [] } }),
        json!({ "issuer": "joe", "algorithms": ["HS256"], "jwks": short }),
        json!({ "issuer": "joe", "algorithms": ["HS256"], "jwks_url": "https://idp/keys" }),
        json!({ "algorithms": ["HS256"], "jwks": keys }),
    ] {
        testing::filter::<JwtAuth>(config.clone()).map(drop).expect_err(&config.to_string());
    }
}

/// Tokens that `tests/jwt/run` has made, and what jwcrypto says of each.
#[test]
#[ignore = "needs tokens that jwcrypto has judged: tests/jwt/run"]
fn jwcrypto_takes_the_same_tokens() {
    let file = std::env::var("STILE_TOKENS").expect("tests/jwt/run says where they are");
    let text = std::fs::read_to_string(file).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for line in text.lines() {
        let judged: Value = serde_json::from_str(line).unwrap();
        let filter = filter(json!({
            "issuer": "https://idp", "audiences": ["orders"], "algorithms": [judged["alg"]],
            "jwks": { "keys": [judged["key"]] }, "consumer": "optional",
        }));
        let reason = why(&filter, judged["token"].as_str().unwrap());
        assert_eq!(reason.is_none(), judged["taken"] == true, "{reason:?}: {line}");
        *if reason.is_none() { &mut taken } else { &mut refused } += 1;
    }
    assert!(taken > 50 && refused > 50, "{taken} taken, {refused} refused");
    println!("{taken} taken and {refused} refused by both");
}
