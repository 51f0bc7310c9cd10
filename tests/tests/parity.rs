//! Edits in the gateway and in native tests: the same plugin, the same edits, the same results.

use guest_edits::{Edit, Edits, FIELD, encoded};
use serde_json::{Value, json};
use stile_sdk::testing;
use stile_tests::{
    client::{Client, with},
    gateway::{Gateway, filtered},
    guest::plugin_with,
    upstream::Upstream,
};

/// Rounds of random edits, of some edits each.
const ROUNDS: u64 = 300;

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

/// What native tests make of them.
fn native(edits: &[Edit]) -> (u16, Value) {
    let filter = testing::filter::<Edits>(json!({})).expect("it is configured");
    let request = testing::request("GET", "/x?y=1").header(FIELD, encoded(edits));
    match filter.request(request) {
        Ok((verdict, request)) => match verdict.reply() {
            Some(reply) => (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default()),
            None => {
                let (_, response) = filter.response(testing::response(200).to(request)).expect("no failure");
                let result = stile_sdk::Headers::header(&response, "x-result").map(|value| value.to_string());
                (response.status(), json!(result))
            }
        },
        Err(_) => (503, json!("a failure")),
    }
}

async fn in_gateway(client: &mut Client, edits: &[Edit]) -> (u16, Value) {
    let answer = client.send(with("/x?y=1", &[(FIELD, &encoded(edits))])).await;
    let body = match (answer.status.as_u16(), edits) {
        (_, [Edit::Status(_)]) => json!(answer.header("x-result")),
        (503, _) => json!("a failure"),
        _ => answer.json(),
    };
    (answer.status.as_u16(), body)
}

#[tokio::test]
async fn native_tests_and_the_gateway_make_the_same_of_edits() {
    let upstream = Upstream::echo().await;
    // A failure of the machine's speed would look like one of an edit.
    let limits = json!({ "limits": { "deadline": "1s", "timeout": "10s" } });
    let filters = json!([{ "plugin": "edits", "config": {} }]);
    let gateway = Gateway::start(filtered(upstream.address(), json!([plugin_with("edits", limits)]), filters)).await;
    let mut client = Client::connect(gateway.address()).await;
    let mut numbers = Numbers(7);
    let random = (0..ROUNDS).map(|_| (0..=numbers.below(5)).map(|_| numbers.edit()).collect::<Vec<_>>());
    let sizes = [4094, 4095].map(Edit::Keep).into_iter();
    let lengths = [15_000, 20_000].into_iter().flat_map(|letters| [Edit::LongPath(letters), Edit::LongQuery(letters)]);
    let statuses = [0, 99, 100, 101, 199, 200, 204, 404, 599, 600, 999, u16::MAX];
    let replies = NAMES.iter().flat_map(|name| VALUES.iter().map(|value| ((*name).to_owned(), value.to_vec())));
    let replies = replies.map(|(name, value)| Edit::Reply(200, name, value));
    let replies = replies.chain(statuses.map(|status| Edit::Reply(status, "x-e-a".to_owned(), Vec::new())));
    let single = sizes.chain(lengths).chain(statuses.map(Edit::Status)).chain(replies).map(|edit| vec![edit]);
    for edits in random.collect::<Vec<_>>().into_iter().chain(single) {
        assert_eq!(in_gateway(&mut client, &edits).await, native(&edits), "{:?}", shortened(&edits));
    }
}

fn shortened(edits: &[Edit]) -> String {
    format!("{edits:?}").chars().take(500).collect()
}
