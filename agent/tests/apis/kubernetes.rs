//! Polls of the list of pods over real sockets: page by page, over TLS, with the token, and lists that do not come whole. How a
//! page is read is tested in `kubernetes::list`, what becomes of it in the kernel tests.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use sockmeter::api::PollError;
use sockmeter::config::{Api, Kubernetes};
use sockmeter::kubernetes::{Access, Listed};
use tempfile::NamedTempFile;
use tokio_rustls::rustls::ServerConfig;

use crate::server::{Said, listener, ok, self_signed, serve, tls};

/// A page with one pod, and what the next one is asked for by.
fn page(uid: &str, next: &str) -> Vec<u8> {
    let pod = format!("{{\"metadata\":{{\"uid\":\"{uid}\",\"name\":\"n\",\"namespace\":\"batch\"}}}}");
    ok(&format!("{{\"metadata\":{{\"continue\":\"{next}\"}},\"items\":[{pod}]}}"))
}

fn closing(answer: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(answer).replacen("\r\n", "\r\nConnection: close\r\n", 1).into_bytes()
}

/// What is asked with these files, and the connections that were told of.
fn poll(url: &str, node: Option<&str>, files: [Option<PathBuf>; 2]) -> (Result<Listed, PollError>, usize) {
    let [token_file, ca] = files;
    let api = Api { key: "kubernetes_pods", url: url.parse().unwrap(), token_file, ca };
    let access = Access::new(&Kubernetes { api, node: node.map(str::to_owned) }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut said = Said::default();
    let result = runtime.block_on(access.poll(&mut said));
    assert_eq!(said.0.iter().filter(|(_, over)| *over).count() * 2, said.0.len());
    (result, said.0.len() / 2)
}

fn uids(listed: Listed) -> Vec<String> {
    listed.pods.into_keys().collect()
}

fn file(content: &str) -> (NamedTempFile, PathBuf) {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    let path = file.path().to_owned();
    (file, path)
}

#[test]
fn all_pages_are_asked_for_over_tls_with_the_token() {
    let (pem, key) = self_signed();
    let (listener, port) = listener();
    let serving = serve(listener, Some(tls(&pem, &key)), vec![page("1", "a&b="), page("2", "c"), page("3", "")]);
    let ((_token, token), (_ca, ca)) = (file("s3cret\n"), file(&pem));
    let (result, connections) = poll(&format!("https://127.0.0.1:{port}/k8s/"), Some("n-1"), [Some(token), Some(ca)]);
    assert_eq!((uids(result.unwrap()), connections), (["1", "2", "3"].map(str::to_owned).to_vec(), 1));
    let (heads, _) = serving.join().unwrap();
    let first = "GET /k8s/api/v1/pods?fieldSelector=spec.nodeName%3Dn-1&limit=500";
    for (head, wanted) in heads.iter().zip(["", "&continue=a%26b%3D", "&continue=c"]) {
        assert!(head.starts_with(&format!("{first}{wanted} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains("\r\nauthorization: Bearer s3cret\r\n"), "{head}");
    }
}

#[test]
fn another_servers_certificate_is_not_believed() {
    let ((pem, key), (other, _)) = (self_signed(), self_signed());
    let (listener, port) = listener();
    let config: Arc<ServerConfig> = tls(&pem, &key);
    let serving = serve(listener, Some(config), vec![page("1", "")]);
    let (_ca, ca) = file(&other);
    let (result, _) = poll(&format!("https://127.0.0.1:{port}"), None, [None, Some(ca)]);
    assert!(matches!(result, Err(PollError::Connect(_))), "{result:?}");
    drop(serving.join());
}

#[test]
fn pages_come_also_one_by_one() {
    let (listener, port) = listener();
    let again = listener.try_clone().unwrap();
    let serving = std::thread::spawn(move || {
        drop(serve(listener, None, vec![closing(&page("1", "x"))]).join().unwrap());
        drop(serve(again, None, vec![closing(&page("2", ""))]).join().unwrap());
    });
    let (result, connections) = poll(&format!("http://127.0.0.1:{port}"), Some("n"), [None, None]);
    serving.join().unwrap();
    assert_eq!((uids(result.unwrap()), connections), (vec!["1".to_owned(), "2".to_owned()], 2));
}

#[test]
fn a_list_of_which_a_page_is_missing_is_none() {
    let refusal = b"HTTP/1.1 410 Gone\r\nContent-Length: 2\r\n\r\n{}".to_vec();
    let half = page("2", "")[..80].to_vec();
    for last in [refusal, ok("{}"), ok("7"), half] {
        let (listener, port) = listener();
        let serving = serve(listener, None, vec![page("1", "x"), last]);
        let (result, _) = poll(&format!("http://127.0.0.1:{port}"), Some("n"), [None, None]);
        drop(serving.join().unwrap());
        assert!(result.is_err(), "{result:?}");
    }
}

#[test]
fn pages_without_end_are_given_up() {
    let (listener, port) = listener();
    let serving = serve(listener, None, (0..200).map(|number| page("1", &number.to_string())).collect());
    let (result, _) = poll(&format!("http://127.0.0.1:{port}"), Some("n"), [None, None]);
    assert_eq!(result.unwrap_err().to_string(), "the answer to GET /api/v1/pods has no end");
    drop(serving.join().unwrap());
}

#[test]
fn a_list_that_goes_on_where_it_was_is_given_up_at_once() {
    // The kubelet has no pages, and nobody else is asked for the same page twice.
    for (node, path, wanted) in [(None, "/pods", 1), (Some("n"), "/api/v1/pods", 2)] {
        let (listener, port) = listener();
        let serving = serve(listener, None, vec![page("1", "x"), page("2", "x"), page("3", "x"), page("4", "")]);
        let (result, _) = poll(&format!("http://127.0.0.1:{port}"), node, [None, None]);
        assert_eq!(result.unwrap_err().to_string(), format!("the answer to GET {path} has no end"));
        let asked = serving.join().unwrap().0.into_iter().filter(|head| !head.is_empty()).count();
        assert_eq!(asked, wanted, "{path}");
    }
}

#[test]
fn an_answer_that_is_compressed_unasked_is_refused_by_that_name() {
    let (listener, port) = listener();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00".to_vec();
    let serving = serve(listener, None, vec![answer]);
    let (result, _) = poll(&format!("http://127.0.0.1:{port}"), None, [None, None]);
    drop(serving.join().unwrap());
    assert_eq!(
        result.unwrap_err().to_string(),
        "the answer to GET /pods has the content encoding \"gzip\", wanted none"
    );
}

#[test]
fn an_exchange_that_fails_says_why() {
    for (answer, why) in [
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".as_slice(), "invalid content-length parsed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "invalid HTTP version parsed"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
            "error reading a body from connection: Invalid chunk size line",
        ),
    ] {
        let (listener, port) = listener();
        let serving = serve(listener, None, vec![answer.to_vec()]);
        let (result, _) = poll(&format!("http://127.0.0.1:{port}"), None, [None, None]);
        drop(serving.join().unwrap());
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("the exchange failed: ") && error.contains(why), "{error}");
    }
}

#[test]
fn odd_framing_is_good_framing() {
    let body = "{\"items\":[{\"metadata\":{\"uid\":\"1\",\"name\":\"n\",\"namespace\":\"batch\"}}]}";
    let mut chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n".to_owned();
    for byte in body.chars() {
        chunked.extend(["0001;a=\"b;c\"\r\n", byte.encode_utf8(&mut [0; 4]), "\r\n"]);
    }
    chunked.push_str("0\r\nX: y\r\n\r\n");
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n";
    let whole = String::from_utf8(ok(body)).unwrap();
    for (answer, is_good) in [
        (chunked.clone(), true),
        (format!("{interim}{whole}"), true),
        (format!("HTTP/1.0 200 OK\r\n\r\n{body}"), true),
        (format!("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: {}\r\n\r\n{body}", body.len()), true),
        // More than was said, and less.
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}{body}", body.len()), true),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len() + 1), false),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len() - 1), false),
        (chunked.replace("0\r\nX: y\r\n\r\n", ""), false),
        (format!("HTTP/1.0 200 OK\r\n\r\n{}", &body[..body.len() - 1]), false),
        (format!("HTTP/1.1 302 Found\r\nLocation: /pods\r\nContent-Length: {}\r\n\r\n{body}", body.len()), false),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), false),
    ] {
        let (listener, port) = listener();
        let serving = serve(listener, None, vec![answer.clone().into_bytes()]);
        let (result, _) = poll(&format!("http://127.0.0.1:{port}"), None, [None, None]);
        drop(serving.join().unwrap());
        assert_eq!(result.is_ok_and(|listed| listed.pods.len() == 1), is_good, "{answer}");
    }
}

