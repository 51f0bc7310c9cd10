//! The example of RFC 9421, and what is refused.

use std::time::Duration;

use stile_sdk::testing::{self, Filter, RequestBuilder, Value, json};

use super::*;

const NOW: u64 = 1_700_000_000;
const SIGNATURE: [u8; 32] = [7; 32];

fn filter(config: Value) -> Filter<HmacSignature> {
    testing::set_time(Duration::from_secs(NOW));
    testing::filter(config).unwrap()
}

fn params(more: &str) -> String {
    format!(r#"("@method" "@path" "@query" "content-digest");created={NOW};keyid="k"{more}"#)
}

fn digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64.encode(&crypto::digest(Hash::Sha256, body)))
}

/// A request that is signed as `params` say, by whoever has the key.
fn signed(params: &str, body: &[u8]) -> RequestBuilder {
    let base = format!(
        "\"@method\": POST\n\"@path\": /x\n\"@query\": ?a=1\n\"content-digest\": {}\n\"@signature-params\": {params}",
        digest(body)
    );
    let presented = Presented::Hmac { key_id: "k", message: base.as_bytes(), signature: &SIGNATURE };
    testing::known(&presented, &testing::consumer("mobile"));
    testing::request("POST", "/x?a=1")
        .header("content-digest", digest(body))
        .header("signature-input", format!("sig={params}"))
        .header("signature", format!("sig=:{}:", BASE64.encode(&SIGNATURE)))
}

fn why(filter: &Filter<HmacSignature>, request: RequestBuilder) -> Option<String> {
    match filter.authenticate(request).unwrap().0 {
        Identity::Known(consumer) => {
            assert_eq!(consumer.name, "mobile");
            None
        }
        Identity::Refused(refusal) => {
            assert_eq!((refusal.status, refusal.challenges.as_slice()), (401, &["Signature".to_string()][..]));
            Some(refusal.detail)
        }
        Identity::Unknown => panic!(),
    }
}

/// RFC 9421, appendix B.2.5.
#[test]
fn the_example_of_the_rfc_is_read_as_it_is() {
    const PARAMS: &str = r#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#;
    let base = [
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT",
        "\"@authority\": example.com",
        "\"content-type\": application/json",
        &format!("\"@signature-params\": {PARAMS}"),
    ]
    .join("\n");
    let secret = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
    let secret = BASE64.decode(secret.as_bytes()).unwrap();
    let signature = crypto::hmac(Hash::Sha256, &secret, base.as_bytes());
    assert_eq!(BASE64.encode(&signature), "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=");

    let filter = filter(json!({ "components": ["@authority"], "replay": "allowed", "label": "sig-b25" }));
    testing::set_time(Duration::from_secs(1_618_884_480));
    let presented = Presented::Hmac { key_id: "test-shared-secret", message: base.as_bytes(), signature: &signature };
    testing::known(&presented, &testing::consumer("mobile"));
    let request = testing::request("POST", "/foo?param=Value&Pet=dog")
        .authority("example.com")
        .header("date", "Tue, 20 Apr 2021 02:07:55 GMT")
        .header("content-type", "application/json")
        .header("signature-input", format!("sig-b25={PARAMS}"))
        .header("signature", "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:");
    assert_eq!(why(&filter, request), None);
}

