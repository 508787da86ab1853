//! What each route answers. Who may ask is in `gate`, in which form it goes out in `negotiation`.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, VARY,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::admission::Place;
use super::budget::Share;
use super::making::{Asked, Making};
use super::{Bounds, Gate, MetricsWanted, Source, Table, negotiation, page};

/// The routes over a source.
pub(super) struct Answers<S> {
    pub(super) source: Arc<S>,
    pub(super) gate: Gate,
    pub(super) bounds: Bounds,
    pub(super) making: Making,
}

/// What the routes are.
enum Route {
    Health,
    Metrics,
    Readiness,
    Stats,
    Table(Table),
    Page,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/healthz" | "/health" => Self::Health,
            "/metrics" => Self::Metrics,
            "/readyz" => Self::Readiness,
            "/api/v1/stats" => Self::Stats,
            "/" => Self::Page,
            _ => Self::Table(Table::of(path)?),
        })
    }
}

impl<S: Source> Answers<S> {
    /// The answer to a request whose head is complete; its place is told when its body is, too.
    pub(super) async fn answer(&self, request: Request<Incoming>, place: &Place) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let refusal = self.refusal(&head, body).await;
        place.asked();
        let answer = match refusal {
            Some(refusal) => refusal,
            None => self.allowed(&head).await,
        };
        if head.method == Method::HEAD { without_body(answer) } else { answer }
    }

    /// What is wrong with the request whatever its route.
    async fn refusal(&self, head: &http::request::Parts, body: Incoming) -> Option<Response<Full<Bytes>>> {
        if head_bytes(head) > self.bounds.head_bytes {
            let message = format!("wanted a request head of at most {} bytes", self.bounds.head_bytes);
            return Some(last(problem(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "request head too large",
                &message,
            )));
        }
        // No route has a use for a body, so it is only counted: what is announced at once, the rest as it comes.
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let too_large = || {
            let message = format!("wanted a request body of at most {} bytes", self.bounds.body_bytes);
            Some(last(problem(StatusCode::PAYLOAD_TOO_LARGE, "request body too large", &message)))
        };
        if announced > self.bounds.body_bytes {
            return too_large();
        }
        let mut body = Limited::new(body, self.bounds.body_bytes);
        let taken = timeout(self.bounds.head_time, async {
            while let Some(frame) = body.frame().await {
                frame?;
            }
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        });
        match taken.await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => too_large(),
            Err(_) => {
                let message = "the request body did not arrive in time";
                Some(last(problem(StatusCode::REQUEST_TIMEOUT, "request body too slow", message)))
            }
        }
    }

    async fn allowed(&self, head: &http::request::Parts) -> Response<Full<Bytes>> {
        let route = Route::of(head.uri.path());
        let open = matches!(route, Some(Route::Health));
        if let Some(message) = self.gate.refusal(&head.headers).filter(|_| !open) {
            let answer = problem(StatusCode::UNAUTHORIZED, "unauthorized", message);
            return with(answer, WWW_AUTHENTICATE, "Bearer realm=\"sockmeter\"");
        }
        let Some(route) = route else {
            return problem(StatusCode::NOT_FOUND, "not found", "there is nothing here; / says what there is");
        };
        if head.method != Method::GET && head.method != Method::HEAD {
            let message = format!("{} is not possible here, wanted GET or HEAD", head.method);
            return with(problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", &message), ALLOW, "GET, HEAD");
        }
        match route {
            Route::Health => json_answer(StatusCode::OK, &json!({"status": "healthy"})),
            Route::Metrics => {
                let wanted = negotiation::wanted(&head.headers, head.uri.query());
                self.make(Asked::Metrics(wanted, negotiation::gzip(&head.headers))).await
            }
            Route::Readiness => self.readiness(),
            Route::Stats => self.make(Asked::Stats).await,
            Route::Table(table) => match table.wanted(head.uri.query()) {
                Ok(wanted) => self.make(Asked::Table(wanted)).await,
                Err(message) => bad_query(&message),
            },
            Route::Page => {
                let page = page::page(&self.source.readiness());
                let page = answer(StatusCode::OK, "text/html; charset=utf-8", page.into());
                with(page, CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'")
            }
        }
    }

    /// What the source says, when it is this question's turn.
    async fn make(&self, asked: Asked) -> Response<Full<Bytes>> {
        let (source, question) = (Arc::clone(&self.source), asked.clone());
        let made = self.making.answer(asked, async move {
            match question {
                Asked::Metrics(wanted, gzip) => metrics(&*source, wanted, gzip).await,
                Asked::Stats => json_answer(StatusCode::OK, &source.stats().await),
                Asked::Table(wanted) => match source.table(wanted).await {
                    Ok(table) => json_answer(StatusCode::OK, &table),
                    Err(message) => bad_query(&message),
                },
            }
        });
        made.await.unwrap_or_else(|| {
            problem(StatusCode::INTERNAL_SERVER_ERROR, "internal error", "making the answer failed; the log says why")
        })
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        let readiness = self.source.readiness();
        if readiness.is_ready() {
            return json_answer(StatusCode::OK, &json!({"status": "ready"}));
        }
        let missing: Vec<Value> = readiness
            .missing
            .iter()
            .map(|missing| json!({"program": missing.program, "target": missing.target, "reason": missing.reason}))
            .collect();
        json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not ready", "missing": missing}))
    }
}

async fn metrics(source: &impl Source, wanted: MetricsWanted, gzip: bool) -> Response<Full<Bytes>> {
    let content_type = wanted.format.content_type();
    let page = source.metrics(wanted).await;
    let (mut page, compressed) = if gzip { compress(page).await } else { (page, false) };
    // It may wait for its reader: not with twice the memory.
    page.shrink_to_fit();
    let answer = with(answer(StatusCode::OK, content_type, page), VARY, "Accept, Accept-Encoding");
    if compressed { with(answer, CONTENT_ENCODING, "gzip") } else { answer }
}

/// The page compressed, on a thread of its own: a large one would hold up everything else on ours. If that fails the
/// page goes out as it is.
async fn compress(page: Vec<u8>) -> (Vec<u8>, bool) {
    let page = Arc::new(page);
    let original = Arc::clone(&page);
    let compressed = tokio::task::spawn_blocking(move || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&original)?;
        encoder.finish()
    });
    match compressed.await {
        Ok(Ok(compressed)) => (compressed, true),
        _ => (Arc::unwrap_or_clone(page), false),
    }
}

