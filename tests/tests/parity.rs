//! Edits in the gateway and in native tests: the same plugin, the same edits, the same results.

use guest_edits::{Edit, Edits, OF_REQUEST, OF_RESPONSE, encoded};
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

/// Has a native test make the edits that one of the two fields names.
fn native(field: &str, edits: &[Edit]) -> (u16, Value) {
    let filter = testing::filter::<Edits>(json!({})).expect("it is configured");
    let request = testing::request("GET", "/x?y=1").header(field, encoded(edits));
    let verdict = filter.request(request).and_then(|(verdict, request)| match verdict.reply() {
        Some(_) => Ok(verdict),
        None => Ok(filter.response(testing::response(200).to(request))?.0),
    });
    match verdict {
        Ok(verdict) => {
            let reply = verdict.reply().expect("edits are answered");
            (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
        }
        Err(_) => (503, json!("a failure")),
    }
}

async fn in_gateway(client: &mut Client, field: &str, edits: &[Edit]) -> (u16, Value) {
    let answer = client.send(with("/x?y=1", &[(field, &encoded(edits))])).await;
    let status = answer.status.as_u16();
    (status, if status == 503 { json!("a failure") } else { answer.json() })
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
    for edits in random.collect::<Vec<_>>().into_iter().chain(single).chain(many) {
        for field in [OF_REQUEST, OF_RESPONSE] {
            let (given, expected) = (in_gateway(&mut client, field, &edits).await, native(field, &edits));
            assert_eq!(given, expected, "{field} {:?}", shortened(&edits));
        }
    }
}

fn shortened(edits: &[Edit]) -> String {
    format!("{edits:?}").chars().take(500).collect()
}
