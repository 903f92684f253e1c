//! `GET /v1/events`: what happens, as it happens.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde_json::json;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use super::Api;
use super::handlers::{auth_name, kind_name};
use super::problem::Problem;
use crate::connector::hub::call::HubEvent;
use crate::connector::hub::limits::EVENTS_PER_LISTENER;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub async fn events(State(api): State<Api>) -> Result<Response, Problem> {
    let events = api
        .hub
        .listen(EVENTS_PER_LISTENER)
        .await
        .map_err(Problem::of)?;
    let mut alive = tokio::time::interval(KEEP_ALIVE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let fields = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((fields, Body::new(Stream { events, alive })).into_response())
}

/// The body: it ends when the listener was cut.
struct Stream {
    events: mpsc::Receiver<HubEvent>,
    alive: Interval,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut text = String::new();
        // What waits goes together.
        while text.len() < 16 * 1024 {
            match self.events.poll_recv(cx) {
                Poll::Ready(Some(event)) => write(&event, &mut text),
                Poll::Ready(None) if text.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if text.is_empty() {
            // The first tick comes at once, and shows the caller that the stream is open.
            match self.alive.poll_tick(cx) {
                Poll::Ready(_) => text.push_str(":\n\n"),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

fn write(event: &HubEvent, text: &mut String) {
    let (name, data) = match event {
        HubEvent::Up { client, kind, auth } => (
            "up",
            json!({"client": client, "kind": kind_name(*kind), "auth": auth_name(*auth)}),
        ),
        HubEvent::Down { client, reason } => ("down", json!({"client": client, "reason": reason})),
        HubEvent::Receipt { push, client } => (
            "receipt",
            json!({"push": push.to_string(), "client": client}),
        ),
        HubEvent::Result { push, state } => {
            ("result", json!({"push": push.to_string(), "state": state}))
        }
    };
    text.push_str(&format!("event: {name}\ndata: {data}\n\n"));
}
