//! The rules of matching one by one.

mod conditions;
mod explain;
mod reference;

use http::{HeaderName, HeaderValue};

use super::{host::Host, path::Pattern, *};
use crate::exchange::path::PathError;

/// A rule that owns its texts.
#[derive(Debug, Clone, Default)]
struct Owned {
    name: String,
    hosts: Vec<String>,
    path: Option<String>,
    methods: Vec<String>,
    headers: Texts,
    query: Texts,
    cookies: Texts,
    priority: i32,
}

impl Owned {
    fn rule(&self) -> Rule<'_> {
        Rule {
            name: &self.name,
            hosts: &self.hosts,
            path: self.path.as_deref(),
            methods: &self.methods,
            headers: &self.headers,
            query: &self.query,
            cookies: &self.cookies,
            priority: self.priority,
        }
    }
}

/// A rule from words: hosts, a path, methods, `#HEADER=TEXT`, `?PARAMETER=TEXT`, `$COOKIE=TEXT` and `!priority`, in any
/// order. They are its name as well.
fn rule(text: &str) -> Owned {
    let mut rule = Owned { name: text.to_owned(), ..Owned::default() };
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let named = |texts: &mut Texts| drop(texts.insert(name[1..].to_owned(), value.to_owned()));
        match word.as_bytes()[0] {
            b'#' => named(&mut rule.headers),
            b'?' => named(&mut rule.query),
            b'$' => named(&mut rule.cookies),
            b'/' | b'~' => rule.path = Some(word.to_owned()),
            b'!' => rule.priority = word[1..].parse().expect(word),
            _ if word.bytes().all(|byte| byte.is_ascii_uppercase()) => rule.methods.push(word.to_owned()),
            _ => rule.hosts.push(word.to_owned()),
        }
    }
    rule
}

fn compile(rules: &[Owned]) -> Result<Router<&str>, Vec<RuleError>> {
    Router::compile(rules.iter().map(|rule| (rule.rule(), &*rule.name)))
}

fn find<'a>(router: &Router<&'a str>, host: &str, path: &str, method: &Method) -> Option<&'a str> {
    router.find(&Subject { host, path, method, query: None, headers: &HeaderMap::new() }).copied()
}

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect(value);
        headers.append(name.parse::<HeaderName>().expect(name), value);
    }
    headers
}

/// Checks whom a GET on each host and path goes to; empty is nobody. The order of the rules is turned around once.
fn check(rules: &[&str], expected: &[(&str, &str)]) {
    let mut rules: Vec<_> = rules.iter().map(|text| rule(text)).collect();
    for _ in 0..2 {
        let router = compile(&rules).expect("valid rules");
        for (url, name) in expected {
            let (host, path) = url.split_at(url.find('/').unwrap_or(url.len() - 1));
            assert_eq!(find(&router, host, path, &Method::GET).unwrap_or_default(), *name, "{url}");
        }
        rules.reverse();
    }
}

fn errors(rules: &[&str]) -> Vec<(usize, String, String)> {
    let rules: Vec<_> = rules.iter().map(|text| rule(text)).collect();
    let errors = compile(&rules).err().unwrap_or_default();
    errors.into_iter().map(|error| (error.rule, error.key.clone(), error.to_string())).collect()
}

#[test]
fn exact_path() {
    check(
        &["/users", "/a/"],
        &[("/users", "/users"), ("/users/", ""), ("/user", ""), ("/Users", ""), ("/a/", "/a/"), ("/a", "")],
    );
}

#[test]
fn open_end() {
    check(
        &["/users/*"],
        &[("/users", "/users/*"), ("/users/", "/users/*"), ("/users/7/x", "/users/*"), ("/usersx", ""), ("/", "")],
    );
    check(&["/*"], &[("/", "/*"), ("/a/b", "/*"), ("*", "/*")]);
    check(&[""], &[("/", ""), ("/a/b", ""), ("*", "")]);
}

#[test]
fn parts_are_one_segment() {
    let orders = "/users/{id}/orders";
    check(
        &[orders],
        &[("/users/7/orders", orders), ("/users//orders", ""), ("/users/7/8/orders", ""), ("/users/7/orders/", "")],
    );
    let below = "/users/{id}/*";
    check(
        &[below],
        &[("/users/7", below), ("/users/7/", below), ("/users/7/a/b", below), ("/users", ""), ("/users/", "")],
    );
    check(&["/{a}/"], &[("/x/", "/{a}/"), ("/x", ""), ("//", "")]);
}

