//! A scenario from a file: TOML as people write it, or the result of an earlier run.

use crate::control::config::Complaint;
use crate::control::config::reader::{At, Section, Wrong, text};
use crate::control::config::source::{MAX_FILE_BYTES, Source};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use toml::de::DeValue;

use super::words::{self, Sources, Think};
use super::{
    Auth, AuthWord, CONNECTIONS_MAX, Kind, MEMBERS_MAX, Member, RATE_MAX, SHARDS_MAX, Scenario,
    Spread, Tls, TlsVersion, WEIGHT_MAX,
};
use crate::client::load::target::Target;
use crate::client::result::SCHEMA;

/// Results hold histograms and timelines: they are larger than what a person writes.
const MAX_RESULT_BYTES: u64 = 256 << 20;

/// Reads a scenario file, or the `scenario` of a result file.
///
/// # Errors
/// All that is wrong with it, a line each: `file:line: text (hint: …)`.
pub fn open(file: &Path) -> Result<Scenario, String> {
    let failed = |why: String| format!("{}: {why}", file.display());
    let size = std::fs::metadata(file)
        .map_err(|e| failed(e.to_string()))?
        .len();
    if size > MAX_RESULT_BYTES {
        return Err(failed("is too large for a scenario or a result".to_owned()));
    }
    let content = std::fs::read(file).map_err(|e| failed(e.to_string()))?;
    let content = String::from_utf8(content).map_err(|_| failed("is not UTF-8 text".to_owned()))?;
    if content.trim_start().starts_with('{') {
        return of_result(&content).map_err(failed);
    }
    if size > MAX_FILE_BYTES {
        return Err(failed("is too large for a scenario".to_owned()));
    }
    of_toml(file, content).map_err(|complaints| {
        let mut all = String::new();
        for complaint in complaints {
            let _ = write!(all, "{}{complaint}", if all.is_empty() { "" } else { "\n" });
        }
        all
    })
}

fn of_result(content: &str) -> Result<Scenario, String> {
    #[derive(serde::Deserialize)]
    struct Kept {
        schema: Option<u32>,
        scenario: Option<Scenario>,
    }
    let kept: Kept = serde_json::from_str(content)
        .map_err(|e| format!("is no result that can be repeated: {e}"))?;
    if kept.schema.is_some_and(|schema| schema > SCHEMA) {
        return Err("is the result of a newer tidegate".to_owned());
    }
    kept.scenario.ok_or_else(|| {
        "holds no scenario: results of `load requests`, `handshakes` and `transfer` do".to_owned()
    })
}

/// From a text; `file` is where it lies.
pub(super) fn of_toml(file: &Path, content: String) -> Result<Scenario, Vec<Complaint>> {
    let source = Source::from_text(file, content);
    let scenario = {
        let table = source.parse();
        let readable = !source.has_errors();
        readable.then(|| whole(&Section::top(&source, table.get_ref())))
    };
    match scenario {
        Some(scenario) if !source.has_errors() => Ok(scenario),
        _ => Err(source.into_complaints()),
    }
}

fn whole(top: &Section<'_>) -> Scenario {
    const KINDS: [&str; 3] = ["requests", "handshakes", "transfer"];
    let kind = match top.word("kind", &KINDS).map(|at| at.value) {
        Some("handshakes") => Kind::Handshakes,
        Some("transfer") => Kind::Transfer,
        _ => Kind::Requests,
    };
    let arrivals = match top
        .word("arrivals", &["constant", "poisson"])
        .map(|at| at.value)
    {
        Some("poisson") => Spread::Poisson,
        _ => Spread::Constant,
    };
    let unset = Scenario::unset(kind);
    let number = |key, range, unset| top.integer(key, range).map_or(unset, |at| at.value);
    let span = |key, unset| top.duration(key).map_or(unset, |at| at.value);
    let rate = top.read("rate", rate).map(|at| at.value);
    let requests = top.integer("requests", 1..=1 << 50).map(|at| at.value);
    let members: Vec<_> = top
        .sections("request")
        .iter()
        .enumerate()
        .map(member)
        .collect();
    if members.len() > MEMBERS_MAX {
        let text = format!("more than {MEMBERS_MAX} requests");
        top.source().error(
            top.line_of("request"),
            text,
            "use paths with numbers: /file/{1..1000}",
        );
    }
    Scenario {
        kind,
        url: top.read("url", url).map(|at| at.value).unwrap_or_default(),
        connections: number("connections", 1..=CONNECTIONS_MAX, 0) as usize,
        shards: number("shards", 1..=SHARDS_MAX, 0) as usize,
        rate,
        arrivals,
        ramp_up: span("ramp_up", unset.ramp_up),
        warm_up: span("warm_up", unset.warm_up_of(requests, rate)),
        duration: span("duration", unset.duration),
        requests,
        timeout: span("timeout", unset.timeout),
        seed: top.integer("seed", 0..=i64::MAX as u64).map(|at| at.value),
        sources: sources(top),
        tls: tls(&top.section("tls")),
        resumed: top.boolean("resumed").is_some_and(|at| at.value),
        ask: top.boolean("ask").is_some_and(|at| at.value),
        members,
    }
    .or_unset(&unset)
}

fn url(value: &DeValue<'_>) -> Result<String, Wrong> {
    let url = text(value)?;
    let hint = "an origin, and a path if you like: \"https://gw.example.com:8443/open/hello\"";
    match Target::new(&url) {
        Ok(_) => Ok(url),
        Err(why) => Err((format!("cannot be read: {why}"), hint.to_owned())),
    }
}

