//! `stile service|route|plugin list|get|put|delete`.

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use stile_tests::{
    admin::SECRET,
    client::fetch,
    gateway::plain,
    process::{Stile, command},
    upstream::Upstream,
    wait::soon,
};
use tokio::io::AsyncWriteExt;

use super::folder;

/// Runs a command against this gateway, with this on its standard input.
async fn stile(gateway: &Stile, arguments: &[&str], input: &str) -> Output {
    let mut command = command();
    command.args(arguments).arg("--admin").arg(format!("http://{}", gateway.admin().0)).env("STILE_TOKEN", SECRET);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a piped input");
    stdin.write_all(input.as_bytes()).await.expect("it is read");
    drop(stdin);
    soon("the command ends", child.wait_with_output()).await.expect("it ran")
}

async fn done(gateway: &Stile, arguments: &[&str], input: &str) -> String {
    let output = stile(gateway, arguments, input).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), err.as_ref()), (Some(0), ""), "{arguments:?}: {out}");
    out.into_owned()
}

#[tokio::test]
async fn resources_of_a_running_gateway_are_put_listed_got_and_deleted() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let gateway = Stile::run(folder.path(), plain(upstream.address())).await;
    let service = format!("{{ endpoints: [{{ address: {} }}] }}", upstream.address());
    assert_eq!(
        done(&gateway, &["service", "put", "people", "-", "--dry-run"], &service).await,
        "service people would be created\n"
    );
    assert_eq!(done(&gateway, &["service", "put", "people", "-"], &service).await, "service people is live\n");
    let file = folder.path().join("route.yaml");
    std::fs::write(&file, "match:\n  path: /people/*\nservice: people\n").expect("the folder is ours");
    let file = file.display().to_string();
    let told = done(&gateway, &["route", "put", "people", &file, "--json"], "").await;
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["origin"], &told["match"]["path"]), (&json!("store"), &json!("/people/*")));
    assert_eq!(fetch(gateway.address(), "/people/1").await.status, 200);

    let table = done(&gateway, &["route", "list"], "").await;
    let expected = "NAME    FROM   HOSTS  PATH       FILTERS  SERVICE\n\
                    all     file   *      *          -        echo\n\
                    people  store  *      /people/*  -        people\n";
    assert_eq!(table, expected);
    let items: Value = serde_json::from_str(&done(&gateway, &["service", "list", "--json"], "").await).expect("JSON");
    assert_eq!(items["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(done(&gateway, &["plugin", "list"], "").await, "NAME  FROM  REVISION  PHASES\n");
    let got = done(&gateway, &["route", "get", "people"], "").await;
    assert_eq!(
        done(&gateway, &["route", "put", "people", "-"], &got).await,
        "route people is live\n",
        "what is got can be put"
    );

    let refused = stile(&gateway, &["service", "delete", "people"], "").await;
    assert_eq!(refused.status.code(), Some(1));
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(reason.contains("the gateway refused it (409): /v1/routes/people:"), "{reason}");
    assert_eq!(
        done(&gateway, &["route", "delete", "people", "--dry-run"], "").await,
        "route people would be deleted\n"
    );
    assert_eq!(done(&gateway, &["route", "delete", "people", "--json"], "").await, "{}\n");
    assert_eq!(done(&gateway, &["service", "delete", "people"], "").await, "service people is deleted\n");
    for wrong in [&["service", "get", "people"][..], &["service", "get", "a b"], &["route", "put", "x", "none.yaml"]] {
        assert_eq!(stile(&gateway, wrong, "").await.status.code(), Some(1), "{wrong:?}");
    }
    assert_eq!(stile(&gateway, &["service", "put", "people"], "").await.status.code(), Some(2));
}
