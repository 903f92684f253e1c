//! The table of routes: the router and the OpenAPI document are both made from it.

use super::problem::Problem;
use super::{Api, events, handlers, openapi};
use axum::Router;
use axum::routing::{MethodRouter, delete, get, post};

/// One operation.
pub struct Route {
    /// Lower case, as OpenAPI has it.
    pub method: &'static str,
    /// As OpenAPI has it.
    pub path: &'static str,
    /// As the router has it, where that differs.
    pattern: &'static str,
    pub summary: &'static str,
    /// Name of the schema of what is asked.
    pub body: Option<&'static str>,
    /// Name, place, type, and what it means.
    pub parameters: &'static [(&'static str, &'static str, &'static str, &'static str)],
    /// Status of a good answer, its schema, its media type.
    pub answer: (u16, &'static str, &'static str),
    /// Statuses of problems, beside 401 and 503.
    pub problems: &'static [u16],
    build: fn() -> MethodRouter<Api>,
}

const JSON: &str = "application/json";
const PUSH_ID: (&str, &str, &str, &str) = ("push", "path", "string", "the push's id");
const CLIENT_ID: (&str, &str, &str, &str) = (
    "id",
    "path",
    "string",
    "the client's id; its slashes stand as they are",
);

/// All of them.
pub const ROUTES: &[Route] = &[
    Route {
        method: "post",
        path: "/v1/push",
        pattern: "/v1/push",
        summary: "Push to clients, or to all",
        body: Some("NewPush"),
        parameters: &[(
            "Idempotency-Key",
            "header",
            "string",
            "the same key with the same body is the same push, for a day at least",
        )],
        answer: (202, "Accepted", JSON),
        problems: &[400, 409, 413, 422, 507],
        build: || post(handlers::push),
    },
    Route {
        method: "get",
        path: "/v1/push/{push}",
        pattern: "/v1/push/{push}",
        summary: "What became of a push",
        body: None,
        parameters: &[
            PUSH_ID,
            (
                "clients",
                "query",
                "boolean",
                "with the state of each client",
            ),
            ("after", "query", "integer", "`next` of the page before"),
        ],
        answer: (200, "Results", JSON),
        problems: &[400, 404],
        build: || get(handlers::results),
    },
    Route {
        method: "delete",
        path: "/v1/push/{push}",
        pattern: "/v1/push/{push}",
        summary: "Cancel a queued push for those who have not got it",
        body: None,
        parameters: &[PUSH_ID],
        answer: (200, "Results", JSON),
        problems: &[400, 404, 409],
        build: || delete(handlers::cancel),
    },
    Route {
        method: "get",
        path: "/v1/clients",
        pattern: "/v1/clients",
        summary: "Clients that are present",
        body: None,
        parameters: &[
            ("after", "query", "integer", "`next` of the page before"),
            (
                "limit",
                "query",
                "integer",
                "clients of a page, 1000 at most",
            ),
        ],
        answer: (200, "Clients", JSON),
        problems: &[400],
        build: || get(handlers::clients),
    },
    Route {
        method: "get",
        path: "/v1/clients/{id}",
        pattern: "/v1/clients/{*id}",
        summary: "One client's channels",
        body: None,
        parameters: &[CLIENT_ID],
        answer: (200, "Client", JSON),
        problems: &[404],
        build: || get(handlers::client),
    },
    Route {
        method: "delete",
        path: "/v1/clients/{id}",
        pattern: "/v1/clients/{*id}",
        summary: "Close a client's channels",
        body: None,
        parameters: &[CLIENT_ID],
        answer: (202, "Closing", JSON),
        problems: &[404],
        build: || delete(handlers::close),
    },
    Route {
        method: "get",
        path: "/v1/events",
        pattern: "/v1/events",
        summary: "What happens, as server-sent events: up, down, receipt, result",
        body: None,
        parameters: &[],
        answer: (200, "Event", "text/event-stream"),
        problems: &[],
        build: || get(events::events),
    },
    Route {
        method: "get",
        path: "/v1/openapi.json",
        pattern: "/v1/openapi.json",
        summary: "This document",
        body: None,
        parameters: &[],
        answer: (200, "Document", JSON),
        problems: &[],
        build: || get(openapi::serve),
    },
];

/// The router of the table.
pub fn router(api: Api) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.pattern, (route.build)());
    }
    router
        .fallback(|| async {
            Problem::new(
                404,
                "not_found",
                "the API has no such path; see /v1/openapi.json",
            )
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                405,
                "method_not_allowed",
                "the path has other methods; see /v1/openapi.json",
            )
        })
        .with_state(api)
}