#[test]
fn regex() {
    check(&["~^/v[0-9]+/"], &[("/v12/a", "~^/v[0-9]+/"), ("/v/a", ""), ("/a/v1/", "")]);
}

#[test]
fn pattern_is_normalised() {
    check(&["/%7euser//caf\u{e9}/./{id}"], &[("/~user/caf%C3%A9/1", "/%7euser//caf\u{e9}/./{id}")]);
}

#[test]
fn parameters_do_not_lead_past_a_literal_segment() {
    let rules = ["/admin", "/admin/*", "/v/{id}/edit", "~^/r/", "~;p=1$", "/m/a;v=1", "/m/*", "/s/x;v=1/*", ""];
    check(
        &rules,
        &[
            ("/admin;x", "/admin"),
            ("/admin;x/y", "/admin/*"),
            ("/admin;x=1;y/a;b/c", "/admin/*"),
            ("/admin/;x", "/admin/*"),
            ("/v/7;a/edit;b", "/v/{id}/edit"),
            ("/v;a/;b/edit", "/v/{id}/edit"),
            ("/r;x/y", "~^/r/"),
            ("/o;p=1", "~;p=1$"),
            ("/m/a;v=1", "/m/a;v=1"),
            ("/m;x/a;v=1", "/m/a;v=1"),
            ("/m/a;v=2", "/m/*"),
            ("/s;y/x;v=1/z", "/s/x;v=1/*"),
            ("/s/x;v=2/z", ""),
            ("/admin%3Bx/y", ""),
        ],
    );
}

#[test]
fn exact_before_segments_before_regex() {
    check(
        &["/users/me", "/users/{id}", "/users/*", "/*", "~^/", "a.com ~."],
        &[
            ("/users/me", "/users/me"),
            ("/users/7", "/users/{id}"),
            ("/users/7/8", "/users/*"),
            ("/x", "/*"),
            ("a.com/x", "a.com ~."),
        ],
    );
}

#[test]
fn no_path_after_every_path() {
    check(&["~^/a", "GET"], &[("/a", "~^/a"), ("/b", "GET")]);
    check(&["/* GET", "~^/a", ""], &[("/a", "/* GET"), ("/b", "/* GET")]);
    check(&["a.com GET", "a.com ~b", "/a"], &[("a.com/a", "a.com GET"), ("a.com/b", "a.com ~b"), ("/a", "/a")]);
    check(&["GET", "GET POST", ""], &[("/a", "GET")]);
}

#[test]
fn more_literal_bytes_first() {
    check(&["/a/*", "/a/b/*", "/a/b/c/*"], &[("/a/b/c/d", "/a/b/c/*"), ("/a/b/d", "/a/b/*"), ("/a/d", "/a/*")]);
    check(&["/a/{x}", "/{x}/orders"], &[("/a/orders", "/{x}/orders"), ("/a/b", "/a/{x}")]);
    check(&["/{x}/{y}/long/*", "/a/{y}/{z}/x"], &[("/a/b/long/x", "/{x}/{y}/long/*")]);
}

#[test]
fn at_equal_length_closed_end_then_leftmost_literal() {
    check(&["/users/{id}", "/users/{id}/*"], &[("/users/7", "/users/{id}"), ("/users/7/x", "/users/{id}/*")]);
    check(&["/a/{x}", "!9 /{x}/a"], &[("/a/a", "/a/{x}")]);
}

#[test]
fn regexes_by_priority_then_conditions_then_name() {
    check(&["~^/a", "~a !1", "~. !-1"], &[("/a", "~a !1"), ("/b", "~. !-1")]);
    check(&["~a", "~/a GET"], &[("/a", "~/a GET")]);
    check(&["~a", "~/a"], &[("/a", "~/a")]);
}

#[test]
fn more_conditions_then_the_name() {
    check(&["/a", "/a GET", "/a GET POST", "/a PUT"], &[("/a", "/a GET")]);
    check(&["GET POST /a", "GET PUT /a"], &[("/a", "GET POST /a")]);
}

