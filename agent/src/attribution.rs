//! Whose bytes a posting carries: the endpoint of its exchange. Process, port and role of sockets come from the kernel
//! with the bytes; adding up is `model`'s.

use sockmeter_ebpf::posting::{self, INBOUND, OUTBOUND, Posting};

use crate::route::{Endpoint, Routes, Target, method_label};

/// A posted exchange with its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Registered method, else `OTHER`.
    pub method: &'static str,
    /// Route template.
    pub endpoint: Endpoint,
    /// Status code; 0: no final answer came.
    pub status: u16,
    /// All application bytes, `[inbound, outbound]`.
    pub wire: [u64; 2],
    /// Body bytes, decoded.
    pub body: [u64; 2],
    /// From the request's first byte to the exchange's last, nanoseconds.
    pub duration: Option<u64>,
}

/// Names the exchange of a posting; `None` if it carries none.
#[must_use]
pub fn exchange(posting: &Posting, head: &[u8], routes: &Routes) -> Option<Exchange> {
    if posting.kind != posting::KIND_EXCHANGE {
        return None;
    }
    let status = posting.status;
    let line = RequestLine::parse(head, posting.flags & posting::CUT_HEAD != 0);
    let answered = (status != 0).then_some(status);
    let method = method_label(line.method);
    Some(Exchange {
        method,
        endpoint: routes.template(method, line.target, answered),
        status,
        wire: posting.wire,
        body: [posting.body[INBOUND], posting.body[OUTBOUND]],
        duration: (posting.ended >= posting.began && posting.ended != 0).then(|| posting.ended - posting.began),
    })
}

/// Results of a question for a job: one was given, there was none, it went wrong.
pub const SCHEDULE_RESULTS: [&str; 3] = ["success", "no_jobs", "error"];

/// Bytes of the longest answer that gives no job: `{"job":null}` and a line end.
const NO_JOB: u64 = 13;

/// What an exchange says about the scheduler that the service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A worker asked for a job; one of `SCHEDULE_RESULTS`.
    Schedule(&'static str),
    /// The node of that id gave a sign of life, and was heard.
    Heartbeat(String),
}

/// What a posted exchange says about the scheduler; `None` if nothing. By its path and not by its endpoint, since a route
/// template has no id, and `/jobs/next` may be one of `/jobs/{id}`.
#[must_use]
pub fn told(posting: &Posting, head: &[u8]) -> Option<Told> {
    if posting.kind != posting::KIND_EXCHANGE {
        return None;
    }
    let line = RequestLine::parse(head, posting.flags & posting::CUT_HEAD != 0);
    let path = line.target.path()?;
    match line.method {
        b"GET" if path == b"/jobs/next" => Some(Told::Schedule(match posting.status {
            200 if posting.body[OUTBOUND] > NO_JOB => "success",
            200 => "no_jobs",
            _ => "error",
        })),
        b"POST" if (200..300).contains(&posting.status) => {
            let node = path.strip_prefix(b"/nodes/")?.strip_suffix(b"/heartbeat")?;
            let is_one = !node.is_empty() && !node.contains(&b'/');
            is_one.then(|| Told::Heartbeat(String::from_utf8_lossy(node).into_owned()))
        }
        _ => None,
    }
}

/// Method and endpoint of a request that has no answer yet. `cut`: this is not all of its first line.
#[must_use]
pub fn request(head: &[u8], cut: bool, routes: &Routes) -> (&'static str, Endpoint) {
    let line = RequestLine::parse(head, cut);
    let method = method_label(line.method);
    (method, routes.template(method, line.target, None))
}

/// RFC 9112 section 3, as far as it was captured.
struct RequestLine<'a> {
    method: &'a [u8],
    target: Target<'a>,
}

impl<'a> RequestLine<'a> {
    fn parse(head: &'a [u8], cut: bool) -> Self {
        // Servers skip empty lines in front of a request (RFC 9112 section 2.2), and so did the kernel.
        let head = head.trim_ascii_start();
        let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let (method, rest) = match line.iter().position(|byte| *byte == b' ') {
            Some(space) => (line.get(..space).unwrap_or_default(), line.get(space + 1..).unwrap_or_default()),
            None => (line, Default::default()),
        };
        match rest.iter().position(|byte| *byte == b' ') {
            Some(end) => Self { method, target: Target::whole(rest.get(..end).unwrap_or_default()) },
            None if cut => Self { method, target: Target::cut(rest) },
            None => Self { method, target: Target::whole(rest) },
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn posting(status: u16, flags: u8) -> Posting {
        Posting {
            kind: posting::KIND_EXCHANGE,
            status,
            flags,
            wire: [40, 60],
            body: [5, 6],
            began: 100,
            ended: 350,
            ..Posting::EMPTY
        }
    }

    #[test]
    fn names_the_exchange_by_its_request_line() {
        let routes = Routes::parse("GET /jobs/{id}\n").unwrap();
        let found = exchange(&posting(200, 0), b"GET /jobs/7?x=1 HTTP/1.1\r", &routes).unwrap();
        assert_eq!((found.method, found.endpoint.as_str(), found.status), ("GET", "/jobs/{id}", 200));
        assert_eq!((found.wire, found.body, found.duration), ([40, 60], [5, 6], Some(250)));
    }

    #[test]
    fn a_position_posting_is_no_exchange() {
        assert_eq!(exchange(&Posting::EMPTY, b"", &Routes::default()), None);
    }

    #[test]
    fn a_cut_request_line_is_named_by_what_is_there() {
        let mut head = b"GET /files/".to_vec();
        head.resize(256, b'a');
        let found = exchange(&posting(200, posting::CUT_HEAD), &head, &Routes::default()).unwrap();
        assert_eq!(found.endpoint.as_str(), "/files/{...}");
    }

    #[test]
    fn empty_lines_in_front_are_skipped() {
        let found = exchange(&posting(200, 0), b"\r\nGET /x HTTP/1.1\r", &Routes::default()).unwrap();
        assert_eq!((found.method, found.endpoint.as_str()), ("GET", "/x"));
    }
}
