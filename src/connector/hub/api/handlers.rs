//! What each operation does: reads and checks what is asked, asks the hub, writes the answer.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Api;
use super::problem::Problem;
use crate::connector::hub::call::{
    Answer, ChannelView, ClientView, NewPush, Refusal, Request, Results, To,
};
use crate::connector::hub::limits::{
    CLIENT_ID_BYTES, CLIENTS_PER_PUSH, DEFAULT_TTL_SECONDS, KEY_BYTES, PAGE, PAYLOAD_BYTES,
    TTL_SECONDS,
};
use crate::connector::hub::push::Status;
use crate::control::settings::sha256;
use crate::wire::relay::{ChannelAuth, ChannelKind, PushId};

type Answered = Result<Response, Problem>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    to: Audience,
    #[serde(borrow)]
    payload: &'a RawValue,
    ttl_s: Option<u64>,
    #[serde(default)]
    queue: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Audience {
    clients: Option<Vec<String>>,
    #[serde(default)]
    all: bool,
}

impl Api {
    /// Asks the hub, unless too many do.
    async fn ask(&self, request: Request) -> Result<Answer, Problem> {
        let Ok(_place) = self.requests.try_acquire() else {
            return Err(Problem::of(Refusal::Overloaded));
        };
        match self.hub.ask(request).await {
            Answer::Refused(refusal) => Err(Problem::of(refusal)),
            answer => Ok(answer),
        }
    }
}

