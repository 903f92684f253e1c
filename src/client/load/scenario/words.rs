//! Values of a scenario as people write them: spans of time, paths with numbers in them, source addresses.

use crate::control::config::units;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// Source addresses of a run, in all.
const SOURCES_MAX: usize = 65_536;

/// Durations as text, `"10s"` or `"1500ms"`.
pub mod span {
    use super::{Duration, units};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn text(span: Duration) -> String {
        match span.as_millis() {
            0 => "0s".to_owned(),
            ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
            ms => format!("{ms}ms"),
        }
    }

    pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(*span))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        units::duration(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A pause, drawn evenly from a range: `"100ms"` or `"50ms..150ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Think {
    pub from: Duration,
    pub to: Duration,
}

impl Think {
    /// # Errors
    /// What is wrong with the text.
    pub fn new(text: &str) -> Result<Think, String> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let (from, to) = (units::duration(from)?, units::duration(to)?);
        if from > to {
            return Err(format!("{text:?} ends before it begins"));
        }
        Ok(Think { from, to })
    }
}

impl TryFrom<String> for Think {
    type Error = String;
    fn try_from(text: String) -> Result<Think, String> {
        Think::new(&text)
    }
}

impl From<Think> for String {
    fn from(think: Think) -> String {
        match think.from == think.to {
            true => span::text(think.from),
            false => format!("{}..{}", span::text(think.from), span::text(think.to)),
        }
    }
}

/// A path, with a number from a range in the place of `{1..1000}`. Of `{0001..1000}` all numbers have four digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    before: String,
    numbers: Option<Numbers>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Numbers {
    from: u64,
    to: u64,
    digits: usize,
    after: String,
}

impl Path {
    /// # Errors
    /// It does not begin with `/`, has a character that must be escaped, or a range that is none.
    pub fn new(text: &str) -> Result<Path, String> {
        let path = match text.split_once('{') {
            None => Path {
                before: text.to_owned(),
                numbers: None,
            },
            Some((before, rest)) => {
                let numbers = rest.split_once('}').and_then(|(range, after)| {
                    let (from, to) = range.split_once("..")?;
                    Some(Numbers {
                        from: from.parse().ok()?,
                        to: to.parse().ok()?,
                        digits: if from.starts_with('0') { from.len() } else { 1 },
                        after: after.to_owned(),
                    })
                });
                let numbers = numbers.ok_or_else(|| {
                    format!("{text:?}: braces hold a range of numbers, as in /file/{{1..1000}}")
                })?;
                if numbers.from > numbers.to {
                    return Err(format!("{text:?}: the range ends before it begins"));
                }
                Path {
                    before: before.to_owned(),
                    numbers: Some(numbers),
                }
            }
        };
        let mut one = Vec::new();
        path.write(0, &mut one);
        if !one.starts_with(b"/") {
            return Err(format!("{text:?} does not begin with /"));
        }
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !br#"{}<>"\^`|"#.contains(byte);
        if !one.iter().all(is_plain) {
            return Err(format!(
                "{text:?} has a character that must be escaped (%20 for a space), or a second range"
            ));
        }
        Ok(path)
    }

    /// How many different ones there are.
    pub fn count(&self) -> u64 {
        let numbers = self.numbers.as_ref();
        numbers.map_or(1, |numbers| (numbers.to - numbers.from).saturating_add(1))
    }

    /// Number `which` of them, counted from 0.
    pub fn write(&self, which: u64, to: &mut Vec<u8>) {
        to.extend_from_slice(self.before.as_bytes());
        if let Some(numbers) = &self.numbers {
            let number = numbers.from + which;
            let text = format!("{number:0digits$}", digits = numbers.digits);
            to.extend_from_slice(text.as_bytes());
            to.extend_from_slice(numbers.after.as_bytes());
        }
    }

    /// The one path that it is, when there is no range.
    pub fn fixed(&self) -> Option<&[u8]> {
        match self.numbers {
            None => Some(self.before.as_bytes()),
            Some(_) => None,
        }
    }
}

