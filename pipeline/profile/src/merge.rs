//! Putting batches together: one dictionary, each resource and scope once.

use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::reach::Reached;
use super::remap::Remap;
use super::table_sizes::TableSizes;
use super::{KeyValue, Profiles, Resource, ResourceProfiles, Scope, ScopeProfiles};
use std::hash::BuildHasher;

/// Merges batches one by one.
///
/// Every table of every input is gone through exactly once, so the time is linear in the input.
/// Resources with the same attributes (in any order) and schema become one, and so do scopes;
/// profiles are not touched otherwise: see [`super::aggregate`] for uniting them, too.
#[derive(Debug, Default)]
pub struct Merger {
    merged: Profiles,
    resources: SeenRows,
    scopes: SeenRows,
}

/// The batches in one.
pub fn merge(batches: impl IntoIterator<Item = Profiles>) -> Profiles {
    let batches: Vec<Profiles> = batches.into_iter().collect();
    let all = batches.iter().map(|batch| TableSizes::of(&batch.dictionary));
    let mut ahead = all.fold(TableSizes::default(), TableSizes::plus);
    let mut merger = Merger::default();
    for (at, batch) in batches.into_iter().enumerate() {
        let extent = TableSizes::of(&batch.dictionary);
        let before = TableSizes::of(&merger.merged.dictionary);
        ahead = ahead.minus(extent);
        if at == 0 {
            extent.reserve(&mut merger.merged.dictionary);
        }
        merger.add(batch);
        // What was new in the second batch is what will be new in the others: room for all would
        // be far too much where hosts run the same code, and growing by steps moves every row.
        if at == 1 {
            let new = TableSizes::of(&merger.merged.dictionary).minus(before);
            ahead.share(new, extent).reserve(&mut merger.merged.dictionary);
        }
    }
    merger.finish()
}

/// The batches over one dictionary, with their resources side by side, in order: even equal ones are
/// not put together, so that it stays known which batch each was of.
pub fn join(batches: impl IntoIterator<Item = Profiles>) -> Profiles {
    let mut joined = Profiles::new();
    for batch in batches {
        let mut switch = Remap::new(&batch.dictionary);
        switch.absorb(&mut joined.dictionary, &batch.dictionary, &Reached::all());
        let first = joined.resources.len();
        joined.resources.extend(batch.resources);
        let added = joined.resources.iter_mut().skip(first);
        for scope in added.flat_map(|resource| &mut resource.scopes) {
            for profile in &mut scope.profiles {
                switch.profile(profile);
            }
        }
    }
    joined
}

impl Merger {
    /// Without any batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a batch.
    pub fn add(&mut self, batch: Profiles) {
        let mut switch = Remap::new(&batch.dictionary);
        switch.absorb(&mut self.merged.dictionary, &batch.dictionary, &Reached::all());
        for resource in batch.resources {
            let at = self.resource(resource.resource, resource.schema_url);
            for mut scope in resource.scopes {
                for profile in &mut scope.profiles {
                    switch.profile(profile);
                }
                let into = self.scope(at, scope.scope, scope.schema_url);
                if into.profiles.is_empty() {
                    into.profiles = scope.profiles;
                } else {
                    into.profiles.append(&mut scope.profiles);
                }
            }
        }
    }

    /// What was merged so far.
    pub fn merged(&self) -> &Profiles {
        &self.merged
    }

    /// Everything that was added, as one batch.
    pub fn finish(self) -> Profiles {
        self.merged
    }

    /// The position of this resource, which is appended if it is new.
    fn resource(&mut self, resource: Resource, schema_url: String) -> usize {
        let hash = self.resources.hash(&schema_url, &resource.attributes);
        let rows = &mut self.merged.resources;
        let found = self.resources.find(hash, |at| {
            rows.get(at).is_some_and(|other| {
                other.schema_url == schema_url
                    && same_attributes(&other.resource.attributes, &resource.attributes)
            })
        });
        if let Some(at) = found {
            let dropped = &mut rows[at].resource.dropped_attributes_count;
            *dropped = resource.dropped_attributes_count.max(*dropped);
            return at;
        }
        // One scope is usual, and a vector's own first step is four.
        rows.push(ResourceProfiles { resource, scopes: Vec::with_capacity(1), schema_url });
        self.resources.insert(hash, (rows.len() - 1, 0)).0
    }

    /// This scope of the resource at `resource`, appended if it is new.
    fn scope(&mut self, resource: usize, scope: Scope, schema_url: String) -> &mut ScopeProfiles {
        let hash = self
            .scopes
            .hash((resource, &scope.name, &scope.version, &schema_url), &scope.attributes);
        let rows = &mut self.merged.resources[resource].scopes;
        let found = self.scopes.rows.find(hash, |(other, (in_resource, at))| {
            *other == hash
                && *in_resource == resource
                && rows.get(*at).is_some_and(|other| {
                    other.schema_url == schema_url
                        && other.scope.name == scope.name
                        && other.scope.version == scope.version
                        && same_attributes(&other.scope.attributes, &scope.attributes)
                })
        });
        if let Some((_, (_, at))) = found {
            let row = &mut rows[*at];
            let dropped = &mut row.scope.dropped_attributes_count;
            *dropped = scope.dropped_attributes_count.max(*dropped);
            return row;
        }
        let at = rows.len();
        self.scopes.insert(hash, (resource, at));
        rows.push(ScopeProfiles { scope, profiles: Vec::new(), schema_url });
        &mut rows[at]
    }
}

/// Where resources or scopes are, by the hash of what identifies them.
#[derive(Debug, Default)]
struct SeenRows {
    rows: HashTable<(u64, (usize, usize))>,
    state: RandomState,
}

impl SeenRows {
    /// The order of attributes makes no difference.
    fn hash(&self, header: impl Hash, attributes: &[KeyValue]) -> u64 {
        let pairs = attributes
            .iter()
            .map(|pair| self.state.hash_one((&pair.key, &pair.value)))
            .fold(0_u64, u64::wrapping_add);
        self.state.hash_one((header, pairs, attributes.len()))
    }

    fn find(&self, hash: u64, same: impl Fn(usize) -> bool) -> Option<usize> {
        self.rows.find(hash, |(other, (at, _))| *other == hash && same(*at)).map(|(_, (at, _))| *at)
    }

    fn insert(&mut self, hash: u64, place: (usize, usize)) -> (usize, usize) {
        self.rows.insert_unique(hash, (hash, place), |(hash, _)| *hash);
        place
    }
}

/// The same attributes in any order. The usual case, the same order, needs no sorting.
fn same_attributes(a: &[KeyValue], b: &[KeyValue]) -> bool {
    let same = |a: &KeyValue, b: &KeyValue| a.key == b.key && a.value.is_identical(&b.value);
    if a.len() != b.len() {
        return false;
    }
    if a.iter().zip(b).all(|(a, b)| same(a, b)) {
        return true;
    }
    let sorted = |attributes: &'_ [KeyValue]| {
        let mut order: Vec<usize> = (0..attributes.len()).collect();
        order.sort_by(|a, b| attributes[*a].key.cmp(&attributes[*b].key));
        order
    };
    sorted(a).into_iter().zip(sorted(b)).all(|(at, bt)| same(&a[at], &b[bt]))
}
