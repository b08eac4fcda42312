use super::*;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 300,
    fields: 4,
};

/// The head that bytes come to when they come in pieces of this length, what is left of them, and what was not needed.
fn read(bytes: &[u8], piece: usize, to_head: bool) -> Result<Option<(Head, Vec<u8>)>, &'static str> {
    let mut reader = HeadReader::new(LIMITS, to_head);
    let mut buf = BytesMut::new();
    let mut pieces = bytes.chunks(piece);
    while let Some(piece) = pieces.next() {
        buf.extend_from_slice(piece);
        match reader.read(&mut buf) {
            Ok(None) => {}
            Ok(Some(head)) => {
                let mut left = buf.to_vec();
                left.extend(pieces.flatten());
                return Ok(Some((head, left)));
            }
            Err(Broken::Unreadable(why)) => return Err(why),
            Err(other) => panic!("{other}"),
        }
    }
    Ok(None)
}

fn framing(head: &Head) -> &'static str {
    match head.framing {
        Framing::Length(0) => "none",
        Framing::Length(_) => "length",
        Framing::Chunked(_) => "chunked",
        Framing::UntilClose => "close",
    }
}

#[test]
fn heads_say_what_comes_and_whether_the_connection_stays() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let old = "HTTP/1.0 200 OK\r\n";
    for (line, fields, to_head, expected, keeps) in [
        (ok, "content-length: 2\r\n", false, "length", true),
        (ok, "content-length: 0\r\n", false, "none", true),
        (ok, "Content-Length: 2, 2\r\n", false, "length", true),
        (ok, "content-length: 2\r\n", true, "none", true),
        (ok, "transfer-encoding: chunked\r\n", true, "none", true),
        (ok, "Transfer-Encoding: Chunked\r\n", false, "chunked", true),
        (ok, "transfer-encoding: gzip, chunked\r\n", false, "chunked", true),
        (
            ok,
            "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
            false,
            "chunked",
            true,
        ),
        (
            ok,
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            false,
            "chunked",
            false,
        ),
        (ok, "transfer-encoding: chunked, gzip\r\n", false, "close", true),
        (ok, "transfer-encoding: xchunked\r\n", false, "close", true),
        (ok, "", false, "close", true),
        (
            ok,
            "content-length: 2\r\nconnection: close\r\n",
            false,
            "length",
            false,
        ),
        (
            ok,
            "content-length: 2\r\nconnection: x, Close\r\n",
            false,
            "length",
            false,
        ),
        (
            ok,
            "content-length: 2\r\nconnection: close\r\nconnection: keep-alive\r\n",
            false,
            "length",
            false,
        ),
        (old, "content-length: 2\r\n", false, "length", false),
        (
            old,
            "content-length: 2\r\nconnection: Keep-Alive\r\n",
            false,
            "length",
            true,
        ),
        (old, "", false, "close", false),
        (
            "HTTP/1.1 204 No Content\r\n",
            "content-length: 2\r\n",
            false,
            "none",
            true,
        ),
        (
            "HTTP/1.1 304 Not Modified\r\n",
            "content-length: 2\r\n",
            false,
            "none",
            true,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\n",
            "upgrade: x\r\n",
            false,
            "none",
            true,
        ),
        (
            "HTTP/1.1 102 Processing\r\nx: y\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n",
            "content-length: 2\r\n",
            false,
            "length",
            true,
        ),
        (
            "\r\nHTTP/1.1 200 OK\n",
            "content-length: 2\n",
            false,
            "length",
            true,
        ),
        ("HTTP/1.1 200\r\n", "content-length: 2\r\n", false, "length", true),
    ] {
        let bytes = format!("{line}{fields}\r\nok");
        for piece in [1, 2, 5, usize::MAX] {
            let (head, left) = read(bytes.as_bytes(), piece, to_head).unwrap().unwrap();
            assert_eq!(
                (framing(&head), head.keeps),
                (expected, keeps),
                "{bytes:?} in pieces of {piece}"
            );
            assert_eq!(left, b"ok", "{bytes:?} in pieces of {piece}");
            assert!(
                !head.headers.contains_key("x"),
                "{bytes:?}: what an interim answer says"
            );
        }
    }
}

#[test]
fn phrases_and_fields_pass() {
    let bytes = b"HTTP/1.1 200 Quite Fine\r\nX-A: 1\r\nx-a:  two words \r\nx-b: \xe9\r\n\r\n";
    let (head, _) = read(bytes, usize::MAX, false).unwrap().unwrap();
    assert_eq!(head.phrase.unwrap().as_bytes(), b"Quite Fine");
    let fields: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    assert_eq!(
        fields,
        [("x-a", &b"1"[..]), ("x-a", b"two words"), ("x-b", b"\xe9")]
    );
}

#[test]
fn what_is_no_head_is_refused() {
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(300));
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(400));
    for bytes in [
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: y\rset-cookie: z\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: y\0z\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\ne: 5\r\n\r\n",
        &large,
        &endless,
    ] {
        for piece in [1, 7, usize::MAX] {
            assert!(
                read(bytes.as_bytes(), piece, false).is_err(),
                "{bytes:?} in pieces of {piece}"
            );
        }
    }
}

#[test]
fn interim_answers_come_to_an_end() {
    let one = b"HTTP/1.1 102 Processing\r\n\r\n";
    for (count, good) in [(INTERIM, true), (INTERIM + 1, false)] {
        let mut reader = HeadReader::new(LIMITS, false);
        let mut buf = BytesMut::from(&one.repeat(count as usize)[..]);
        assert_eq!(reader.read(&mut buf).is_ok(), good, "{count}");
    }
}