fn rate(value: &DeValue<'_>) -> Result<f64, Wrong> {
    let hint = "requests a second over all shards: 500, or 0.5";
    let number = match value {
        DeValue::Integer(number) => number.as_str().replace('_', "").parse().ok(),
        DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
        _ => None,
    };
    let number: f64 = number.ok_or_else(|| ("is not a number".to_owned(), hint.to_owned()))?;
    if number > 0.0 && number <= RATE_MAX {
        Ok(number)
    } else {
        Err((
            format!("is {number}"),
            format!("above 0, and {RATE_MAX} at most"),
        ))
    }
}

fn sources(top: &Section<'_>) -> Sources {
    let mut all = Sources::default();
    for one in top.texts("sources").unwrap_or_default() {
        let single = Sources(vec![one.value.clone()]);
        match single.addresses() {
            Ok(_) => all.0.push(one.value),
            Err(why) => top.source().error(
                one.line,
                format!("`sources`: {why}"),
                "addresses of this host: [\"127.0.0.2\", \"127.0.1.0/24\", \"10.0.0.5-10.0.0.20\"]",
            ),
        }
    }
    all
}

fn tls(section: &Section<'_>) -> Tls {
    let tls = Tls {
        ca: file(section, "ca"),
        insecure: section.boolean("insecure").is_some_and(|at| at.value),
        version: match section.word("version", &["1.2", "1.3"]).map(|at| at.value) {
            Some("1.2") => TlsVersion::V12,
            _ => TlsVersion::V13,
        },
        certificate: file(section, "certificate"),
        key: file(section, "key"),
    };
    if tls.certificate.is_some() != tls.key.is_some() {
        let line = section.line_of(if tls.key.is_some() {
            "key"
        } else {
            "certificate"
        });
        section.source().error(
            line,
            "`certificate` and `key` go together",
            "name both files",
        );
    }
    tls
}

/// A path that is relative to the file it stands in.
fn file(section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
    let path = section.source().resolve(&section.text(key)?.value);
    Some(std::path::absolute(&path).unwrap_or(path))
}

fn member((index, section): (usize, &Section<'_>)) -> Member {
    let name = section.text("name").map(|at| at.value);
    let method = section.read("method", |value| {
        let method = text(value)?;
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            let hint = "in capital letters: \"GET\", \"POST\"";
            return Err((format!("is {method:?}"), hint.to_owned()));
        }
        Ok(method)
    });
    let think = section.read("think", |value| {
        let hint = "a span or a range: \"100ms\", \"50ms..150ms\"";
        Think::new(&text(value)?).map_err(|why| (format!("cannot be read: {why}"), hint.to_owned()))
    });
    let mut path = Vec::new();
    for one in section.texts("path").unwrap_or_default() {
        match words::Path::new(&one.value) {
            Ok(_) => path.push(one.value),
            Err(why) => section.source().error(
                one.line,
                format!("`path`: {why}"),
                "\"/hello\", \"/file/{1..1000}\", or a list of such",
            ),
        }
    }
    Member {
        name: name.unwrap_or_else(|| format!("request {}", index + 1)),
        weight: section
            .integer("weight", 1..=WEIGHT_MAX)
            .map_or(1, |at| at.value as u32),
        url: section.read("url", url).map(|at| at.value),
        method: method.map_or_else(|| "GET".to_owned(), |at| at.value),
        path,
        headers: headers(section),
        body: section.size("body").map_or(0, |at| at.value),
        think: think.map(|at| at.value),
        auth: auth(section),
    }
}

/// `headers = { Accept = "text/html" }`, or a list of `"Name: value"`.
fn headers(section: &Section<'_>) -> Vec<String> {
    const HINT: &str = "headers = { Accept = \"text/html\" }, or [\"Accept: text/html\"]";
    let listed: Option<At<Vec<String>>> = section.read("headers", |value| match value {
        DeValue::Table(table) => table
            .iter()
            .map(|(name, value)| Ok(format!("{}: {}", name.get_ref(), text(value.get_ref())?)))
            .collect(),
        DeValue::Array(items) => items.iter().map(|item| text(item.get_ref())).collect(),
        _ => Err(("is neither a table nor a list".to_owned(), HINT.to_owned())),
    });
    let Some(At { value, line }) = listed else {
        return Vec::new();
    };
    for field in &value {
        if let Err(why) = super::merge::header(field) {
            section
                .source()
                .error(line, format!("`headers`: {why}"), HINT);
        }
    }
    value
}

fn auth(section: &Section<'_>) -> Option<Auth> {
    const HINT: &str = "auth = \"none\", { certificate = \"c.pem\", key = \"c.key\" }, \
        { bearer = \"…\" } or { token_file = \"tokens.txt\" }";
    let line = section.line_of("auth");
    let word = section.items("auth");
    if let [
        At {
            value: DeValue::String(word),
            ..
        },
    ] = word.as_slice()
    {
        if word != "none" {
            section
                .source()
                .error(line, format!("`auth` is {word:?}"), HINT);
        }
        return Some(Auth::Word(AuthWord::None));
    }
    let table = section.section("auth");
    if !table.is_present() {
        return None;
    }
    let (certificate, key) = (file(&table, "certificate"), file(&table, "key"));
    let bearer = table.text("bearer").map(|at| at.value);
    let token_file = file(&table, "token_file");
    match (certificate, key, bearer, token_file) {
        (Some(certificate), Some(key), None, None) => Some(Auth::Certificate { certificate, key }),
        (None, None, Some(bearer), None) => Some(Auth::Bearer { bearer }),
        (None, None, None, Some(token_file)) => Some(Auth::TokenFile { token_file }),
        _ => {
            let text = "`auth` is not one of the ways that there are";
            section.source().error(line, text, HINT);
            None
        }
    }
}
