//! The rules of `route` as tables, and what holds for any bytes at all.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::{Endpoint, MAX_GUESS, Routes, Target, method_label};

const FFMPEG: &str = include_str!("../../tests/fixtures/routes/ffmpeg-rtmp-routes.txt");

fn named(routes: &Routes, method: &str, target: &[u8], status: u16) -> String {
    routes.template(method, Target::whole(target), Some(status)).to_string()
}

#[test]
fn the_routes_of_a_scheduler() {
    let routes = Routes::parse(FFMPEG).unwrap();
    assert_eq!(routes.len(), 16);
    let table = [
        ("GET", "/jobs", 200, "/jobs"),
        ("POST", "/jobs", 201, "/jobs"),
        ("GET", "/jobs/next?node_id=7", 200, "/jobs/next"),
        ("GET", "/jobs/%6eext", 200, "/jobs/next"),
        ("GET", "/jobs/anything", 200, "/jobs/{id}"),
        ("GET", "/jobs/anything", 404, "/jobs/{id}"),
        ("GET", "/jobs/next/logs", 200, "/jobs/{id}/logs"),
        ("GET", "http://10.0.0.1:8080/jobs/7/logs?tail=1", 200, "/jobs/{id}/logs"),
        ("POST", "/nodes/550e8400-e29b-41d4-a716-446655440000/heartbeat", 200, "/nodes/{id}/heartbeat"),
        ("POST", "/nodes/register", 200, "/nodes/register"),
        ("GET", "/nodes/register", 200, "/nodes/{id}"),
        // A declared path with another method keeps its name.
        ("PUT", "/jobs", 405, "/jobs"),
        ("HEAD", "/jobs/7", 200, "/jobs/{id}"),
        ("get", "/jobs/7", 405, "/jobs/{id}"),
        // Not declared.
        ("GET", "/jobs/", 404, "unmatched"),
        ("GET", "//jobs", 404, "unmatched"),
        ("GET", "//jobs", 301, "/jobs"),
        ("GET", "/jobs/7/", 301, "/jobs/{id}/"),
        ("GET", "/wp-login.php", 404, "unmatched"),
        ("GET", "/debug/7", 405, "unmatched"),
        ("GET", "/debug/7", 200, "/debug/{id}"),
        ("GET", "/Jobs/7", 200, "/Jobs/{id}"),
        ("OPTIONS", "*", 204, "*"),
        ("CONNECT", "example.org:443", 200, "connect"),
        ("GET", "nonsense", 400, "unmatched"),
    ];
    for (method, target, status, endpoint) in table {
        assert_eq!(named(&routes, method, target.as_bytes(), status), endpoint, "{method} {target} {status}");
    }
    assert_eq!(routes.template("GET", Target::whole(b"/debug/7"), None).as_str(), "/debug/{id}");
}

#[test]
fn the_particular_wins_and_a_dead_end_is_taken_back() {
    let routes = Routes::parse_lines(
        "GET /a/b/c\nGET /a/{x}/d\nGET /f/report.{ext}\nGET /f/{name}.{ext}\nGET /f/{name}\nGET /s/{rest...}\n\
         GET /s/x/y\nGET /\nGET /dir/\nGET /with%20space\nPOST /m/{a}\nGET /m/{b}",
    )
    .unwrap();
    let table = [
        ("/a/b/c", "/a/b/c"),
        ("/a/b/d", "/a/{x}/d"),
        ("/f/report.pdf", "/f/report.{ext}"),
        ("/f/other.pdf", "/f/{name}.{ext}"),
        ("/f/plain", "/f/{name}"),
        ("/f/", "/f/"),
        ("/s/", "/s/{rest...}"),
        ("/s/x/y", "/s/x/y"),
        ("/s/x/z/1", "/s/{rest...}"),
        ("/s", "/s"),
        ("/", "/"),
        ("/dir/", "/dir/"),
        ("/with%20space", "/with%20space"),
        ("/m/1", "/m/{b}"),
    ];
    for (target, endpoint) in table {
        assert_eq!(named(&routes, "GET", target.as_bytes(), 200), endpoint, "{target}");
    }
    assert_eq!(named(&routes, "POST", b"/m/1", 200), "/m/{a}");
    assert_eq!(named(&routes, "PUT", b"/m/1", 200), "/m/{a}");
}

