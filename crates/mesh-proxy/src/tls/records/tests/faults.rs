//! What no peer may say: which error it is, and which alert it is told. As rustls has it, but for what is said of each.

use super::*;
use cases::Sent::{self, Bytes, Sealed};
use cases::{alerts, data, messages, posts, records};

mod cases;

fn all(far: &mut Near, sent: &[Sent]) -> Vec<u8> {
    let mut all = Vec::new();
    for sent in sent {
        match sent {
            Sealed(kind, content) => all.extend(far.seal(*kind, content)),
            Bytes(bytes) => all.extend(bytes),
        }
    }
    all
}

#[test]
fn each_fault_has_its_error_and_its_alert() {
    let configs = Configs::new();
    for ours in BOTH {
        for case in records().into_iter().chain(alerts()).chain(posts(ours)) {
            let (mut near, mut far) = configs.raw(ours);
            near.hear(&all(&mut far, &[data(b"before")]));
            near.hear(&all(&mut far, &case.sent));
            let what = format!("{ours:?} {:?}", case.error);
            assert_eq!(near.end(), format!("{:?}", case.error), "{what}");
            assert_eq!(near.plain, b"before", "{what}");
            let mut told = left(&mut near.outgoing);
            match case.alert {
                Some(alert) => {
                    let expected = (ContentType::Alert, vec![2, alert.into()]);
                    assert_eq!(far.open(&mut told), expected, "{what}");
                }
                None => assert!(told.is_empty(), "{what}"),
            }
            // It is over: nothing more is read, written, or kept.
            near.hear(&all(&mut far, &[data(b"more")]));
            assert_eq!(
                near.records.seal(&OutboundChunks::Single(b"x")).unwrap_err(),
                case.error
            );
            near.records.say_goodbye(&mut near.outgoing).unwrap();
            assert!(near.held.is_empty() && near.outgoing.is_empty() && near.records.parts.is_empty());
            assert_eq!(near.plain, b"before", "{what}");
        }
    }
}

#[test]
fn rustls_says_the_same_but_where_it_is_written_otherwise() {
    let configs = Configs::new();
    for ours in BOTH {
        for case in records().into_iter().chain(alerts()).chain(posts(ours)) {
            // Here rustls is the one that is told, and the peer is ours.
            let theirs = if ours == Ours::Client {
                Ours::Server
            } else {
                Ours::Client
            };
            let (mut far, mut rustls) = configs.pair(theirs);
            read(&mut rustls, &all(&mut far, &[data(b"before")])).unwrap();
            let error = read(&mut rustls, &all(&mut far, &case.sent)).err();
            let alert = match written(&mut rustls) {
                told if told.is_empty() => None,
                mut told => Some(far.open(&mut told).1[1].into()),
            };
            let is_same = error.as_ref() == Some(&case.error) && alert == case.alert;
            assert_eq!(
                is_same, case.same,
                "{ours:?} {:?}: {error:?} {alert:?}",
                case.error
            );
        }
    }
}

#[test]
fn what_may_be_said_some_times_may_not_be_said_for_ever() {
    let configs = Configs::new();
    for ours in BOTH {
        // Between two of them that say something, as many as are allowed; and again.
        let (mut near, mut far) = configs.raw(ours);
        for _ in 0..3 {
            for _ in 0..32 {
                near.hear(&far.seal(ContentType::ApplicationData, b""));
            }
            for _ in 0..KEY_UPDATES {
                let next = far.records.keys.next_to_seal().unwrap();
                near.hear(&far.records.sealer.rekey(next).unwrap());
            }
            near.hear(&far.say(b"."));
        }
        assert_eq!((near.plain.as_slice(), near.end()), (&b"..."[..], "open".into()));
        // Empty data says nothing.
        for _ in 0..=KEY_UPDATES {
            assert_eq!(near.end(), "open");
            near.hear(&far.seal(ContentType::ApplicationData, b""));
            let next = far.records.keys.next_to_seal().unwrap();
            near.hear(&far.records.sealer.rekey(next).unwrap());
        }
        assert_eq!(near.end(), "PeerMisbehaved(TooManyKeyUpdateRequests)");
    }
}

#[test]
fn who_has_said_goodbye_does_not_complain() {
    let configs = Configs::new();
    let (mut near, mut far) = configs.raw(Ours::Server);
    near.records.say_goodbye(&mut near.outgoing).unwrap();
    left(&mut near.outgoing);
    near.hear(&all(&mut far, &[messages(b"bad")]));
    near.hear(&all(&mut far, &[data(b"bad")]));
    assert!(near.outgoing.is_empty());
    assert!(near.end().contains("Interleaved"));
}

#[test]
fn a_record_that_was_touched_or_came_twice_is_refused() {
    let configs = Configs::new();
    let mut touched = 0;
    for at in 0..5 + 9 + 17 {
        let (mut near, mut far) = configs.raw(Ours::Client);
        let mut record = far.say(b"something");
        record[at] ^= 1;
        near.hear(&record);
        near.hear(&[0; 400]);
        // The minor version means nothing (RFC 8446, §5.1).
        if at == 2 {
            assert_eq!(near.plain, b"something");
            continue;
        }
        touched += 1;
        assert!(near.plain.is_empty() && near.end() != "open", "{at}");
    }
    assert_eq!(touched, 5 + 9 + 17 - 1);
    let (mut near, mut far) = configs.raw(Ours::Client);
    let record = far.say(b"once");
    near.hear(&record);
    near.hear(&record);
    assert_eq!(
        (near.plain.as_slice(), near.end()),
        (&b"once"[..], "DecryptError".into())
    );
}