#[test]
fn a_signature_is_good_once() {
    let filter = filter(json!({}));
    let request = signed(&params(r#";nonce="n1""#), b"body");
    assert_eq!(why(&filter, request.clone()), None);
    assert_eq!(why(&filter, request).unwrap(), "the signature was used before");
    assert_eq!(why(&filter, signed(&params(r#";nonce="n2""#), b"body")), None);
    assert_eq!(why(&filter, signed(&params(""), b"body")).unwrap(), "the signature has no nonce");
}

#[test]
fn and_for_a_short_time() {
    let filter = filter(json!({ "replay": "allowed" }));
    let request = signed(&params(""), b"");
    for (time, good) in [(NOW - 61, false), (NOW - 60, true), (NOW + 300, true), (NOW + 301, false)] {
        testing::set_time(Duration::from_secs(time));
        assert_eq!(why(&filter, request.clone()).is_none(), good, "{time}");
    }
    testing::set_time(Duration::from_secs(NOW));
    let expired = signed(&params(&format!(";expires={NOW}")), b"");
    assert_eq!(why(&filter, expired).unwrap(), "the signature has expired");
}

#[test]
fn what_is_not_signed_as_it_must_be_is_refused() {
    let filter = filter(json!({ "replay": "allowed" }));
    let with = |input: &str, signature: &str| {
        let request = testing::request("GET", "/x").header("date", "today");
        request.header("signature-input", input).header("signature", signature)
    };
    let right = r#""@method" "@path" "@query""#;
    for (input, signature, reason) in [
        ("", "sig=:AA==:", "there is no signature"),
        ("sig=(", "sig=:AA==:", "the signature's input cannot be read"),
        (r#"sig=("@method");created=x;keyid="k""#, "sig=:AA==:", "the signature's input cannot be read"),
        (r#"sig=("@path" "@path");created=1;keyid="k""#, "sig=:AA==:", "the signature's input cannot be read"),
        (r#"sig=("date";sf);created=1;keyid="k""#, "sig=:AA==:", "the signature's input cannot be read"),
        (r#"sig=("@method");keyid="k""#, "sig=:AA==:", "the signature's input cannot be read"),
        (&format!(r#"sig=("@method");created={NOW};keyid="k""#), "sig=:AA==:", "not all that must be is signed"),
        (&format!(r#"sig=({right});created={NOW};keyid="k""#), "other=:AA==:", "there is no signature of that label"),
        (&format!(r#"sig=({right});created={NOW};keyid="k""#), "sig=:!:", "the signature is not in base64"),
        (
            &format!(r#"sig=({right});created={NOW};keyid="k";alg="rsa-v1_5-sha256""#),
            "sig=:AA==:",
            "the algorithm is not hmac-sha256",
        ),
        (
            &format!(r#"sig=({right} "@scheme");created={NOW};keyid="k""#),
            "sig=:AA==:",
            "it signs a component that is not known here",
        ),
        (
            &format!(r#"sig=({right} "x-none");created={NOW};keyid="k""#),
            "sig=:AA==:",
            "it signs a field that is not there",
        ),
        (
            &format!(r#"sig=({right});created={NOW};keyid="k""#),
            "sig=:AA==:",
            "the signature is not right, or its key is not known",
        ),
    ] {
        assert_eq!(why(&filter, with(input, signature)).as_deref(), Some(reason), "{input}");
    }
}

#[test]
fn the_body_must_be_what_was_signed() {
    let filter = filter(json!({ "replay": "allowed" }));
    let ask = |request: RequestBuilder, body: &[u8]| {
        let (identity, request) = filter.authenticate(request).unwrap();
        assert!(matches!(identity, Identity::Known(_)), "{identity:?}");
        let (verdict, _) = filter.request_body_of(request, body).unwrap();
        verdict.reply().map(|reply| reply.status)
    };
    assert_eq!(ask(signed(&params(""), b"body"), b"body"), None);
    assert_eq!(ask(signed(&params(""), b"body"), b"bodY"), Some(401));
    assert_eq!(ask(signed(&params(""), b""), b"x"), Some(401));

    // A digest that is not signed says nothing.
    let unsigned = format!(r#"("@method" "@path" "@query");created={NOW};keyid="k""#);
    let base = format!("\"@method\": POST\n\"@path\": /x\n\"@query\": ?\n\"@signature-params\": {unsigned}");
    let presented = Presented::Hmac { key_id: "k", message: base.as_bytes(), signature: &SIGNATURE };
    testing::known(&presented, &testing::consumer("mobile"));
    let request = || {
        testing::request("POST", "/x")
            .header("signature-input", format!("sig={unsigned}"))
            .header("signature", format!("sig=:{}:", BASE64.encode(&SIGNATURE)))
    };
    assert_eq!(ask(request(), b""), None);
    assert_eq!(ask(request().header("content-digest", digest(b"body")), b"body"), Some(401));
    assert_eq!(ask(request(), b"body"), Some(401));
}
