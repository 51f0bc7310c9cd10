//! CommonMark of descriptions as HTML, without what could do more than be read.

use maud::{Markup, PreEscaped};
use pulldown_cmark::{CowStr, Event, Parser, Tag, html::push_html};

/// Schemes of addresses that may be followed, beside those relative to the page.
const SCHEMES: [&str; 3] = ["http", "https", "mailto"];

pub(super) fn prose(text: &str) -> Markup {
    let mut html = String::new();
    push_html(&mut html, Parser::new(text).map(harmless));
    PreEscaped(html)
}

/// HTML stands for itself; a link that would run something leads nowhere.
fn harmless(event: Event<'_>) -> Event<'_> {
    let checked = |address: CowStr<'static>| if leads_on(&address) { address } else { "#".into() };
    match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            let dest_url = checked(dest_url.into_static());
            Event::Start(Tag::Link { link_type, dest_url, title, id })
        }
        Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
            let dest_url = checked(dest_url.into_static());
            Event::Start(Tag::Image { link_type, dest_url, title, id })
        }
        other => other,
    }
}

fn leads_on(address: &str) -> bool {
    let scheme = address.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| !scheme.contains(['/', '?', '#']));
    scheme.is_none_or(|scheme| SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use super::prose;

    #[test]
    fn descriptions_are_rendered_and_harmless() {
        for (text, expected) in [
            ("*a* `b`\n\n- c", "<p><em>a</em> <code>b</code></p>\n<ul>\n<li>c</li>\n</ul>\n"),
            ("<script>x</script>", "&lt;script&gt;x&lt;/script&gt;"),
            ("a <img src=x onerror=y> b", "<p>a &lt;img src=x onerror=y&gt; b</p>\n"),
            ("[a](https://b.example/c)", "<p><a href=\"https://b.example/c\">a</a></p>\n"),
            ("[a](other/page?x=a:b)", "<p><a href=\"other/page?x=a:b\">a</a></p>\n"),
            ("[a](javascript:alert(1))", "<p><a href=\"#\">a</a></p>\n"),
            ("[a](JaVaScRiPt:alert(1))", "<p><a href=\"#\">a</a></p>\n"),
            ("![a](data:text/html,x)", "<p><img src=\"#\" alt=\"a\" /></p>\n"),
            ("<javascript:alert(1)>", "<p><a href=\"#\">javascript:alert(1)</a></p>\n"),
        ] {
            assert_eq!(prose(text).into_string(), expected, "{text}");
        }
    }
}
