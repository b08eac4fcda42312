//! Trace context: W3C `traceparent` read and written, and the decision which requests become spans.
//!
//! Parent-based: a caller's decision is kept; without one, a percentage is sampled. B3 headers are passed on as they
//! are: a request that has them and no `traceparent` belongs to somebody else's trace, and is left alone.
//! Source: W3C Trace Context, level 1, §3.2.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries trace and parent.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");

/// A position in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace; never 0.
    pub trace: u128,
    /// The span; never 0.
    pub span: u64,
    /// Whether spans of it are recorded.
    pub sampled: bool,
}

/// The span of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it is.
    pub context: Context,
    /// The caller's span; none: the trace begins here.
    pub parent: Option<u64>,
}

impl Context {
    /// Reads a `traceparent`. Whatever is not exactly of the specification's form is as if it was not there.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (version, rest) = (value.get(..2)?, value.get(2..)?);
        let version = u8::try_from(hex(version)?).ok()?;
        let fields = rest.get(..53)?;
        let more = &rest[53..];
        // Version 00 ends here; later ones may go on after a dash, and ff is none.
        if version == 0xff || (version == 0 && !more.is_empty()) || !(more.is_empty() || more[0] == b'-') {
            return None;
        }
        if fields[0] != b'-' || fields[33] != b'-' || fields[50] != b'-' {
            return None;
        }
        let trace = hex(&fields[1..33])?;
        let span = u64::try_from(hex(&fields[34..50])?).ok()?;
        let flags = hex(&fields[51..53])?;
        (trace != 0 && span != 0).then_some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }

    /// The only well-formed `traceparent` of a request; two are as good as none.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(only), None) => Self::parse(only.as_bytes()),
            _ => None,
        }
    }

    /// As a header.
    pub fn header(&self) -> Option<HeaderValue> {
        let text = format!(
            "00-{:032x}-{:016x}-{:02x}",
            self.trace,
            self.span,
            u8::from(self.sampled)
        );
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
    }
}

impl Span {
    /// Begins the span of a request: continues its caller's trace, or begins one that is sampled when `roll` (0 to
    /// below 100, drawn by the caller) is below `percent`. None: the request is traced by other means.
    pub fn begin(headers: &HeaderMap, percent: f64, mut random: impl FnMut() -> u64) -> Option<Self> {
        let mut nonzero = || random().max(1);
        if let Some(parent) = Context::of(headers) {
            return Some(Self {
                context: Context {
                    span: nonzero(),
                    ..parent
                },
                parent: Some(parent.span),
            });
        }
        if headers.contains_key(B3) || headers.contains_key(B3_TRACE) {
            return None;
        }
        let trace = u128::from(nonzero()) << 64 | u128::from(nonzero());
        let roll = super::random::percentage(nonzero());
        let context = Context {
            trace,
            span: nonzero(),
            sampled: roll < percent,
        };
        Some(Self {
            context,
            parent: None,
        })
    }
}

/// A number in lower-case hexadecimal digits, at most 32 of them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn traceparents_are_read_exactly() {
        let context = Context::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(context.header().unwrap(), GOOD);
        assert!(context.sampled);
        let later = format!("cc{}-what-comes", &GOOD[2..]);
        assert_eq!(Context::parse(later.as_bytes()), Some(context));
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-\u{e9}",
        ] {
            assert_eq!(Context::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_caller_s_decision_is_kept_and_its_absence_is_rolled() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(GOOD));
        let span = Span::begin(&headers, 0.0, || 7).unwrap();
        assert_eq!(span.parent, Some(0xb7ad_6b71_6920_3331));
        assert_eq!((span.context.span, span.context.sampled), (7, true));

        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(
            !Span::begin(&headers, 0.0, || 7).unwrap().context.sampled,
            "two parents are none"
        );

        let empty = HeaderMap::new();
        assert!(Span::begin(&empty, 100.0, || u64::MAX).unwrap().context.sampled);
        assert!(!Span::begin(&empty, 0.0, || 0).unwrap().context.sampled);

        let mut b3 = HeaderMap::new();
        b3.insert(B3, HeaderValue::from_static("0"));
        assert_eq!(Span::begin(&b3, 100.0, || 7), None);
    }
}
