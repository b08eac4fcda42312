//! Who claims what, where several may claim the same.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::hash::Hash;
use std::sync::Arc;

use mesh_api::name::ObjectName;
use rpds::HashTrieMapSync;

/// What a claim is good for: lower ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// It stands for the service as a whole.
    Own,
    /// It is one of its endpoints.
    Endpoint,
}

/// Claims by what is claimed, those of each in the order of rank and name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Claims<K: Eq + Hash> {
    claims: HashTrieMapSync<K, Arc<[(Rank, ObjectName)]>>,
}

impl<K: Eq + Hash> Default for Claims<K> {
    fn default() -> Self {
        Self {
            claims: HashTrieMapSync::new_sync(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> Claims<K> {
    /// The first of who claim it.
    pub(super) fn first<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&ObjectName>
    where
        K: Borrow<Q>,
    {
        self.claims.get(key)?.first().map(|(_, name)| name)
    }

    /// The last of who claim it.
    pub(super) fn last<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&ObjectName>
    where
        K: Borrow<Q>,
    {
        self.claims.get(key)?.last().map(|(_, name)| name)
    }

    /// `name` claims what is new and no longer what is old.
    pub(super) fn change(&mut self, name: &ObjectName, old: &BTreeSet<(K, Rank)>, new: &BTreeSet<(K, Rank)>) {
        for (key, rank) in old.difference(new) {
            self.edit(key, |claims| {
                claims.retain(|claim| (claim.0, &claim.1) != (*rank, name));
            });
        }
        for (key, rank) in new.difference(old) {
            self.edit(key, |claims| claims.push((*rank, name.clone())));
        }
    }

    fn edit(&mut self, key: &K, edit: impl FnOnce(&mut Vec<(Rank, ObjectName)>)) {
        let mut claims = self
            .claims
            .get(key)
            .map_or_else(Vec::new, |claims| claims.to_vec());
        edit(&mut claims);
        if claims.is_empty() {
            self.claims.remove_mut(key);
            return;
        }
        claims.sort();
        self.claims.insert_mut(key.clone(), claims.into());
    }
}
