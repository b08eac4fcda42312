//! Amounts of CPU and memory as Kubernetes writes them: `100m`, `1.5`, `512Mi`, `1e3`.
//!
//! Source: k8s.io/apimachinery, `pkg/api/resource` (a signed decimal, and a binary suffix, a decimal one, or an exponent).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An amount of a resource, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "String")]
#[schemars(with = "String")]
pub struct Quantity(String);

const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Each is a thousand times the one before; the fourth is one.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

impl Quantity {
    /// How much it is, in cores or bytes.
    pub fn amount(&self) -> f64 {
        amount(&self.0).unwrap_or_default()
    }
}

impl FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match amount(text) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(format!(
                "{:?} is not an amount: write a number such as 100m, 0.5, 256Mi or 1Gi",
                text.chars().take(40).collect::<String>()
            )),
        }
    }
}

/// A plain number may stand without quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(serde_json::Number),
    Text(String),
}

impl TryFrom<Written> for Quantity {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => number.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.0
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// None: it is not an amount, or it is less than nothing.
fn amount(text: &str) -> Option<f64> {
    let digits = text
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
        .count();
    let (number, suffix) = text.split_at(digits);
    let figures = number.bytes().filter(u8::is_ascii_digit).count();
    if figures == 0 || figures > 18 || number.matches('.').count() > 1 {
        return None;
    }
    let number: f64 = format!("0{number}0").parse().ok()?;
    // The text may end in its point, or have none: a zero behind it must not count.
    let number = if text[..digits].contains('.') {
        number
    } else {
        number / 10.0
    };
    if let Some(power) = BINARY.iter().position(|it| *it == suffix) {
        return Some(number * 1024_f64.powi(i32::try_from(power).ok()? + 1));
    }
    if let Some(power) = DECIMAL.iter().position(|it| *it == suffix) {
        let power = i32::try_from(power).ok()? - 3;
        // Dividing is exact where multiplying with a fraction is not.
        return Some(match power {
            ..0 => number / 1000_f64.powi(-power),
            _ => number * 1000_f64.powi(power),
        });
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let plain = (1..=2).contains(&unsigned.len()) && unsigned.bytes().all(|byte| byte.is_ascii_digit());
    let exponent: i32 = exponent.parse().ok().filter(|_| plain)?;
    Some(number * 10_f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("0", 0.0),
            ("100m", 0.1),
            ("0.5", 0.5),
            (".5", 0.5),
            ("1.", 1.0),
            ("2", 2.0),
            ("1k", 1e3),
            ("1Ki", 1024.0),
            ("512Mi", 536_870_912.0),
            ("1Gi", 1_073_741_824.0),
            ("1.5G", 1.5e9),
            ("1e3", 1e3),
            ("12E", 12e18),
            ("1E2", 100.0),
            ("250e-3", 0.25),
        ] {
            let quantity: Quantity = text.parse().unwrap();
            assert!((quantity.amount() - expected).abs() <= expected * 1e-12, "{text}");
        }
        for bad in [
            "", "m", ".", "-1", "+1", "1.2.3", "1 Gi", "1gi", "1KB", "1e", "1e+", "1e999", "1mi", "NaN",
            "inf", "0x10",
        ] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
    }
}