#[test]
fn methods() {
    let rules = [rule("/a GET HEAD"), rule("/a POST"), rule("/*"), rule("/b PURGE")];
    let router = compile(&rules).expect("valid rules");
    let purge = Method::from_bytes(b"PURGE").expect("method");
    assert_eq!(find(&router, "", "/a", &Method::HEAD), Some("/a GET HEAD"));
    assert_eq!(find(&router, "", "/a", &Method::POST), Some("/a POST"));
    assert_eq!(find(&router, "", "/a", &purge), Some("/*"));
    assert_eq!(find(&router, "", "/b", &purge), Some("/b PURGE"));
}

#[test]
fn hosts_from_exact_over_wildcards_to_none() {
    let rules = ["a.b.com /*", "*.b.com /*", "*.com /*", "/*", "*.a.b.com /x"];
    check(
        &rules,
        &[
            ("a.b.com/x", rules[0]),
            ("c.b.com/x", rules[1]),
            ("d.c.b.com/x", rules[1]),
            ("b.com/x", rules[2]),
            ("com/x", rules[3]),
            ("/x", rules[3]),
            ("xb.com/x", rules[2]),
            ("c.a.b.com/x", rules[4]),
            ("c.a.b.com/y", rules[1]),
        ],
    );
}

#[test]
fn a_less_specific_host_is_asked_when_none_of_the_first_matches() {
    let rules = ["a.com /x", "a.com /y POST", "*.com ~z", "/y"];
    check(&rules, &[("a.com/x", rules[0]), ("a.com/z", rules[2]), ("a.com/y", rules[3]), ("a.com/w", "")]);
}

#[test]
fn hosts_compare_without_case_port_and_final_dot() {
    for host in ["Api.Example.com", "api.example.COM:8080", "api.example.com.", "api.example.com.:80"] {
        check(&["aPi.example.com."], &[(&format!("{host}/"), "aPi.example.com.")]);
    }
    for host in ["[::1]", "[::1]:80", "[0:0:0:0:0:0:0:1]", "[::0001]:1"] {
        check(&["[0::1]"], &[(&format!("{host}/"), "[0::1]")]);
    }
    check(&["[::1]", "127.0.0.1"], &[("127.0.0.1:80/", "127.0.0.1"), ("[::2]/", ""), ("[::1/", ""), ("::1/", "")]);
}

#[test]
fn a_host_longer_than_any_name_is_no_name() {
    check(
        &["*.com", "~."],
        &[(&format!("{}.com/", "a.".repeat(130)), "~."), (&format!("{}com/", "a.".repeat(120)), "*.com")],
    );
}