/// The size of the head as it was sent, but for white space that the parser already took away.
fn head_bytes(head: &http::request::Parts) -> usize {
    let target = head.uri.to_string().len();
    let line = head.method.as_str().len().saturating_add(target).saturating_add(" HTTP/1.1\r\n ".len());
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len().saturating_add(value.len()));
    fields.fold(line, |sum, field| sum.saturating_add(field).saturating_add(": \r\n".len())).saturating_add(2)
}

fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    with(answer, CONTENT_TYPE, content_type)
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    answer(status, "application/json", value.to_string().into_bytes())
}

fn problem(status: StatusCode, error: &str, message: &str) -> Response<Full<Bytes>> {
    json_answer(status, &json!({"error": error, "message": message}))
}

fn bad_query(message: &str) -> Response<Full<Bytes>> {
    problem(StatusCode::BAD_REQUEST, "bad query", message)
}

fn with(mut answer: Response<Full<Bytes>>, name: HeaderName, value: &'static str) -> Response<Full<Bytes>> {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}

/// An answer after which the connection closes: what the client still sends is of no use.
fn last(answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    with(answer, CONNECTION, "close")
}

/// The answer to HEAD: the same fields, also the length that GET would have had.
fn without_body(answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let (mut head, body) = answer.into_parts();
    let length = body.size_hint().exact().unwrap_or_default();
    let mut fields = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(length))]);
    fields.extend(head.headers);
    head.headers = fields;
    // Nothing of the page goes out.
    head.extensions.remove::<Share>();
    Response::from_parts(head, Full::default())
}
