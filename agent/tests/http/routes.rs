//! Each route, in each form that it can be asked for.

use std::io::Read;
use std::path::PathBuf;

use serde_json::json;
use sockmeter::config::Access;
use sockmeter::http::{Bounds, Format, MetricsWanted, Missing};
use tokio::sync::mpsc;

use crate::serving::{Given, Serving};

#[test]
fn metrics_are_text_unless_openmetrics_is_asked_for() {
    let serving = Serving::open(Given::default());
    let text = serving.ask("GET /metrics", &[]);
    assert_eq!((text.status, text.text()), (200, "text page\n"));
    assert_eq!(text.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(text.field("content-encoding"), None);
    assert_eq!(text.field("vary"), Some("Accept, Accept-Encoding"));
    let open = serving.ask("GET /metrics", &["accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1"]);
    assert_eq!((open.status, open.text()), (200, "open page\n"));
    assert_eq!(open.field("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
}

#[test]
fn a_compressed_page_is_the_same_page() {
    let page: Vec<u8> = (0..200_000_u32).flat_map(|n| format!("family_{} {n}\n", n % 97).into_bytes()).collect();
    let serving = Serving::open(Given { page: page.clone(), ..Given::default() });
    let answer = serving.ask("GET /metrics", &["accept-encoding: gzip"]);
    assert_eq!(answer.field("content-encoding"), Some("gzip"));
    let mut decoded = Vec::new();
    flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_end(&mut decoded).unwrap();
    assert_eq!(decoded, [b"text ".as_slice(), &page].concat());
    assert_eq!(serving.ask("GET /metrics", &[]).body, decoded);
}

#[test]
fn a_reader_may_limit_the_families() {
    let (asked, mut heard) = mpsc::unbounded_channel();
    let serving = Serving::open(Given { asked: Some(asked), ..Given::default() });
    assert_eq!(serving.ask("GET /metrics?name[]=a&name%5B%5D=b", &[]).status, 200);
    let wanted = MetricsWanted { format: Format::Text, families: vec!["a".to_owned(), "b".to_owned()] };
    assert_eq!(heard.blocking_recv(), Some(wanted));
}

#[test]
fn health_needs_nothing() {
    let serving = Serving::open(Given::default());
    for path in ["/healthz", "/health"] {
        let answer = serving.ask(&format!("GET {path}"), &[]);
        assert_eq!((answer.status, answer.text()), (200, r#"{"status":"healthy"}"#));
        assert_eq!(answer.field("content-type"), Some("application/json"));
    }
}

#[test]
fn readiness_lists_what_is_not_attached_and_why() {
    let serving = Serving::open(Given::default());
    let ready = serving.ask("GET /readyz", &[]);
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "ready"})));
    let missing =
        Missing { program: "ingress".into(), target: "eth0".into(), reason: "operation not permitted".into() };
    let serving = Serving::open(Given { missing: vec![missing], ..Given::default() });
    let answer = serving.ask("GET /readyz", &[]);
    let list = json!([{"program": "ingress", "target": "eth0", "reason": "operation not permitted"}]);
    assert_eq!((answer.status, answer.json()), (503, json!({"status": "not ready", "missing": list})));
    assert_eq!(serving.ask("GET /", &[]).text().matches("operation not permitted").count(), 1);
}

#[test]
fn totals_come_as_json() {
    let serving = Serving::open(Given::default());
    let answer = serving.ask("GET /api/v1/stats", &[]);
    assert_eq!((answer.status, answer.json()), (200, json!({"services": {"scheduler": {"total_requests": 3}}})));
}

#[test]
fn the_page_for_people_is_html_that_loads_nothing() {
    let serving = Serving::open(Given::default());
    let answer = serving.ask("GET /", &[]);
    assert_eq!((answer.status, answer.field("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(answer.field("content-security-policy"), Some("default-src 'none'; style-src 'unsafe-inline'"));
}

#[test]
fn what_is_not_there_is_404_and_what_cannot_be_done_405() {
    let serving = Serving::open(Given::default());
    let answer = serving.ask("GET /metrics/", &[]);
    assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some("not found")));
    for line in ["POST /metrics", "DELETE /", "OPTIONS /api/v1/stats"] {
        let answer = serving.ask(line, &["content-length: 0"]);
        assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD")), "{line}");
    }
}

#[test]
fn head_says_what_get_would_without_its_body() {
    let serving = Serving::open(Given::default());
    let get = serving.ask("GET /metrics", &[]);
    let head = serving.ask("HEAD /metrics", &[]);
    assert_eq!((head.status, head.body.as_slice()), (200, b"".as_slice()));
    assert_eq!(head.field("content-length"), Some("10"));
    assert_eq!(head.field("content-length"), get.field("content-length"));
    assert_eq!(head.field("content-type"), get.field("content-type"));
}

#[test]
fn a_token_is_asked_for_everywhere_but_on_health() {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let access = Access { token_file: Some(file), ..Access::default() };
    let serving = Serving::with(Given::default(), &access, Bounds::default());
    let refused = |fields: &[&str]| {
        let answer = serving.ask("GET /metrics", fields);
        assert_eq!((answer.status, answer.field("www-authenticate")), (401, Some("Bearer realm=\"sockmeter\"")));
        answer.json()["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(refused(&[]), "the Authorization header is missing, wanted \"Authorization: Bearer TOKEN\"");
    assert_eq!(
        refused(&["authorization: Basic czNjcmV0"]),
        "the Authorization header has another scheme, wanted \"Authorization: Bearer TOKEN\""
    );
    for wrong in ["s3cre", "s3cret2", "S3cret"] {
        let message = refused(&[&format!("authorization: Bearer {wrong}")]);
        assert_eq!(message, "the bearer token is not the one that this exporter was given", "{wrong}");
    }
    assert_eq!(serving.ask("GET /metrics", &["authorization: bearer s3cret"]).text(), "text page\n");
    assert_eq!(serving.ask("GET /healthz", &[]).status, 200);
    for path in ["/", "/readyz", "/api/v1/stats", "/nowhere"] {
        assert_eq!(serving.ask(&format!("GET {path}"), &[]).status, 401, "{path}");
    }
}