#[test]
fn equal_matches_name_both_routes() {
    assert_eq!(
        errors(&["/a/{x} GET PUT", "b.com a.com /a/{y} PUT GET", "/a/{y} PUT GET", "A.com. /a/{z}/ GET", "a.com /a/{z} GET PUT"]),
        [
            (2, "", r#"routes "/a/{x} GET PUT" and "/a/{y} PUT GET" have the same match: host *, path /a/{}, equal conditions"#),
            (
                4,
                "hosts[0]",
                r#"routes "b.com a.com /a/{y} PUT GET" and "a.com /a/{z} GET PUT" have the same match: host a.com, path /a/{}, equal conditions"#
            ),
        ]
        .map(|(rule, key, text)| (rule, key.to_owned(), text.to_owned()))
    );
    assert_eq!(errors(&["~a !1", "~a !2"]).len(), 1);
    assert_eq!(errors(&["/*", "a.com", "/*/"]).len(), 1);
    assert_eq!(errors(&["", "/*"]).len(), 1);
    assert_eq!(errors(&["GET", "/* GET"]).len(), 1);
    assert_eq!(errors(&["", "/* GET"]), []);
    assert_eq!(errors(&["/a GET", "/a GET GET"]).len(), 1);
    assert_eq!(errors(&["/a #x=1 #y=2 ?z=3", "/a ?z=3 #Y=2 #X=1"]).len(), 1);
    assert_eq!(errors(&["/a #x=~1", "/a #x=~1"]).len(), 1);
    assert_eq!(errors(&["/a #x=1", "/a #x=2", "/a #x=~1", "/a ?x=1", "/a $x=1", "/a #y=1", "/a #x=1 #y=1", "/a"]), []);
    assert_eq!(errors(&["/a", "~/a", "/a GET", "/a/", "/a/*", "/a/{b}", "a.com /a"]), []);
}

#[test]
fn every_error_is_reported() {
    let texts: Vec<_> = errors(&["/a", "a.com a:1 a..b A.com. /b* GET", "/a", "~("])
        .into_iter()
        .map(|(rule, key, text)| format!("{rule} {key}: {text}"))
        .collect();
    assert_eq!(
        texts,
        [
            r#"1 hosts[1]: host "a:1" has a port, which is not part of a match"#,
            r#"1 hosts[2]: host "a..b" is not a name such as api.example.com, *.example.com or [::1]"#,
            r#"1 hosts[3]: host "A.com." is there twice"#,
            r#"1 path: segment "b*" has a "*", which can only be the whole last segment, as in /users/*"#,
            r#"2 : routes "/a" and "/a" have the same match: host *, path /a, equal conditions"#,
            r#"3 path: regex is invalid: unclosed group"#,
        ]
    );
}

#[test]
fn patterns_that_are_none() {
    use PatternError::*;
    let parse = |text: &str| Pattern::parse(text).map(|pattern| pattern.text);
    let wildcard = |segment: &str| Err(Wildcard(segment.to_owned()));
    let part = |segment: &str| Err(Part(segment.to_owned()));
    assert_eq!(parse(""), Err(Empty));
    assert_eq!(parse("~"), Err(Regex(RegexError::Empty)));
    assert_eq!(parse("users"), Err(Path(PathError::NotAbsolute)));
    assert_eq!(parse("*"), Err(Path(PathError::NotAbsolute)));
    assert_eq!(parse("/%zz"), Err(Path(PathError::InvalidEscape)));
    assert_eq!(parse("/a?b=1"), Err(NotInPath('?')));
    assert_eq!(parse("/a#b"), Err(NotInPath('#')));
    assert_eq!(parse("/*/a"), wildcard("*"));
    assert_eq!(parse("/a*"), wildcard("a*"));
    assert_eq!(parse("/a/**"), wildcard("**"));
    for segment in ["{id", "id}", "{}", "{{id}}", "v{id}", "{id}.json", "{a}{b}", "{i-d}"] {
        assert_eq!(parse(&format!("/a/{segment}/b")), part(segment));
    }
    assert_eq!(parse(&"/a".repeat(256)), Ok("/a".repeat(256)));
    assert_eq!(parse(&"/a".repeat(257)), Err(TooDeep));
    assert_eq!(parse("~(a{1000}){60}"), Err(Regex(RegexError::TooLarge)));
}

#[test]
fn hosts_that_are_none() {
    for host in [
        "",
        "*",
        "*.",
        "a b",
        "a..b",
        ".a",
        "*.*.a",
        "a.*",
        "a*.b",
        "caf\u{e9}.fr",
        "[::1",
        "[::g]",
        "*.[::1]",
        "u@a",
        "[]",
        "[[::1]]",
    ] {
        assert_eq!(Host::parse(host), Err(HostError::Invalid(host.to_owned())));
    }
    for host in ["a:80", "a:", "*.a:80", "[::1]:80"] {
        assert_eq!(Host::parse(host), Err(HostError::Port(host.to_owned())));
    }
    assert!(Host::parse(&"a.".repeat(126)).is_ok() && Host::parse(&"a.".repeat(128)).is_err());
    assert!(Host::parse(&"a".repeat(63)).is_ok() && Host::parse(&"a".repeat(64)).is_err());
}

#[test]
fn methods_that_are_none() {
    let key_and_text = |text: &str| {
        let rule = Owned { methods: vec!["GET".to_owned(), text.to_owned()], ..Owned::default() };
        let error = compile(&[rule]).expect_err(text).remove(0);
        (error.key, error.cause)
    };
    for text in ["", "A B", "\u{c9}"] {
        assert_eq!(key_and_text(text), ("methods[1]".to_owned(), ConditionError::Method(text.to_owned()).into()));
    }
    assert_eq!(key_and_text("get"), ("methods[1]".to_owned(), ConditionError::LowerCase("get".to_owned()).into()));
}

#[test]
fn a_host_that_is_none_is_not_every_host() {
    let errors = errors(&["/a", "a:1 /a"]);
    assert!(matches!(&errors[..], [(1, key, _)] if key == "hosts[0]"), "{errors:?}");
}
