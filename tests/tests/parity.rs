//! Edits and verdicts in the gateway and in native tests: the same plugin, the same input, the same results.

use guest_edits::{
    Edit, Edits, OF_REQUEST, OF_REQUEST_BODY, OF_RESPONSE, OF_RESPONSE_BODY, OF_TRAILERS, RESULTS, encoded,
};
use serde_json::{Value, json};
use stile_sdk::{BodyVerdict, Headers, Verdict, testing};
use stile_tests::{
    client::{Client, request},
    gateway::{Gateway, filtered},
    guest::{plugin, plugin_with},
    raw::Raw,
    upstream::{Answer, Upstream},
};

/// Rounds of random edits, of some edits each.
const ROUNDS: u64 = 300;
/// Rounds whose edits are made once more by a filter that replaces the body.
const REPLACING: usize = 50;

/// The trailers of a message that HTTP/1.1 lets pass, as its head names them.
const TRAILERS: &str = "x-e-a, x-e-b, x-results, location, retry-after, x-forwarded-for";

const METHODS: [&str; 8] = ["GET", "PATCH", "get", "CONNECT", "connect", "", "A B", "M\u{e9}"];
const NAMES: [&str; 15] = [
    "x-e-a",
    "X-E-A",
    "x-e-b",
    "",
    "x y",
    "x-\u{e9}",
    "x:",
    "Host",
    "host",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "content-length",
    "transfer-encoding",
];
const VALUES: [&[u8]; 9] = [b"", b"1", b" 1 ", b"a\tb", b"a\r\nb: c", b"\0", b"\x7f", b"\x80\xff", "\u{e9}".as_bytes()];
/// Parts of paths and queries, put together at random.
const PARTS: [&str; 30] = [
    "/", "/", "/", "a", "b;x=1", "..", ".", "%41", "%2f", "%2F", "%5c", "\\", "%00", "%", "%4", "%zz", "\u{e9}", " ",
    "\"", "<>", "?", "#", "&x=1", "{}", "|", "[]", "^`", "\n", "\x7f", "//",
];

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn text(&mut self, first: &str) -> String {
        let parts = self.below(5);
        (0..parts).fold(first.to_owned(), |text, _| text + self.one(&PARTS))
    }

    fn edits(&mut self) -> Vec<Edit> {
        let last = self.below(5);
        (0..=last).map(|_| self.edit()).collect()
    }

    fn edit(&mut self) -> Edit {
        let name = |numbers: &mut Self| numbers.one(&NAMES).to_owned();
        match self.below(8) {
            0 => Edit::Method(self.one(&METHODS).to_owned()),
            1 | 2 => {
                let first = self.one(&["/", "/", "/", ""]);
                Edit::Path(self.text(first))
            }
            3 => Edit::Query(Some(self.text(""))),
            4 => Edit::Query(None),
            5 => Edit::Set(name(self), self.one(&VALUES).to_vec()),
            6 => Edit::Add(name(self), self.one(&VALUES).to_vec()),
            _ => Edit::Remove(name(self)),
        }
    }
}

/// Has a native test make the edits that one of the fields names. Returns the status, whether the service's answer
/// passes, and the report of the filter.
fn native(field: &str, edits: &[Edit]) -> (u16, bool, Value) {
    match native_verdict(field, edits) {
        Ok(BodyVerdict::Respond(reply)) => (reply.status, false, report(&reply.body)),
        Ok(BodyVerdict::Replace(body)) => (200, true, report(&body)),
        Ok(BodyVerdict::Proceed) => panic!("no phase makes the edits of {field}"),
        Err(_) => (503, false, json!("a failure")),
    }
}

