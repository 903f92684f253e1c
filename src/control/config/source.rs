//! One config file's text, its lines, and what is wrong with it so far.

use super::Complaint;
use crate::control::certificates::pem::read_bounded;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::DeTable;

/// More than this in one file is the same mistake repeated: the rest is counted, not printed.
pub const MAX_COMPLAINTS: usize = 100;
/// No config file of ours comes near it; a mistaken path to a log or a disk image does.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// One config file: its text, where it lies, and what is wrong with it so far.
pub struct Source {
    pub file: PathBuf,
    folder: PathBuf,
    text: String,
    /// Byte offset at which each line begins.
    lines: Vec<usize>,
    complaints: RefCell<Vec<Complaint>>,
}

impl Source {
    /// Reads the file; a file that cannot be read is the one complaint that ends everything.
    pub fn open(file: &Path) -> Result<Self, Complaint> {
        let refuse = |text: String, hint: &str| Complaint {
            file: file.to_path_buf(),
            line: 1,
            text,
            hint: hint.to_string(),
            warning: false,
        };
        let bytes = read_bounded(file, MAX_FILE_BYTES)
            .map_err(|why| refuse(why, "give the path of gateway.toml or connector.toml"))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| refuse("is not UTF-8 text".into(), "save the file as UTF-8"))?;
        Ok(Self::from_text(file, text))
    }

    pub fn from_text(file: &Path, mut text: String) -> Self {
        // Editors of Windows begin a file with a byte order mark.
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let lines = std::iter::once(0)
            .chain(
                text.bytes()
                    .enumerate()
                    .filter(|(_, b)| *b == b'\n')
                    .map(|(i, _)| i + 1),
            )
            .collect();
        let folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
        Self {
            file: file.to_path_buf(),
            folder,
            text,
            lines,
            complaints: RefCell::default(),
        }
    }

    /// A path of the file's, relative to the file's own folder.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Parses the whole text; syntax errors become complaints, and what could be read is returned all the same.
    pub fn parse(&self) -> Spanned<DeTable<'_>> {
        let (table, mut errors) = DeTable::parse_recoverable(&self.text);
        errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
        let mut last = None;
        for error in errors {
            let line = self.line(error.span().unwrap_or(0..0).start);
            // What follows an error on its line or the next is mostly its echo: an open bracket makes every line wrong.
            if last.replace(line).is_some_and(|last| line <= last + 1) {
                continue;
            }
            let text = error.message().lines().collect::<Vec<_>>().join("; ");
            let hint = if text.contains("duplicate key") {
                "a key or table stands once; a list of tables is written [[name]]"
            } else {
                "TOML wants key = value, text in double quotes, tables as [name]"
            };
            self.error(line, text, hint);
        }
        table
    }

    /// 1-based line of a byte offset.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).max(1)
    }

    pub fn error(&self, line: usize, text: impl Into<String>, hint: impl Into<String>) {
        self.add(line, text.into(), hint.into(), false);
    }

    pub fn warn(&self, line: usize, text: impl Into<String>, hint: impl Into<String>) {
        self.add(line, text.into(), hint.into(), true);
    }

    fn add(&self, line: usize, text: String, hint: String, warning: bool) {
        let mut complaints = self.complaints.borrow_mut();
        if complaints.len() < MAX_COMPLAINTS {
            complaints.push(Complaint {
                file: self.file.clone(),
                line,
                text,
                hint,
                warning,
            });
        } else if !warning && !complaints.iter().any(|c| !c.warning) {
            // A flood of warnings must not hide that the file is refused.
            complaints.pop();
            complaints.push(Complaint {
                file: self.file.clone(),
                line,
                text,
                hint,
                warning,
            });
        }
    }

    pub fn has_errors(&self) -> bool {
        self.complaints.borrow().iter().any(|c| !c.warning)
    }

    /// All complaints in the order of their lines.
    pub fn into_complaints(self) -> Vec<Complaint> {
        let mut complaints = self.complaints.into_inner();
        complaints.sort_by_key(|c| c.line);
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_one() {
        let source = Source::from_text(Path::new("f"), "a\nb\n\nc".into());
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 99].map(|o| source.line(o)),
            [1, 1, 2, 2, 3, 4, 4]
        );
    }

    #[test]
    fn an_error_is_kept_behind_a_flood_of_warnings() {
        let source = Source::from_text(Path::new("f"), String::new());
        for _ in 0..500 {
            source.warn(1, "w", "");
        }
        source.error(1, "e", "");
        assert!(source.has_errors());
        assert_eq!(source.into_complaints().len(), MAX_COMPLAINTS);
    }
}
