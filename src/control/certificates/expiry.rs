//! The end of certificates: told long before.

use super::facts::Facts;
use super::pem;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Days before the end at which a warning is due.
pub const WARNING_DAYS: [i64; 4] = [30, 14, 7, 1];
const DAY: i64 = 86_400;

/// One certificate's end, for the metric `tidegate_certificate_expiry_seconds` and for warnings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    pub file: PathBuf,
    pub subject: String,
    /// Unix seconds.
    pub not_before: i64,
    pub not_after: i64,
}

impl Expiry {
    /// Of each certificate in a file.
    pub fn of_file(file: &Path) -> Result<Vec<Self>, pem::Wrong> {
        let mut ends = Vec::new();
        for certificate in pem::certificates(file)? {
            let facts = Facts::of(&certificate).map_err(|why| {
                pem::Wrong::new(
                    format!("{}: {why}", file.display()),
                    "the certificate is damaged",
                )
            })?;
            ends.push(Self::of_facts(file, &facts));
        }
        Ok(ends)
    }

    pub fn of_facts(file: &Path, facts: &Facts) -> Self {
        Self {
            file: file.to_path_buf(),
            subject: facts.subject.clone(),
            not_before: facts.not_before,
            not_after: facts.not_after,
        }
    }

    /// The narrowest of [`WARNING_DAYS`] that the rest of its life fits in; 0 once it is over. A caller that checks
    /// now and then logs when this value falls.
    pub fn threshold(&self, unix_now: i64) -> Option<i64> {
        let left = self.not_after - unix_now;
        if left < 0 {
            return Some(0);
        }
        WARNING_DAYS
            .iter()
            .rev()
            .copied()
            .find(|days| left <= days * DAY)
    }

    /// One line for people; `None` while there is nothing to say.
    pub fn warning(&self, unix_now: i64) -> Option<String> {
        let name = format!("{} ({})", self.file.display(), self.subject);
        if self.not_before > unix_now {
            let days = (self.not_before - unix_now) / DAY + 1;
            return Some(format!(
                "{name} is not valid yet, for {days} more days at most"
            ));
        }
        match self.threshold(unix_now)? {
            0 => Some(format!(
                "{name} expired {} days ago",
                (unix_now - self.not_after) / DAY
            )),
            _ => Some(format!(
                "{name} expires in {} days",
                (self.not_after - unix_now) / DAY
            )),
        }
    }
}

/// Tells of each threshold once: a caller looks every hour or so, and logs what [`due`](Self::due) gives.
#[derive(Debug, Default)]
pub struct Watch {
    /// By file, subject and end (a renewed certificate is another one): the threshold last told.
    told: HashMap<(PathBuf, String, i64), i64>,
}

impl Watch {
    /// Warnings that have become due since the last call.
    pub fn due(&mut self, ends: &[Expiry], unix_now: i64) -> Vec<String> {
        let key = |end: &Expiry| (end.file.clone(), end.subject.clone(), end.not_after);
        let current: HashSet<_> = ends.iter().map(key).collect();
        // What is no longer in use is forgotten, so that the map is no larger than the list.
        self.told.retain(|key, _| current.contains(key));
        let mut warnings = Vec::new();
        for end in ends {
            let Some(threshold) = end.threshold(unix_now) else {
                continue;
            };
            if self.told.insert(key(end), threshold) != Some(threshold) {
                warnings.extend(end.warning(unix_now));
            }
        }
        warnings
    }
}

/// Seconds since 1970 by the system's clock.
pub fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_told_once_and_a_renewed_certificate_anew() {
        let end = |days: i64| Expiry {
            file: "c.pem".into(),
            subject: "CN=x".into(),
            not_before: 0,
            not_after: days * DAY,
        };
        let mut watch = Watch::default();
        let told: Vec<i64> = (0..110)
            .filter(|day| !watch.due(&[end(100)], day * DAY).is_empty())
            .collect();
        assert_eq!(told, [70, 86, 93, 99, 101]);
        assert_eq!(watch.due(&[end(110)], 109 * DAY).len(), 1);
        assert_eq!(watch.told.len(), 1);
    }

    #[test]
    fn warnings_begin_thirty_days_before() {
        let end = Expiry {
            file: "c.pem".into(),
            subject: "CN=x".into(),
            not_before: 0,
            not_after: 100 * DAY,
        };
        assert_eq!(end.threshold(69 * DAY), None);
        assert_eq!(end.threshold(70 * DAY), Some(30));
        assert_eq!(end.threshold(86 * DAY), Some(14));
        assert_eq!(end.threshold(93 * DAY), Some(7));
        assert_eq!(end.threshold(99 * DAY), Some(1));
        assert_eq!(end.threshold(100 * DAY), Some(1));
        assert_eq!(end.threshold(100 * DAY + 1), Some(0));
        assert_eq!(end.warning(69 * DAY), None);
        assert!(
            end.warning(80 * DAY)
                .unwrap()
                .contains("expires in 20 days")
        );
        assert!(
            end.warning(103 * DAY)
                .unwrap()
                .contains("expired 3 days ago")
        );
        assert!(end.warning(-DAY).unwrap().contains("not valid yet"));
    }
}
