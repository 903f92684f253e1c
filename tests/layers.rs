//! The layers of `src/`: a lower one never imports a higher one, and what is dangerous stays in its place.
//!
//! ```text
//!            cli · main
//!   gateway   connector   client
//!             shard                control · observe
//!             ring
//!             wire
//! ```
//!
//! The sources are read as tokens, without comments and strings; `crate::x`, `super::super::x` and grouped imports all
//! count, in `use` lines and in the code.

use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may import beside itself. A layer that is not here may not exist.
#[rustfmt::skip]
const ALLOWED: &[(&str, &[&str])] = &[
    ("wire",      &[]),
    ("ring",      &[]),
    ("shard",     &["wire", "ring"]),
    ("control",   &["wire", "observe"]),
    ("observe",   &["wire", "control"]),
    ("gateway",   &["wire", "ring", "shard", "control", "observe"]),
    ("connector", &["wire", "ring", "shard", "control", "observe"]),
    ("client",    &["wire", "ring", "shard", "control", "observe"]),
    ("cli",       &["wire", "ring", "shard", "control", "observe", "gateway", "connector", "client"]),
];

/// Words that may stand in some places only, comments and strings apart.
const AT_HOME: &[(&str, &str)] = &[("unsafe", "src/ring/"), ("io_uring", "src/ring/")];

/// Words that may stand nowhere, comments and strings included. In two parts, so that this file passes.
const NOWHERE: &[(&str, &str)] = &[("TO", "DO"), ("FIX", "ME")];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Path,
    Sign(char),
}

/// A source as tokens with their lines.
fn tokens(text: &str) -> Vec<(usize, Token)> {
    let (bytes, mut at, mut line) = (text.as_bytes(), 0, 1);
    let mut found = Vec::new();
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    while at < bytes.len() {
        let begin = at;
        match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => at = end_of(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => at = end_of_block(bytes, at),
            b'r' | b'b' | b'c' if raw_hashes(&bytes[at..]).is_some() => {
                let (open, hashes) = raw_hashes(&bytes[at..]).unwrap_or_default();
                let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
                at = end_of(bytes, at + open, &close);
            }
            b'"' => at = end_of_quoted(bytes, at, b'"'),
            b'\'' if is_char(&bytes[at..]) => at = end_of_quoted(bytes, at, b'\''),
            b if is_word(b) => {
                while at < bytes.len() && is_word(bytes[at]) {
                    at += 1;
                }
                found.push((line, Token::Word(text[begin..at].to_owned())));
            }
            b':' if bytes[at..].starts_with(b"::") => {
                at += 2;
                found.push((line, Token::Path));
            }
            b => {
                at += 1;
                if !b.is_ascii_whitespace() {
                    found.push((line, Token::Sign(b as char)));
                }
            }
        }
        line += bytes[begin..at].iter().filter(|b| **b == b'\n').count();
    }
    found
}

/// Behind the next `end` from `at` on.
fn end_of(bytes: &[u8], at: usize, end: &[u8]) -> usize {
    let found = bytes[at..].windows(end.len()).position(|w| w == end);
    found.map_or(bytes.len(), |n| at + n + end.len())
}

