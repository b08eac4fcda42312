//! What passes, whole and in order, and who waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::*;

#[tokio::test]
async fn bytes_pass_both_ways_in_pieces_of_any_size() {
    let configs = Configs::new();
    for ours in BOTH {
        for (seed, few, most) in [
            (1, usize::MAX, 100_000),
            (2, 999, 20_000),
            (3, 20_000, 30),
            (4, 1, 700),
            (5, 5_000, 40_000),
        ] {
            let len = if few == 1 { 20_000 } else { 400_000 };
            let all = bytes(len);
            let (near, far) = duplex(64 << 10);
            let (near, far) = bounded(shake(&configs, ours, Trickle::new(near, few), far)).await;
            let (near, far) = (near.unwrap(), far.unwrap());
            let (mut near_reads, mut near_writes) = tokio::io::split(near);
            let (mut far_reads, mut far_writes) = tokio::io::split(far);
            let ((), (), here, there) = bounded(async {
                tokio::join!(
                    send(&mut near_writes, &all, sizes(seed, most)),
                    send(&mut far_writes, &all, sizes(seed + 10, most)),
                    receive(&mut near_reads, len, sizes(seed + 20, most)),
                    receive(&mut far_reads, len, sizes(seed + 30, most)),
                )
            })
            .await;
            assert!(here == all && there == all, "{ours:?}, seed {seed}");
            holds_nothing(&near_reads.unsplit(near_writes));
        }
    }
}

#[tokio::test]
async fn new_keys_are_taken_over_and_answered() {
    let configs = Configs::new();
    for ours in BOTH {
        let (mut near, mut far) = bounded(pair(&configs, ours, 64 << 10)).await;
        for round in 0..5_u8 {
            match &mut far {
                Peer::Client(far) => far.get_mut().1.refresh_traffic_keys().unwrap(),
                Peer::Server(far) => far.get_mut().1.refresh_traffic_keys().unwrap(),
            }
            far.write_all(&[round; 100]).await.unwrap();
            let mut here = [0; 100];
            bounded(near.read_exact(&mut here)).await.unwrap();
            assert_eq!(here, [round; 100]);
            // A full write, and the answer before it.
            let all = bytes(FULL);
            let ((), there) = bounded(async {
                tokio::join!(
                    send(&mut near, &all, || 2 * FULL),
                    receive(&mut far, FULL, || 10_000)
                )
            })
            .await;
            assert_eq!(there, bytes(FULL));
        }
    }
}

#[tokio::test]
async fn messages_in_many_parts_do_not_keep_anybody_from_writing() {
    let mut configs = Configs::new();
    let mut server = ServerConfig::clone(&configs.server);
    server.max_fragment_size = Some(64);
    configs.server = Arc::new(server);
    for bytes in [1, 7, 200] {
        let (near, far) = duplex(64 << 10);
        let near = Trickle::new(near, bytes);
        let (near, far) = bounded(shake(&configs, Ours::Client, near, far)).await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        far.write_all(b"after the tickets").await.unwrap();
        let mut said = Vec::new();
        bounded(async {
            while said.is_empty() {
                // One read of the socket, and a write.
                poll_fn(|cx| {
                    let mut room = [0; 100];
                    let mut read = ReadBuf::new(&mut room);
                    let _ = near.poll_receive(cx, &mut read)?;
                    said.extend_from_slice(read.filled());
                    Poll::Ready(io::Result::Ok(()))
                })
                .await
                .unwrap();
                near.write_all(b"!").await.unwrap();
                near.flush().await.unwrap();
                bounded(far.read_exact(&mut [0])).await.unwrap();
            }
        })
        .await;
        assert_eq!(said, b"after the tickets");
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn who_waits_to_read_and_who_waits_to_write_are_woken_each() {
    let configs = Configs::new();
    let (mut near, mut far) = bounded(pair(&configs, Ours::Client, 40_000)).await;
    let (reader, writer) = (Arc::new(Counted::default()), Arc::new(Counted::default()));
    let (reads, writes) = (Waker::from(Arc::clone(&reader)), Waker::from(Arc::clone(&writer)));
    let (mut reads, mut writes) = (Context::from_waker(&reads), Context::from_waker(&writes));
    // The tickets first.
    let mut room = [0; 100];
    let mut buf = ReadBuf::new(&mut room);
    assert!(Pin::new(&mut near).poll_read(&mut reads, &mut buf).is_pending());
    let mut written = 0;
    while let Poll::Ready(sent) = Pin::new(&mut near).poll_write(&mut writes, &bytes(10_000)) {
        written += sent.unwrap();
    }
    assert_eq!(written, 40_000, "one write is kept, no more");
    assert!(Pin::new(&mut near).poll_read(&mut reads, &mut buf).is_pending());
    let (reader_before, writer_before) = (reader.0.load(Ordering::Relaxed), writer.0.load(Ordering::Relaxed));

    far.read_exact(&mut [0; 1]).await.unwrap();
    assert!(writer.0.load(Ordering::Relaxed) > writer_before);
    assert_eq!(reader.0.load(Ordering::Relaxed), reader_before);
    let writer_before = writer.0.load(Ordering::Relaxed);
    far.write_all(b"answer").await.unwrap();
    assert!(reader.0.load(Ordering::Relaxed) > reader_before);
    assert_eq!(writer.0.load(Ordering::Relaxed), writer_before);

    // What was kept is sent, and nothing is lost or told twice.
    let (flushed, rest) =
        bounded(async { tokio::join!(near.flush(), receive(&mut far, written - 1, || 5_000)) }).await;
    flushed.unwrap();
    let expected: Vec<u8> = bytes(10_000).repeat(written / 10_000);
    assert!(rest == expected[1..]);
}
