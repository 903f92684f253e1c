//! The notification API: HTTP/1.1 on a listener of its own, for services behind the firewall.
//!
//! ```text
//! accept ▸ TLS, where there is one ▸ bearer token ▸ one table of routes ▸ handlers ▸ hub
//!                                         └▸ openapi: the document is made from the same table
//! ```
//! - this file: the listener, and who may come in.
//! - `routes`: the table. `handlers`: what each of them does. `events`: the stream of events. `problem`: what is refused.
//!
//! Invariants: loopback needs no proof, any other address does (the config says so before); a token is compared in constant
//! time; every wait and every body has a bound.

mod events;
mod handlers;
mod openapi;
mod problem;
mod routes;

use crate::control::certificates;
use crate::control::config::NotifyConfig;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::limits::{API_BODY_BYTES, API_CONNECTIONS, API_PATIENCE, API_REQUESTS};
use super::thread::Handle;
use problem::Problem;

/// Threads that serve it.
const THREADS: usize = 1;
/// After a failed accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What every handler knows.
#[derive(Clone)]
pub struct Api {
    hub: Handle,
    connector: Arc<str>,
    token: Option<Arc<str>>,
    /// Requests at work.
    requests: Arc<Semaphore>,
}

/// A listener that is bound, and not served yet.
pub struct Listening {
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    token: Option<Arc<str>>,
    pub address: SocketAddr,
}

/// Binds the listener, before anything is started that would have to be taken back.
pub fn bind(config: &NotifyConfig) -> Result<Listening, String> {
    let listener = std::net::TcpListener::bind(config.listen)
        .map_err(|error| format!("[notify] cannot listen on {}: {error}", config.listen))?;
    listener
        .set_nonblocking(true)
        .map_err(|error| format!("[notify] listener: {error}"))?;
    let address = listener
        .local_addr()
        .map_err(|error| format!("[notify] listener: {error}"))?;
    let tls = match &config.tls {
        Some(tls) => Some(TlsAcceptor::from(Arc::new(certificates::api_config(
            &tls.identity,
            tls.client_ca.as_deref(),
        )?))),
        None => None,
    };
    Ok(Listening {
        listener,
        tls,
        token: config.token.as_deref().map(Arc::from),
        address,
    })
}

impl Listening {
    /// Serves it on a thread of its own until the process ends.
    pub fn serve(self, hub: Handle, connector: &str) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("api")
            .enable_all()
            .build()
            .map_err(|error| format!("[notify] runtime: {error}"))?;
        let api = Api {
            hub,
            connector: connector.into(),
            token: self.token.clone(),
            requests: Arc::new(Semaphore::new(API_REQUESTS)),
        };
        let run = move || {
            runtime.block_on(accept(self, api));
        };
        std::thread::Builder::new()
            .name("api".into())
            .spawn(run)
            .map_err(|error| format!("[notify] thread: {error}"))?;
        Ok(())
    }
}

async fn accept(listening: Listening, api: Api) {
    let listener = match TcpListener::from_std(listening.listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the notification API ended"),
    };
    let places = Arc::new(Semaphore::new(API_CONNECTIONS));
    let router = routes::router(api.clone())
        .layer(DefaultBodyLimit::max(API_BODY_BYTES))
        .layer(axum::middleware::from_fn_with_state(
            api.clone(),
            authenticate,
        ));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(_) => {
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let (router, tls) = (router.clone(), listening.tls.clone());
        tokio::spawn(async move {
            let _place = place;
            let _ = tcp.set_nodelay(true);
            match tls {
                None => serve(tcp, router).await,
                Some(tls) => handshake(tcp, &tls, router).await,
            }
        });
    }
}

async fn handshake(tcp: TcpStream, tls: &TlsAcceptor, router: axum::Router) {
    match tokio::time::timeout(API_PATIENCE, tls.accept(tcp)).await {
        Ok(Ok(stream)) => serve(stream, router).await,
        Ok(Err(error)) => tracing::debug!(%error, "a handshake with the notification API failed"),
        Err(_) => {}
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: axum::Router) {
    let service = TowerToHyperService::new(router);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(API_PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection of the notification API ended");
    }
}

/// Asks for the token, and refuses web pages: a browser on this host must not push in somebody's name.
async fn authenticate(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.headers().contains_key(axum::http::header::ORIGIN) {
        return Problem::new(403, "forbidden", "calls of web pages are refused").into();
    }
    if let Some(token) = &api.token {
        let shown = request.headers().get(AUTHORIZATION);
        let shown = shown
            .and_then(|value| value.to_str().ok())
            .and_then(|value| {
                let (scheme, token) = value.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
            });
        let same = shown.is_some_and(|shown| {
            aws_lc_rs::constant_time::verify_slices_are_equal(shown.as_bytes(), token.as_bytes())
                .is_ok()
        });
        if !same {
            return Problem::unauthenticated(shown.is_some()).into();
        }
    }
    next.run(request).await
}
