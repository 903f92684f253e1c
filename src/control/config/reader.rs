//! A spanned TOML tree, read key by key: every complaint knows its line, every key that nobody asked for is one.
//!
//! serde stops at its first error; an operator wants all of them. So the file is parsed to `toml`'s spanned tree
//! (which itself recovers after a syntax error), and [`Section`] hands out values by name and type, collecting what
//! is wrong on the way. A section that goes out of scope complains of the keys that were not asked for, so that no
//! reader can forget to.

use super::source::Source;
use super::units;
use super::words::closest;
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and the line it stands on.
#[derive(Debug, Clone)]
pub struct At<T> {
    pub value: T,
    pub line: usize,
}

/// What is wrong with a value, and what would be right.
pub type Wrong = (String, String);

/// One table of the file. Ask for every key it may have; when it is dropped, it complains of all others.
pub struct Section<'a> {
    source: &'a Source,
    /// As an operator would say it: `[tls]`, `[[route]]`, `deny`; empty at the top.
    name: String,
    line: usize,
    table: Option<&'a DeTable<'a>>,
    /// Something else stands in the table's place: that is told already, and what it lacks is not.
    misread: bool,
    asked: RefCell<Vec<&'static str>>,
    /// Required keys that are absent, with their hints.
    missing: RefCell<Vec<(&'static str, String)>>,
}

impl<'a> Section<'a> {
    fn new(source: &'a Source, name: String, line: usize, table: Option<&'a DeTable<'a>>) -> Self {
        Self {
            source,
            name,
            line,
            table,
            misread: false,
            asked: RefCell::default(),
            missing: RefCell::default(),
        }
    }

    pub fn top(source: &'a Source, table: &'a DeTable<'a>) -> Self {
        Self::new(source, String::new(), 1, Some(table))
    }

