//! Disks that take nothing more: changes are refused with the reason, traffic goes on, and so do changes once there is room.
//! These take the rights of root.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};
use stile_tests::{
    admin::Admin,
    client::{Answer, request},
    gateway::plain,
    load::{Load, Probe, Running},
    process::Stile,
    upstream::Upstream,
    wait::until,
};

const DISK: u64 = 8 << 20;

fn config(upstream: &Upstream) -> Value {
    let mut config = plain(upstream.address());
    config["store"] = json!({ "path": "store" });
    config
}

/// Traffic of which every answer is right.
fn traffic(gateway: &Stile) -> Running {
    let load =
        Load { address: gateway.address(), connections: 4, requests: usize::MAX, pause: Duration::from_millis(2) };
    load.start(|| Probe {
        request: request("GET", "/", &[], ""),
        judge: |answer: &Answer| if answer.status == 200 { Ok(()) } else { Err(answer.status.to_string()) },
    })
}

async fn ended(traffic: Running) -> usize {
    let tally = traffic.stop().await;
    assert!(tally.right > 0 && tally.wrong + tally.failed == 0, "{tally:?}");
    tally.right
}

async fn put(admin: &Admin, name: &str) -> Answer {
    admin.send("PUT", &format!("/v1/services/{name}"), json!({})).await
}

/// Refused for the store's sake, with the reason.
async fn refused(admin: &Admin, name: &str, reasons: &[&str]) -> String {
    let answer = put(admin, name).await;
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer.status, 503, "{detail}");
    assert!(reasons.iter().any(|reason| detail.contains(reason)), "{detail}");
    detail
}

#[tokio::test]
#[ignore = "takes the right to mount a file system"]
async fn a_full_disk_refuses_changes_while_traffic_goes_on() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run_with_disk(folder.path(), config(&upstream), DISK).await;
    let (admin, traffic) = (gateway.admin(), traffic(&gateway));
    assert_eq!(put(&admin, "before").await.status, 201);
    let ballast = gateway.sees(&folder.path().join("store/ballast"));
    // As much as there is room for.
    let left = fs::write(&ballast, vec![0; usize::try_from(DISK).expect("few")]).expect_err("it is full");
    assert_eq!(left.kind(), std::io::ErrorKind::StorageFull);
    let (mut kept, mut refusals, mut in_a_row) = (0, 0, 0);
    // What the file has left inside is used up first, and what a refused change has given back.
    while in_a_row < 10 {
        let answer = put(&admin, &format!("s{kept}")).await;
        let is_kept = answer.status == 201;
        let reason = "No space left on device";
        assert!(is_kept || (answer.status == 503 && answer.text().contains(reason)), "{}", answer.text());
        (kept, refusals) = (kept + u32::from(is_kept), refusals + u32::from(!is_kept));
        in_a_row = if is_kept { 0 } else { in_a_row + 1 };
        assert!(kept < 100_000, "the disk does not get full");
    }
    let listed = admin.get("/v1/services?limit=1000").await;
    assert_eq!(listed.status, 200, "what is live is told");
    fs::remove_file(&ballast).expect("it is there");
    until("changes are made again", async || (put(&admin, "after").await.status.is_success()).then_some(())).await;
    for name in ["before", "after"] {
        assert_eq!(admin.get(&format!("/v1/services/{name}")).await.status, 200);
    }
    println!("{kept} changes, {refusals} refused; {} requests meanwhile, all answered", ended(traffic).await);
}

/// Makes a file one that nobody may write, or ends that; on ext4, also for whoever has it open.
fn immutable(file: &Path, is_so: bool) {
    let flag = if is_so { "+i" } else { "-i" };
    let done = Command::new("chattr").arg(flag).arg(file).status().expect("chattr is there");
    assert!(done.success(), "this takes root, and a file system such as ext4");
}

#[tokio::test]
#[ignore = "takes the right to make a file immutable"]
async fn a_disk_that_is_read_only_refuses_changes_while_traffic_goes_on() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(folder.path(), config(&upstream)).await;
    let (admin, traffic) = (gateway.admin(), traffic(&gateway));
    assert_eq!(put(&admin, "before").await.status, 201);
    let file = folder.path().join("store/stile.redb");
    immutable(&file, true);
    for n in 0..5 {
        let reason = refused(&admin, &format!("more-{n}"), &["Operation not permitted", "Permission denied"]).await;
        println!("{reason}");
    }
    let live = admin.get("/v1/services/before").await.status;
    immutable(&file, false);
    assert_eq!(live, 200, "what is live is told");
    until("changes are made again", async || (put(&admin, "after").await.status.is_success()).then_some(())).await;
    println!("{} requests meanwhile, all answered", ended(traffic).await);
    gateway.kill().await;
    let again = Stile::run(folder.path(), config(&upstream)).await;
    for name in ["before", "after"] {
        assert_eq!(again.admin().get(&format!("/v1/services/{name}")).await.status, 200);
    }
}
