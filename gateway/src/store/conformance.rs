//! What any store must do, whatever it keeps its entries in; and what the embedded one must do beside that.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::advance;

use super::*;

/// A store that is empty, and what must live as long as it.
fn stores() -> Vec<(&'static str, Store, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    vec![
        ("in memory", Store::in_memory().expect("a store"), None),
        ("in a file", Store::open(folder.path()).expect("a store"), Some(folder)),
    ]
}

fn put(key: &str, value: &str) -> Commit {
    Commit::new().put(key, value)
}

async fn keys(store: &Store, prefix: &str) -> Vec<String> {
    store.list_all(prefix).await.expect("a list").entries.into_iter().map(|entry| entry.key).collect()
}

async fn value(store: &Store, key: &str) -> Option<String> {
    let entry = store.get(key).await.expect("a reading");
    entry.map(|entry| String::from_utf8(entry.value).expect("text"))
}

#[tokio::test]
async fn gives_back_what_was_committed_and_by_which_commit() {
    for (name, store, _folder) in stores() {
        let first = store.commit(put("a/1", "x").put("a/2", "y").put("b/1", "z")).await.expect(name);
        let second = store.commit(put("a/3", "w").delete("a/1").delete("a/9")).await.expect(name);
        assert!(second > first, "{name}");
        assert_eq!(value(&store, "b/1").await.as_deref(), Some("z"), "{name}");
        assert_eq!(value(&store, "a/1").await, None, "{name}");
        let listed = store.list_all("a/").await.expect(name);
        let entries: Vec<_> = listed.entries.iter().map(|entry| (entry.key.as_str(), entry.revision)).collect();
        assert_eq!((entries, listed.revision), (vec![("a/2", first), ("a/3", second)], second), "{name}");
    }
}