pub async fn push(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answered {
    let body = body.map_err(|error| {
        let (status, text) = (error.status().as_u16(), error.body_text());
        let code = if status == 413 {
            "too_large"
        } else {
            "bad_request"
        };
        Problem::new(status, code, text)
    })?;
    let new = read_push(&headers, &body)?;
    let Answer::Accepted { push, .. } = api.ask(Request::Push(new)).await? else {
        return Err(unexpected());
    };
    let answer = json!({"push": push.to_string(), "connector": &*api.connector});
    Ok((StatusCode::ACCEPTED, axum::Json(answer)).into_response())
}

fn read_push(headers: &HeaderMap, body: &[u8]) -> Result<NewPush, Problem> {
    let read: Body<'_> = serde_json::from_slice(body)
        .map_err(|error| Problem::bad(format!("the body is no push: {error}")))?;
    let to = match (read.to.clients, read.to.all) {
        (None, true) => To::All,
        (Some(clients), false) if !clients.is_empty() => To::Clients(clients),
        (Some(_), false) => return Err(Problem::bad("`to.clients` names nobody")),
        _ => {
            let wrong = "`to` is {\"clients\": [\"id\", …]} or {\"all\": true}";
            return Err(Problem::bad(wrong));
        }
    };
    if let To::Clients(clients) = &to {
        if clients.len() > CLIENTS_PER_PUSH {
            return Err(Problem::too_many_clients());
        }
        if let Some(wrong) = clients.iter().find(|id| !is_client_id(id)) {
            let detail = format!("{wrong:?} is no client id: 1 to 128 visible ASCII characters");
            return Err(Problem::bad(detail));
        }
    }
    let payload = compact(read.payload.get());
    if payload.len() > PAYLOAD_BYTES {
        return Err(Problem::payload_too_large());
    }
    let ttl = read.ttl_s.unwrap_or(DEFAULT_TTL_SECONDS);
    if !(1..=TTL_SECONDS).contains(&ttl) {
        let detail = format!("`ttl_s` is a number of seconds from 1 to {TTL_SECONDS}");
        return Err(Problem::bad(detail));
    }
    let key = match headers.get("idempotency-key") {
        None => None,
        Some(key) => {
            let key = key.to_str().unwrap_or_default();
            if key.is_empty() || key.len() > KEY_BYTES {
                let wrong = "an Idempotency-Key has 1 to 128 visible ASCII characters";
                return Err(Problem::bad(wrong));
            }
            Some((key.into(), sha256(body)))
        }
    };
    Ok(NewPush {
        to,
        payload,
        ttl_ms: ttl * 1000,
        queue: read.queue,
        key,
    })
}

fn is_client_id(id: &str) -> bool {
    (1..=CLIENT_ID_BYTES).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

/// JSON text without the blanks between its tokens; numbers and the order of names stay as they were.
fn compact(json: &str) -> Vec<u8> {
    let mut compact = Vec::with_capacity(json.len());
    let (mut inside, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' if !inside => continue,
            b'"' if !escaped => inside = !inside,
            _ => {}
        }
        escaped = inside && byte == b'\\' && !escaped;
        compact.push(byte);
    }
    compact
}

#[derive(Deserialize)]
pub struct Page {
    #[serde(default)]
    clients: bool,
    after: Option<u32>,
    limit: Option<usize>,
}

type PageQuery = Result<Query<Page>, QueryRejection>;

fn page(query: PageQuery) -> Result<Page, Problem> {
    match query {
        Ok(Query(page)) => Ok(page),
        Err(error) => Err(Problem::bad(error.body_text())),
    }
}

fn push_id(text: &str) -> Result<PushId, Problem> {
    let wrong = || Problem::bad(format!("{text:?} is no push id"));
    text.parse().map_err(|()| wrong())
}

pub async fn results(
    State(api): State<Api>,
    Path(push): Path<String>,
    query: PageQuery,
) -> Answered {
    let (push, page) = (push_id(&push)?, page(query)?);
    let clients = page.clients.then(|| page.after.unwrap_or(0));
    answer_results(
        api.ask(Request::Results { push, clients }).await?,
        page.clients,
    )
}

pub async fn cancel(State(api): State<Api>, Path(push): Path<String>) -> Answered {
    let push = push_id(&push)?;
    answer_results(api.ask(Request::Cancel(push)).await?, false)
}

fn answer_results(answer: Answer, with_clients: bool) -> Answered {
    let Answer::Results(results) = answer else {
        return Err(unexpected());
    };
    Ok(axum::Json(show_results(&results, with_clients)).into_response())
}

fn show_results(results: &Results, with_clients: bool) -> Value {
    let mut counts = Map::new();
    if results.to_all {
        let tally = &results.tally;
        for (name, count) in [
            ("sent", tally.sent),
            ("gone", tally.gone),
            ("dropped", tally.dropped),
            ("unknown", tally.unknown),
            ("acknowledged", tally.acknowledged),
        ] {
            counts.insert(name.into(), count.into());
        }
    } else {
        let targets: u64 = results.counts.iter().sum();
        counts.insert("targets".into(), targets.into());
        for status in Status::ALL {
            let count = results.counts[status as usize];
            counts.insert(status.name().into(), count.into());
        }
    }
    let mut shown = json!({
        "push": results.push.to_string(),
        "state": results.state,
        "to": if results.to_all { "all" } else { "clients" },
        "queue": results.queue,
        "created_ms": results.created_ms,
        "expires_ms": results.expires_ms,
        "counts": counts,
    });
    if with_clients {
        let clients = results.clients.iter();
        shown["clients"] = clients
            .map(|(client, status)| json!({"client": client, "state": status}))
            .collect();
        if let Some(next) = results.next {
            shown["next"] = next.into();
        }
    }
    shown
}

pub async fn clients(State(api): State<Api>, query: PageQuery) -> Answered {
    let page = page(query)?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(Problem::bad(format!(
            "`limit` is a number from 1 to {PAGE}"
        )));
    }
    let from = page.after.unwrap_or(0);
    let Answer::Clients { clients, next } = api.ask(Request::Clients { from, limit }).await? else {
        return Err(unexpected());
    };
    let mut shown = json!({"clients": clients.iter().map(show_client).collect::<Vec<_>>()});
    if let Some(next) = next {
        shown["next"] = next.into();
    }
    Ok(axum::Json(shown).into_response())
}

