//! `stile service|route|plugin|consumer list|get|put|delete`, `stile endpoint`, `stile consumer credential|grant`, `stile group`,
//! `stile usage`, `stile generation`, `stile export` and `stile import`.

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use stile_tests::{
    admin::SECRET,
    client::fetch,
    gateway::plain,
    process::{Stile, command},
    upstream::Upstream,
    wait::{soon, until},
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

#[tokio::test]
async fn consumers_of_a_running_gateway_are_put_and_given_credentials() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let gateway = Stile::run(folder.path(), plain(upstream.address())).await;
    let groups = "groups:\n  - partners\n  - beta\n";
    assert_eq!(
        done(&gateway, &["consumer", "put", "mobile", "-", "--dry-run"], groups).await,
        "consumer mobile would be created\n"
    );
    assert_eq!(done(&gateway, &["consumer", "put", "mobile", "-"], groups).await, "consumer mobile is live\n");
    let table = done(&gateway, &["consumer", "list"], "").await;
    assert_eq!(table, "NAME    FROM   GROUPS\nmobile  store  partners, beta\n");
    let credential = async |arguments: &[&str], input: &str| {
        done(&gateway, &[&["consumer", "credential"], arguments].concat(), input).await
    };
    let made = credential(&["add", "mobile", "--id", "app", "--expires", "2099-01-01T00:00:00Z"], "").await;
    let (said, secret) = made.trim_end().split_once('\n').expect("two lines");
    assert_eq!(said, "credential app is live; its secret, told this once:");
    assert!(secret.starts_with("stile_"), "{secret}");
    let own = ["add", "mobile", "--type", "basic", "--id", "ann", "--username", "ann", "--secret-from", "-"];
    assert_eq!(credential(&own, "correct horse\n").await, "credential ann is live\n");
    let rotated = credential(&["rotate", "mobile", "app", "--overlap", "1h", "--json"], "").await;
    let rotated: Value = serde_json::from_str(&rotated).expect("JSON");
    assert!(rotated["secret"].as_str().is_some_and(|new| new != secret), "{rotated}");
    let table = credential(&["list", "mobile"], "").await;
    let lines: Vec<_> = table.lines().collect();
    assert_eq!((lines.len(), lines[0].starts_with("ID ")), (4, true), "{table}");
    assert!(lines[1..].iter().any(|line| line.starts_with("ann ") && line.ends_with("username=ann")), "{table}");
    assert!(!table.contains(secret), "{table}");
    assert_eq!(credential(&["delete", "mobile", "ann"], "").await, "credential ann of mobile is deleted\n");
    assert_eq!(
        done(&gateway, &["consumer", "delete", "mobile", "--dry-run"], "").await,
        "consumer mobile would be deleted\n"
    );
    assert_eq!(done(&gateway, &["consumer", "delete", "mobile"], "").await, "consumer mobile is deleted\n");
    let wrong = stile(&gateway, &["consumer", "credential", "add", "mobile"], "").await;
    assert_eq!(wrong.status.code(), Some(1));
}

#[tokio::test]
async fn grants_are_made_and_usage_is_told() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let mut config = plain(upstream.address());
    let routes = json!([{ "name": "all", "match": { "path": "/shop" }, "service": "echo" }]);
    let version = json!({ "name": "1", "state": "published", "routes": routes, "anonymous": true });
    config["apis"] = json!([{ "name": "shop", "versions": [version] }]);
    config["store"] = json!({ "path": folder.path().join("store") });
    let gateway = Stile::run(folder.path(), config).await;
    done(&gateway, &["consumer", "put", "ann", "-"], "{}").await;
    let terms = ["--scope", "read", "--scope", "write", "--quota", "minute=5", "--quota", "day=100"];
    let put = |of: &'static [&'static str]| [of, &terms].concat();
    for (of, said) in [
        (&["consumer", "grant", "put", "ann", "shop", "--version", "1"][..], "ann may use version 1 of shop\n"),
        (&["group", "grant", "put", "partners", "shop"], "partners may use each version of shop\n"),
    ] {
        assert_eq!(done(&gateway, &put(of), "").await, said);
    }
    let table = done(&gateway, &["consumer", "grant", "list", "ann"], "").await;
    assert_eq!(table, "API   VERSION  SCOPES       QUOTAS\nshop  1        read, write  minute=5 day=100\n");
    let told = done(&gateway, &["group", "grant", "list", "partners", "--json"], "").await;
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["items"][0]["version"], &told["items"][0]["quotas"]["minute"]), (&Value::Null, &json!(5)));
    let mistyped = stile(&gateway, &["consumer", "put", "bob", "-"], "groups: [partner]").await;
    let note = "note: nobody else is in group \"partner\", and nothing is granted to it; did you mean \"partners\"?\n";
    assert_eq!((mistyped.status.code(), String::from_utf8_lossy(&mistyped.stderr).as_ref()), (Some(0), note));
    let table = done(&gateway, &["group", "list"], "").await;
    assert_eq!(table, "NAME      CONSUMERS  GRANTS\npartner   1          0\npartners  0          1\n");
    assert_eq!(done(&gateway, &["group", "grant", "list", "partner"], "").await.lines().count(), 1);
    let deleted = done(&gateway, &["group", "grant", "delete", "partners", "shop"], "").await;
    assert_eq!(deleted, "the grant of partners for each version of shop is deleted\n");
    for (wrong, code) in [
        (&["group", "grant", "delete", "partners", "shop"][..], 1),
        (&["group", "grant", "list", "partners"], 1),
        (&["consumer", "grant", "put", "ann", "shop", "--quota", "day=1", "--quota", "day=2"], 1),
        (&["usage", "--from", "2026-02-01", "--to", "2026-01-01"], 1),
        (&["consumer", "grant", "put", "ann", "a b"], 1),
        (&["consumer", "grant", "put", "ann", "shop", "--quota", "hour=1"], 2),
        (&["usage", "--from", "today"], 1),
    ] {
        assert_eq!(stile(&gateway, wrong, "").await.status.code(), Some(code), "{wrong:?}");
    }

    assert_eq!(
        done(&gateway, &["usage"], "").await,
        "DAY  API  VERSION  CONSUMER  REQUESTS  REFUSED  FAILED  RECEIVED  SENT\n"
    );
    assert_eq!(fetch(gateway.address(), "/shop").await.status, 200);
    let used = async || {
        let table = done(&gateway, &["usage", "--api", "shop", "--from", "2026-01-01"], "").await;
        table.lines().nth(1).map(str::to_owned)
    };
    let row = until("it is written", used).await;
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(&cells[1..7], ["shop", "1", "-", "1", "0", "0"], "{row}");
}

