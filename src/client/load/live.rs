//! What a terminal shows while a run goes on: one line, once a moment.

use std::io::IsTerminal;
use std::time::Duration;

use super::run::Progress;
use super::scenario::Kind;
use super::scenario::words::span;

/// Writes to standard error, if that is a terminal.
pub struct Live {
    kind: Kind,
    open_loop: bool,
    shown: bool,
    terminal: bool,
}

impl Live {
    pub fn new(kind: Kind, open_loop: bool) -> Live {
        Live {
            kind,
            open_loop,
            shown: false,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    pub fn show(&mut self, progress: &Progress<'_>) {
        if self.terminal {
            eprint!("\r\x1b[K{}", self.line(progress));
            self.shown = true;
        }
    }

    /// Leaves the line empty.
    pub fn end(self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }

    fn line(&self, progress: &Progress<'_>) -> String {
        let moment = progress.moment;
        let whole = (progress.elapsed + progress.left).as_secs_f64().max(1e-3);
        let part = (progress.elapsed.as_secs_f64() / whole).clamp(0.0, 1.0);
        let a_second = |count: u64| count as f64 / moment.seconds.max(1e-3);
        let bytes = moment.body_bytes_received + moment.body_bytes_sent;
        let rate = match self.kind {
            Kind::Transfer => format!("{:.1} MB/s", a_second(bytes) / 1e6),
            _ => format!("{:.0}/s", a_second(moment.requests)),
        };
        let backlog = match self.open_loop {
            true => format!("  waiting {}", moment.backlog),
            false => String::new(),
        };
        format!(
            "[{:<20}] {rate}  p99 {:.2} ms  failed {}{backlog}  {}{} left",
            "#".repeat((part * 20.0) as usize),
            moment.p99_us as f64 / 1e3,
            progress.failed,
            if moment.at < 0.0 {
                "(not measured yet)  "
            } else {
                ""
            },
            span::text(Duration::from_secs(
                progress.left.as_secs_f64().round() as u64
            )),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::result::Moment;

    #[test]
    fn a_line_says_how_it_goes() {
        let moment = Moment {
            at: -1.0,
            seconds: 0.5,
            requests: 500,
            p99_us: 1234,
            backlog: 7,
            ..Moment::default()
        };
        let progress = Progress {
            moment: &moment,
            elapsed: Duration::from_secs(5),
            left: Duration::from_secs(15),
            requests: 5000,
            failed: 3,
        };
        let line = Live::new(Kind::Requests, true).line(&progress);
        assert_eq!(
            line,
            "[#####               ] 1000/s  p99 1.23 ms  failed 3  waiting 7  (not measured yet)  15s left"
        );
    }
}