/// Addresses that connections come from in turn, as they were written: addresses, networks (`127.0.1.0/24`), ranges
/// (`10.0.0.5-10.0.0.20`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sources(pub Vec<String>);

impl Sources {
    /// # Errors
    /// The text that is no address, network or range, or that they are too many.
    pub fn addresses(&self) -> Result<Vec<IpAddr>, String> {
        let mut all = Vec::new();
        for text in &self.0 {
            all.extend(addresses(text)?);
            if all.len() > SOURCES_MAX {
                return Err(format!("{text:?}: over {SOURCES_MAX} source addresses"));
            }
        }
        Ok(all)
    }
}

/// At most one more than are allowed.
fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let wrong =
        || format!("{text:?} is no address, network (10.0.0.0/24) or range (10.0.0.1-10.0.0.9)");
    let read = |part: &str| part.trim().parse::<IpAddr>().map_err(|_| wrong());
    if text.contains('/') {
        let network: IpNet = text.trim().parse().map_err(|_| wrong())?;
        return Ok(network.hosts().take(SOURCES_MAX + 1).collect());
    }
    let Some((from, to)) = text.split_once('-') else {
        return Ok(vec![read(text)?]);
    };
    let (from, to) = (read(from)?, read(to)?);
    let numbers = |from: u128, to: u128| (from..=to).take(SOURCES_MAX + 1);
    let all: Vec<IpAddr> = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => numbers(u32::from(from).into(), u32::from(to).into())
            .map(|n| std::net::Ipv4Addr::from(n as u32).into())
            .collect(),
        (IpAddr::V6(from), IpAddr::V6(to)) => numbers(from.into(), to.into())
            .map(|n| std::net::Ipv6Addr::from(n).into())
            .collect(),
        _ => return Err(wrong()),
    };
    if all.is_empty() {
        return Err(format!("{text:?} ends before it begins"));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_numbers_in_a_range() {
        let path = Path::new("/b/{1..1000}?x=1").unwrap();
        assert_eq!(path.count(), 1000);
        let written = |path: &Path, which| {
            let mut to = Vec::new();
            path.write(which, &mut to);
            String::from_utf8(to).unwrap()
        };
        assert_eq!(written(&path, 0), "/b/1?x=1");
        assert_eq!(written(&path, 999), "/b/1000?x=1");
        assert_eq!(written(&Path::new("/{007..100}").unwrap(), 1), "/008");
        assert_eq!(Path::new("/plain").unwrap().fixed(), Some(&b"/plain"[..]));
        for wrong in [
            "b",
            "/{2..1}",
            "/{a..b}",
            "/{1}",
            "/a b",
            "/{1..2}{3..4}",
            "/{1..2",
            "/é",
        ] {
            assert!(Path::new(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn pauses_are_a_span_or_a_range() {
        let think = Think::new("50ms..1s").unwrap();
        assert_eq!(String::from(think), "50ms..1s");
        assert_eq!(String::from(Think::new("2000ms").unwrap()), "2s");
        assert!(Think::new("2s..1s").is_err());
        assert!(Think::new("2").is_err());
    }

    #[test]
    fn sources_are_addresses_networks_and_ranges() {
        let count = |text: &str| {
            Sources(vec![text.to_owned()])
                .addresses()
                .map(|all| all.len())
        };
        assert_eq!(count("127.0.0.1"), Ok(1));
        assert_eq!(count("127.0.1.0/24"), Ok(254));
        assert_eq!(count("127.0.0.2-127.0.0.9"), Ok(8));
        assert_eq!(count("::1"), Ok(1));
        for wrong in [
            "x",
            "127.0.0.9-127.0.0.2",
            "127.0.0.1-::1",
            "127.0.0.1/33",
            "10.0.0.0/8",
            "fd00::/64",
        ] {
            assert!(count(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
