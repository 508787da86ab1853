//! The page for people at `/`: whether everything is attached, and where the rest is.

use std::fmt::Write as _;

use super::Readiness;

/// The page as HTML.
pub(super) fn page(readiness: &Readiness) -> String {
    let mut status = if readiness.is_ready() {
        "<p>Everything that this kernel and configuration call for is attached.</p>".to_owned()
    } else {
        "<p>Not attached:</p><ul>".to_owned()
    };
    for missing in &readiness.missing {
        // Writing to a string cannot fail.
        let _ = write!(
            status,
            "<li><code>{}</code> on <code>{}</code>: {}</li>",
            escaped(&missing.program),
            escaped(&missing.target),
            escaped(&missing.reason)
        );
    }
    if !readiness.is_ready() {
        status.push_str("</ul>");
    }
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>sockmeter</title>\
         <style>body{{font-family:sans-serif;max-width:50em;margin:2em auto;padding:0 1em}}</style></head>\
         <body><h1>sockmeter {}</h1>{status}<ul>\
         <li><a href=\"/metrics\">/metrics</a>: for Prometheus</li>\
         <li><a href=\"/api/v1/stats\">/api/v1/stats</a>: totals as JSON</li>\
         <li><a href=\"/api/v1/sockets\">/api/v1/sockets</a>,
         <a href=\"/api/v1/endpoints\">/api/v1/endpoints</a>,
         <a href=\"/api/v1/jobs\">/api/v1/jobs</a>, <a href=\"/api/v1/interfaces\">/api/v1/interfaces</a>: tables as JSON</li>\
         <li><a href=\"/readyz\">/readyz</a>: what is attached</li>\
         <li><a href=\"/healthz\">/healthz</a>: whether the process runs</li></ul></body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Text that cannot be taken for markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::Missing;
    use super::*;

    #[test]
    fn what_a_kernel_says_is_not_markup() {
        let missing = Missing { program: "p".into(), target: "<lo>".into(), reason: "a & b".into() };
        let page = page(&Readiness { missing: vec![missing] });
        assert_eq!(page.matches("<li><code>p</code> on <code>&lt;lo&gt;</code>: a &amp; b</li>").count(), 1);
    }
}
