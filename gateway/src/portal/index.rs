//! The page that lists APIs.

use maud::{Markup, html};

use super::{Shown, badges, frame, text};

pub(super) fn page(shown: &Shown<'_>, prefix: &str) -> Markup {
    let main = html! {
        h1 { (shown.title) }
        @if shown.apis.is_empty() { p { "No API is published yet." } }
        @for api in &shown.apis {
            section.api {
                h2 { (api.title.unwrap_or(api.name)) }
                @if let Some(description) = api.description { (text::prose(description)) }
                ul.versions {
                    @for version in &api.versions {
                        li {
                            a href={ (prefix) "/" (api.name) "/" (version.name) } { "Version " (version.name) }
                            " " (badges(version))
                        }
                    }
                }
            }
        }
    };
    frame(shown, prefix, shown.title, &main)
}
