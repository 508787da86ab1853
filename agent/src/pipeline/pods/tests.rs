//! When whom the poller asks, and with which token: servers on loopback, and a file that is replaced.
#![expect(clippy::unwrap_used, reason = "tests")]
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::config::{Api, Kubernetes};

struct Nobody;

impl Own for Nobody {
    fn begins(&mut self, _: SocketAddr) {}
    fn is_over(&mut self, _: SocketAddr) {}
}

/// So long is waited for what should come at once, and comes later than that if it does not.
const LIMIT: Duration = Duration::from_secs(40);

/// Where a server listens, and the heads of the requests that it got.
struct Server(String, Receiver<String>);

impl Server {
    /// Answers each request, on a connection of its own, by this.
    fn start(answer: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (to, heads) = channel();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.extend_from_slice(&byte);
                }
                if to.send(String::from_utf8(head).unwrap()).is_err() {
                    return;
                }
                answer(stream);
            }
        });
        Self(url, heads)
    }

    /// Has a list of this pod.
    fn good(uid: &str) -> Self {
        let list = format!("{{\"items\":[{{\"metadata\":{{\"uid\":\"{uid}\",\"name\":\"a\",\"namespace\":\"b\"}}}}]}}");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{list}", list.len());
        Self::start(move |mut stream| {
            // The client may have gone.
            let _ = stream.write_all(answer.as_bytes());
        })
    }

    fn access(&self, token_file: Option<PathBuf>) -> Access {
        let api = Api { key: "kubernetes_pods", url: self.0.parse().unwrap(), token_file, ca: None };
        Access::new(&Kubernetes { api, node: None }).unwrap()
    }

    fn asked(&self) -> String {
        self.1.recv_timeout(LIMIT).unwrap()
    }
}

/// The uids of the next list, and behind how many places it was asked for.
fn listed(messages: &Receiver<Message>) -> Option<(Vec<String>, u64)> {
    match messages.recv_timeout(LIMIT).unwrap() {
        Message::Pods { pods, asked } => Some((pods.into_keys().collect(), asked)),
        _ => None,
    }
}

/// Polls in a thread of its own, until both senders are gone.
fn poll(asked: watch::Receiver<AskedForPods>, wanted: watch::Receiver<u64>) -> Receiver<Message> {
    let (to, messages) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (first, _first) = oneshot::channel();
        runtime.block_on(PodPoller::new(asked, wanted, Box::new(Nobody)).run(Line::to(to), first));
    });
    messages
}

#[test]
fn a_token_that_cannot_be_read_any_more_is_the_one_that_was_read_last() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let server = Server::good("1");
    fs::write(&file, "first").unwrap();
    let ((_asked, asks), (wanted, wants)) =
        (watch::channel(Some(server.access(Some(file.clone())))), watch::channel(0));
    let messages = poll(asks, wants);
    let mut tokens = Vec::new();
    // As who replaces a file without a rename leaves it for a moment.
    for (number, content) in [(1, Some("second\n")), (2, Some("")), (3, None), (4, Some("a b")), (5, Some("third"))] {
        let head = server.asked();
        tokens.push(head.split_once("Bearer ").unwrap().1.trim().to_owned());
        assert_eq!(listed(&messages), Some((vec!["1".to_owned()], number - 1)));
        match content {
            Some(content) => fs::write(&file, content).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        wanted.send(number).unwrap();
    }
    tokens.push(server.asked().split_once("Bearer ").unwrap().1.trim().to_owned());
    assert_eq!(tokens, ["first", "second", "second", "second", "second", "third"]);
}

#[test]
fn somebody_else_is_asked_at_once_whatever_the_first_one_is_at() {
    // Never long enough silent to be given up, and never at an end.
    let slow = Server::start(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        // A byte whenever the client has said nothing for a while, until it goes.
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while stream.write_all(b"1\r\n \r\n").is_ok() && stream.read(&mut [0]).is_err() {}
    });
    let good = Server::good("2");
    let ((asked, asks), (_wanted, wants)) = (watch::channel(Some(slow.access(None))), watch::channel(7));
    let messages = poll(asks, wants);
    assert!(slow.asked().starts_with("GET /pods "));
    // Nobody for a while, and then another one.
    asked.send(None).unwrap();
    asked.send(Some(good.access(None))).unwrap();
    assert!(good.asked().starts_with("GET /pods "));
    assert_eq!(listed(&messages), Some((vec!["2".to_owned()], 7)));
}

#[test]
fn somebody_waits_until_a_list_that_was_asked_for_behind_him_came() {
    let (start, mut waits) = (Instant::now(), Waits::default());
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    waits.begin(0, at(0));
    assert_eq!(waits.since(at(1)), None);
    waits.begin(3, at(2));
    waits.begin(3, at(4));
    assert_eq!(waits.since(at(5)), Some(Duration::from_secs(3)));
    waits.begin(4, at(6));
    assert_eq!(waits.since(at(7)), Some(Duration::from_secs(1)));
    waits.answered(4);
    assert_eq!(waits.since(at(8)), None);
}
