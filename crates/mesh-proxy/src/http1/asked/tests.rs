use super::*;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 300,
    fields: 6,
};

/// What a head comes to when its bytes come in pieces of this length, and what is left behind it.
fn read(bytes: &str, at_once: usize) -> Result<(Option<Asked>, usize), Refused> {
    let mut reader = RequestReader::new(LIMITS);
    let mut buf = BytesMut::new();
    for piece in bytes.as_bytes().chunks(at_once) {
        buf.extend_from_slice(piece);
        if let Some(asked) = reader.read(&mut buf)? {
            return Ok((Some(asked), buf.len()));
        }
    }
    Ok((None, buf.len()))
}

/// The same, however its bytes come.
fn read_anyhow(bytes: &str) -> Result<Option<Asked>, Refused> {
    let whole = read(bytes, bytes.len().max(1));
    for at_once in [1, 2, 3, 7] {
        let pieces = read(bytes, at_once);
        assert_eq!(
            pieces.as_ref().map(|(asked, _)| format!("{asked:?}")),
            whole.as_ref().map(|(asked, _)| format!("{asked:?}")),
            "{bytes:?} in pieces of {at_once}"
        );
    }
    whole.map(|(asked, _)| asked)
}

#[test]
fn a_head_is_read_as_it_is() {
    let bytes = "\r\n\r\nPOST http://web:80/a?b HTTP/1.1\r\nHost: web\r\nX-Tag:  1 \r\nx-tag: 2\r\nX-Empty:\r\n\r\nbody";
    let asked = read_anyhow(bytes).unwrap().unwrap();
    let head = &asked.head;
    assert_eq!(
        (&head.method, head.uri.to_string().as_str(), head.version),
        (&Method::POST, "http://web:80/a?b", Version::HTTP_11)
    );
    let fields: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        fields,
        [("host", "web"), ("x-tag", "1"), ("x-tag", "2"), ("x-empty", "")]
    );
    assert_eq!(read(bytes, bytes.len()).unwrap().1, "body".len());
    for incomplete in [
        "",
        "\r",
        "\r\n",
        "GET",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: web\r\n",
    ] {
        assert!(read_anyhow(incomplete).unwrap().is_none(), "{incomplete:?}");
    }
}

#[test]
fn a_body_is_framed_in_one_way() {
    for (version, fields, expected) in [
        ("1.1", "", Ok(Some(0))),
        ("1.1", "Content-Length: 0\r\n", Ok(Some(0))),
        ("1.1", "Content-Length: 5\r\n", Ok(Some(5))),
        (
            "1.1",
            "Content-Length: 18446744073709551615\r\n",
            Ok(Some(u64::MAX)),
        ),
        ("1.1", "Content-Length: 5\r\nContent-Length: 5\r\n", Ok(Some(5))),
        ("1.0", "Content-Length: 5\r\n", Ok(Some(5))),
        ("1.1", "Transfer-Encoding: chunked\r\n", Ok(None)),
        ("1.1", "Transfer-Encoding: gzip, Chunked\r\n", Ok(None)),
        (
            "1.1",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            Ok(None),
        ),
        (
            "1.1",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Ok(None),
        ),
        (
            "1.1",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            Ok(None),
        ),
        ("1.1", "Content-Length: 5\r\nContent-Length: 6\r\n", Err(())),
        ("1.1", "Content-Length: 5, 5\r\n", Err(())),
        ("1.1", "Content-Length:\r\n", Err(())),
        ("1.1", "Content-Length: +5\r\n", Err(())),
        ("1.1", "Content-Length: 18446744073709551616\r\n", Err(())),
        (
            "1.1",
            "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
            Err(()),
        ),
        ("1.1", "Transfer-Encoding:\r\n", Err(())),
        ("1.1", "Transfer-Encoding: identity\r\n", Err(())),
        ("1.1", "Transfer-Encoding: chunked, gzip\r\n", Err(())),
        (
            "1.1",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
            Err(()),
        ),
        ("1.1", "Transfer-Encoding: \"chunked\"\r\n", Err(())),
        ("1.0", "Transfer-Encoding: chunked\r\n", Err(())),
    ] {
        let asked = read_anyhow(&format!("POST / HTTP/{version}\r\n{fields}\r\n"));
        let framing = asked
            .as_ref()
            .map(|asked| asked.as_ref().unwrap().framing.left())
            .map_err(|refused| assert_eq!(refused.status(), StatusCode::BAD_REQUEST));
        assert_eq!(framing, expected, "{version} {fields:?}");
        let Ok(Some(asked)) = asked else { continue };
        let lengths = asked.head.headers.get_all(CONTENT_LENGTH).iter().count();
        let chunked = asked.framing.left().is_none();
        assert!(
            lengths <= usize::from(!chunked),
            "no length beside chunks: {fields:?}"
        );
        let ambiguous = chunked && fields.contains("Length");
        assert_eq!(asked.manner.keeps, version == "1.1" && !ambiguous, "{fields:?}");
    }
}