pub async fn client(State(api): State<Api>, Path(id): Path<String>) -> Answered {
    let Answer::Client(client) = api.ask(Request::Client(id)).await? else {
        return Err(unexpected());
    };
    Ok(axum::Json(show_client(&client)).into_response())
}

pub async fn close(State(api): State<Api>, Path(id): Path<String>) -> Answered {
    let Answer::Closing(channels) = api.ask(Request::Close(id)).await? else {
        return Err(unexpected());
    };
    Ok((
        StatusCode::ACCEPTED,
        axum::Json(json!({"closing": channels})),
    )
        .into_response())
}

fn show_client(client: &ClientView) -> Value {
    let channels: Vec<Value> = client.channels.iter().map(show_channel).collect();
    json!({
        "client": client.client,
        "since": client.channels.iter().map(|channel| channel.since).min(),
        "last_seen": client.last_seen,
        "channels": channels,
    })
}

fn show_channel(channel: &ChannelView) -> Value {
    json!({
        "kind": kind_name(channel.kind),
        "auth": auth_name(channel.auth),
        "since": channel.since,
        "instance": channel.instance,
        "shard": channel.shard,
    })
}

pub fn kind_name(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::EventStream => "sse",
        ChannelKind::WebSocket => "websocket",
        ChannelKind::LongPoll => "poll",
    }
}

pub fn auth_name(auth: ChannelAuth) -> &'static str {
    match auth {
        ChannelAuth::Certificate => "certificate",
        ChannelAuth::Token => "token",
    }
}

/// The hub answered something else than was asked: our mistake.
fn unexpected() -> Problem {
    Problem::new(
        500,
        "internal",
        "the hub answered something else; please tell us",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_go_and_nothing_else() {
        let text = "{ \"b\" : [ 1.50 ,\n 12345678901234567890123 ], \"a b\":\"c \\\" d\\\\\" , \"x\":\ttrue }";
        let expected = "{\"b\":[1.50,12345678901234567890123],\"a b\":\"c \\\" d\\\\\",\"x\":true}";
        assert_eq!(compact(text), expected.as_bytes());
        let values: Vec<Value> = [text, expected]
            .map(|t| serde_json::from_str(t).unwrap())
            .into();
        assert_eq!(values[0], values[1]);
    }

    fn refused(body: &str) -> bool {
        read_push(&HeaderMap::new(), body.as_bytes()).is_err()
    }

    #[test]
    fn what_is_no_push_is_refused() {
        let good = r#"{"to": {"clients": ["cert:lab/a"]}, "payload": null}"#;
        assert!(!refused(good));
        assert!(!refused(
            r#"{"to": {"all": true}, "payload": {"a": 1}, "ttl_s": 60, "queue": true}"#
        ));
        for wrong in [
            "",
            "[]",
            r#"{"to": {"clients": []}, "payload": 1}"#,
            r#"{"to": {}, "payload": 1}"#,
            r#"{"to": {"all": true, "clients": ["a"]}, "payload": 1}"#,
            r#"{"to": {"all": true}}"#,
            r#"{"to": {"all": true}, "payload": 1, "ttl_s": 0}"#,
            r#"{"to": {"all": true}, "payload": 1, "ttl_s": 604801}"#,
            r#"{"to": {"all": true}, "payload": 1, "que": true}"#,
            r#"{"to": {"clients": ["a b"]}, "payload": 1}"#,
            r#"{"to": {"clients": [""]}, "payload": 1}"#,
        ] {
            assert!(refused(wrong), "{wrong}");
        }
        let long = format!(
            r#"{{"to": {{"all": true}}, "payload": "{}"}}"#,
            "x".repeat(PAYLOAD_BYTES)
        );
        assert!(refused(&long));
        let many = format!(
            r#"{{"to": {{"clients": [{}]}}, "payload": 1}}"#,
            vec!["\"a\""; CLIENTS_PER_PUSH + 1].join(",")
        );
        assert!(refused(&many));
    }
}