#[tokio::test]
async fn lists_page_by_page() {
    for (name, store, _folder) in stores() {
        let commit =
            ["a", "b/1", "b/2", "b/3", "c"].into_iter().fold(Commit::new(), |commit, key| commit.put(key, "x"));
        store.commit(commit).await.expect(name);
        let mut pages = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = store.list("b/", after.as_deref(), 2).await.expect(name).entries;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            pages.push(page.into_iter().map(|entry| entry.key).collect::<Vec<_>>());
        }
        assert_eq!(pages, [vec!["b/1", "b/2"], vec!["b/3"]], "{name}");
        for (before, limit, expected) in
            [(None, 2, &["b/3", "b/2"][..]), (Some("b/3"), 9, &["b/2", "b/1"]), (Some("b/1"), 9, &[])]
        {
            let last = store.last("b/", before, limit).await.expect(name);
            assert_eq!(last.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn changes_nothing_where_an_entry_is_not_as_expected() {
    for (name, store, _folder) in stores() {
        let first = store.commit(put("a", "1").expect("a", Expect::Absent)).await.expect(name);
        let second = store.commit(put("a", "2").expect("a", Expect::At(first))).await.expect(name);
        for expect in [Expect::Absent, Expect::At(first), Expect::At(second + 1)] {
            let refused = store.commit(put("b", "1").put("a", "3").expect("a", expect)).await;
            let Err(StoreError::Conflict { key, found }) = refused else { panic!("{name}: {refused:?}") };
            assert_eq!((key.as_str(), found), ("a", Some(second)), "{name}");
        }
        let refused = store.commit(put("c", "1").expect("b", Expect::Present)).await;
        assert!(matches!(refused, Err(StoreError::Conflict { found: None, .. })), "{name}: {refused:?}");
        assert_eq!(keys(&store, "").await, ["a"], "{name}");
        store.commit(Commit::new().delete("a").expect("a", Expect::Present)).await.expect(name);
        assert_eq!(keys(&store, "").await, [""; 0], "{name}");
    }
}

#[tokio::test]
async fn of_many_at_once_each_is_made_once_and_in_an_order() {
    for (name, store, _folder) in stores() {
        let start = store.commit(put("count", "0")).await.expect(name);
        let tries = (0..50).map(|n| {
            let store = store.clone();
            async move {
                let own = store.commit(put(&format!("own/{n}"), "1")).await.expect("room");
                let won = store.commit(put("count", &n.to_string()).expect("count", Expect::At(start))).await.is_ok();
                (own, won.then_some(n))
            }
        });
        let ended = futures_util::future::join_all(tries).await;
        let mut revisions: Vec<_> = ended.iter().map(|(revision, _)| *revision).collect();
        revisions.sort_unstable();
        revisions.dedup();
        assert_eq!(revisions.len(), 50, "{name}: each commit has a number of its own");
        let winners: Vec<_> = ended.iter().filter_map(|(_, won)| *won).collect();
        assert_eq!(winners.len(), 1, "{name}");
        assert_eq!(value(&store, "count").await, Some(winners[0].to_string()), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn entries_end_with_their_lease() {
    const TTL: Duration = Duration::from_secs(30);
    for (name, store, _folder) in stores() {
        let (short, long) = (store.grant(TTL).await.expect(name), store.grant(TTL).await.expect(name));
        assert_ne!(short, long, "{name}");
        let commit = Commit::new().put_until("a", "1", Some(short)).put_until("b", "1", Some(long)).put("c", "1");
        store.commit(commit).await.expect(name);
        store
            .commit(Commit::new().put_until("d", "1", Some(short)).put_until("e", "1", Some(short)))
            .await
            .expect(name);
        // From now on they outlive it, or end with the other.
        store.commit(put("d", "2").put_until("e", "2", Some(long))).await.expect(name);
        assert_eq!(store.get("e").await.expect(name).and_then(|entry| entry.lease), Some(long), "{name}");

        let census = |store: &Store| {
            let Census { all, mut late, over } = store.census();
            late.sort_unstable();
            (all, late, over)
        };
        assert_eq!(census(&store), (2, vec![], vec![]), "{name}");
        advance(TTL - Duration::from_secs(1)).await;
        assert_eq!(census(&store), (2, vec![short, long], vec![]), "{name}");
        store.keep_alive(long).expect(name);
        store.expire(&[short, long]).await.expect(name);
        assert_eq!(keys(&store, "").await, ["a", "b", "c", "d", "e"], "{name}");
        advance(Duration::from_secs(1)).await;
        assert_eq!(store.left(short), Some(Duration::ZERO), "{name}: its time is over");
        assert_eq!(census(&store), (2, vec![short], vec![short]), "{name}");
        store.keep_alive(short).expect(name);
        store.expire(&[short]).await.expect(name);
        assert_eq!(keys(&store, "").await.len(), 5, "{name}: it goes on where nobody has ended it");
        advance(TTL - Duration::from_secs(1)).await;
        store.keep_alive(long).expect(name);
        advance(Duration::from_secs(1)).await;
        store.expire(&[short, long]).await.expect(name);
        assert!(matches!(store.keep_alive(short), Err(StoreError::NoLease)), "{name}");
        assert_eq!(keys(&store, "").await, ["b", "c", "d", "e"], "{name}");
        let late = store.commit(Commit::new().put_until("a", "1", Some(short))).await;
        assert!(matches!(late, Err(StoreError::NoLease)), "{name}: {late:?}");

        store.revoke(long).await.expect(name);
        assert_eq!(keys(&store, "").await, ["c", "d"], "{name}");
        assert!(matches!(store.revoke(long).await, Err(StoreError::NoLease)), "{name}");
    }
}

#[tokio::test]
async fn a_watch_tells_every_change_after_a_commit_once() {
    for (name, store, _folder) in stores() {
        let first = store.commit(put("a/1", "1")).await.expect(name);
        let second = store.commit(put("a/2", "2").put("b/1", "3")).await.expect(name);
        let mut watch = store.watch("a/", first);
        let told = |events: Vec<Event>| -> Vec<_> {
            let value = |event: &Event| event.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
            events.iter().map(|event| (event.revision, event.key.to_string(), value(event))).collect()
        };
        let Progress { events, revision } = watch.next().await.expect(name);
        assert_eq!(revision, second, "{name}");
        assert_eq!(told(events), [(second, "a/2".to_owned(), Some("2".to_owned()))], "{name}");
        let change = async {
            store.commit(put("b/2", "4")).await.expect(name);
            store.commit(put("a/1", "5").delete("a/2").delete("a/7")).await.expect(name)
        };
        let fourth = change.await;
        let mut events = Vec::new();
        let mut last = second;
        while last < fourth {
            let next = watch.next().await.expect(name);
            assert!(next.revision > last, "{name}: it tells of commits to other entries, too");
            events.extend(next.events);
            last = next.revision;
        }
        let expected = [(fourth, "a/1".to_owned(), Some("5".to_owned())), (fourth, "a/2".to_owned(), None)];
        assert_eq!(told(events), expected, "{name}");
        let lease = store.grant(Duration::from_secs(1)).await.expect(name);
        store.commit(Commit::new().put_until("a/3", "6", Some(lease))).await.expect(name);
        store.revoke(lease).await.expect(name);
        let mut ended = Vec::new();
        while ended.last().is_none_or(|(_, _, value): &(_, _, Option<String>)| value.is_some()) {
            ended.extend(told(watch.next().await.expect(name).events));
        }
        let ended: Vec<_> = ended.iter().map(|(_, key, value)| (key.as_str(), value.as_deref())).collect();
        assert_eq!(ended, [("a/3", Some("6")), ("a/3", None)], "{name}");
    }
}

#[tokio::test]
async fn outlives_its_process_and_is_used_by_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path()).expect("a store");
    let revision = store.commit(put("key", "value")).await.expect("room");
    assert!(matches!(Store::open(folder.path()), Err(StoreError::InUse(_))));
    drop(store);
    let store = Store::open(folder.path()).expect("the same store");
    let entry = store.get("key").await.expect("a reading").expect("an entry");
    assert_eq!((entry.value.as_slice(), entry.revision, store.revision()), (&b"value"[..], revision, revision));
    assert!(matches!(store.watch("", 0).next().await, Err(StoreError::Forgotten(0))), "what was before is not kept");
}

#[tokio::test(start_paused = true)]
async fn a_lease_has_its_whole_time_again_after_a_restart() {
    const TTL: Duration = Duration::from_secs(30);
    let disk = Lossy::default();
    let store = Store::on(&disk).expect("a store");
    let lease = store.grant(TTL).await.expect("a lease");
    store.commit(Commit::new().put_until("a", "1", Some(lease))).await.expect("room");
    drop(store);
    advance(TTL * 10).await;
    let store = Store::on(&disk).expect("the same store");
    assert_eq!(store.census().over, []);
    assert_eq!(keys(&store, "").await, ["a"]);
    assert_ne!(store.grant(TTL).await.expect("a lease"), lease, "none is given twice");
    advance(TTL).await;
    store.expire(&store.census().over).await.expect("room");
    assert_eq!(keys(&store, "").await, [""; 0]);
}

/// 100 crashes over 10,000 writes: each leaves a disk on which what was not synced is there, gone or torn.
#[tokio::test]
async fn a_crash_at_any_moment_loses_nothing_that_was_acknowledged() {
    const CRASHES: usize = 100;
    const WRITERS: usize = 10;
    const WRITES: usize = 10;
    let mut rng = fastrand::Rng::with_seed(4);
    let mut disk = Lossy::default();
    // By key, the last value acknowledged, and one that was asked for after it.
    let mut known: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let mut lost_in_flight = 0;
    for crash in 0..CRASHES {
        let store = Store::on(&disk).unwrap_or_else(|error| panic!("crash {crash}: {error}"));
        for (key, (acknowledged, asked)) in &mut known {
            let found = value(&store, key).await.map_or(0, |value| value.parse().expect("a number"));
            assert!((*acknowledged..=*asked).contains(&found), "crash {crash}: {key} is {found}, was {acknowledged}");
            lost_in_flight += usize::from(found < *asked);
            (*acknowledged, *asked) = (found, found);
        }
        let crash_after = rng.usize(0..WRITERS * WRITES);
        let shared = std::cell::RefCell::new((known, None, rng, 0));
        let writer = |writer: usize| {
            let (store, shared, disk) = (&store, &shared, &disk);
            async move {
                for n in 0..WRITES {
                    let key = format!("{writer}/{n}");
                    let next = {
                        let (known, ..) = &mut *shared.borrow_mut();
                        let (_, asked) = known.entry(key.clone()).or_default();
                        *asked += 1;
                        *asked
                    };
                    store.commit(put(&key, &next.to_string())).await.expect("room");
                    let (known, crashed, rng, done) = &mut *shared.borrow_mut();
                    *done += 1;
                    if crashed.is_none() {
                        known.entry(key).or_default().0 = next;
                        if *done > crash_after {
                            *crashed = Some((disk.crash(rng), known.clone()));
                        }
                    }
                }
            }
        };
        futures_util::future::join_all((0..WRITERS).map(writer)).await;
        let crashed;
        (_, crashed, rng, _) = shared.into_inner();
        (disk, known) = crashed.expect("it crashes before the last");
    }
    assert!(lost_in_flight > 0, "no crash came while something was in flight");
}

#[tokio::test]
async fn a_full_disk_is_told_of_and_over_once_there_is_room() {
    let disk = Lossy::default();
    let store = Store::on(&disk).expect("a store");
    let first = store.commit(put("a", "1")).await.expect("room");
    let mut watch = store.watch("", first);
    disk.set_full(true);
    for _ in 0..3 {
        let refused = store.commit(put("a", "2").put("b", "2")).await.expect_err("there is no room");
        assert!(refused.to_string().contains("no storage space"), "{refused}");
    }
    disk.set_full(false);
    store.commit(put("c", "1")).await.expect("there is room");
    assert_eq!(value(&store, "a").await.as_deref(), Some("1"));
    assert_eq!(keys(&store, "").await, ["a", "c"]);
    let told: Vec<_> =
        watch.next().await.expect("it missed nothing").events.into_iter().map(|event| event.key).collect();
    assert_eq!(told, ["c".into()]);
}
