//! What is refused, as problem+json (RFC 9457), like the gateway's: `code`, `who`, `detail`.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::connector::hub::call::Refusal;
use crate::connector::hub::limits;

/// A refusal.
#[derive(Debug, Clone)]
pub struct Problem {
    status: u16,
    code: &'static str,
    detail: String,
    field: Option<(HeaderName, &'static str)>,
}

impl Problem {
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            code,
            detail: detail.into(),
            field: None,
        }
    }

    pub fn bad(detail: impl Into<String>) -> Problem {
        Problem::new(400, "bad_request", detail)
    }

    pub fn unauthenticated(shown: bool) -> Problem {
        let (detail, challenge) = match shown {
            true => ("the token is another one", "Bearer error=\"invalid_token\""),
            false => ("this API needs its token (Authorization: Bearer)", "Bearer"),
        };
        Problem {
            field: Some((header::WWW_AUTHENTICATE, challenge)),
            ..Problem::new(401, "unauthenticated", detail)
        }
    }

    fn later(self) -> Problem {
        Problem {
            field: Some((header::RETRY_AFTER, "5")),
            ..self
        }
    }

    pub fn of(refusal: Refusal) -> Problem {
        match refusal {
            Refusal::UnknownPush => {
                Problem::new(404, "unknown_push", "no push of this id is remembered here")
            }
            Refusal::UnknownClient => {
                Problem::new(404, "unknown_client", "the client has no channel now")
            }
            Refusal::NotQueued => Problem::new(
                409,
                "not_queued",
                "only a queued push that is not done can be cancelled",
            ),
            Refusal::KeyUsed => Problem::new(
                422,
                "key_used",
                "the idempotency key came before with another body",
            ),
            Refusal::KeyBusy => Problem::new(
                409,
                "key_busy",
                "the push of this idempotency key is being stored",
            )
            .later(),
            Refusal::Full(what) => {
                Problem::new(507, "full", format!("too many {what}; see the limits")).later()
            }
            Refusal::Store { why, full: true } => Problem::new(507, "store_full", why).later(),
            Refusal::Store { why, full: false } => {
                Problem::new(503, "store_unavailable", why).later()
            }
            Refusal::Overloaded => {
                Problem::new(503, "overloaded", "the hub has too much to do").later()
            }
        }
    }

    pub fn too_many_clients() -> Problem {
        let most = limits::CLIENTS_PER_PUSH;
        Problem::new(
            413,
            "too_large",
            format!("a push takes {most} clients at most"),
        )
    }

    pub fn payload_too_large() -> Problem {
        let most = limits::PAYLOAD_BYTES;
        let detail = format!("a payload has {most} bytes at most, as compact JSON");
        Problem::new(413, "too_large", detail)
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Response {
        problem.into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": self.status,
            "code": self.code,
            "who": "connector",
            "detail": self.detail,
        });
        let mut response = (status, body.to_string()).into_response();
        let fields = response.headers_mut();
        fields.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        fields.insert(
            HeaderName::from_static("tidegate-error"),
            HeaderValue::from_static(self.code),
        );
        if let Some((name, value)) = self.field {
            fields.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
