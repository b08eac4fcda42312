//! Durations as documents write them: `250ms`, `2s`, `1h30m`.
//!
//! Source: Gateway API GEP-2257 (up to four pairs of at most five digits and one of `h`, `m`, `s`, `ms`), with units
//! in descending order so that each duration has one reading.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A span of time in whole milliseconds, from `0s` to `99999h99999m99999s99999ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration(std::time::Duration);

/// Why a text is not a [`Duration`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write whole numbers with h, m, s or ms, such as 250ms, 2s or 1h30m")]
pub struct DurationError(String);

impl Duration {
    /// From milliseconds.
    pub fn from_millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }

    /// As the standard library's type.
    pub fn get(self) -> std::time::Duration {
        self.0
    }

    /// In milliseconds.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        parse(text)
            .map(Self::from_millis)
            .ok_or_else(|| DurationError(text.chars().take(40).collect()))
    }
}

fn parse(text: &str) -> Option<u64> {
    let (mut rest, mut units, mut millis) = (text, UNITS.as_slice(), 0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) {
            return None;
        }
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let at = units.iter().position(|(name, _)| *name == unit)?;
        millis += number.parse::<u64>().ok()? * units[at].1;
        (rest, units) = (tail, &units[at + 1..]);
    }
    Some(millis)
}

impl TryFrom<String> for Duration {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, DurationError> {
        text.parse()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.as_millis();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS {
            let count = left / size;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                left -= count * size;
            }
        }
        Ok(())
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$",
            "description": "A duration such as 250ms, 2s or 1h30m (Gateway API GEP-2257)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_reading() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("2s", Some(2_000)),
            ("1h30m", Some(5_400_000)),
            ("1m5ms", Some(60_005)),
        ] {
            assert_eq!(
                text.parse::<Duration>().ok().map(Duration::as_millis),
                millis,
                "{text}"
            );
        }
        for bad in [
            "",
            "2",
            "s",
            "2S",
            "1.5s",
            "-1s",
            "30m1h",
            "1s1s",
            "100000s",
            "2 s",
            "1h1m1s1ms1ms",
            "1µs",
        ] {
            assert!(bad.parse::<Duration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for millis in [0, 1, 999, 1_000, 61_001, 3_600_000, 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