#[test]
fn an_address_of_version_6_is_asked_over_tls_too() {
    let (pem, key) = self_signed();
    let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = serve(listener, Some(tls(&pem, &key)), vec![page("1", "")]);
    let (_ca, ca) = file(&pem);
    let (result, _) = poll(&format!("https://[::1]:{port}"), None, [None, Some(ca)]);
    assert_eq!(uids(result.unwrap()), ["1"]);
    let (heads, _) = serving.join().unwrap();
    assert!(heads[0].contains(&format!("\r\nhost: [::1]:{port}\r\n")), "{}", heads[0]);
}

#[test]
fn the_same_uid_in_two_pods_is_neithers() {
    let pod = |uid: &str, name: &str| {
        format!("{{\"metadata\":{{\"uid\":\"{uid}\",\"name\":\"{name}\",\"namespace\":\"batch\"}}}}")
    };
    let answer = |pods: &[String], next: &str| {
        ok(&format!("{{\"metadata\":{{\"continue\":\"{next}\"}},\"items\":[{}]}}", pods.join(",")))
    };
    let (listener, port) = listener();
    // Twice the same is no contradiction: a pod may move from one page to the next.
    let first = answer(&[pod("1", "a"), pod("2", "b"), pod("3", "c")], "x");
    let second = answer(&[pod("1", "a"), pod("2", "other")], "y");
    let serving = serve(listener, None, vec![first, second, answer(&[pod("2", "b")], "")]);
    let (result, _) = poll(&format!("http://127.0.0.1:{port}"), Some("n"), [None, None]);
    drop(serving.join().unwrap());
    let listed = result.unwrap();
    assert_eq!((listed.wrong, uids(listed)), (2, vec!["1".to_owned(), "3".to_owned()]));
}
