//! The head of an answer in HTTP/2: without what belongs to a connection, with a date, and with the length of a body that
//! is known.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CONTENT_LENGTH, DATE, TE};
use http::{HeaderMap, HeaderValue};

use crate::headers;

/// Makes the headers of an answer fit for HTTP/2 (RFC 9113, §8.2.2), and adds what is not there: the date (RFC 9110,
/// §6.6.1) and the `length` of its body in bytes, if that is known.
pub(super) fn complete(headers: &mut HeaderMap, length: Option<u64>) {
    headers::strip_hop(headers);
    // One look at each name costs less than looking three names up.
    let (mut accepts, mut dated, mut sized) = (false, false, false);
    for name in headers.keys() {
        accepts |= name == TE;
        dated |= name == DATE;
        sized |= name == CONTENT_LENGTH;
    }
    if accepts {
        headers.remove(TE);
    }
    if !dated {
        headers.insert(DATE, today());
    }
    if let Some(length) = length.filter(|_| !sized) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// What time it is, to the second.
struct Today {
    value: HeaderValue,
    /// When it is no longer true.
    until: SystemTime,
}

thread_local! {
    static TODAY: RefCell<Today> = RefCell::new(Today::at(SystemTime::now()));
}

impl Today {
    fn at(now: SystemTime) -> Self {
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let date = httpdate::fmt_http_date(now);
        Self {
            value: HeaderValue::from_str(&date).unwrap_or_else(|_| HeaderValue::from_static("")),
            until: UNIX_EPOCH + Duration::from_secs(second + 1),
        }
    }
}

/// The date, written once a second.
pub(super) fn today() -> HeaderValue {
    let now = SystemTime::now();
    TODAY.with_borrow_mut(|today| {
        // A clock that was set back is believed.
        let left = today.until.duration_since(now).unwrap_or_default();
        if left.is_zero() || left > Duration::from_secs(1) {
            *today = Today::at(now);
        }
        today.value.clone()
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn an_answer_says_what_http2_may_say() {
        for (fields, length, expected) in [
            (&[][..], None, &["date"][..]),
            (&[], Some(5), &["content-length", "date"]),
            (
                &[("date", "then"), ("content-length", "7")],
                Some(5),
                &["content-length", "date"],
            ),
            (
                &[
                    ("connection", "upgrade, x-hop"),
                    ("x-hop", "1"),
                    ("upgrade", "h2c"),
                    ("keep-alive", "1"),
                    ("proxy-connection", "keep-alive"),
                    ("te", "trailers"),
                    ("x-tag", "1"),
                ],
                None,
                &["date", "x-tag"],
            ),
            (
                &[("transfer-encoding", "chunked"), ("content-length", "7")],
                None,
                &["date"],
            ),
        ] {
            let mut headers: HeaderMap = fields
                .iter()
                .map(|(name, value)| {
                    let name = HeaderName::from_static(name);
                    (name, HeaderValue::from_static(value))
                })
                .collect();
            let before = headers.clone();
            complete(&mut headers, length);
            let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, expected, "{fields:?}");
            for (name, value) in before.iter().filter(|(name, _)| headers.contains_key(*name)) {
                assert_eq!(headers[name], value, "what there is stays");
            }
        }
    }

    #[test]
    fn a_date_is_true_until_the_second_is_over() {
        let at = |seconds, nanos| Today::at(UNIX_EPOCH + Duration::new(seconds, nanos));
        let day = at(784_111_777, 999_999_999);
        assert_eq!(day.value, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(day.until, UNIX_EPOCH + Duration::from_secs(784_111_778));
        assert_eq!(at(784_111_778, 0).value, "Sun, 06 Nov 1994 08:49:38 GMT");
        let now = httpdate::parse_http_date(today().to_str().unwrap()).unwrap();
        assert!(SystemTime::now().duration_since(now).unwrap() < Duration::from_secs(10));
    }
}
