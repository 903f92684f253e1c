//! `[notify]` of connector.toml: the notification API and its store.

use super::common::address;
use super::files::{self, Purpose};
use super::reader::{At, Section};
use super::{NotifyConfig, NotifyTls};
use std::net::SocketAddr;
use std::path::PathBuf;

const LISTEN: &str = "127.0.0.1:9500";
const STORE: &str = "/var/lib/tidegate/notify.redb";
/// Bytes of a token: shorter ones can be guessed.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=4096;

/// `None` without the table: the connector takes no part in notifications.
pub fn read(top: &Section<'_>) -> Option<NotifyConfig> {
    let section = top.section("notify");
    // Read in any case, so that no key of it counts as unknown.
    let token = read_token(&section);
    let tls = read_tls(&section);
    let listen = read_listen(&section, token.is_some(), tls.as_ref());
    let store = match section.text("store") {
        Some(_) => files::path(&section, "store", "the file of queued pushes"),
        None => Some(At {
            value: PathBuf::from(STORE),
            line: section.line(),
        }),
    };
    let channels_per_client = section
        .integer("channels_per_client", 1..=64)
        .map_or(1, |at| at.value as usize);
    section.is_present().then_some(())?;
    Some(NotifyConfig {
        listen: listen?,
        token,
        tls,
        store: store?.value,
        channels_per_client,
    })
}

fn read_listen(
    section: &Section<'_>,
    has_token: bool,
    tls: Option<&NotifyTls>,
) -> Option<SocketAddr> {
    let text = section.text("listen").unwrap_or(At {
        value: LISTEN.into(),
        line: section.line(),
    });
    let listen = address(section.source(), &text)?;
    let guarded = has_token || tls.is_some_and(|tls| tls.client_ca.is_some());
    if !listen.ip().is_loopback() && !guarded {
        section.source().error(
            text.line,
            format!("[notify] listens on {listen}, where others could push to every client"),
            "give `token_file`, or `tls` with `client_ca`; or listen on 127.0.0.1",
        );
        return None;
    }
    if !listen.ip().is_loopback() && tls.is_none() {
        section.source().warn(
            text.line,
            format!("[notify] listens on {listen} without TLS: its token can be read on the way"),
            "tls = { certificate = \"api.pem\", key = \"api.key\" }",
        );
    }
    Some(listen)
}

/// The token that callers must show, without the line's end.
fn read_token(section: &Section<'_>) -> Option<String> {
    let text = section
        .text("token_file")
        .filter(|at| !at.value.is_empty())?;
    let file = files::path(
        section,
        "token_file",
        "a file with the token of the API's callers",
    )?;
    let shown = file.value.display();
    let content = match std::fs::read_to_string(&file.value) {
        Ok(content) => content,
        Err(error) => {
            let what = format!("{shown}: {error}");
            section
                .source()
                .error(text.line, what, "openssl rand -hex 32 > notify.token");
            return None;
        }
    };
    let token = content.trim();
    if !TOKEN_BYTES.contains(&token.len()) || !token.bytes().all(|b| b.is_ascii_graphic()) {
        section.source().error(
            text.line,
            format!("{shown} holds no token of 16 to 4096 visible ASCII characters"),
            "openssl rand -hex 32 > notify.token",
        );
        return None;
    }
    Some(token.to_owned())
}

fn read_tls(section: &Section<'_>) -> Option<NotifyTls> {
    let tls = section.section("tls");
    let client_ca = tls.text("client_ca").filter(|at| !at.value.is_empty());
    if !tls.is_present() {
        return None;
    }
    let (identity, _) = files::identity(&tls, Purpose::Server)?;
    let client_ca = match client_ca {
        Some(_) => Some(files::roots(
            &tls,
            "client_ca",
            "the CA of the API's callers",
        )?),
        None => None,
    };
    Some(NotifyTls {
        identity,
        client_ca,
    })
}
