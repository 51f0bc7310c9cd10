//! Pages for those who call APIs: what there is, in which versions, how it is called, and a form to try it. They are made when a
//! generation is compiled and served as they are; nothing here knows who asks.

mod index;
mod operation;
mod schema;
mod text;
mod version;

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
};
use maud::{DOCTYPE, Markup, html};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = include_str!("portal/assets/portal.css");
const SCRIPT: &str = include_str!("portal/assets/portal.js");
/// All that a page may do: what comes from here, and calls to where it comes from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Every page, by its path.
#[derive(Debug)]
pub struct Portal {
    prefix: Box<str>,
    pages: HashMap<Box<str>, Page>,
    /// Of what they were made of.
    digest: [u8; 32],
}

/// What a path is answered with.
#[derive(Debug)]
pub struct Page {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What pages are made of.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    /// What their paths begin with, such as `/developers`.
    pub prefix: &'a str,
    pub title: &'a str,
    pub apis: Vec<Api<'a>>,
}

#[derive(Debug, Serialize)]
pub struct Api<'a> {
    pub name: &'a str,
    pub title: Option<&'a str>,
    pub description: Option<&'a str>,
    /// Those that are served, the last one first.
    pub versions: Vec<Version<'a>>,
}

#[derive(Debug, Serialize)]
pub struct Version<'a> {
    pub name: &'a str,
    pub deprecated: bool,
    /// When it will be gone, as people read it.
    pub sunset: Option<String>,
    /// Whether nobody needs a grant.
    pub anonymous: bool,
    /// What a grant must have.
    pub scopes: &'a [String],
    pub select: Select<'a>,
    /// Its OpenAPI document.
    pub description: Option<&'a Value>,
    /// Path and methods of each of its routes; no methods are all.
    pub routes: Vec<(&'a str, &'a [String])>,
}

/// What a request has that is for a version.
#[derive(Debug, Default, Serialize)]
pub struct Select<'a> {
    /// What goes before paths.
    pub path: &'a str,
    /// Fields and query parameters, some with `~REGEX`.
    pub headers: Vec<(&'a str, String)>,
    pub query: Vec<(&'a str, &'a str)>,
}

impl Portal {
    pub fn new(shown: &Shown<'_>) -> Self {
        let prefix = shown.prefix.trim_end_matches('/');
        let mut pages = HashMap::new();
        let mut add = |path: String, kind, body: String| {
            pages.insert(path.into_boxed_str(), Page::new(kind, body));
        };
        add(prefix.to_owned(), HTML, index::page(shown, prefix).into_string());
        for api in &shown.apis {
            for version in &api.versions {
                let at = format!("{prefix}/{}/{}", api.name, version.name);
                if let Some(description) = version.description {
                    add(format!("{at}/openapi.json"), "application/json", served(description, version).to_string());
                }
                add(at, HTML, version::page(shown, prefix, api, version).into_string());
            }
            if let Some(newest) = api.versions.first() {
                add(format!("{prefix}/{}", api.name), HTML, version::page(shown, prefix, api, newest).into_string());
            }
        }
        // What every page needs comes last: an API may have its name.
        add(format!("{prefix}/portal.css"), "text/css; charset=utf-8", STYLE.to_owned());
        add(format!("{prefix}/portal.js"), "text/javascript; charset=utf-8", SCRIPT.to_owned());
        Self { prefix: prefix.into(), pages, digest: digest(shown) }
    }

    /// Whether its pages are made of such.
    pub fn is_of(&self, shown: &Shown<'_>) -> bool {
        self.digest == digest(shown)
    }

    /// The page at a path, with or without a slash at its end.
    pub fn page(&self, path: &str) -> Option<&Page> {
        path.strip_prefix(&*self.prefix)?;
        self.pages.get(path.strip_suffix('/').unwrap_or(path))
    }
}

impl Page {
    fn new(kind: &'static str, body: String) -> Self {
        let tag = format!("\"{}\"", HEXLOWER.encode(&Sha256::digest(&body)[..16]));
        let fields: [(HeaderName, HeaderValue); 6] = [
            (CONTENT_TYPE, HeaderValue::from_static(kind)),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (ETAG, HeaderValue::from_str(&tag).expect("hexadecimal digits")),
        ];
        Self { headers: HeaderMap::from_iter(fields), body: body.into() }
    }
}

/// A description that tells where it is served, unless it does so itself.
fn served<'a>(description: &'a Value, version: &Version<'_>) -> Cow<'a, Value> {
    let Value::Object(members) = description else { return Cow::Borrowed(description) };
    if members.contains_key("servers") {
        return Cow::Borrowed(description);
    }
    let mut members = members.clone();
    let url = if version.select.path.is_empty() { "/" } else { version.select.path };
    members.insert("servers".to_owned(), json!([{ "url": url }]));
    Cow::Owned(Value::Object(members))
}

/// What all pages have.
fn frame(shown: &Shown<'_>, prefix: &str, title: &str, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="stylesheet" href={ (prefix) "/portal.css" };
                script src={ (prefix) "/portal.js" } defer {}
            }
            body {
                header { a href=(if prefix.is_empty() { "/" } else { prefix }) { (shown.title) } }
                main { (main) }
            }
        }
    }
}

/// What people read of a version's life.
fn badges(version: &Version<'_>) -> Markup {
    html! {
        @if version.deprecated { span.badge.deprecated { "deprecated" } }
        @if let Some(sunset) = &version.sunset { span.badge.deprecated { "gone on " (sunset) } }
        @if version.anonymous { span.badge { "open to all" } }
    }
}

fn digest(shown: &Shown<'_>) -> [u8; 32] {
    // Plain data, whose keys are texts: it can always be written.
    Sha256::digest(serde_json::to_vec(shown).unwrap_or_default()).into()
}
