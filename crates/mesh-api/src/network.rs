//! Ports and networks as flags, annotations and settings write them: `8080`, `9000-9010`, `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A port, or ports one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl Ports {
    /// One port.
    pub const fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a port from 1 to 65535, or two of them such as 8000-8010");
        let port = |text: &str| {
            plain_number::<u16>(text)
                .filter(|port| *port > 0)
                .ok_or_else(wrong)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if first <= last {
            Ok(Self { first, last })
        } else {
            Err(wrong())
        }
    }
}

/// A network: an address and how many of its bits all its addresses share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Cidr {
    /// The network's first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a network such as 10.0.0.0/8 or fd00::/8, or an address");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(plain_number(bits).ok_or_else(wrong)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(wrong());
        }
        let network = masked(address, bits);
        if network != address {
            return Err(format!(
                "{text:?} has bits beyond its length set: write {network}/{bits}"
            ));
        }
        Ok(Self { address, bits })
    }
}

/// The address with all bits cleared but the first ones.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

/// Digits only: no sign, which numbers of Rust may have.
fn plain_number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A single port may stand without quotes.
impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Ports {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": "^[0-9]{1,5}(-[0-9]{1,5})?$",
            "minimum": 1,
            "maximum": 65535,
        })
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Cidr {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cidr".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 43})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_no_ports_or_networks_are_refused() {
        for ports in [
            "", "0", "-1", "+1", "65536", "1-", "-", "2-1", "1-2-3", "http", "1,2", " 1",
        ] {
            assert!(ports.parse::<Ports>().is_err(), "{ports:?}");
        }
        for cidr in [
            "",
            "10",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::/129",
            "fd00::1/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "a.b",
            "10.0.0.0/8 ",
            "::1%lo",
        ] {
            assert!(cidr.parse::<Cidr>().is_err(), "{cidr:?}");
        }
        let hint = "10.0.0.1/8".parse::<Cidr>().unwrap_err();
        assert!(hint.contains("10.0.0.0/8"), "{hint}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for ports in ["1", "65535", "9000-9010"] {
            assert_eq!(ports.parse::<Ports>().unwrap().to_string(), ports);
        }
        for (given, written) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("fd00::/8", "fd00::/8"),
        ] {
            assert_eq!(given.parse::<Cidr>().unwrap().to_string(), written);
        }
        let ports: Vec<Ports> = serde_json::from_str(r#"[22, "9000-9010"]"#).unwrap();
        assert_eq!(serde_json::to_string(&ports).unwrap(), r#"["22","9000-9010"]"#);
        assert!(serde_json::from_str::<Ports>("0").is_err());
        assert!(serde_json::from_str::<Ports>("-1").is_err());
        assert!(serde_json::from_str::<Ports>("65536").is_err());
    }
}
