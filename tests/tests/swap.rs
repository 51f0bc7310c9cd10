//! Plugins and configurations replaced while traffic flows: every answer is whole, right and of one generation.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::json;
use stile_tests::{
    client::{Answer, get},
    gateway::{Gateway, filtered},
    guest,
    load::{Load, Probe},
    upstream::Upstream,
};

const SWAPS: u64 = 50;
const LOAD_CONNECTIONS: usize = 64;

/// Which number of something may be seen: the last known to be live up to the last that was asked for.
#[derive(Debug, Clone, Default)]
struct Numbers {
    live: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_swaps_and_fifty_reloads_under_load_cost_no_answer() {
    let upstream = Upstream::echo().await;
    let config = |mark: u64| {
        let filters = json!([{ "plugin": "stamp", "config": { "mark": mark.to_string() } }]);
        filtered(upstream.address(), json!([{ "name": "stamp" }]), filters)
    };
    let gateway = Gateway::start(config(0)).await;
    let admin = gateway.admin();
    assert_eq!(admin.push("stamp", guest::stamp(0)).await.status, 201);
    let first = gateway.generation();

    let (revisions, marks) = (Numbers::default(), Numbers::default());
    let load = Load {
        address: gateway.address(),
        connections: LOAD_CONNECTIONS,
        requests: 100_000,
        pause: Duration::from_millis(20),
    };
    let running = load.start({
        let (revisions, marks) = (revisions.clone(), marks.clone());
        move || {
            let ((revisions, oldest), (marks, first)) = (revisions.at_present(), marks.at_present());
            let judge = move |answer: &Answer| judge(answer, oldest..=revisions.newest(), first..=marks.newest());
            Probe { request: get("/x"), judge }
        }
    });
    for number in 1..=SWAPS {
        revisions.ask_for(number);
        let pushed = admin.push("stamp", guest::stamp(u32::try_from(number).expect("a small number"))).await;
        assert_eq!(pushed.status, 201, "{}", pushed.text());
        revisions.is_live(number);

        marks.ask_for(number);
        gateway.rewrite(config(number)).await;
        marks.is_live(number);
    }
    let tally = running.stop().await;
    println!("{SWAPS} swaps and {SWAPS} reloads under load: {tally:?}");
    assert_eq!((tally.wrong, tally.failed), (0, 0), "{:#?}", tally.examples);
    assert!(tally.right > LOAD_CONNECTIONS * 50, "{tally:?} is no load");
    assert_eq!(gateway.generation(), first + 2 * SWAPS);
}

/// One revision with one configuration on both ways, and neither older nor newer than it may be.
fn judge(answer: &Answer, revisions: RangeInclusive<u64>, marks: RangeInclusive<u64>) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{what}: {} {} {:?}", answer.status, answer.text(), answer.headers));
    if answer.status != 200 {
        return wrong("status");
    }
    let stamp = answer.header("x-stamp");
    if answer.json()["headers"]["x-stamp"] != stamp {
        return wrong("the request met another generation than the response");
    }
    match stamp.split_once('/').map(|(revision, mark)| (revision.parse(), mark.parse())) {
        Some((Ok(revision), Ok(mark))) if revisions.contains(&revision) && marks.contains(&mark) => Ok(()),
        _ => wrong(&format!("not of {revisions:?}/{marks:?}")),
    }
}

impl Numbers {
    fn ask_for(&self, number: u64) {
        self.asked.store(number, SeqCst);
    }

    fn is_live(&self, number: u64) {
        self.live.store(number, SeqCst);
    }

    fn at_present(&self) -> (Self, u64) {
        (self.clone(), self.live.load(SeqCst))
    }

    fn newest(&self) -> u64 {
        self.asked.load(SeqCst)
    }
}
