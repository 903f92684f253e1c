//! Durations and sizes as people write them.

use std::time::Duration;

/// Longest duration that makes sense in a config; a larger number is a slip of unit.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);
const MAX_SIZE: u64 = 1 << 50;

/// `"60s"`, `"500ms"`, `"2m"`, `"1h"`, `"0"`; the unit may stand apart. Whole numbers only.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let unit_ms: u64 = match unit {
        "" if number == 0 => 1,
        "" => return Err(format!("{text:?} has no unit")),
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        other => return Err(format!("unit {other:?} is not known")),
    };
    let duration = number.checked_mul(unit_ms).map(Duration::from_millis);
    duration
        .filter(|d| *d <= MAX_DURATION)
        .ok_or_else(|| format!("{text:?} is over a week"))
}

/// `"1 GiB"` (1024³), `"1 GB"` (1000³), `"64KiB"`, `"512"` (bytes).
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        other => return Err(format!("unit {other:?} is not known")),
    };
    number
        .checked_mul(factor)
        .filter(|bytes| *bytes <= MAX_SIZE)
        .ok_or_else(|| format!("{text:?} is over 1024 TiB"))
}

fn split(text: &str) -> Result<(u64, &str), String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(format!("{text:?} does not begin with a whole number"));
    }
    let number = number
        .parse()
        .map_err(|_| format!("{text:?} is too large"))?;
    Ok((number, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_or_are_zero() {
        let ms = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(ms("60s"), Ok(60_000));
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("2m"), Ok(120_000));
        assert_eq!(ms(" 1 h "), Ok(3_600_000));
        assert_eq!(ms("0"), Ok(0));
        assert_eq!(ms("0s"), Ok(0));
        for wrong in [
            "",
            "60",
            "s",
            "-1s",
            "1.5s",
            "60 parsecs",
            "99999999999999999999s",
            "8000h",
            "５s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn sizes_tell_binary_from_decimal() {
        assert_eq!(size("1 GiB"), Ok(1 << 30));
        assert_eq!(size("1 GB"), Ok(1_000_000_000));
        assert_eq!(size("64 KiB"), Ok(65_536));
        assert_eq!(size("64kib"), Ok(65_536));
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("0"), Ok(0));
        for wrong in [
            "",
            "GiB",
            "1 G",
            "-1",
            "1.5 GiB",
            "1 XB",
            "18446744073709551616",
            "18014398509481984 KiB",
        ] {
            assert!(size(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