fn report(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

/// Runs the phases of a filter up to the one that makes the edits, and returns its verdict.
fn native_verdict(field: &str, edits: &[Edit]) -> stile_sdk::Result<BodyVerdict> {
    let filter = testing::filter::<Edits>(json!({})).expect("it is configured");
    let request = testing::request("POST", "/x?y=1").header(field, encoded(edits));
    let (verdict, request) = filter.request(request)?;
    if let Verdict::Respond(reply) = verdict {
        return Ok(reply.into());
    }
    let (verdict, request) = filter.request_body_of(request, b"body")?;
    if verdict != BodyVerdict::Proceed {
        return Ok(verdict);
    }
    let response = testing::response(200).to(request);
    if let (Verdict::Respond(reply), _) = filter.response(response.clone())? {
        return Ok(reply.into());
    }
    Ok(filter.response_body(response, b"body")?.0)
}

/// Has the gateway make the edits. Its service answers with the field `x-service` and the body that it gets.
async fn in_gateway(client: &mut Client, field: &str, edits: &[Edit]) -> (u16, bool, Value) {
    let answer = client.send(request("POST", "/x?y=1", &[(field, &encoded(edits))], "body")).await;
    let status = answer.status.as_u16();
    let report = if status == 503 { json!("a failure") } else { answer.json() };
    (status, answer.headers.contains_key("x-service"), report)
}

#[tokio::test]
async fn native_tests_and_the_gateway_make_the_same_of_edits() {
    let upstream = Upstream::start(|received| {
        let body = String::from_utf8_lossy(&received.body).into_owned();
        Answer::Reply(200, vec![("x-service", "1".to_owned())], body)
    })
    .await;
    // A failure of the machine's speed would look like one of an edit.
    let limits = json!({ "limits": { "deadline": "1s", "timeout": "10s" } });
    let filters = json!([{ "plugin": "edits", "config": {} }]);
    let gateway = Gateway::start(filtered(upstream.address(), json!([plugin_with("edits", limits)]), filters)).await;
    let mut client = Client::connect(gateway.address()).await;
    let mut numbers = Numbers(7);
    let random: Vec<Vec<Edit>> = (0..ROUNDS).map(|_| numbers.edits()).collect();
    let replacing = random.iter().take(REPLACING).map(|edits| [&edits[..], &[Edit::Replace]].concat());
    let sizes = [4094, 4095].map(Edit::Keep).into_iter();
    let lengths = [15_000, 20_000].into_iter().flat_map(|letters| [Edit::LongPath(letters), Edit::LongQuery(letters)]);
    let statuses = [0, 99, 100, 101, 199, 200, 204, 404, 599, 600, 999, u16::MAX];
    let replies = NAMES.iter().flat_map(|name| VALUES.iter().map(|value| ((*name).to_owned(), value.to_vec())));
    let replies = replies.map(|(name, value)| Edit::Reply(200, name, value));
    let replies = replies.chain(statuses.map(|status| Edit::Reply(status, "x-e-a".to_owned(), Vec::new())));
    let single = sizes.chain(lengths).chain(statuses.map(Edit::Status)).chain(replies).map(|edit| vec![edit]);
    // Over the bounds of what one call may edit and write.
    let removed = [Edit::Remove("x-e-b".to_owned()), Edit::Set("x-e-a".to_owned(), b"1".to_vec())];
    let (path, query) = (Edit::LongPath(10_000), Edit::LongQuery(6_000));
    let written = 5 * ("/".len() + 10_000 + "?y=1".len());
    // The bytes that are left after those paths, by the lengths of the name and the value of one field.
    let left = (64 << 10) - written - "x-e-long".len();
    let fill = |letters: usize, methods: [&str; 2]| {
        let methods = methods.map(|method| Edit::Method(method.to_owned()));
        [vec![path.clone(); 5], vec![Edit::LongValue(letters)], methods.to_vec()].concat()
    };
    let many = [
        vec![removed; 257].concat(),
        vec![Edit::LongValue(15_000); 5],
        vec![Edit::LongValue(70_000)],
        vec![[path.clone(), query.clone()]; 6].concat(),
        fill(left - 6, ["PATCH", "A"]),
        fill(left - 5, ["PATCH", "A"]),
        fill(left - 4, ["PATCH", "A"]),
    ];
    for edits in random.iter().cloned().chain(replacing).chain(single).chain(many) {
        for field in [OF_REQUEST, OF_REQUEST_BODY, OF_RESPONSE, OF_RESPONSE_BODY] {
            let (given, expected) = (in_gateway(&mut client, field, &edits).await, native(field, &edits));
            assert_eq!(given, expected, "{field} {:?}", shortened(&edits));
        }
    }
}

/// The report of a filter about its edits of trailers, and the other trailers that pass.
type Passed = (Value, Vec<String>);

/// Has a native test make edits of the trailers of a request and of a response.
fn native_trailers(edits: &[Edit]) -> [Passed; 2] {
    let filter = testing::filter::<Edits>(json!({})).expect("it is configured");
    let edits = encoded(edits);
    let fields = [(OF_TRAILERS, edits.as_str())];
    [filter.request_trailers(&fields), filter.response_trailers(&fields)].map(|trailers| {
        let trailers = trailers.expect("a refused edit is no failure").headers().into_iter();
        let passing = trailers.filter(|(name, _)| TRAILERS.split(", ").any(|known| known == name));
        // White space around a value is no part of it.
        passed(passing.map(|(name, value)| format!("{name}: {}", value.to_string().trim_ascii())).collect())
    })
}

/// Has the gateway make them. Its service answers with a trailer that has the value of the field `x-answer`.
async fn gateway_trailers(client: &mut Raw, upstream: &Upstream, edits: &[Edit]) -> [Passed; 2] {
    let edits = encoded(edits);
    let head = "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n";
    let fields = format!("trailer: {TRAILERS}\r\nx-answer: {edits}\r\n");
    let answer = client.ask(format!("{head}{fields}\r\n3\r\nabc\r\n0\r\n{OF_TRAILERS}: {edits}\r\n\r\n")).await;
    assert_eq!(answer.status(), 200, "{edits}");
    [upstream.last().trailers, client.0.trailers.clone()].map(passed)
}

/// Takes the report out of the lines of fields, and sorts the others by name; the lines of one name keep their order.
fn passed(mut lines: Vec<String>) -> Passed {
    let of_report = |line: &String| line.strip_prefix(RESULTS)?.strip_prefix(": ").map(str::to_owned);
    let at = lines.iter().position(|line| of_report(line).is_some());
    let at = at.unwrap_or_else(|| panic!("no report among {lines:?}"));
    let text = of_report(&lines.remove(at)).unwrap_or_default();
    lines.sort_by_key(|line| line.split(':').next().map(str::to_owned));
    (report(text.as_bytes()), lines)
}

/// Starts a gateway with the filter, before a service whose answer has a trailer with edits.
async fn with_trailers() -> (Gateway, Upstream) {
    let upstream = Upstream::start(|received| {
        let edits = received.head.get("x-answer").unwrap_or_default();
        let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: {TRAILERS}\r\n");
        Answer::Bytes(format!("{head}\r\n3\r\nabc\r\n0\r\n{OF_TRAILERS}: {edits}\r\n\r\n").into_bytes())
    })
    .await;
    let filters = json!([{ "plugin": "edits", "config": {} }]);
    (Gateway::start(filtered(upstream.address(), json!([plugin("edits")]), filters)).await, upstream)
}

#[tokio::test]
async fn native_tests_and_the_gateway_make_the_same_of_trailers() {
    let (gateway, upstream) = with_trailers().await;
    let mut client = Raw::connect(gateway.address()).await;
    let mut numbers = Numbers(7);
    for _ in 0..ROUNDS {
        let edits = numbers.edits();
        let given = gateway_trailers(&mut client, &upstream, &edits).await;
        assert_eq!(given, native_trailers(&edits), "{}", shortened(&edits));
    }
}

#[tokio::test]
async fn trailers_that_a_plugin_writes_pass_only_if_those_of_a_message_would() {
    let (gateway, upstream) = with_trailers().await;
    let set = |name: &str| Edit::Set(name.to_owned(), b"1".to_vec());
    let edits = ["location", "retry-after", "x-forwarded-for", "x-e-a"].map(set);
    let mut client = Raw::connect(gateway.address()).await;
    for (report, others) in gateway_trailers(&mut client, &upstream, &edits).await {
        assert_eq!(report["results"], json!(["done", "done", "done", "done"]), "the plugin may write them");
        assert_eq!(others, ["x-e-a: 1"]);
    }
}

fn shortened(edits: &[Edit]) -> String {
    format!("{edits:?}").chars().take(500).collect()
}
