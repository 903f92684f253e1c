//! Numbers with units, and a run as a sentence: the same words on a terminal and on a page.

use super::Run;
use serde_json::Value;

/// What is counted in runs of a kind.
pub struct Kind {
    pub one: &'static str,
    pub many: &'static str,
    /// What a latency is the time of.
    pub latency: &'static str,
}

pub fn kind(run: &Run) -> Kind {
    match run.kind.as_str() {
        "handshakes" => Kind {
            one: "handshake",
            many: "handshakes",
            latency: "from the TCP connect to the established TLS connection",
        },
        "transfer" => Kind {
            one: "transfer",
            many: "transfers",
            latency: "from the request to the last byte of the answer",
        },
        _ => Kind {
            one: "request",
            many: "requests",
            latency: "from the request to the last byte of the answer",
        },
    }
}

/// `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits that tell something: `0.0123`, `1.23`, `12.3`, `1,230`.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => "?".to_owned(),
        0.0 => "0".to_owned(),
        _ if size >= 999.5 => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", count(size.round() as u64))
        }
        _ if size >= 99.95 => format!("{value:.0}"),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if size >= 0.9995 => format!("{value:.2}"),
        _ if size >= 0.000_95 => format!("{value:.3}"),
        _ => format!("{value:.1e}"),
    }
}

/// A round number without the zeros that say nothing there: `50.0 ms` is `50 ms`.
pub fn shortened(text: &str) -> String {
    let (number, unit) = match text.split_once(' ') {
        Some((number, unit)) => (number, format!(" {unit}")),
        None => (text, String::new()),
    };
    let plain = number.contains('.') && !number.contains('e');
    let number = if plain {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    };
    number.to_owned() + &unit
}

/// Microseconds as µs, ms or s.
pub fn micros(us: f64) -> String {
    match us {
        _ if us >= 999_500.0 => format!("{} s", figure(us / 1e6)),
        _ if us >= 999.5 => format!("{} ms", figure(us / 1e3)),
        _ => format!("{us:.0} µs"),
    }
}

/// Bytes by powers of 1000, as networks count.
pub fn bytes(n: f64) -> String {
    match n {
        _ if n >= 999.5e6 => format!("{} GB", figure(n / 1e9)),
        _ if n >= 999.5e3 => format!("{} MB", figure(n / 1e6)),
        _ if n >= 999.5 => format!("{} kB", figure(n / 1e3)),
        _ => format!("{n:.0} B"),
    }
}

/// KiB as MiB or GiB, as memory is counted.
pub fn kibibytes(kib: u64) -> String {
    match kib {
        0..1024 => format!("{kib} KiB"),
        1024..0x10_0000 => format!("{} MiB", figure(kib as f64 / 1024.0)),
        _ => format!("{} GiB", figure(kib as f64 / 1024.0 / 1024.0)),
    }
}

/// A part of a whole in percent.
pub fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 {
        format!("{} %", figure(part / whole * 100.0))
    } else {
        "–".to_owned()
    }
}

/// `1 shard`, `2 shards`.
pub fn plural(n: u64, one: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{} {one}{ending}", count(n))
}

