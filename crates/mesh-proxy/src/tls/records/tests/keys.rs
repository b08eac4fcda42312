//! Keys that change, on either side.

use super::*;

/// The body of a record that changes a key: five bytes, their kind, and the tag.
const UPDATE: usize = 5 + 17;

#[test]
fn the_peers_next_keys_are_used_and_answered_once() {
    let configs = Configs::new();
    for ours in BOTH {
        let (mut near, mut far) = configs.pair(ours);
        for times in [1, 2, 20] {
            for _ in 0..times {
                far.refresh_traffic_keys().unwrap();
                near.hear(&written(&mut far));
                assert!(near.outgoing.is_empty(), "answered with what is written next");
            }
            near.hear(&write(&mut far, b"with the new key"));
            assert_eq!(std::mem::take(&mut near.plain), b"with the new key");
            let answer = near.say(b"answer");
            assert_eq!(lengths(&answer), [UPDATE, 6 + 17], "{ours:?} {times}");
            assert_eq!(read(&mut far, &answer).unwrap(), b"answer");
            assert_eq!(lengths(&near.say(b"")), Vec::<usize>::new());
        }
    }
}

#[test]
fn a_key_that_changes_unasked_is_not_answered() {
    let configs = Configs::new();
    for ours in BOTH {
        let (mut near, mut far) = configs.raw(ours);
        for _ in 0..3 {
            let next = far.records.keys.next_to_seal().unwrap();
            near.hear(&far.records.sealer.rekey(next).unwrap());
            near.hear(&far.say(b"."));
        }
        assert_eq!((near.plain.as_slice(), near.end()), (&b"..."[..], "open".into()));
        assert_eq!(lengths(&near.say(b"answer")), [6 + 17]);
    }
}

#[test]
fn a_key_is_changed_before_it_has_encrypted_too_much() {
    let configs = Configs::new();
    for ours in BOTH {
        for limit in [0, 1, 2, 3, 10] {
            let (mut near, mut far) = configs.pair(ours);
            // A server's first key has encrypted tickets already.
            let first = near.records.sealer.next;
            near.records.sealer.limit = limit;
            let all = bytes(100_000);
            for size in [100_000, 1] {
                let records = near.say(&all[..size]);
                assert!(
                    read(&mut far, &records).unwrap() == all[..size],
                    "{ours:?} {limit}"
                );
                if size == 1 {
                    continue;
                }
                // One record of data for each key at least, and the one that announces the next key.
                let (each, mut used, mut expected) = (limit.max(2), first, Vec::new());
                for record in 0..7 {
                    if used > 0 && used + 1 >= each {
                        expected.push(UPDATE);
                        used = 0;
                    }
                    expected.push(if record < 6 {
                        16_384 + 17
                    } else {
                        100_000 - 6 * 16_384 + 17
                    });
                    used += 1;
                }
                assert_eq!(lengths(&records), expected, "{ours:?} {limit}");
            }
            near.hear(&write(&mut far, b"unharmed"));
            assert_eq!(near.plain, b"unharmed");
        }
    }
}

#[test]
fn the_limit_is_the_ciphers() {
    let configs = Configs::new();
    for ours in BOTH {
        let (near, _) = configs.pair(ours);
        assert_eq!(near.records.sealer.limit, 1 << 24, "AES-GCM");
    }
}

#[test]
fn numbers_do_not_begin_again() {
    let configs = Configs::new();
    let (mut near, mut far) = configs.raw(Ours::Client);
    near.records.sealer.next = u64::MAX;
    near.records.sealer.limit = u64::MAX;
    near.records
        .sealer
        .seal(ContentType::ApplicationData, OutboundChunks::Single(b"x"))
        .unwrap_err();
    far.records.opener.next = u64::MAX;
    far.hear(&near.seal_or_nothing());
    assert_eq!(far.end(), "DecryptError");
}

impl Near {
    /// A record, whatever its key says.
    fn seal_or_nothing(&mut self) -> Vec<u8> {
        [&[23, 3, 3, 0, 99][..], &[7; 99]].concat()
    }
}

#[test]
fn every_cipher_passes() {
    let authority = Authority::new();
    for suite in rustls::crypto::aws_lc_rs::DEFAULT_CIPHER_SUITES {
        if suite.tls13().is_none() {
            continue;
        }
        let mut provider = rustls::crypto::CryptoProvider::clone(&crate::tls::provider());
        provider.cipher_suites = vec![*suite];
        let leaf = authority.certify(
            vec![crate::testing::uri(TRITON)],
            Ok(std::time::Duration::from_secs(60)),
        );
        let mut server = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(leaf.chain, leaf.key)
            .unwrap();
        server.enable_secret_extraction = true;
        let web = authority.credentials(WEB);
        let configs = Configs {
            client: web.client_config(&identity(TRITON), Alpn::Opaque),
            server: Arc::new(server),
            _credentials: (authority.credentials(WEB), web),
        };
        for ours in BOTH {
            let (mut near, mut far) = configs.pair(ours);
            for _ in 0..3 {
                far.refresh_traffic_keys().unwrap();
                near.hear(&write(&mut far, b"question"));
                for _ in 0..5 {
                    assert_eq!(
                        read(&mut far, &near.say(b"answer")).unwrap(),
                        b"answer",
                        "{suite:?}"
                    );
                }
            }
            assert_eq!(near.plain, b"question".repeat(3));
        }
    }
}