#[tokio::test]
async fn endpoints_are_listed_drained_restored_and_deleted() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let gateway = Stile::run(folder.path(), plain(upstream.address())).await;
    let place = "/v1/services/echo/endpoints/one";
    let sent = json!({ "address": "127.0.0.1:1", "ttl": "24h", "weight": 2 });
    assert_eq!(gateway.admin().send("PUT", place, sent).await.status, 201);
    let fixed = upstream.address().to_string();
    assert_eq!(
        done(&gateway, &["endpoint", "drain", "echo", &fixed], "").await,
        format!("endpoint {fixed} of echo is drained\n")
    );
    let table = done(&gateway, &["endpoint", "list", "echo"], "").await;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "ADDRESS", "FROM", "WEIGHT", "STATE", "IN", "FLIGHT", "LEFT"]);
    assert_eq!(rows[1], [&fixed, &fixed, "configuration", "1", "drained", "0", "-"]);
    assert_eq!(rows[2][..6], ["one", "127.0.0.1:1", "registration", "2", "up", "0"], "{table}");
    let restored = done(&gateway, &["endpoint", "restore", "echo", &fixed, "--json"], "").await;
    assert_eq!(restored, "{}\n");
    let told = gateway.admin().get(&format!("/v1/services/echo/endpoints/{fixed}")).await;
    assert_eq!((told.status.as_u16(), &told.json()["drained"]), (200, &json!(false)));
    assert_eq!(done(&gateway, &["endpoint", "delete", "echo", "one"], "").await, "endpoint one of echo is deleted\n");
    assert_eq!(gateway.admin().get(place).await.status, 404);
    for wrong in [["list", "nobody"].as_slice(), &["drain", "echo", "one"], &["list", "a/b"]] {
        assert_eq!(stile(&gateway, &[&["endpoint"], wrong].concat(), "").await.status.code(), Some(1), "{wrong:?}");
    }
}

#[tokio::test]
async fn the_store_of_a_running_gateway_is_exported_imported_and_gone_back_on() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let gateway = Stile::run(folder.path(), plain(upstream.address())).await;
    let file = folder.path().join("more.yaml");
    let text = format!(
        "services:\n- name: people\n  endpoints:\n  - address: {}\nroutes:\n- name: people\n  match:\n    path: /people\n  \
         service: people\n",
        upstream.address()
    );
    std::fs::write(&file, &text).expect("the folder is ours");
    let file = file.display().to_string();
    assert_eq!(done(&gateway, &["export"], "").await, "# The store adds nothing.\n{}\n");
    let would = "route people would be created\nservice people would be created\n";
    assert_eq!(done(&gateway, &["import", &file, "--dry-run"], "").await, would);
    assert_eq!(done(&gateway, &["import", &file], "").await, "route people created\nservice people created\n");
    assert_eq!(done(&gateway, &["import", "-"], &text).await, "everything is like that already\n");
    assert_eq!(fetch(gateway.address(), "/people").await.status, 200);
    assert_eq!(done(&gateway, &["export"], "").await, text, "in the form of the file");

    let table = done(&gateway, &["generation", "list"], "").await;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["GENERATION", "AT", "BY", "ACTION", "KIND", "NAME"]);
    assert_eq!((rows[1][0], &rows[1][2..]), ("2", &["ops", "put", "routes", "people"][..]));
    assert_eq!(rows[2], ["ops", "put", "services", "people"]);
    let diff = done(&gateway, &["generation", "diff", "1"], "").await;
    assert!(diff.starts_with("service people\n  + {\n"), "{diff}");
    let said = done(&gateway, &["generation", "restore", "1", "--dry-run"], "").await;
    assert!(said.ends_with("\nwould be as in generation 1\n"), "{said}");
    let said = done(&gateway, &["generation", "restore", "1"], "").await;
    assert!(said.ends_with("\nis as in generation 1 again\n"), "{said}");
    assert_eq!(done(&gateway, &["export"], "").await, "# The store adds nothing.\n{}\n");
    assert_eq!(done(&gateway, &["generation", "restore", "1"], "").await, "everything is as in generation 1 already\n");
    assert_eq!(stile(&gateway, &["generation", "restore", "99"], "").await.status.code(), Some(1));

    std::fs::write(&file, "routes: [{ name: a, service: none }]\ngrace: 1s\n").expect("the folder is ours");
    let refused = stile(&gateway, &["import", &file], "").await;
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && reason.contains("more.yaml:2:8: grace: only "), "{reason}");
}
