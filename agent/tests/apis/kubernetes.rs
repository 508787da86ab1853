//! Polls of the list of pods over real sockets: page by page, over TLS, with the token, and lists that do not come whole. How a
//! page is read is tested in `kubernetes::list`, what becomes of it in the kernel tests.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use sockmeter::api::PollError;
use sockmeter::config::{Api, Kubernetes};
use sockmeter::kubernetes::Access;
use sockmeter::snapshot::Pods;
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
fn poll(url: &str, node: Option<&str>, files: [Option<PathBuf>; 2]) -> (Result<Pods, PollError>, usize) {
    let [token_file, ca] = files;
    let api = Api { key: "kubernetes_pods", url: url.parse().unwrap(), token_file, ca };
    let access = Access::new(&Kubernetes { api, node: node.map(str::to_owned) }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut said = Said::default();
    let result = runtime.block_on(access.poll(&mut said));
    assert_eq!(said.0.iter().filter(|(_, over)| *over).count() * 2, said.0.len());
    (result, said.0.len() / 2)
}

fn uids(pods: Pods) -> Vec<String> {
    pods.into_keys().collect()
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
    let serving = serve(listener, None, (0..200).map(|_| page("1", "x")).collect());
    let (result, _) = poll(&format!("http://127.0.0.1:{port}"), Some("n"), [None, None]);
    assert_eq!(result.unwrap_err().to_string(), "the answer to GET /api/v1/pods has no end");
    drop(serving.join().unwrap());
}