#[test]
fn what_a_client_wants_of_its_connection() {
    let plain = Manner {
        keeps: true,
        ..Manner::default()
    };
    for (line, fields, manner, expects, switches) in [
        ("GET / HTTP/1.1", "", plain, false, false),
        (
            "GET / HTTP/1.1",
            "Connection: x, Close\r\n",
            Manner {
                keeps: false,
                ..plain
            },
            false,
            false,
        ),
        (
            "GET / HTTP/1.1",
            "Connection: close\r\nConnection: keep-alive\r\n",
            Manner {
                keeps: false,
                ..plain
            },
            false,
            false,
        ),
        (
            "GET / HTTP/1.0",
            "",
            Manner {
                keeps: false,
                http10: true,
                ..plain
            },
            false,
            false,
        ),
        (
            "GET / HTTP/1.0",
            "Connection: Keep-Alive\r\nUpgrade: websocket\r\n",
            Manner {
                http10: true,
                ..plain
            },
            false,
            false,
        ),
        (
            "HEAD / HTTP/1.1",
            "TE: trailers\r\n",
            Manner {
                to_head: true,
                trailers: true,
                ..plain
            },
            false,
            false,
        ),
        (
            "GET / HTTP/1.1",
            "TE: deflate;q=0.5, Trailers ;q=1\r\n",
            Manner {
                trailers: true,
                ..plain
            },
            false,
            false,
        ),
        (
            "CONNECT web:80 HTTP/1.1",
            "",
            Manner {
                to_connect: true,
                ..plain
            },
            false,
            true,
        ),
        (
            "GET / HTTP/1.1",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
            plain,
            false,
            true,
        ),
        (
            "POST / HTTP/1.1",
            "Content-Length: 5\r\nExpect: 100-Continue\r\n",
            plain,
            true,
            false,
        ),
        ("POST / HTTP/1.1", "Expect: 100-continue\r\n", plain, false, false),
        (
            "POST / HTTP/1.0",
            "Content-Length: 5\r\nExpect: 100-continue\r\n",
            Manner {
                keeps: false,
                http10: true,
                ..plain
            },
            false,
            false,
        ),
        (
            "POST / HTTP/1.1",
            "Content-Length: 5\r\nExpect: something\r\n",
            plain,
            false,
            false,
        ),
    ] {
        let asked = read_anyhow(&format!("{line}\r\n{fields}\r\n")).unwrap().unwrap();
        assert_eq!(
            (asked.manner, asked.expects, asked.switches),
            (manner, expects, switches),
            "{line} {fields:?}"
        );
    }
}

#[test]
fn what_is_no_head_is_refused() {
    let malformed = [
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "G@T / HTTP/1.1\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
        "GET /\u{1} HTTP/1.1\r\n\r\n",
        "GET http://[::1 HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : web\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: web\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nnonsense\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ];
    for bytes in malformed {
        let refused = read_anyhow(bytes).unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{bytes:?}");
    }
    let head = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n");
    let field = |length: usize| format!("x: {}\r\n", "y".repeat(length));
    for (bytes, good) in [
        (head(&"x: y\r\n".repeat(LIMITS.fields)), true),
        (head(&"x: y\r\n".repeat(LIMITS.fields + 1)), false),
        (head(&field(LIMITS.bytes - head(&field(0)).len())), true),
        (head(&field(LIMITS.bytes + 1 - head(&field(0)).len())), false),
        (format!("GET /{}", "y".repeat(LIMITS.bytes)), false),
    ] {
        let found = read(&bytes, bytes.len()).map(|(asked, _)| asked.is_some());
        let expected = if good { Ok(true) } else { Err(Refused::TooLarge) };
        assert_eq!(found, expected, "{bytes}");
    }
    let mut reader = RequestReader::new(HeadLimits {
        bytes: 1 << 20,
        fields: ON_STACK + 1,
    });
    let long = head("").replacen('/', &"/a".repeat(TARGET), 1);
    let mut bytes = BytesMut::from(long.as_bytes());
    assert_eq!(reader.read(&mut bytes).unwrap_err(), Refused::TargetTooLong);
}
