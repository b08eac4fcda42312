use http::{HeaderMap, HeaderName, Response};

use super::*;
use crate::http1::Out;

const PLAIN: Manner = Manner {
    http10: false,
    to_head: false,
    to_connect: false,
    trailers: false,
    keeps: true,
};

/// How an answer is written, how its body is framed, and whether another request may follow.
fn written(
    mut manner: Manner,
    status: u16,
    fields: &[(&'static str, &'static str)],
    over: bool,
    length: Option<u64>,
) -> (String, Encoder, bool) {
    let mut head = Response::builder()
        .status(status)
        .body(())
        .unwrap()
        .into_parts()
        .0;
    for (name, value) in fields {
        let name = HeaderName::from_static(name);
        head.headers.append(name, HeaderValue::from_static(value));
    }
    let mut out = Vec::new();
    let today = HeaderValue::from_static("now");
    let encoder = manner.write(&mut out, &head, Known { over, length }, &today);
    (String::from_utf8(out).unwrap(), encoder, manner.keeps)
}

#[test]
fn a_body_is_framed_by_what_is_known_of_it() {
    let (to_head, http10) = (
        Manner {
            to_head: true,
            ..PLAIN
        },
        Manner {
            http10: true,
            ..PLAIN
        },
    );
    let chunked = || Encoder::Chunked(Vec::new());
    for (manner, status, length, over, exact, said, encoder, keeps) in [
        (
            PLAIN,
            200,
            None,
            true,
            Some(0),
            "content-length: 0\r\n",
            Encoder::Length(0),
            true,
        ),
        (
            PLAIN,
            200,
            None,
            false,
            Some(18_446_744_073_709_551_615),
            "content-length: 18446744073709551615\r\n",
            Encoder::Length(u64::MAX),
            true,
        ),
        (
            PLAIN,
            200,
            Some("5"),
            false,
            None,
            "content-length: 5\r\n",
            Encoder::Length(5),
            true,
        ),
        (
            PLAIN,
            200,
            Some("5"),
            true,
            None,
            "content-length: 0\r\n",
            Encoder::Length(0),
            true,
        ),
        (
            PLAIN,
            200,
            None,
            false,
            None,
            "transfer-encoding: chunked\r\n",
            chunked(),
            true,
        ),
        // A length that is none is not passed on.
        (
            PLAIN,
            200,
            Some("x"),
            false,
            None,
            "transfer-encoding: chunked\r\n",
            chunked(),
            true,
        ),
        (PLAIN, 204, None, true, Some(0), "", Encoder::Length(0), true),
        (PLAIN, 204, Some("5"), false, None, "", Encoder::Length(0), true),
        (PLAIN, 304, Some("5"), true, Some(0), "", Encoder::Length(0), true),
        (PLAIN, 101, None, true, Some(0), "", Encoder::Length(0), true),
        (
            to_head,
            200,
            Some("1000"),
            true,
            Some(0),
            "content-length: 1000\r\n",
            Encoder::Length(0),
            true,
        ),
        (to_head, 200, None, false, None, "", Encoder::Length(0), true),
        (
            Manner {
                to_connect: true,
                ..PLAIN
            },
            200,
            Some("5"),
            true,
            Some(0),
            "",
            Encoder::Length(0),
            true,
        ),
        (
            Manner {
                to_connect: true,
                ..PLAIN
            },
            404,
            None,
            false,
            Some(5),
            "content-length: 5\r\n",
            Encoder::Length(5),
            true,
        ),
        (
            http10,
            200,
            Some("5"),
            false,
            None,
            "content-length: 5\r\n",
            Encoder::Length(5),
            true,
        ),
        (http10, 200, None, false, None, "", Encoder::UntilClose, false),
    ] {
        let fields: Vec<_> = length.iter().map(|length| ("content-length", *length)).collect();
        let name = format!("{manner:?} {status} {fields:?} {over} {exact:?}");
        let (out, framed, kept) = written(manner, status, &fields, over, exact);
        assert_eq!((framed, kept), (encoder, keeps), "{name}");
        let lines = |out: &str| -> String {
            let framing = ["content-length", "transfer-encoding"];
            let of_framing = |line: &&str| framing.iter().any(|name| line.starts_with(name));
            out.split_inclusive("\r\n").filter(of_framing).collect()
        };
        assert_eq!(lines(&out), said, "{name}");
    }
}

#[test]
fn a_head_says_what_it_should() {
    let hop = [
        ("x-tag", "1"),
        ("x-tag", "2"),
        ("transfer-encoding", "gzip"),
        ("date", "then"),
    ];
    for (manner, status, fields, expected) in [
        (
            PLAIN,
            200,
            &[][..],
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: now\r\n\r\n",
        ),
        (
            PLAIN,
            299,
            &[],
            "HTTP/1.1 299 <none>\r\ncontent-length: 0\r\ndate: now\r\n\r\n",
        ),
        (
            PLAIN,
            200,
            &hop,
            "HTTP/1.1 200 OK\r\nx-tag: 1\r\nx-tag: 2\r\ndate: then\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            Manner {
                keeps: false,
                ..PLAIN
            },
            503,
            &[],
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\ndate: now\r\nconnection: close\r\n\r\n",
        ),
        (
            Manner {
                http10: true,
                ..PLAIN
            },
            200,
            &[],
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\ndate: now\r\nconnection: keep-alive\r\n\r\n",
        ),
        (
            Manner {
                http10: true,
                keeps: false,
                ..PLAIN
            },
            200,
            &[],
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\ndate: now\r\n\r\n",
        ),
        (
            Manner {
                keeps: false,
                ..PLAIN
            },
            101,
            &[("connection", "upgrade"), ("upgrade", "echo")],
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\ndate: now\r\n\r\n",
        ),
        // Trailers are announced only where they may come.
        (
            PLAIN,
            200,
            &[("trailer", "x-sum")],
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: now\r\n\r\n",
        ),
    ] {
        assert_eq!(written(manner, status, fields, true, Some(0)).0, expected);
    }
    let mut head = Response::new(()).into_parts().0;
    head.extensions.insert(ReasonPhrase::from_static(b"Quite Fine"));
    let mut out = Vec::new();
    let known = Known {
        over: true,
        length: None,
    };
    PLAIN
        .clone()
        .write(&mut out, &head, known, &HeaderValue::from_static("now"));
    assert!(out.starts_with(b"HTTP/1.1 200 Quite Fine\r\n"));
}

#[test]
fn trailers_come_to_who_reads_them() {
    let declared = [("trailer", "x-sum, host"), ("trailer", "x-other")];
    let mut trailers = HeaderMap::new();
    for (name, value) in [("x-sum", "7"), ("x-unsaid", "8"), ("host", "y")] {
        trailers.append(name, HeaderValue::from_static(value));
    }
    for (reads, expected) in [(true, "0\r\nx-sum: 7\r\n\r\n"), (false, "0\r\n\r\n")] {
        let manner = Manner {
            trailers: reads,
            ..PLAIN
        };
        let (out, mut encoder, _) = written(manner, 200, &declared, false, None);
        assert!(
            out.contains("trailer: x-sum, host\r\ntrailer: x-other\r\n"),
            "{out}"
        );
        let mut end = Out::default();
        encoder.end(Some(&trailers), &mut end).unwrap();
        assert_eq!(end.own(), expected.as_bytes());
    }
}
