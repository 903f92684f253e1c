//! The admin listener: `GET /metrics`, `/healthz`, `/readyz`, `POST /reload`. Plain HTTP, for loopback.
//!
//! It reads, and takes orders that change nothing which its caller could choose: a reload reads the process's own file.
//! A web page cannot give them: whatever carries an `Origin` is refused. Numbers are collected on request, off the runtime's threads and with a deadline, so that a shard that
//! hangs shows as an error here and not as a hung scrape.

use super::metrics::{Gauge, ShardStats, render};
use super::process::Reloaded;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Sleep;

/// How long numbers may take to collect.
pub const COLLECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections at once: a scraper, a load balancer's probes, a person.
pub const MAX_CONNECTIONS: usize = 64;
/// How long a connection may last, however busy: a scraper connects again.
pub const MAX_LIFE: Duration = Duration::from_secs(120);
/// Collections at once: a second one while a shard hangs answers 503 at once.
const MAX_COLLECTIONS: usize = 4;
/// A reload reads certificates and waits for the control thread, and a connector's for its gateways' verdicts.
pub const RELOAD_TIMEOUT: Duration = Duration::from_secs(20);

const NO_ANSWER: &str = "no answer yet: it may still come into force, or be refused; the process's log tells when it is known";

/// Where the numbers come from. The calls may block; they run on the runtime's blocking threads.
pub trait AdminSource: Send + Sync + 'static {
    /// One entry a shard.
    fn collect(&self) -> Vec<ShardStats>;
    /// Whether requests can be served; else every reason why not.
    fn ready(&self) -> Result<(), Vec<String>>;
    /// What is no shard's: certificates' ends, versions.
    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
    /// Reads the config file again.
    fn reload(&self) -> Reloaded {
        Reloaded::Refused(vec!["this process cannot reload".into()])
    }
}

#[derive(Clone)]
struct Admin {
    source: Arc<dyn AdminSource>,
    collections: Arc<Semaphore>,
    /// One at a time, and apart: reloads that take long hide no numbers.
    reloads: Arc<Semaphore>,
}

/// The routes, e.g. to serve them from another listener.
pub fn router(source: Arc<dyn AdminSource>) -> Router {
    let admin = Admin {
        source,
        collections: Arc::new(Semaphore::new(MAX_COLLECTIONS)),
        reloads: Arc::new(Semaphore::new(1)),
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route(
            "/healthz",
            get(|| async { Json(json!({ "status": "ok" })) }),
        )
        .route("/readyz", get(ready))
        .route("/reload", post(reload))
        .with_state(admin)
}

/// Binds the listener. The error says what to change.
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, String> {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "admin listens on an address that others can reach; it has no authentication");
    }
    let listener = std::net::TcpListener::bind(address).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another process listens there: another instance, or choose another `admin`"
            }
            io::ErrorKind::AddrNotAvailable => "no interface of this host has the address",
            io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
            _ => "choose another `admin`",
        };
        format!("cannot listen for admin on {address}: {error} (hint: {hint})")
    })?;
    listener
        .set_nonblocking(true)
        .map_err(|error| format!("admin listener: {error}"))?;
    Ok(listener)
}

/// Serves until `stop` is done. On a tokio runtime with I/O and time.
pub async fn serve(
    listener: std::net::TcpListener,
    source: Arc<dyn AdminSource>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), String> {
    let listener =
        TcpListener::from_std(listener).map_err(|error| format!("admin listener: {error}"))?;
    let limited = Limited {
        listener,
        permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        life: MAX_LIFE,
    };
    axum::serve(limited, router(source))
        .with_graceful_shutdown(stop)
        .await
        .map_err(|error| format!("admin listener: {error}"))
}

/// The admin listener on a thread and runtime of its own; it ends when this is dropped.
pub struct AdminServer {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
}