/// Block comments nest.
fn end_of_block(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn end_of_quoted(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut at = at + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// `r"`, `br##"`, …: bytes up to behind the quote, and how many hashes close it.
fn raw_hashes(bytes: &[u8]) -> Option<(usize, usize)> {
    let prefix = bytes
        .iter()
        .take_while(|b| matches!(b, b'b' | b'c'))
        .count()
        .min(1);
    let rest = bytes[prefix..].strip_prefix(b"r")?;
    let hashes = rest.iter().take_while(|b| **b == b'#').count();
    (rest.get(hashes) == Some(&b'"')).then_some((prefix + 1 + hashes + 1, hashes))
}

/// A character literal, not a lifetime.
fn is_char(bytes: &[u8]) -> bool {
    match bytes.get(1) {
        Some(b'\\') => true,
        Some(_) => {
            let rest = std::str::from_utf8(&bytes[1..bytes.len().min(6)]);
            let first = match &rest {
                Ok(text) => text.chars().next().map_or(1, char::len_utf8),
                Err(error) => error.valid_up_to().clamp(1, 4),
            };
            bytes.get(1 + first) == Some(&b'\'')
        }
        None => false,
    }
}

/// Modules of the crate's top level that a file imports, with lines. `depth` is how deep its module lies: 0 for lib.rs,
/// 1 for `wire/mod.rs`, 2 for `wire/timer.rs`.
fn imports(text: &str, depth: usize) -> Vec<(usize, String)> {
    let tokens = tokens(text);
    let word = |at: usize| match tokens.get(at) {
        Some((_, Token::Word(word))) => Some(word.as_str()),
        _ => None,
    };
    let is = |at: usize, token: Token| tokens.get(at).is_some_and(|(_, t)| *t == token);
    // Braces, and which of them are modules within the file.
    let mut inline = Vec::new();
    let (mut braces, mut found, mut at) = (0usize, Vec::new(), 0);
    while at < tokens.len() {
        if is(at, Token::Sign('{')) {
            braces += 1;
            if at >= 2 && word(at - 2) == Some("mod") && word(at - 1).is_some() {
                inline.push(braces);
            }
        } else if is(at, Token::Sign('}')) {
            if inline.last() == Some(&braces) {
                inline.pop();
            }
            braces = braces.saturating_sub(1);
        }
        let begins = at == 0 || !is(at - 1, Token::Path);
        let mut behind = at;
        let mut to_root = match word(at) {
            Some("crate" | "tidegate") if begins && is(at + 1, Token::Path) => {
                behind = at + 2;
                true
            }
            Some("super") if begins => {
                let mut up = 0;
                while word(behind) == Some("super") && is(behind + 1, Token::Path) {
                    (up, behind) = (up + 1, behind + 2);
                }
                up > 0 && up >= depth + inline.len()
            }
            _ => false,
        };
        // `pub(in crate::x)` names no import.
        to_root &= !(at >= 2 && word(at - 1) == Some("in") && is(at - 2, Token::Sign('(')));
        if to_root {
            let line = tokens[at].0;
            if let Some(name) = word(behind) {
                found.push((line, name.to_owned()));
            } else if is(behind, Token::Sign('{')) {
                let (mut level, mut next) = (0, behind);
                loop {
                    match tokens.get(next) {
                        Some((_, Token::Sign('{'))) => level += 1,
                        Some((_, Token::Sign('}'))) => level -= 1,
                        Some((line, Token::Word(name)))
                            if level == 1
                                && matches!(tokens[next - 1].1, Token::Sign('{' | ',')) =>
                        {
                            found.push((*line, name.clone()));
                        }
                        Some(_) => {}
                        None => break,
                    }
                    next += 1;
                    if level == 0 {
                        break;
                    }
                }
            }
        }
        at += 1;
    }
    found
}

/// Layer and module depth of a file, e.g. `src/wire/http1/mod.rs` → (wire, 2).
fn place(path: &str) -> (String, usize) {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    let parts: Vec<_> = inner.trim_end_matches(".rs").split('/').collect();
    let depth = match parts.last() {
        Some(&("mod" | "lib" | "main")) => parts.len() - 1,
        _ => parts.len(),
    };
    let layer = if matches!(parts[0], "lib" | "main") {
        ""
    } else {
        parts[0]
    };
    (layer.to_owned(), depth)
}

/// All that is wrong with one source.
fn check(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (one, two) in NOWHERE {
        let owed = format!("{one}{two}");
        for (number, _) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains(&owed))
        {
            wrong.push(format!("{path}:{}: says {owed}", number + 1));
        }
    }
    if !path.starts_with("src/") {
        return wrong;
    }
    for (line, token) in tokens(text) {
        for (word, home) in AT_HOME {
            if token == Token::Word((*word).to_owned()) && !path.starts_with(home) {
                wrong.push(format!("{path}:{line}: `{word}` is at home in {home} only"));
            }
        }
    }
    let (layer, depth) = place(path);
    if layer.is_empty() {
        return wrong;
    }
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == layer) else {
        wrong.push(format!("{path}: `{layer}` has no place among the layers"));
        return wrong;
    };
    for (line, name) in imports(text, depth) {
        let is_layer = ALLOWED.iter().any(|(other, _)| *other == name);
        if is_layer && name != layer && !allowed.contains(&name.as_str()) {
            wrong.push(format!("{path}:{line}: `{layer}` may not import `{name}`"));
        }
    }
    wrong
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn every_source_keeps_to_its_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "tests", "benches", "scripts", "tuning", ".ci"] {
        sources(&root.join(dir), &mut files);
    }
    let (mut wrong, mut read) = (Vec::new(), 0);
    for file in files {
        let path = file
            .strip_prefix(root)
            .expect("under the root")
            .display()
            .to_string();
        if let Ok(text) = fs::read_to_string(&file)
            && (!path.starts_with("src/") || path.ends_with(".rs"))
        {
            wrong.extend(check(&path, &text));
            read += usize::from(path.starts_with("src/"));
        }
    }
    assert!(read > 20, "only {read} sources were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_layer_has_its_place() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (layer, _) in ALLOWED {
        let is_there = src.join(layer).is_dir() || src.join(format!("{layer}.rs")).is_file();
        assert!(is_there, "`{layer}` stands in the table and not in src/");
    }
}

