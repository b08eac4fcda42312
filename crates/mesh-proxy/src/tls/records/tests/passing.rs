//! What passes, whole and in order, however it is cut.

use proptest::prelude::*;

use super::*;

/// Plaintext at the edges of one record, of several, and of what is made at once.
const SIZES: [usize; 14] = [
    1, 2, 100, 16_383, 16_384, 16_385, 32_767, 32_768, 32_769, 49_153, 65_535, 65_536, 65_537, 200_000,
];

#[test]
fn data_of_any_size_passes_both_ways() {
    let configs = Configs::new();
    for ours in BOTH {
        let (mut near, mut far) = configs.pair(ours);
        for size in SIZES {
            let all = bytes(size);
            let records = near.say(&all);
            let full = size / 16_384;
            let rest = size % 16_384;
            let mut expected = vec![16_384 + 17; full];
            expected.extend((rest > 0).then_some(rest + 17));
            assert_eq!(lengths(&records), expected, "{size}");
            assert!(read(&mut far, &records).unwrap() == all, "{ours:?} {size}");

            near.hear(&write(&mut far, &all));
            assert!(std::mem::take(&mut near.plain) == all, "{ours:?} {size}");
            assert!(near.held.is_empty() && near.outgoing.is_empty());
            assert_eq!(near.end(), "open");
        }
    }
}

#[test]
fn slices_make_one_record_together() {
    let configs = Configs::new();
    let (mut near, mut far) = configs.pair(Ours::Client);
    let all = bytes(100_000);
    for cuts in [
        &[0][..],
        &[1],
        &[5, 5, 9],
        &[16_384],
        &[3, 16_385, 40_000, 65_537],
    ] {
        let mut slices = Vec::new();
        let mut begin = 0;
        for cut in cuts.iter().copied().chain([all.len()]) {
            slices.push(&all[begin..cut]);
            begin = cut;
        }
        let mut left = OutboundChunks::new(&slices);
        let mut records = Vec::new();
        while !left.is_empty() {
            records.extend(near.records.seal(&left).unwrap().concat());
            left = left.split_at(AT_ONCE * frame::PLAIN).1;
        }
        assert_eq!(lengths(&records).len(), 7);
        assert!(read(&mut far, &records).unwrap() == all);
    }
}

#[test]
fn bytes_may_come_one_by_one() {
    let configs = Configs::new();
    for ours in BOTH {
        let (mut near, mut far) = configs.pair(ours);
        let mut records = Vec::new();
        for size in [1, 700, 3] {
            records.extend(write(&mut far, &bytes(size)));
        }
        far.send_close_notify();
        records.extend(written(&mut far));
        for byte in records {
            assert_eq!(near.end(), "open");
            near.hear(&[byte]);
        }
        assert_eq!(near.plain, [bytes(1), bytes(700), bytes(3)].concat());
        assert_eq!(near.end(), "Closed");
    }
}

#[test]
fn padding_is_taken_off() {
    let configs = Configs::new();
    for ours in BOTH {
        let (mut near, mut far) = configs.raw(ours);
        for padding in [0, 1, 255, 16_000] {
            // Content, its kind, zeros: the last byte is the one that is given for the kind.
            let inner = [&b"padded"[..], &[23], &vec![0; padding]].concat();
            near.hear(&far.seal(ContentType::Unknown(0), &inner));
            assert_eq!(std::mem::take(&mut near.plain), b"padded", "{padding}");
        }
        assert_eq!(near.end(), "open");
    }
}

#[test]
fn the_end_is_told_and_nothing_behind_it() {
    let configs = Configs::new();
    for ours in BOTH {
        let (mut near, mut far) = configs.pair(ours);
        let mut last = write(&mut far, b"last words");
        far.send_close_notify();
        last.extend(written(&mut far));
        last.extend(b"GET / HTTP/1.1\r\n");
        near.hear(&last);
        near.hear(b"more of it");
        assert_eq!(
            (near.plain.as_slice(), near.end()),
            (&b"last words"[..], "Closed".into())
        );
        assert!(near.outgoing.is_empty() && near.held.is_empty());
        // This side goes on, until it has said the same, once.
        assert_eq!(read(&mut far, &near.say(b"still here")).unwrap(), b"still here");
        for _ in 0..2 {
            near.records.say_goodbye(&mut near.outgoing).unwrap();
        }
        let goodbye = left(&mut near.outgoing);
        assert_eq!(lengths(&goodbye), [2 + 17]);
        far.read_tls(&mut goodbye.as_slice()).unwrap();
        assert!(far.process_new_packets().unwrap().peer_has_closed());

        let (mut near, _) = configs.pair(ours);
        near.hear(&[23, 3, 3]);
        near.records.receive_end();
        assert_eq!(near.end(), "CutOff");
    }
}

#[test]
fn what_comes_with_the_end_of_the_handshake_is_not_lost() {
    let configs = Configs::new();
    // A client's first words along with the end of its handshake: rustls never sees them.
    let mut far: Connection = ClientConnection::new(Arc::clone(&configs.client), name())
        .unwrap()
        .into();
    let (mut near, mut held) = (configs.handshake(Ours::Server), Vec::new());
    let heard = step(&mut near, &mut held, &written(&mut far));
    read(&mut far, &heard).unwrap();
    let mut last = written(&mut far);
    for round in 0..3 {
        last.extend(write(&mut far, &[round; 100]));
        far.refresh_traffic_keys().unwrap();
    }
    last.extend(write(&mut far, &bytes(20_000)));
    let said = step(&mut near, &mut held, &last);
    assert!(near.is_over() && held.len() > 20_000);
    let mut near = Near::new(near, &held);
    let expected = [vec![0; 100], vec![1; 100], vec![2; 100], bytes(20_000)].concat();
    assert!(near.plain == expected);
    let answer = [said, near.say(b"answer")].concat();
    assert_eq!(read(&mut far, &answer).unwrap(), b"answer");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn pieces_of_any_size_are_the_same_bytes(
        writes in prop::collection::vec((0_usize..40_000, any::<bool>()), 1..8),
        pieces in prop::collection::vec(1_usize..20_000, 1..20),
        is_client in any::<bool>(),
    ) {
        let configs = Configs::new();
        let (mut near, mut far) = configs.pair(if is_client { Ours::Client } else { Ours::Server });
        let (mut said, mut records) = (Vec::new(), Vec::new());
        for (size, refresh) in writes {
            if refresh {
                far.refresh_traffic_keys().unwrap();
                records.extend(written(&mut far));
            }
            said.extend(bytes(size));
            records.extend(write(&mut far, &bytes(size)));
        }
        let mut left = records.as_slice();
        for piece in pieces.iter().cycle() {
            if left.is_empty() {
                break;
            }
            let (now, later) = left.split_at(left.len().min(*piece));
            near.hear(now);
            left = later;
        }
        prop_assert_eq!(near.end(), "open");
        prop_assert!(near.plain == said);
        let answer = near.say(&said);
        prop_assert!(read(&mut far, &answer).unwrap() == said);
    }
}
