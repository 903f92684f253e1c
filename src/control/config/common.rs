//! What both files have: shards, the admin listener, the log, names.

use super::AccessLog;
use super::reader::{self, At, Section};
use super::source::Source;
use crate::control::settings::check_name;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A process runs no more; more cores get more instances.
pub const MAX_SHARDS: u64 = 256;
/// More than that is a core given away.
const BUSY_POLL_MAX_US: u64 = 1_000;

/// `[log] access = off | errors | sample:N | all`.
pub fn read_log(top: &Section<'_>, default: AccessLog) -> AccessLog {
    const HINT: &str = "off | errors | sample:N (every Nth request) | all";
    let section = top.section("log");
    let access = section.read("access", |value| {
        let text = reader::text(value)?;
        match text.as_str() {
            "off" => Ok(AccessLog::Off),
            "errors" => Ok(AccessLog::Errors),
            "all" => Ok(AccessLog::All),
            other => other
                .strip_prefix("sample:")
                .and_then(|n| n.trim().parse().ok())
                .filter(|n| *n > 0)
                .map(AccessLog::Sample)
                .ok_or_else(|| (format!("is {text:?}"), HINT.to_string())),
        }
    });
    access.map_or(default, |at| at.value)
}

/// `shards = "auto"` or a number.
pub fn shards(section: &Section<'_>) -> usize {
    let auto = || std::thread::available_parallelism().map_or(1, usize::from);
    let read = section.read("shards", |value| match value.as_str() {
        Some("auto") => Ok(None),
        Some(other) => Err((
            format!("is {other:?}"),
            format!("\"auto\", or a number from 1 to {MAX_SHARDS} without quotes"),
        )),
        None => reader::integer(value, &(1..=MAX_SHARDS)).map(|n| Some(n as usize)),
    });
    read.and_then(|at| at.value).unwrap_or_else(auto)
}

/// `busy_poll_us = 50`: how long a shard looks for more to do before it sleeps.
pub fn busy_poll(section: &Section<'_>) -> Duration {
    let micros = section.integer("busy_poll_us", 0..=BUSY_POLL_MAX_US);
    micros.map_or(Duration::ZERO, |at| Duration::from_micros(at.value))
}

/// `admin = "127.0.0.1:9441"`; empty: none.
pub fn admin(section: &Section<'_>, default: &str) -> Option<At<SocketAddr>> {
    let line = section.line();
    let text = section.text("admin").unwrap_or(At {
        value: default.into(),
        line,
    });
    if text.value.is_empty() {
        return None;
    }
    let address = address(section.source(), &text)?;
    if !address.ip().is_loopback() {
        section.source().warn(
            text.line,
            format!("admin listens on {address}, where others can read metrics and readiness"),
            "listen on 127.0.0.1, or let a firewall guard it",
        );
    }
    Some(At {
        value: address,
        line: text.line,
    })
}

pub fn address(source: &Source, text: &At<String>) -> Option<SocketAddr> {
    match text.value.parse::<SocketAddr>() {
        Ok(SocketAddr::V6(address)) if address.ip().to_ipv4_mapped().is_some() => {
            source.error(
                text.line,
                format!("{:?} is IPv4 inside IPv6", text.value),
                "IPv6 listeners take IPv6 alone: write it as IPv4, \"127.0.0.1:443\"",
            );
            None
        }
        Ok(address) => Some(address),
        Err(_) => {
            let hint = if text.value.parse::<IpAddr>().is_ok() {
                "the port is missing: \"0.0.0.0:443\", \"[::]:443\""
            } else {
                "an IP address and a port: \"0.0.0.0:443\", \"[::]:443\", \"127.0.0.1:9441\""
            };
            source.error(
                text.line,
                format!("{:?} is no address to listen on", text.value),
                hint,
            );
            None
        }
    }
}

/// A name that must be given.
pub fn name(section: &Section<'_>, key: &'static str, what: &str) -> String {
    let hint = format!("{key} = \"{what}-1\"");
    let read = section.require(key, section.text(key), &hint);
    read.map(|at| checked_name(section.source(), at, what))
        .unwrap_or_default()
}

pub fn checked_name(source: &Source, at: At<String>, what: &str) -> String {
    if let Err(why) = check_name(&at.value) {
        source.error(
            at.line,
            format!("{what} name {:?} {why}", at.value),
            "a short name such as \"main\" or \"cp-1\"",
        );
    }
    at.value
}