/// The canary: each kind of offence is seen, in each way to write it.
#[test]
fn the_check_can_fail() {
    #[rustfmt::skip]
    let offences = [
        ("src/wire/a.rs", "use crate::ring::Verbs;", "may not import `ring`"),
        ("src/wire/a.rs", "fn f() { crate::gateway::run() }", "may not import `gateway`"),
        ("src/wire/a.rs", "use super::super::shard::x;", "may not import `shard`"),
        ("src/wire/http1/mod.rs", "use super::super::shard::x;", "may not import `shard`"),
        ("src/wire/http1/a.rs", "use super::super::super::shard::x;", "may not import `shard`"),
        ("src/wire/mod.rs", "use super::control;", "may not import `control`"),
        ("src/wire/mod.rs", "mod tests { use super::super::control; }", "may not import `control`"),
        ("src/wire/a.rs", "use crate::{wire::timer, observe::{metrics, access}};", "may not import `observe`"),
        ("src/ring/a.rs", "use crate::shard::mesh;", "may not import `shard`"),
        ("src/shard/a.rs", "use crate::gateway::x;", "may not import `gateway`"),
        ("src/gateway/a.rs", "use crate::connector::x;", "may not import `connector`"),
        ("src/control/a.rs", "use crate::gateway::x;", "may not import `gateway`"),
        ("src/control/a.rs", "pub(in crate::control) use crate::shard::x;", "may not import `shard`"),
        ("src/newcomer/a.rs", "", "no place"),
        ("src/wire/a.rs", "fn f() { unsafe { g() } }", "`unsafe`"),
        ("src/shard/executor.rs", "use io_uring::IoUring;", "`io_uring`"),
        ("src/gateway/a.rs", "let c = '\"'; unsafe { g() }", "`unsafe`"),
        ("src/gateway/a.rs", "let s = r#\"a\"b\"#; unsafe { g() }", "`unsafe`"),
        ("src/gateway/a.rs", "fn f<'a>(x: &'a str) { unsafe { g() } }", "`unsafe`"),
        ("src/gateway/a.rs", concat!("// TO", "DO: later"), "says"),
        ("scripts/a", concat!("# FIX", "ME"), "says"),
    ];
    for (path, text, expected) in offences {
        let wrong = check(path, text);
        assert!(
            wrong.len() == 1 && wrong[0].contains(expected),
            "{path}: {text}\n{wrong:?}"
        );
    }
    #[rustfmt::skip]
    let innocent = [
        ("src/ring/a.rs", "unsafe { io_uring::x() }"),
        ("src/shard/executor.rs", "use crate::ring::Verbs; use crate::wire::timer;"),
        ("src/gateway/a.rs", "use crate::{wire::timer, ring::Verbs}; use super::relay;"),
        ("src/wire/a.rs", "// crate::ring\n/* unsafe /* unsafe */ io_uring */ \"crate::ring unsafe\"; r#\"unsafe\"#; b'\\''; '\"';"),
        ("src/wire/a.rs", "mod tests { use super::super::shard; }"),
        ("src/wire/a.rs", "use super::super::wire::timer; use self::ring::x; use http1::ring;"),
        ("src/wire/a.rs", "#![forbid(unsafe_code)]"),
        ("src/wire/a.rs", "pub(crate) fn f() {}"),
        ("src/main.rs", "use tidegate::gateway;"),
    ];
    for (path, text) in innocent {
        assert_eq!(check(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}
