//! Conditions one by one.

use super::*;

/// Whether a route with these conditions takes a GET with this query and these fields.
fn admits(conditions: &str, query: Option<&str>, lines: &[(&str, &str)]) -> bool {
    let rule = rule(conditions);
    let router = compile(std::slice::from_ref(&rule)).expect(conditions);
    let subject = Subject { host: "", path: "/", method: &Method::GET, query, headers: &fields(lines) };
    router.find(&subject).is_some()
}

#[test]
fn any_field_line_of_a_header() {
    assert!(admits("#X-Env=prod", None, &[("x-env", "prod")]));
    assert!(admits("#x-env=prod", None, &[("x-env", "test"), ("x-env", "prod")]));
    for lines in [&[][..], &[("x-env", "")], &[("x-env", "Prod")], &[("x-env", "test, prod")], &[("x-en", "prod")]] {
        assert!(!admits("#x-env=prod", None, lines), "{lines:?}");
    }
    assert!(admits("#x-env=", None, &[("x-env", "")]));
    assert!(!admits("#x-env=", None, &[]));
    assert!(admits("#x-env=caf\u{e9}", None, &[("x-env", "caf\u{e9}")]));
}

#[test]
fn any_parameter_of_a_query() {
    assert!(admits("?v=2", Some("v=1&v=2"), &[]));
    assert!(admits("?v=2", Some("%76=%32"), &[]));
    assert!(admits("?v=", Some("a&v"), &[]));
    for query in [None, Some(""), Some("v"), Some("V=2"), Some("v=22"), Some("v=2;"), Some("v%3D2")] {
        assert!(!admits("?v=2", query, &[]), "{query:?}");
    }
    let spaced = Owned { query: Texts::from([("a b".to_owned(), "c d".to_owned())]), ..Owned::default() };
    let router = compile(std::slice::from_ref(&spaced)).expect("a rule");
    for query in ["a+b=c+d", "a%20b=c%20d"] {
        let headers = HeaderMap::new();
        let subject = Subject { host: "", path: "/", method: &Method::GET, query: Some(query), headers: &headers };
        assert!(router.find(&subject).is_some(), "{query}");
    }
}

#[test]
fn any_cookie_of_all_fields() {
    assert!(admits("$beta=1", None, &[("cookie", "a=2; beta=1")]));
    assert!(admits("$beta=1", None, &[("cookie", "beta=0"), ("cookie", "beta=1")]));
    for cookie in ["", "beta", "beta=11", "Beta=1", "xbeta=1", "a=beta=1", "beta=\"1\""] {
        assert!(!admits("$beta=1", None, &[("cookie", cookie)]), "{cookie}");
    }
}

#[test]
fn regexes_of_conditions_are_unanchored_and_take_any_octets() {
    assert!(admits("#accept=~json", None, &[("accept", "text/html, application/json;q=0.5")]));
    assert!(admits("?v=~^[0-9]+$", Some("v=x&v=%31%32"), &[]));
    assert!(!admits("?v=~^[0-9]+$", Some("v=x1"), &[]));
    assert!(admits("?v=~^a.c$", Some("v=a%C3%A9c"), &[]));
    assert!(admits("?v=~c$", Some("v=%FFc"), &[]));
    assert!(admits("$beta=~^(1|on)$", None, &[("cookie", "beta=on")]));
    assert!(admits("?v=~=", Some("v=a=b"), &[]));
}

#[test]
fn all_conditions_must_hold() {
    let rule = "GET #a=1 #b=2 ?v=2 $c=3";
    let lines = [("a", "1"), ("b", "2"), ("cookie", "c=3")];
    assert!(admits(rule, Some("v=2"), &lines));
    assert!(!admits(rule, Some("v=3"), &lines));
    for absent in 0..lines.len() {
        let others: Vec<_> = lines.iter().enumerate().filter(|(at, _)| *at != absent).map(|(_, line)| *line).collect();
        assert!(!admits(rule, Some("v=2"), &others), "without {:?}", lines[absent]);
    }
    assert!(!admits("POST #a=1", None, &lines));
}

#[test]
fn each_entry_is_one_condition_and_the_methods_are_one() {
    let rules = ["/a", "/a GET POST PUT", "/a #a=1 ?b=2", "/a #a=1 ?b=2 $c=3", "/a GET #a=~1"].map(rule);
    let router = compile(&rules).expect("rules");
    let find = |query, lines: &[(&str, &str)]| {
        let headers = fields(lines);
        router.find(&Subject { host: "", path: "/a", method: &Method::GET, query, headers: &headers }).copied()
    };
    assert_eq!(find(None, &[]), Some("/a GET POST PUT"));
    assert_eq!(find(None, &[("a", "1")]), Some("/a GET #a=~1"));
    assert_eq!(find(Some("b=2"), &[("a", "1")]), Some("/a #a=1 ?b=2"));
    assert_eq!(find(Some("b=2"), &[("a", "1"), ("cookie", "c=3")]), Some("/a #a=1 ?b=2 $c=3"));
}

#[test]
fn conditions_that_are_none() {
    let outcome =
        |text: &str| errors(&[text]).into_iter().map(|(_, key, text)| format!("{key}: {text}")).collect::<Vec<_>>();
    for (text, expected) in [
        ("#=1", r#"headers.: header "" is not a field name"#),
        ("#x:y=1", r#"headers.x:y: header "x:y" is not a field name"#),
        ("#TE=1", r#"headers.TE: header "te" is about the connection, and taken off before a route is looked for"#),
        ("#A=1 #a=2", r#"headers.a: header "a" is there twice, and names compare without case"#),
        ("#a=~", "headers.a: regex is empty"),
        ("?=1", "query.: name of a query parameter is empty"),
        ("?a=~(", "query.a: regex is invalid: unclosed group"),
        ("?a=~(a{1000}){60}", "query.a: regex is too large when compiled"),
        ("$=1", r#"cookies.: cookie "" is not a name that a Cookie field can have"#),
        ("$a;b=1", r#"cookies.a;b: cookie "a;b" is not a name that a Cookie field can have"#),
        ("$a=~[", "cookies.a: regex is invalid: unclosed character class"),
    ] {
        assert_eq!(outcome(text), [expected], "{text}");
    }
    let names = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), String::new())).collect::<Texts>();
    let rule = Owned { headers: names(&["a\nb"]), cookies: names(&[" a", "a=b", "a\tb", "a b"]), ..Owned::default() };
    let keys: Vec<_> = compile(&[rule]).expect_err("wrong names").into_iter().map(|error| error.key).collect();
    assert_eq!(keys, ["headers.a\\nb", "cookies. a", "cookies.a\\tb", "cookies.a=b"]);
}
