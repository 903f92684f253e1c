//! The OpenAPI document, made from the table of routes.

use super::routes::{ROUTES, Route};
use crate::connector::hub::limits::{
    CLIENT_ID_BYTES, CLIENTS_PER_PUSH, DEFAULT_TTL_SECONDS, KEY_BYTES, PAYLOAD_BYTES, TTL_SECONDS,
};
use crate::connector::hub::push::Status;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

pub async fn serve() -> impl IntoResponse {
    axum::Json(document())
}

/// OpenAPI 3.1.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate notification API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Push to clients that hold a channel at a gateway; who is present; what became of a push.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    })
}

fn operation(route: &Route) -> Value {
    let (status, schema, media) = route.answer;
    let mut answers = Map::new();
    let of = |schema: &str, media: &str, text: &str| {
        let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
        json!({"description": text, "content": {media: {"schema": schema}}})
    };
    answers.insert(status.to_string(), of(schema, media, "done"));
    for problem in route.problems.iter().chain(&[401, 503]) {
        let answer = of("Problem", "application/problem+json", "refused");
        answers.insert(problem.to_string(), answer);
    }
    let parameters: Vec<Value> = route
        .parameters
        .iter()
        .map(|(name, place, kind, text)| {
            json!({
                "name": name, "in": place, "required": *place == "path",
                "description": text, "schema": {"type": kind},
            })
        })
        .collect();
    let mut operation = json!({
        "summary": route.summary,
        "parameters": parameters,
        "responses": answers,
    });
    if let Some(body) = route.body {
        let schema = json!({"$ref": format!("#/components/schemas/{body}")});
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    operation
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    })
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let number = json!({"type": "integer", "minimum": 0});
    let client = json!({"type": "string", "minLength": 1, "maxLength": CLIENT_ID_BYTES});
    let mut counts = Map::new();
    for name in Status::ALL.map(Status::name).into_iter().chain(["targets"]) {
        counts.insert(name.into(), number.clone());
    }
    let states: Vec<&str> = Status::ALL.map(Status::name).into();
    let client_state = object(
        json!({"client": client, "state": {"type": "string", "enum": states}}),
        &["client", "state"],
    );
    let channel = object(
        json!({
            "kind": {"type": "string", "enum": ["sse", "websocket", "poll"]},
            "auth": {"type": "string", "enum": ["certificate", "token"]},
            "since": number, "instance": number, "shard": number,
        }),
        &["kind", "auth", "since", "instance", "shard"],
    );
    let refer = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    json!({
        "NewPush": object(
            json!({
                "to": {
                    "oneOf": [
                        object(json!({"clients": {"type": "array", "items": client, "minItems": 1, "maxItems": CLIENTS_PER_PUSH}}), &["clients"]),
                        object(json!({"all": {"const": true}}), &["all"]),
                    ],
                },
                "payload": {"description": format!("any JSON, {PAYLOAD_BYTES} bytes at most")},
                "ttl_s": {"type": "integer", "minimum": 1, "maximum": TTL_SECONDS, "default": DEFAULT_TTL_SECONDS},
                "queue": {"type": "boolean", "default": false, "description": "keep it on disk until the client's receipt"},
            }),
            &["to", "payload"],
        ),
        "Accepted": object(json!({"push": text, "connector": text}), &["push", "connector"]),
        "Results": object(
            json!({
                "push": text,
                "state": {"type": "string", "enum": ["storing", "open", "done", "expired", "cancelled"]},
                "to": {"type": "string", "enum": ["all", "clients"]},
                "queue": {"type": "boolean"},
                "created_ms": number, "expires_ms": number,
                "counts": {"type": "object", "properties": counts, "additionalProperties": false},
                "clients": {"type": "array", "items": refer("ClientState")},
                "next": number,
            }),
            &["push", "state", "to", "queue", "created_ms", "expires_ms", "counts"],
        ),
        "ClientState": client_state,
        "Channel": channel,
        "Client": object(
            json!({
                "client": client, "since": {"type": ["integer", "null"]}, "last_seen": number,
                "channels": {"type": "array", "items": refer("Channel")},
            }),
            &["client", "since", "last_seen", "channels"],
        ),
        "Clients": object(
            json!({"clients": {"type": "array", "items": refer("Client")}, "next": number}),
            &["clients"],
        ),
        "Closing": object(json!({"closing": number}), &["closing"]),
        "Event": {"type": "string"},
        "Document": {"type": "object"},
        "Problem": object(
            json!({
                "type": text, "title": text, "status": number, "code": text,
                "who": {"const": "connector"}, "detail": text,
            }),
            &["type", "title", "status", "code", "who", "detail"],
        ),
        "IdempotencyKey": {"type": "string", "minLength": 1, "maxLength": KEY_BYTES},
    })
}