    pub fn source(&self) -> &'a Source {
        self.source
    }

    /// Line of the table's header; 1 when the table is absent.
    pub fn line(&self) -> usize {
        self.line
    }

    /// False when the table is absent; something else in its place counts as present, and is told of.
    pub fn is_present(&self) -> bool {
        self.table.is_some() || self.misread
    }

    fn find(&self, key: &'static str) -> Option<(usize, &'a Spanned<DeValue<'a>>)> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        let (name, value) = self.table?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((self.source.line(name.span().start), value))
    }

    /// Line of a key, or of the section when the key is absent.
    pub fn line_of(&self, key: &'static str) -> usize {
        self.find(key).map_or(self.line, |(line, _)| line)
    }

    /// The value of `key`, read by `read`; `None` when absent or wrong (then there is a complaint).
    pub fn read<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'a>) -> Result<T, Wrong>,
    ) -> Option<At<T>> {
        let (line, value) = self.find(key)?;
        match read(value.get_ref()) {
            Ok(value) => Some(At { value, line }),
            Err((text, hint)) => {
                self.source.error(line, format!("`{key}` {text}"), hint);
                None
            }
        }
    }

    /// Complains when a key that must be there is not.
    pub fn require<T>(&self, key: &'static str, value: Option<At<T>>, hint: &str) -> Option<At<T>> {
        if value.is_none() && self.find(key).is_none() && !self.misread {
            self.missing.borrow_mut().push((key, hint.to_string()));
        }
        value
    }

    pub fn text(&self, key: &'static str) -> Option<At<String>> {
        self.read(key, text)
    }

    pub fn boolean(&self, key: &'static str) -> Option<At<bool>> {
        self.read(key, |value| {
            value.as_bool().ok_or_else(|| {
                wrong_type(
                    value,
                    "true or false",
                    "write true or false, without quotes",
                )
            })
        })
    }

    pub fn integer(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<At<u64>> {
        self.read(key, |value| integer(value, &range))
    }

    /// One of the given words; complaints name them all.
    pub fn word(&self, key: &'static str, words: &[&'static str]) -> Option<At<&'static str>> {
        self.read(key, |value| {
            let found = text(value)?;
            words
                .iter()
                .find(|word| **word == found)
                .copied()
                .ok_or_else(|| {
                    let hint = match closest(&found, words.iter().copied()) {
                        Some(near) => {
                            format!("did you mean {near:?}? It is one of {}", words.join(" | "))
                        }
                        None => format!("one of {}", words.join(" | ")),
                    };
                    (format!("is {found:?}"), hint)
                })
        })
    }

    /// `"60s"`, `"500ms"`, `"2m"`; the number 0 needs no unit.
    pub fn duration(&self, key: &'static str) -> Option<At<Duration>> {
        self.read(key, |value| {
            const HINT: &str = "a whole number and its unit: \"500ms\", \"60s\", \"2m\", \"1h\"";
            match value {
                DeValue::Integer(number) if number.as_str() == "0" => Ok(Duration::ZERO),
                DeValue::Integer(number) => {
                    Err((format!("is {number}, without a unit"), HINT.into()))
                }
                other => units::duration(&text(other)?)
                    .map_err(|why| (format!("cannot be read: {why}"), HINT.into())),
            }
        })
    }

    /// `"1 GiB"`, `"64 KiB"`, `"1 GB"`, or a number of bytes; `"unlimited"` is `u64::MAX`.
    pub fn size(&self, key: &'static str) -> Option<At<u64>> {
        self.read(key, |value| {
            const HINT: &str = "a whole number and its unit: \"1 GiB\", \"64 KiB\", \"10 MB\"";
            match value {
                DeValue::Integer(_) => integer(value, &(0..=1 << 50)),
                DeValue::String(word) if word == "unlimited" => Ok(u64::MAX),
                other => units::size(&text(other)?)
                    .map_err(|why| (format!("cannot be read: {why}"), HINT.into())),
            }
        })
    }

    /// A list of texts. A single text stands for a list of one.
    pub fn texts(&self, key: &'static str) -> Option<Vec<At<String>>> {
        let (line, value) = self.find(key)?;
        let items = match value.get_ref() {
            DeValue::String(one) => {
                return Some(vec![At {
                    value: one.to_string(),
                    line,
                }]);
            }
            DeValue::Array(items) => items,
            other => {
                let (text, hint) = wrong_type(other, "a list of texts", "write [\"a\", \"b\"]");
                self.source.error(line, format!("`{key}` {text}"), hint);
                return None;
            }
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            let line = self.source.line(item.span().start);
            match text(item.get_ref()) {
                Ok(value) => texts.push(At { value, line }),
                Err((text, hint)) => {
                    self.source
                        .error(line, format!("an item of `{key}` {text}"), hint);
                }
            }
        }
        Some(texts)
    }

    /// The items of a list as they stand, with their lines; empty when absent. A value that is no list is a list of one.
    pub fn items(&self, key: &'static str) -> Vec<At<&'a DeValue<'a>>> {
        let Some((line, value)) = self.find(key) else {
            return Vec::new();
        };
        match value.get_ref() {
            DeValue::Array(items) => items
                .iter()
                .map(|item| At {
                    value: item.get_ref(),
                    line: self.source.line(item.span().start),
                })
                .collect(),
            other => vec![At { value: other, line }],
        }
    }

    /// A table inside this one; absent tables read as empty.
    pub fn section(&self, key: &'static str) -> Section<'a> {
        let name = if self.name.is_empty() {
            format!("[{key}]")
        } else {
            format!("`{key}`")
        };
        let inner = |line, table| Section::new(self.source, name.clone(), line, table);
        let Some((line, value)) = self.find(key) else {
            return inner(self.line, None);
        };
        match value.get_ref() {
            DeValue::Table(table) => inner(line, Some(table)),
            other => {
                let hint = if matches!(other, DeValue::Array(_)) {
                    format!("[{key}] is one table: single brackets")
                } else {
                    format!("write a table: [{key}], or {key} = {{ … }}")
                };
                self.source.error(
                    line,
                    format!("`{key}` is {}, not a table", a_type(other)),
                    hint,
                );
                let mut section = inner(line, None);
                section.misread = true;
                section
            }
        }
    }

    /// A list of tables (`[[key]]`, or a list of inline tables).
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some((line, value)) = self.find(key) else {
            return Vec::new();
        };
        let hint = format!("a list of tables: each one begins with [[{key}]]");
        let DeValue::Array(items) = value.get_ref() else {
            let text = format!(
                "`{key}` is {}, not a list of tables",
                a_type(value.get_ref())
            );
            self.source.error(line, text, hint);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items.iter() {
            let line = self.source.line(item.span().start);
            match item.get_ref() {
                DeValue::Table(table) => sections.push(self.inner(key, line, table)),
                other => {
                    let text = format!("an item of `{key}` is {}, not a table", a_type(other));
                    self.source.error(line, text, hint.clone());
                }
            }
        }
        sections
    }

    /// A table met as an item of a list.
    pub fn inner(&self, key: &str, line: usize, table: &'a DeTable<'a>) -> Section<'a> {
        Section::new(self.source, format!("[[{key}]]"), line, Some(table))
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let asked = self.asked.take();
        let mut mistyped = Vec::new();
        for (name, value) in self.table.iter().flat_map(|table| table.iter()) {
            let key: &str = name.get_ref();
            if asked.contains(&key) {
                continue;
            }
            let what = match value.get_ref() {
                DeValue::Table(_) => "table",
                _ => "key",
            };
            let place = match self.name.as_str() {
                "" => String::new(),
                name => format!(" in {name}"),
            };
            let near = closest(key, asked.iter().copied());
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", asked.join(", ")),
            };
            mistyped.extend(near);
            let line = self.source.line(name.span().start);
            let text = format!("unknown {what} `{key}`{place}");
            self.source.error(line, text, hint);
        }
        // A key that was most likely mistyped is told once, where it stands.
        for (key, hint) in self.missing.take() {
            if !mistyped.contains(&key) {
                let text = format!("{} needs `{key}`", self.name);
                self.source.error(self.line, text, hint);
            }
        }
    }
}

pub fn text(value: &DeValue<'_>) -> Result<String, Wrong> {
    value
        .as_str()
        .map(str::to_string)
        .ok_or_else(|| wrong_type(value, "text", "write it in double quotes"))
}

pub fn integer(value: &DeValue<'_>, range: &RangeInclusive<u64>) -> Result<u64, Wrong> {
    let bounds = || match (*range.start(), *range.end()) {
        (low, u64::MAX) => format!("a whole number, {low} or more"),
        (low, high) => format!("a whole number from {low} to {high}"),
    };
    let Some(number) = value.as_integer() else {
        return Err(wrong_type(value, "a whole number", &bounds()));
    };
    let parsed = u64::from_str_radix(number.as_str(), number.radix()).ok();
    parsed
        .filter(|n| range.contains(n))
        .ok_or_else(|| (format!("is {number}, which is out of range"), bounds()))
}

pub fn wrong_type(value: &DeValue<'_>, wanted: &str, hint: &str) -> Wrong {
    (
        format!("is {}, not {wanted}", a_type(value)),
        hint.to_string(),
    )
}

fn a_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