/// The arrival rate that was asked for; none of a closed loop.
pub fn rate(run: &Run) -> Option<f64> {
    let rate = run.intended_rate;
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

/// Arrivals' distances, when there is a rate.
fn arrivals(run: &Run) -> &str {
    match run.scenario.get("arrivals").and_then(Value::as_str) {
        Some("poisson") => " at random moments (Poisson)",
        _ => " at even distances",
    }
}

fn handshake(run: &Run) -> &str {
    match run.scenario.get("resumed").and_then(Value::as_bool) {
        Some(true) => "TLS handshake that resumes a session",
        _ => "full TLS handshake",
    }
}

/// Answers of all kinds and failures: what was begun and came to an end.
pub fn attempts(run: &Run) -> u64 {
    run.requests.saturating_add(failures(run))
}

pub fn failures(run: &Run) -> u64 {
    run.errors.values().fold(0, |sum, n| sum.saturating_add(*n))
}

/// What was run, as one sentence.
pub fn sentence(run: &Run) -> String {
    let kind = kind(run);
    let seconds = shortened(&figure(run.seconds));
    let connections = plural(run.connections as u64, "connection");
    let hosts = match run.agents.len() {
        0 => String::new(),
        n => format!(" from {}", plural(n as u64, "host")),
    };
    match (rate(run), run.kind.as_str()) {
        (Some(rate), _) => format!(
            "{} {} a second{}{hosts} over {connections}, for {seconds} s.",
            shortened(&figure(rate)),
            kind.many,
            arrivals(run),
        ),
        (None, "handshakes") => format!(
            "{connections} at a time{hosts}, each opened with a {} and ended, for {seconds} s.",
            handshake(run)
        ),
        (None, "transfer") => {
            format!(
                "{connections}{hosts}, each carrying one large body after the other, for {seconds} s."
            )
        }
        (None, _) => format!(
            "{connections}{hosts}, each asking again as soon as its answer was complete, for {seconds} s."
        ),
    }
}

/// The scenario as it would stand in a scenario file; as JSON where it cannot be written so.
pub fn scenario(run: &Run) -> String {
    let mut value = run.scenario.clone();
    without_nulls(&mut value);
    match &value {
        Value::Object(fields) if !fields.is_empty() => toml::to_string_pretty(&value)
            .unwrap_or_else(|_| serde_json::to_string_pretty(&value).unwrap_or_default()),
        _ => String::new(),
    }
}

/// A scenario file has no word for nothing: the key is left out.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(without_nulls);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn numbers_are_short_and_have_units() {
        assert_eq!(
            (count(0), count(999), count(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        let figures = [
            0.0, 0.0004, 0.01234, 1.2345, 12.345, 99.96, 999.6, 12_345.6, -1234.0,
        ];
        let texts = [
            "0", "4.0e-4", "0.012", "1.23", "12.3", "100", "1,000", "12,346", "-1,234",
        ];
        assert_eq!(figures.map(figure), texts);
        assert_eq!([f64::NAN, f64::INFINITY].map(figure), ["?", "?"]);
        assert_eq!(
            [12.0, 999.7, 1234.0, 2_500_000.0].map(micros),
            ["12 µs", "1.00 ms", "1.23 ms", "2.50 s"]
        );
        assert_eq!(
            [12.0, 1500.0, 2.5e6, 9e9].map(bytes),
            ["12 B", "1.50 kB", "2.50 MB", "9.00 GB"]
        );
        assert_eq!(
            [12, 1536, 2_097_152].map(kibibytes),
            ["12 KiB", "1.50 MiB", "2.00 GiB"]
        );
        assert_eq!(
            (percent(1.0, 4.0), percent(1.0, 0.0)),
            ("25.0 %".into(), "–".into())
        );
    }

    #[test]
    fn round_numbers_are_short() {
        let texts = ["50.0 ms", "1.50 kB/s", "0", "20,000", "1.0e-3 %"].map(shortened);
        assert_eq!(texts, ["50 ms", "1.5 kB/s", "0", "20,000", "1.0e-3 %"]);
    }

    #[test]
    fn a_run_is_a_sentence() {
        let mut run = testing::run();
        assert!(
            sentence(&run)
                .starts_with("5,000 requests a second at even distances over 64 connections")
        );
        run.intended_rate = 0.0;
        assert!(sentence(&run).contains("asking again"));
        for kind in ["handshakes", "transfer", "another"] {
            run.kind = kind.to_owned();
            assert!(sentence(&run).contains("64 connections"));
        }
    }

    #[test]
    fn a_scenario_is_written_as_its_file() {
        let mut run = testing::run();
        run.scenario["ca"] = Value::Null;
        let read: toml::Value = toml::from_str(&scenario(&run)).unwrap();
        assert_eq!(read["tls"]["ca"].as_str(), Some("ca.pem"));
        run.scenario = Value::Null;
        assert_eq!(scenario(&run), "");
        run.scenario = serde_json::json!({"seed": u64::MAX});
        assert!(scenario(&run).contains(&u64::MAX.to_string()));
    }
}
