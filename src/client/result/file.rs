//! Result files: written at a run's end, read by reports and comparisons. An error names the file and says what to do.

use super::{Run, SCHEMA, histogram};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Larger files are refused before they are read: an hour's result is well under 1 MiB.
const LARGEST: u64 = 256 * 1024 * 1024;

/// A result file with the name that it goes by in a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub path: PathBuf,
}

impl Named {
    /// Reads `NAME=FILE`, or `FILE`, whose name without its ending it then goes by. A file whose own name has a `=` in it can
    /// be given as `./a=b.json`: names hold no slash.
    pub fn new(text: &str) -> Named {
        if let Some((name, path)) = text.split_once('=')
            && !name.is_empty()
            && !name.contains('/')
        {
            return Named {
                name: name.to_owned(),
                path: path.into(),
            };
        }
        let path = PathBuf::from(text);
        let stem = path.file_stem().map(|stem| stem.to_string_lossy());
        Named {
            name: stem.map_or_else(|| text.to_owned(), |stem| stem.into_owned()),
            path,
        }
    }

    pub fn read(&self) -> Result<Run, String> {
        read(&self.path)
    }
}

/// Reads a result file; an error begins with the file's name.
pub fn read(path: &Path) -> Result<Run, String> {
    let error = |why: String| format!("{}: {why}", path.display());
    let size = std::fs::metadata(path).map_err(|e| error(e.to_string()))?;
    if size.is_dir() {
        return Err(error("is a folder, no result file".to_owned()));
    }
    if size.len() > LARGEST {
        return Err(error(format!("is {} bytes long, no result", size.len())));
    }
    let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
    parse(&text).map_err(error)
}

/// Reads a result's text.
pub fn parse(text: &str) -> Result<Run, String> {
    const WANTED: &str =
        "a result is what `tidegate load requests|handshakes|transfer … --json FILE` writes";
    let value: Value =
        serde_json::from_str(text).map_err(|e| format!("is not JSON ({e}); {WANTED}"))?;
    let schema = value.get("schema").and_then(Value::as_u64).unwrap_or(0);
    if schema > u64::from(SCHEMA) {
        let by = value.get("version").and_then(Value::as_str).unwrap_or("?");
        return Err(format!(
            "has schema {schema}, and this tidegate ({}) knows up to {SCHEMA}: it was written by tidegate {by}, use that or a \
             newer one",
            env!("CARGO_PKG_VERSION")
        ));
    }
    match value.get("kind").and_then(Value::as_str) {
        Some("requests" | "handshakes" | "transfer") => {}
        Some(kind) => {
            return Err(format!(
                "is a result of kind `{kind}`, of which there is no report; {WANTED}"
            ));
        }
        None => {
            return Err(format!(
                "is JSON, but no result of a load run: it has no `kind`; {WANTED}"
            ));
        }
    }
    let mut run: Run =
        serde_json::from_value(value).map_err(|e| format!("is no result: {e}; {WANTED}"))?;
    histogram::tidy(&mut run.histogram_us);
    histogram::tidy(&mut run.service_histogram_us);
    for member in &mut run.members {
        histogram::tidy(&mut member.histogram_us);
    }
    Ok(run)
}

/// As one writes it into a file.
pub fn to_json(run: &Run) -> String {
    let text = serde_json::to_string_pretty(run).unwrap_or_default();
    compact_pairs(&text) + "\n"
}

/// Writes a file; an error begins with its name.
pub fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// A histogram's pairs on one line each instead of four.
fn compact_pairs(text: &str) -> String {
    let mut compact = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        compact.push_str(line);
        if line.trim_start() == "[" {
            while let Some(next) = lines.next_if(|next| {
                next.trim_start()
                    .starts_with(|c: char| c.is_ascii_digit() || c == ']')
            }) {
                let next = next.trim_start();
                compact.push_str(next);
                if next.starts_with(']') {
                    break;
                }
                if next.ends_with(',') {
                    compact.push(' ');
                }
            }
        }
        compact.push('\n');
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::control::testing::Folder;

    #[test]
    fn what_is_written_is_read() {
        let folder = Folder::new();
        let (run, path) = (testing::run(), folder.file("run.json"));
        write(&path, &to_json(&run)).unwrap();
        assert_eq!(read(&path).unwrap(), run);
        let text = to_json(&run);
        let first = run.histogram_us[0];
        assert!(
            text.contains(&format!("[{}, {}]", first.0, first.1)),
            "{text}"
        );
    }

    #[test]
    fn names_come_before_files() {
        let named = |text| {
            let Named { name, path } = Named::new(text);
            (name, path.display().to_string())
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(named("nginx=/tmp/a=b.json"), pair("nginx", "/tmp/a=b.json"));
        assert_eq!(named("/tmp/run 1.json"), pair("run 1", "/tmp/run 1.json"));
        assert_eq!(named("./a=b.json"), pair("a=b", "./a=b.json"));
        assert_eq!(named("=x.json"), pair("=x", "=x.json"));
    }

    #[test]
    fn what_is_no_result_is_told() {
        let folder = Folder::new();
        let told = |text: &str| read(&folder.write("x.json", text)).unwrap_err();
        assert!(told("hello").contains("is not JSON"));
        assert!(told("{}").contains("no `kind`"));
        assert!(told("[1]").contains("no `kind`"));
        assert!(told(r#"{"kind": "channels"}"#).contains("kind `channels`"));
        assert!(told(r#"{"kind": "requests", "requests": "many"}"#).contains("is no result"));
        let newer = told(r#"{"kind": "requests", "schema": 99, "version": "9.1"}"#);
        assert!(
            newer.contains("schema 99") && newer.contains("tidegate 9.1"),
            "{newer}"
        );
        assert!(
            read(&folder.file("none.json"))
                .unwrap_err()
                .contains("No such file")
        );
        assert!(read(folder.path()).unwrap_err().contains("is a folder"));
        // Results of before there were schemas are read.
        let old = r#"{"kind": "requests", "requests": 3, "later": {"a": 1}}"#;
        assert_eq!(read(&folder.write("old.json", old)).unwrap().requests, 3);
    }
}
