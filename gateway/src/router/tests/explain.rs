//! What is said of routes that are passed over.

use super::*;

/// The names of the other rules, in their order, each with the reason why a GET does not go there.
fn passed(rules: &[&str], url: &str, query: Option<&str>, lines: &[(&str, &str)]) -> Vec<(String, String)> {
    let rules: Vec<_> = rules.iter().map(|text| rule(text)).collect();
    let explainer = Explainer::compile(rules.iter().map(|rule| (rule.rule(), &*rule.name))).expect("valid rules");
    let (host, path) = url.split_at(url.find('/').expect("a path"));
    let subject = Subject { host, path, method: &Method::GET, query, headers: &fields(lines) };
    let explanation = explainer.explain(&subject);
    assert_eq!(explanation.found, compile(&rules).expect("valid rules").find(&subject));
    explanation.passed.into_iter().map(|passed| ((*passed.target).to_owned(), passed.reason)).collect()
}

fn reason(rule: &str, url: &str, query: Option<&str>, lines: &[(&str, &str)]) -> String {
    let [(name, reason)] = &passed(&[rule], url, query, lines)[..] else { panic!("{rule} serves {url}") };
    assert_eq!(name, rule);
    reason.clone()
}

#[test]
fn each_part_that_does_not_match_is_named() {
    for (rule, url, expected) in [
        ("a.com /x", "b.com/x", "host differs: wants a.com, got b.com"),
        ("a.com *.b.com /x", "/x", "host differs: wants a.com or *.b.com, got none"),
        ("a b c d e f /x", "g/x", "host differs: wants a or b or c or d and 2 more, got g"),
        ("/x/{id}", "/x", "path does not match /x/{id}"),
        ("~^/v", "/x", "path does not match ~^/v"),
        ("POST PUT /x", "/x", "method: wants POST or PUT, got GET"),
        (
            "a.com /x POST",
            "b.com/y",
            "host differs: wants a.com, got b.com; path does not match /x; method: wants POST, got GET",
        ),
    ] {
        assert_eq!(reason(rule, url, None, &[]), expected, "{rule}");
    }
}

#[test]
fn a_condition_says_what_it_wants_and_what_is_there() {
    let lines = [("x-env", "test"), ("x-env", ""), ("cookie", "a=1; a=2")];
    for (rule, expected) in [
        ("#x-env=prod", "header x-env: wants prod, got test, \"\""),
        ("#x-other=~^a", "header x-other: wants ~^a, got none"),
        ("?v=2", "query v: wants 2, got 1 2, 3"),
        ("?w=2", "query w: wants 2, got none"),
        ("$a=3", "cookie a: wants 3, got 1, 2"),
        ("$a=3 ?w=2 $a=1", "query w: wants 2, got none"),
    ] {
        assert_eq!(reason(rule, "/", Some("v=1+2&v=3"), &lines), expected, "{rule}");
    }
    let long = "x".repeat(100);
    assert_eq!(
        reason("?v=2", "/", Some(&format!("v={long}&v=a%0Ab&v&v&v&v")), &[]),
        format!("query v: wants 2, got {}, a\\nb, \"\", \"\"", "x".repeat(60))
    );
}

#[test]
fn what_goes_first_says_why() {
    for (first, second, because) in [
        ("a.com /*", "/a", "its host a.com is more specific than *"),
        ("*.b.com", "*.com GET", "its host *.b.com is more specific than *.com"),
        ("/a", "/{x}", "its path is exact"),
        ("/{x}", "~a", "its path is no regex"),
        ("/{x}", "GET", "it has a path"),
        ("~a", "GET", "it has a path"),
        ("/a/*", "/*", "more of its path is literal"),
        ("/{x}", "/{x}/*", "its path has a closed end"),
        ("~a !2", "~/ !1 GET", "its priority is larger"),
        ("/a GET", "/a", "it has more conditions"),
        ("~/", "~a", "its name comes first"),
    ] {
        let url = "x.b.com/a".replace("x.b.com", if first.starts_with("a.com") { "a.com" } else { "x.b.com" });
        let expected = (second.to_owned(), format!("matches too, but {first} goes first: {because}"));
        assert_eq!(passed(&[first, second], &url, None, &[]), [expected], "{first} and {second}");
    }
    let url = "/a/a";
    let expected = "matches too, but /a/{x} goes first: its path is literal where the other has a part";
    assert_eq!(passed(&["/{x}/a", "/a/{x}"], url, None, &[])[0].1, expected);
}

#[test]
fn the_nearest_miss_comes_first() {
    let rules = [
        "a.com /users/{id} POST",
        "b.com /users/{id}",
        "/orders",
        "a.com /*",
        "a.com /users/{id} POST ?v=2",
        "b.com /orders",
        "/users/7/orders",
        "a.com /users/7 #x=1",
    ];
    let names: Vec<_> = passed(&rules, "a.com/users/7", None, &[]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [rules[7], rules[0], rules[6], rules[2], rules[1], rules[4], rules[5]]);
}