#[test]
fn cut_targets() {
    let routes = Routes::parse_lines(
        "GET /jobs\nGET /jobs/{id}\nGET /files/{rest...}\nGET /mixed/{rest...}\nGET /mixed/list\nPUT /up/{*p}",
    )
    .unwrap();
    let table = [
        // The path is complete when its query was reached.
        ("/jobs/7?cur", 404, "/jobs/{id}"),
        // It may become a declared one.
        ("/jo", 200, "/{...}"),
        ("/jobs/55", 200, "/jobs/{...}"),
        ("/jobs/55", 404, "/jobs/{...}"),
        ("", 404, "/{...}"),
        // It cannot.
        ("/scripts/55/x", 200, "/scripts/{id}/{...}"),
        ("/scripts/55/x", 404, "unmatched"),
        ("/jobs/7/x", 404, "unmatched"),
        // It is one already.
        ("/files/a/b/c", 404, "/files/{rest...}"),
        ("/files/", 200, "/files/{rest...}"),
        ("/files", 200, "/{...}"),
        ("/mixed/l", 200, "/mixed/{...}"),
        ("/mixed/l%6", 200, "/mixed/{...}"),
        ("/mixed/x", 200, "/mixed/{rest...}"),
        ("/mixed/x/", 200, "/mixed/{rest...}"),
        ("/up/x", 200, "/up/{*p}"),
    ];
    for (target, status, endpoint) in table {
        let named = routes.template("GET", Target::cut(target.as_bytes()), Some(status));
        assert_eq!(named.as_str(), endpoint, "{target} {status}");
    }
}

#[test]
fn hostile_targets() {
    let routes = Routes::parse(FFMPEG).unwrap();
    let long = [b"/jobs/".as_slice(), &[b'x'; 8192]].concat();
    let table: [(&[u8], &str); 7] = [
        (&long, "/jobs/{id}"),
        (b"/jobs/\0", "/jobs/{id}"),
        (b"/x/\0\"\\\xff", "/x/%00\"\\%FF"),
        (b"/jobs/../admin", "/jobs/../admin"),
        (b"////", "/"),
        (b"/%", "/%"),
        (b"\xff\xfe", "unmatched"),
    ];
    for (target, endpoint) in table {
        assert_eq!(named(&routes, "GET", target, 200), endpoint);
    }
}

proptest! {
    #[test]
    fn any_bytes_give_a_bounded_printable_label(
        target in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300),
            "/[ -~]{0,200}".prop_map(String::into_bytes),
            "(/([a-z]{1,12}|[0-9]{1,12}|%[0-9a-f]{2}|\\.\\.|\u{e9}|))*".prop_map(String::into_bytes),
        ],
        cut in any::<bool>(),
        method in "[A-Za-z]{0,8}",
        status in proptest::option::of(100_u16..600),
    ) {
        let routes = Routes::parse(FFMPEG).unwrap();
        let target = if cut { Target::cut(&target) } else { Target::whole(&target) };
        let first = routes.template(&method, target, status);
        prop_assert_eq!(&first, &routes.template(&method, target, status));
        prop_assert!(first.is_fixed() || first.as_str().starts_with('/'));
        prop_assert!(first.as_str().len() <= MAX_GUESS);
        prop_assert!(!first.as_str().chars().any(|c| c.is_control() || c.is_whitespace()));
        prop_assert!(!first.as_str().contains("//"));
        let label = method_label(method.as_bytes());
        prop_assert!(label == method || label == "OTHER");
    }

    #[test]
    fn numbers_and_uuids_never_show(
        words in proptest::collection::vec("[a-z]{1,6}", 1..4),
        number in any::<u64>(),
        uuid in any::<u128>(),
        declared in any::<bool>(),
    ) {
        let hex = format!("{uuid:032x}");
        let uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        let routes = Routes::parse(if declared { FFMPEG } else { "" }).unwrap();
        let fixed = words.join("/");
        let target = format!("/x/{fixed}/{number}/y/{uuid}?{uuid}");
        prop_assert_eq!(
            routes.template("GET", Target::whole(target.as_bytes()), Some(200)),
            Endpoint::template(format!("/x/{fixed}/{{id}}/y/{{id}}"))
        );
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), lines in "((GET|x) /[a-z{}*.:]{0,9}\n){0,9}") {
        let _ = Routes::parse(&text);
        let _ = Routes::parse_openapi(&text);
        let _ = Routes::parse_lines(&lines);
    }
}
