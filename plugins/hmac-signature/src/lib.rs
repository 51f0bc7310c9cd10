//! Tells who calls by a signature over the request: HTTP Message Signatures (RFC 9421) with `hmac-sha256`, each good once and
//! for a short time. What is signed is in `signed`.

mod signed;

use std::time::Duration;

use data_encoding::BASE64;
use signed::{Input, Wrong};
use stile_sdk::{
    clock,
    consumers::{self, Presented},
    crypto::{self, Hash},
    key_value,
    prelude::*,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HmacSignature {
    /// Which of several signatures; the first without it.
    label: Option<String>,
    /// What must be signed at least.
    components: Vec<String>,
    /// Seconds that a signature is good for.
    window: u64,
    /// Seconds that a client's clock may be ahead.
    skew: u64,
    /// Whether a signature that came before is refused; it needs a nonce.
    replay: Replay,
    /// Where the service finds the consumer's name.
    consumer_header: HeaderName,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Replay {
    Refused,
    Allowed,
}

/// From who calls to the body.
#[derive(Serialize, Deserialize)]
struct Kept {
    signed_digest: bool,
}

impl Default for HmacSignature {
    fn default() -> Self {
        Self {
            label: None,
            components: vec!["@method".into(), "@path".into(), "@query".into()],
            window: 300,
            skew: 60,
            replay: Replay::Refused,
            consumer_header: HeaderName::new("x-consumer").expect("it is a field name"),
        }
    }
}

impl Authenticator for HmacSignature {
    fn authenticate(&self, request: &mut Request) -> Result<Identity> {
        let (input, signature) = match self.presented(request) {
            Ok(presented) => presented,
            Err(wrong) => return Ok(refused(&wrong)),
        };
        let base = match input.base(request) {
            Ok(base) => base,
            Err(wrong) => return Ok(refused(&wrong)),
        };
        let presented = Presented::Hmac { key_id: &input.key_id, message: base.as_bytes(), signature: &signature };
        let Some(consumer) = consumers::verify(&presented) else {
            return Ok(refused(&Wrong("the signature is not right, or its key is not known")));
        };
        // Only what is right is remembered, or anybody could fill the memory.
        if self.replay == Replay::Refused && !self.is_first(&input)? {
            return Ok(refused(&Wrong("the signature was used before")));
        }
        request.keep(&Kept { signed_digest: input.covers("content-digest") })?;
        Ok(Identity::Known(consumer))
    }
}

/// Whoever has told who calls: only the gateway says it to the service.
impl RequestFilter for HmacSignature {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        request.remove_header(&self.consumer_header)?;
        if let Some(consumer) = request.consumer() {
            request.set_header(&self.consumer_header, consumer.name)?;
        }
        // Without a signature of ours there is nothing that the body must be.
        Ok(if request.kept::<Kept>()?.is_some() { Verdict::Proceed } else { Verdict::Done })
    }
}

impl RequestBody for HmacSignature {
    fn on_request_body(&self, request: &mut Request, body: Vec<u8>) -> Result<BodyVerdict> {
        let signed = request.kept::<Kept>()?.is_some_and(|kept| kept.signed_digest);
        let digest = joined(request, "content-digest");
        let right = if signed { matches(&digest, &body) } else { body.is_empty() && digest.is_empty() };
        Ok(if right { BodyVerdict::Proceed } else { body_refused().into() })
    }
}

impl HmacSignature {
    fn presented(&self, request: &Request) -> Result<(Input, Vec<u8>), Wrong> {
        let label = self.label.as_deref();
        let (label, input) = Input::of(&joined(request, "signature-input"), label)?;
        let signatures = joined(request, "signature");
        let signature = signed::members(&signatures).find(|(name, _)| *name == label).map(|(_, value)| value);
        let signature = signature.and_then(|text| text.strip_prefix(':')?.strip_suffix(':'));
        let signature = signature.ok_or(Wrong("there is no signature of that label"))?;
        let signature = BASE64.decode(signature.as_bytes()).map_err(|_| Wrong("the signature is not in base64"))?;
        if input.algorithm.as_deref().is_some_and(|algorithm| algorithm != "hmac-sha256") {
            return Err(Wrong("the algorithm is not hmac-sha256"));
        }
        if !self.components.iter().all(|component| input.covers(component)) {
            return Err(Wrong("not all that must be is signed"));
        }
        let now = clock::now().as_secs();
        if input.created > now + self.skew || input.created + self.window < now {
            return Err(Wrong("the signature is too old, or of the future"));
        }
        if input.expires.is_some_and(|expires| expires <= now) {
            return Err(Wrong("the signature has expired"));
        }
        if self.replay == Replay::Refused && input.nonce.is_none() {
            return Err(Wrong("the signature has no nonce"));
        }
        Ok((input, signature))
    }

    fn is_first(&self, input: &Input) -> Result<bool> {
        let nonce = input.nonce.as_deref().unwrap_or_default();
        let digest = crypto::digest(Hash::Sha256, format!("{}\n{nonce}", input.key_id).as_bytes());
        // No longer than it would be taken.
        let ttl = Duration::from_secs((input.created + self.window + 1).saturating_sub(clock::now().as_secs()));
        Ok(key_value::compare_and_swap(&BASE64.encode(&digest), None, "", Some(ttl))?)
    }
}

/// RFC 9530 §2: each digest of an algorithm that is known must be right, and there must be one.
fn matches(field: &str, body: &[u8]) -> bool {
    let mut known = 0;
    let right = signed::members(field).all(|(algorithm, value)| {
        let hash = match algorithm {
            "sha-256" => Hash::Sha256,
            "sha-512" => Hash::Sha512,
            _ => return true,
        };
        known += 1;
        let digest = value.strip_prefix(':').and_then(|value| value.strip_suffix(':'));
        let digest = digest.and_then(|digest| BASE64.decode(digest.as_bytes()).ok());
        digest.is_some_and(|digest| crypto::equal(&digest, &crypto::digest(hash, body)))
    });
    right && known > 0
}

fn joined(request: &Request, name: &str) -> String {
    let values = request.header_values(name);
    values.iter().filter_map(HeaderValue::as_str).collect::<Vec<_>>().join(", ")
}

fn refused(Wrong(why): &Wrong) -> Identity {
    Refusal::unauthorized("Signature", *why).into()
}

fn body_refused() -> Reply {
    let body =
        r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"the body is not what was signed"}"#;
    Reply::new(401)
        .header("www-authenticate", "Signature")
        .header("content-type", "application/problem+json")
        .body(body)
}

stile_sdk::export!(HmacSignature: authenticate, request, request_body);

#[cfg(test)]
mod tests;
