//! How connections end.

use rustls::AlertDescription;

use super::*;

#[tokio::test]
async fn ends_are_told_apart() {
    let configs = Configs::new();
    for ours in BOTH {
        // A peer that says goodbye, after which this side goes on to send.
        let (mut near, mut far) = bounded(pair(&configs, ours, 4096)).await;
        far.write_all(b"last words").await.unwrap();
        far.shutdown().await.unwrap();
        let mut all = Vec::new();
        bounded(near.read_to_end(&mut all)).await.unwrap();
        assert_eq!(all, b"last words");
        near.write_all(b"still here").await.unwrap();
        near.shutdown().await.unwrap();
        all.clear();
        bounded(far.read_to_end(&mut all)).await.unwrap();
        assert_eq!(all, b"still here");
        assert_eq!(
            near.write(b"more").await.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );

        // This side first.
        let (mut near, mut far) = bounded(pair(&configs, ours, 4096)).await;
        near.shutdown().await.unwrap();
        assert_eq!(bounded(far.read(&mut [0; 9])).await.unwrap(), 0);
        far.write_all(b"an answer").await.unwrap();
        let mut answer = [0; 9];
        bounded(near.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"an answer");

        // A peer that is gone without a word, between two records and in one.
        for cut in [0, 3, 30] {
            let (mut near, mut far) = bounded(pair(&configs, ours, 4096)).await;
            far.write_all(b"before").await.unwrap();
            let raw = match &mut far {
                Peer::Client(far) => far.get_mut().0,
                Peer::Server(far) => far.get_mut().0,
            };
            raw.write_all(&[&[23, 3, 3, 0, 99][..], &[7; 99]].concat()[..cut])
                .await
                .unwrap();
            drop(far);
            let mut before = [0; 6];
            bounded(near.read_exact(&mut before)).await.unwrap();
            for _ in 0..2 {
                let error = bounded(near.read(&mut [0; 9])).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            }
        }
    }
}

#[tokio::test]
async fn a_bad_record_ends_the_connection_and_the_peer_is_told_why() {
    let configs = Configs::new();
    let record = |len: u16, body: usize| [&[23, 3, 3][..], &len.to_be_bytes(), &vec![7; body]].concat();
    for (bad, alert) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), AlertDescription::DecodeError),
        (record(99, 99), AlertDescription::BadRecordMac),
        (record(16_384 + 256, 16_384 + 256), AlertDescription::BadRecordMac),
        (record(16_384 + 257, 0), AlertDescription::RecordOverflow),
        (record(u16::MAX, 0), AlertDescription::RecordOverflow),
        (record(0, 0), AlertDescription::BadRecordMac),
    ] {
        for ours in BOTH {
            let (mut near, mut far) = bounded(pair(&configs, ours, 64 << 10)).await;
            far.write_all(b"good").await.unwrap();
            let raw = match &mut far {
                Peer::Client(far) => far.get_mut().0,
                Peer::Server(far) => far.get_mut().0,
            };
            raw.write_all(&bad).await.unwrap();
            let mut good = [0; 4];
            bounded(near.read_exact(&mut good)).await.unwrap();
            assert_eq!(&good, b"good");
            for _ in 0..2 {
                let error = bounded(near.read(&mut [0; 9])).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{ours:?} {alert:?}");
                assert!(error.get_ref().unwrap().is::<rustls::Error>());
            }
            assert!(near.write(b"more").await.is_err());
            near.shutdown().await.unwrap();
            let error = bounded(far.read(&mut [0; 9])).await.unwrap_err();
            assert!(
                format!("{error:?}").contains(&format!("AlertReceived({alert:?})")),
                "{error:?}"
            );
            holds_nothing(&near);
        }
    }
}