/// Serves a bound listener from a thread of its own.
pub fn start(
    listener: std::net::TcpListener,
    source: Arc<dyn AdminSource>,
) -> Result<AdminServer, String> {
    let address = listener
        .local_addr()
        .map_err(|error| format!("admin listener: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_COLLECTIONS * 2)
        .build()
        .map_err(|error| format!("admin runtime: {error}"))?;
    let (stop, stopped) = oneshot::channel();
    let run = move || {
        let stopped = async move {
            let _ = stopped.await;
        };
        // No grace at the end: a scrape in flight is worth nothing.
        let served = runtime.block_on(async {
            tokio::select! {
                served = serve(listener, source, std::future::pending()) => served,
                () = stopped => Ok(()),
            }
        });
        if let Err(error) = served {
            tracing::error!(error, "the admin listener ended");
        }
        runtime.shutdown_background();
    };
    std::thread::Builder::new()
        .name("admin".into())
        .spawn(run)
        .map_err(|error| format!("admin thread: {error}"))?;
    Ok(AdminServer {
        address,
        stop: Some(stop),
    })
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

impl Admin {
    /// Collects within the deadline. A call that hangs keeps its permit, so that no more than [`MAX_COLLECTIONS`] threads
    /// ever hang.
    async fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn AdminSource) -> T + Send + 'static,
    ) -> Result<T, &'static str> {
        let permit = self
            .collections
            .clone()
            .try_acquire_owned()
            .map_err(|_| "earlier collections still hang")?;
        match tokio::time::timeout(COLLECT_TIMEOUT, self.call(permit, call)).await {
            Ok(answer) => answer.ok_or("the collection failed"),
            Err(_) => Err("a shard did not answer in time"),
        }
    }

    /// Reloads; `None`: another reload still runs.
    async fn reload(&self) -> Option<Reloaded> {
        let permit = self.reloads.clone().try_acquire_owned().ok()?;
        let reload = self.call(permit, |source| source.reload());
        let ended = tokio::time::timeout(RELOAD_TIMEOUT, reload).await;
        Some(ended.ok().flatten().unwrap_or(Reloaded::Unknown))
    }

    /// Runs a call of the source on a blocking thread, which holds the permit as long as it takes. `None`: it panicked.
    async fn call<T: Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        call: impl FnOnce(&dyn AdminSource) -> T + Send + 'static,
    ) -> Option<T> {
        let source = self.source.clone();
        let task = tokio::task::spawn_blocking(move || {
            let answer = call(&*source);
            drop(permit);
            answer
        });
        task.await.ok()
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin
        .ask(|source| render(&source.collect(), &source.gauges()))
        .await
    {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(why) => unavailable(vec![why.to_string()]),
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    match admin.ask(|source| source.ready()).await {
        Ok(Ok(())) => Json(json!({ "ready": true })).into_response(),
        Ok(Err(reasons)) => unavailable(reasons),
        Err(why) => unavailable(vec![why.to_string()]),
    }
}

/// `200 {"reloaded": true, "notes": […]}`; 422 with `"errors"` and nothing changed; 503 the same, while another reload
/// runs; 504 `{"reloaded": null, "errors": […]}` when nobody knows yet.
async fn reload(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let refused = |status, errors: Vec<String>| {
        let body = Json(json!({ "reloaded": false, "errors": errors }));
        (status, body).into_response()
    };
    if headers.contains_key(header::ORIGIN) {
        return refused(StatusCode::FORBIDDEN, vec!["not from a web page".into()]);
    }
    match admin.reload().await {
        Some(Reloaded::Done(notes)) => {
            Json(json!({ "reloaded": true, "notes": notes })).into_response()
        }
        Some(Reloaded::Refused(errors)) => refused(StatusCode::UNPROCESSABLE_ENTITY, errors),
        Some(Reloaded::Unknown) => {
            let body = json!({ "reloaded": null, "errors": [NO_ANSWER] });
            (StatusCode::GATEWAY_TIMEOUT, Json(body)).into_response()
        }
        None => {
            let why = "another reload still runs: try again when it has ended";
            refused(StatusCode::SERVICE_UNAVAILABLE, vec![why.into()])
        }
    }
}

fn unavailable(reasons: Vec<String>) -> Response {
    let body = Json(json!({ "ready": false, "reasons": reasons }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

/// A listener that holds back while [`MAX_CONNECTIONS`] are open.
struct Limited {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    life: Duration,
}

impl axum::serve::Listener for Limited {
    type Io = Counted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Counted, SocketAddr) {
        // The semaphore is never closed; were it, accepting would stop, which is what a closed one means.
        let Ok(permit) = self.permits.clone().acquire_owned().await else {
            std::future::pending().await
        };
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        (
            Counted {
                stream,
                end: Box::pin(tokio::time::sleep(self.life)),
                _permit: permit,
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that gives its place back, at the latest when its life is over: nobody holds the places by waiting.
struct Counted {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    struct Source(Result<(), Vec<String>>);
    impl AdminSource for Source {
        fn collect(&self) -> Vec<ShardStats> {
            let mut stats = ShardStats::new(0);
            stats.accepted = 42;
            vec![stats]
        }
        fn ready(&self) -> Result<(), Vec<String>> {
            self.0.clone()
        }
        fn gauges(&self) -> Vec<Gauge> {
            vec![Gauge {
                name: "tidegate_x",
                help: "X.",
                labels: vec![],
                value: 1.0,
            }]
        }
    }

    fn start_with(source: impl AdminSource) -> AdminServer {
        start(
            bind("127.0.0.1:0".parse().unwrap()).unwrap(),
            Arc::new(source),
        )
        .unwrap()
    }

    fn get(server: &AdminServer, path: &str) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        (status, text)
    }

    #[test]
    fn metrics_and_health_are_served() {
        let server = start_with(Source(Ok(())));
        let (status, text) = get(&server, "/metrics");
        assert_eq!(status, 200);
        assert!(text.contains("tidegate_connections_accepted_total{shard=\"0\"} 42"));
        assert!(text.contains("tidegate_x 1"));
        assert!(text.contains("text/plain; version=0.0.4"));
        assert_eq!(get(&server, "/healthz").0, 200);
        assert_eq!(get(&server, "/readyz").0, 200);
        assert_eq!(get(&server, "/other").0, 404);
    }

    #[test]
    fn readiness_names_its_reasons() {
        let server = start_with(Source(Err(vec!["site main has no connector".into()])));
        let (status, text) = get(&server, "/readyz");
        assert_eq!(status, 503);
        assert!(text.contains("site main has no connector"));
        assert_eq!(get(&server, "/healthz").0, 200, "not ready is not dead");
    }

    #[test]
    fn waiting_connections_do_not_hold_the_places_for_ever() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let life = Duration::from_secs(1);
            let limited = Limited {
                listener,
                permits: Arc::new(Semaphore::new(2)),
                life,
            };
            tokio::spawn(
                async move { axum::serve(limited, router(Arc::new(Source(Ok(()))))).await },
            );
            // Two that say nothing take both places; the third is served once their life is over.
            let asked = tokio::task::spawn_blocking(move || {
                let silent = [0; 2].map(|_| std::net::TcpStream::connect(address).unwrap());
                let answer = get(
                    &AdminServer {
                        address,
                        stop: None,
                    },
                    "/healthz",
                );
                drop(silent);
                answer
            });
            assert_eq!(asked.await.unwrap().0, 200);
        });
    }

    #[test]
    fn a_taken_port_is_told_with_a_hint() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind(taken.local_addr().unwrap()).unwrap_err();
        assert!(error.contains("another process listens there"), "{error}");
    }

    #[test]
    fn a_source_that_panics_is_a_503_and_the_listener_lives() {
        struct Panics;
        impl AdminSource for Panics {
            fn collect(&self) -> Vec<ShardStats> {
                panic!("a test's panic")
            }
            fn ready(&self) -> Result<(), Vec<String>> {
                Ok(())
            }
        }
        let server = start_with(Panics);
        for _ in 0..MAX_COLLECTIONS * 2 {
            assert_eq!(get(&server, "/metrics").0, 503);
        }
        assert_eq!(get(&server, "/readyz").0, 200);
    }

    fn post_reload(server: &AdminServer) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        let head =
            "POST /reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
    }

    #[test]
    fn a_reload_that_hangs_hides_no_numbers_and_holds_off_the_next() {
        type Halves = (
            std::sync::mpsc::Sender<()>,
            std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
        );
        struct Slow(Halves);
        impl AdminSource for Slow {
            fn collect(&self) -> Vec<ShardStats> {
                Vec::new()
            }
            fn ready(&self) -> Result<(), Vec<String>> {
                Ok(())
            }
            fn reload(&self) -> Reloaded {
                let (begun, release) = &self.0;
                let _ = begun.send(());
                let _ = release.lock().map(|release| release.recv());
                Reloaded::Done(vec![])
            }
        }
        let (begun, begins) = std::sync::mpsc::channel();
        let (release, hang) = std::sync::mpsc::channel();
        let server = start_with(Slow((begun, std::sync::Mutex::new(hang))));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| post_reload(&server));
            begins.recv().unwrap();
            for _ in 0..MAX_COLLECTIONS * 2 {
                let (status, text) = post_reload(&server);
                assert_eq!(status, 503, "{text}");
                assert!(text.contains("another reload still runs"), "{text}");
            }
            assert_eq!(get(&server, "/metrics").0, 200);
            assert_eq!(get(&server, "/readyz").0, 200);
            release.send(()).unwrap();
            assert_eq!(first.join().unwrap().0, 200);
        });
        release.send(()).unwrap();
        assert_eq!(post_reload(&server).0, 200, "its place is free again");
    }

    #[test]
    fn nobody_is_told_that_nothing_changed_when_nobody_knows() {
        struct Unsure;
        impl AdminSource for Unsure {
            fn collect(&self) -> Vec<ShardStats> {
                Vec::new()
            }
            fn ready(&self) -> Result<(), Vec<String>> {
                Ok(())
            }
            fn reload(&self) -> Reloaded {
                Reloaded::Unknown
            }
        }
        let (status, text) = post_reload(&start_with(Unsure));
        assert_eq!(status, 504);
        assert!(text.contains("\"reloaded\":null"), "{text}");
        assert!(text.contains("may still come into force"), "{text}");
    }

    #[test]
    fn collections_that_hang_are_bounded() {
        struct Hangs(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);
        impl AdminSource for Hangs {
            fn collect(&self) -> Vec<ShardStats> {
                let _ = self.0.lock().map(|receiver| receiver.recv());
                Vec::new()
            }
            fn ready(&self) -> Result<(), Vec<String>> {
                Ok(())
            }
        }
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let server = start_with(Hangs(std::sync::Mutex::new(hang)));
        let answers: Vec<_> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..10)
                .map(|_| scope.spawn(|| get(&server, "/metrics")))
                .collect();
            asked
                .into_iter()
                .map(|asked| asked.join().unwrap())
                .collect()
        });
        assert!(answers.iter().all(|(status, _)| *status == 503));
        let at_once = answers
            .iter()
            .filter(|(_, text)| text.contains("earlier collections"))
            .count();
        assert_eq!(at_once, 10 - MAX_COLLECTIONS);
        drop(release);
    }
}
