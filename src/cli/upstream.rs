//! The demo's sample upstream: a plain HTTP server that shows what reached it.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use std::fmt::Write;

/// The largest answer of `/bytes/N`: as much as anybody tries through a tunnel.
const BYTES_MAX: u64 = 16 << 30;
const STEP: usize = 64 * 1024;

/// The routes, under each of the demo's published prefixes.
pub fn router() -> Router {
    let routes = || {
        Router::new()
            .route("/hello", any(hello))
            .route("/headers", any(headers))
            .route("/echo", any(echo))
            .route("/bytes/{count}", get(bytes))
    };
    Router::new()
        .nest("/app", routes())
        .nest("/mp", routes())
        .nest("/open", routes())
        .fallback(missing)
}

fn field<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("-")
}

async fn hello(headers: HeaderMap) -> String {
    let client = field(&headers, "tidegate-client-id");
    let id = field(&headers, "tidegate-request-id");
    format!("hello from behind the firewall\nyou are {client}\nrequest {id}\n")
}

async fn headers(request: Request) -> String {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        let _ = writeln!(
            text,
            "{name}: {}",
            String::from_utf8_lossy(value.as_bytes())
        );
    }
    text
}

async fn echo(request: Request) -> Response {
    Response::new(request.into_body())
}

async fn bytes(Path(count): Path<u64>) -> Response {
    if count > BYTES_MAX {
        return (StatusCode::BAD_REQUEST, "too many bytes\n").into_response();
    }
    let step = axum::body::Bytes::from(vec![b'x'; STEP]);
    let whole = count / STEP as u64;
    let chunks = (0..whole).map(move |_| step.clone());
    let rest = axum::body::Bytes::from(vec![b'x'; (count % STEP as u64) as usize]);
    let mut response = Response::new(Body::new(Repeat::new(chunks.chain([rest]), count)));
    response.headers_mut().insert(
        "content-type",
        "application/octet-stream".parse().expect("a constant"),
    );
    response
}

async fn missing(request: Request) -> (StatusCode, String) {
    (
        StatusCode::NOT_FOUND,
        format!("the sample upstream has no {}\n", request.uri().path()),
    )
}

/// A body from an iterator of chunks with a known length.
struct Repeat<I> {
    chunks: I,
    left: u64,
}

impl<I> Repeat<I> {
    fn new(chunks: I, left: u64) -> Repeat<I> {
        Repeat { chunks, left }
    }
}

impl<I: Iterator<Item = axum::body::Bytes> + Unpin> axum::body::HttpBody for Repeat<I> {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let next = self.chunks.next().filter(|chunk| !chunk.is_empty());
        if let Some(chunk) = &next {
            self.left = self.left.saturating_sub(chunk.len() as u64);
        }
        std::task::Poll::Ready(next.map(|chunk| Ok(http_body::Frame::data(chunk))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}
