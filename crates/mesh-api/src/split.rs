//! Which backend of a split takes a request: drawn by weight, or by key so that a caller stays where it is.
//!
//! Keys are placed by weighted rendezvous hashing (C. Schindelhauer and G. Schomaker, "Weighted Distributed Hash
//! Tables", SPAA 2005: the backend with the smallest `-ln(h) / weight` wins, `h` uniform in (0, 1) per key and
//! backend). A pure function of key, split and rule, it gives every proxy the same answer, and raising one backend's
//! part only moves keys to it, never away from it. `ln` is libm's own code, so that machines agree to the last bit.

use std::borrow::Cow;
use std::hash::Hasher;

use http::HeaderMap;
use siphasher::sip::SipHasher13;

use crate::identity::Identity;
use crate::name::ObjectName;
use crate::route::{Key, Split};

/// The position of the backend that a random request goes to.
///
/// `random` is uniform over all of `u64`; each backend takes its weight's part of it.
pub fn draw(split: &Split, random: u64) -> usize {
    // The high half of the product is uniform in 0..total: Lemire, "Fast random integer generation in an interval", 2019.
    let mut point = ((u128::from(random) * u128::from(split.total)) >> 64) as u64;
    for (index, backend) in split.backends.iter().enumerate() {
        match point.checked_sub(u64::from(backend.weight)) {
            Some(rest) => point = rest,
            None => return index,
        }
    }
    // Not reached while `total` is the sum of the weights.
    0
}

/// The position of the backend that the key belongs to.
///
/// `salt` keeps splits independent of each other: who is a canary here need not be one there.
pub fn place(split: &Split, salt: Salt, key: &[u8]) -> usize {
    let mut best = (0, f64::INFINITY);
    for (index, backend) in split
        .backends
        .iter()
        .enumerate()
        .filter(|(_, backend)| backend.weight > 0)
    {
        let mut hasher = SipHasher13::new_with_keys(salt.0, 0);
        hasher.write(key);
        hasher.write_u8(0xff);
        hasher.write(backend.name.as_str().as_bytes());
        let score = -libm::log(unit(hasher.finish())) / f64::from(backend.weight);
        if score < best.1 {
            best = (index, score);
        }
    }
    best.0
}

/// What keeps the sender of a request on one backend, if the split asks for it and the request has it. Of a header that
/// stands several times, the first counts.
pub fn key<'a>(split: &Split, headers: &'a HeaderMap, caller: Option<&Identity>) -> Option<Cow<'a, [u8]>> {
    match split.by.as_ref()? {
        Key::Header(name) => headers.get(name).map(|value| Cow::Borrowed(value.as_bytes())),
        Key::Caller => caller.map(|caller| Cow::Owned(caller.to_string().into_bytes())),
    }
}

/// What keeps the keys of different splits apart: made from the service's name, so that all rules of a service agree
/// about a caller and a rule's name or position can change without moving anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(u64);

impl Salt {
    /// The salt of a service's splits.
    pub fn of(service: &ObjectName) -> Self {
        let mut hasher = SipHasher13::new_with_keys(0, 0);
        hasher.write(service.namespace.as_str().as_bytes());
        hasher.write_u8(b'/');
        hasher.write(service.name.as_str().as_bytes());
        Self(hasher.finish())
    }
}

/// A hash as a number strictly between 0 and 1.
fn unit(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Backend;
    use proptest::prelude::*;

    fn split(weights: &[u32]) -> Split {
        let backends = weights
            .iter()
            .enumerate()
            .map(|(index, weight)| Backend {
                name: format!("b{index}").parse().unwrap(),
                service: "ml/s".parse().unwrap(),
                port: None,
                weight: *weight,
                rewrite: None,
                filters: None,
                invalid: None,
            })
            .collect();
        Split {
            by: None,
            backends,
            total: weights.iter().map(|w| u64::from(*w)).sum(),
        }
    }

    fn salt() -> Salt {
        Salt::of(&"ml/fraud".parse().unwrap())
    }

    /// |share - expected| in standard deviations of the binomial distribution.
    fn sigmas(hits: usize, of: usize, part: f64) -> f64 {
        let n = of as f64;
        (hits as f64 - n * part).abs() / (n * part * (1.0 - part)).sqrt()
    }

    #[test]
    fn draws_follow_the_weights_exactly() {
        let split = split(&[95, 0, 5]);
        let step = u64::MAX / 20_000;
        let mut hits = [0_u32; 3];
        for n in 0..20_000 {
            hits[draw(&split, n * step)] += 1;
        }
        assert_eq!(hits[1], 0);
        assert!(hits[2].abs_diff(1_000) <= 1, "{hits:?}");
        assert_eq!(draw(&split, 0), 0);
        assert_eq!(draw(&split, u64::MAX), 2);
    }

    #[test]
    fn keys_follow_the_weights() {
        for weights in [[95, 5], [50, 50], [1, 999]] {
            let split = split(&weights);
            let hits = (0..100_000)
                .filter(|n| place(&split, salt(), format!("user-{n}").as_bytes()) == 1)
                .count();
            let part = f64::from(weights[1]) / f64::from(weights[0] + weights[1]);
            assert!(sigmas(hits, 100_000, part) < 4.0, "{weights:?}: {hits}");
        }
    }

    #[test]
    fn the_placement_of_keys_never_changes() {
        // Proxies of different releases serve side by side: these answers are part of the contract.
        let split = split(&[50, 30, 20]);
        let placed: Vec<_> = (0..20)
            .map(|n| place(&split, salt(), format!("user-{n}").as_bytes()))
            .collect();
        assert_eq!(placed, PLACED);
    }

    const PLACED: [usize; 20] = [1, 2, 2, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 2, 0, 0, 1, 0, 0, 1];

    proptest! {
        #[test]
        fn raising_a_weight_moves_no_key_off_it(
            weights in proptest::collection::vec(0_u32..1000, 2..6),
            raise in 1_u32..1000,
            at in 0_usize..6,
            key in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let at = at % weights.len();
            prop_assume!(weights.iter().sum::<u32>() > 0);
            let before = place(&split(&weights), salt(), &key);
            let mut more = weights.clone();
            more[at] += raise;
            let after = place(&split(&more), salt(), &key);
            prop_assert!(after == before || after == at);
        }

        #[test]
        fn shifting_parts_between_two_moves_keys_one_way(part in 0_u32..=100, raise in 0_u32..=100, key: u64) {
            let raised = (part + raise).min(100);
            let before = place(&split(&[100 - part, part]), salt(), &key.to_le_bytes());
            let after = place(&split(&[100 - raised, raised]), salt(), &key.to_le_bytes());
            prop_assert!(before != 1 || after == 1);
        }

        #[test]
        fn nothing_goes_where_the_weight_is_zero(weights in proptest::collection::vec(0_u32..3, 1..6), random: u64) {
            prop_assume!(weights.iter().sum::<u32>() > 0);
            let split = split(&weights);
            prop_assert!(weights[draw(&split, random)] > 0);
            prop_assert!(weights[place(&split, salt(), &random.to_le_bytes())] > 0);
        }

        #[test]
        fn order_in_the_document_does_not_matter(a in 1_u32..100, b in 1_u32..100, key: u64) {
            let forward = split(&[a, b]);
            let mut backward = forward.clone();
            backward.backends.reverse();
            let one = &forward.backends[place(&forward, salt(), &key.to_le_bytes())].name;
            let other = &backward.backends[place(&backward, salt(), &key.to_le_bytes())].name;
            prop_assert_eq!(one, other);
        }
    }
}
