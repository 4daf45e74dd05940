//! Cutting a batch into parts of at most so many encoded bytes.
//!
//! How long a row is once it is encoded is the format's to say ([`RowLengths`]); where to cut, and
//! what each part needs of the dictionary, is the same for all.

use std::ops::Range;

use super::attribute_names::SAMPLES_LOST;
use super::reach::{Mark, Reached};
use super::remap::Remap;
use super::{
    AttributeIx, FunctionIx, Index, LinkIx, LocationIx, MappingIx, Profile, Profiles,
    ResourceProfiles, SampleRef, Samples, ScopeProfiles, StackIx, StringIx, Value,
};

/// How many bytes rows take once they are encoded, with the indices that they have now: never
/// less than with the smaller ones that they have in a part of the dictionary.
pub trait RowLengths {
    /// A dictionary that has only its rows 0.
    fn empty_dictionary(&self) -> usize;
    /// A row of the string table.
    fn string(&self, row: StringIx) -> usize;
    /// A row of the attribute table.
    fn attribute(&self, row: AttributeIx) -> usize;
    /// A row of the mapping table.
    fn mapping(&self, row: MappingIx) -> usize;
    /// A row of the function table.
    fn function(&self, row: FunctionIx) -> usize;
    /// A row of the location table.
    fn location(&self, row: LocationIx) -> usize;
    /// A row of the link table.
    fn link(&self, row: LinkIx) -> usize;
    /// A row of the stack table.
    fn stack(&self, row: StackIx) -> usize;
    /// A sample.
    fn sample(&self, row: SampleRef<'_>) -> usize;
    /// A resource without its scopes.
    fn resource(&self, resource: &ResourceProfiles) -> usize;
    /// A scope without its profiles.
    fn scope(&self, scope: &ScopeProfiles) -> usize;
    /// A profile without its samples.
    fn profile(&self, profile: &Profile) -> usize;
}

/// The most profiles that are cut together.
const MAX_SIBLINGS: usize = 16;

/// Cuts a batch into parts that take at most `max_bytes` by these lengths.
///
/// Each part has just the rows of the dictionary that it needs. Every sample is in exactly one
/// part, in order, whole; only a sample that is larger than the limit by itself, with its stack
/// and names, makes a part that is too large, and so does an original payload. A profile that is
/// cut has its id, its original payload and its count of lost samples in the first of its parts
/// only, so that totals over the parts are those of the batch. Profiles that follow each other
/// with the same samples but for the values, as those that were one pprof profile do, are cut at
/// the same samples.
///
/// The time is linear in the batch and the parts.
pub fn split(batch: &Profiles, max_bytes: usize, lengths: &impl RowLengths) -> Vec<Profiles> {
    let mut splitter = Splitter::new(batch, max_bytes, lengths);
    for (at, resource) in batch.resources.iter().enumerate() {
        if resource.scopes.is_empty() {
            splitter.begin(&[], Piece::header(at, None));
        }
        for (scope, of) in resource.scopes.iter().enumerate() {
            let header = Piece::header(at, Some(scope));
            if of.profiles.is_empty() {
                splitter.begin(&[], header.clone());
            }
            let mut first = 0;
            while first < of.profiles.len() {
                let end = siblings(&of.profiles, first);
                splitter.profiles(
                    &of.profiles[first..end],
                    &Piece { profiles: first..end, ..header.clone() },
                );
                first = end;
            }
        }
    }
    splitter.finish()
}

/// The end of the run of profiles from `first` that have the same samples but for the values.
fn siblings(profiles: &[Profile], first: usize) -> usize {
    let one = &profiles[first];
    if one.samples.is_empty() || !one.original_payload.is_empty() {
        return first + 1;
    }
    let same = |other: &&Profile| {
        let (a, b) = (&one.samples, &other.samples);
        other.original_payload.is_empty()
            && (one.time_unix_nano, one.duration_nano)
                == (other.time_unix_nano, other.duration_nano)
            && a.stacks == b.stacks
            && a.links == b.links
            && a.attributes == b.attributes
    };
    let run = profiles[first + 1..].iter().take(MAX_SIBLINGS - 1).take_while(same).count();
    first + 1 + run
}

/// Some samples of some profiles that follow each other in a scope.
#[derive(Debug, Clone)]
struct Piece {
    resource: usize,
    scope: Option<usize>,
    profiles: Range<usize>,
    samples: Range<usize>,
}

impl Piece {
    /// No profile of a resource, or of a scope.
    fn header(resource: usize, scope: Option<usize>) -> Self {
        Self { resource, scope, profiles: 0..0, samples: 0..0 }
    }
}

struct Splitter<'a, L> {
    batch: &'a Profiles,
    max_bytes: usize,
    lengths: &'a L,
    /// What the open part refers to, how long it is, and its pieces.
    reached: Reached,
    bytes: usize,
    pieces: Vec<Piece>,
    /// What was reached before the last piece began.
    before_piece: Mark,
    switch: Remap,
    /// The key of the attribute that counts lost samples.
    lost: Option<StringIx>,
    parts: Vec<Profiles>,
}

impl<'a, L: RowLengths> Splitter<'a, L> {
    fn new(batch: &'a Profiles, max_bytes: usize, lengths: &'a L) -> Self {
        let dictionary = &batch.dictionary;
        let lost = dictionary.strings.iter().position(|text| text == SAMPLES_LOST);
        Self {
            batch,
            max_bytes,
            lengths,
            reached: Reached::none(dictionary),
            bytes: lengths.empty_dictionary(),
            pieces: Vec::new(),
            before_piece: Mark::default(),
            switch: Remap::new(dictionary),
            lost: lost.map(|row| StringIx::new(row as u32)),
            parts: Vec::new(),
        }
    }

    /// The headers that the open part does not have yet.
    fn headers(&self, piece: &Piece) -> usize {
        let resource = &self.batch.resources[piece.resource];
        let last = self.pieces.last();
        let mut bytes = 0;
        if last.is_none_or(|last| last.resource != piece.resource) {
            bytes += self.lengths.resource(resource);
        }
        if last.is_none_or(|last| (last.resource, last.scope) != (piece.resource, piece.scope)) {
            let scope = piece.scope.and_then(|scope| resource.scopes.get(scope));
            bytes += scope.map_or(0, |scope| self.lengths.scope(scope));
        }
        bytes
    }

    /// The bytes of the dictionary rows that were reached since `mark`.
    fn reached_since(&self, mark: Mark) -> usize {
        let (lengths, reached) = (self.lengths, &self.reached);
        let [strings, attributes, mappings, functions, locations, links, stacks] = mark;
        fn sum(rows: &[u32], from: usize, length: impl Fn(u32) -> usize) -> usize {
            rows[from..].iter().map(|row| length(*row)).sum()
        }
        sum(reached.strings.rows(), strings, |row| lengths.string(StringIx::new(row)))
            + sum(reached.attributes.rows(), attributes, |row| {
                lengths.attribute(AttributeIx::new(row))
            })
            + sum(reached.mappings.rows(), mappings, |row| lengths.mapping(MappingIx::new(row)))
            + sum(reached.functions.rows(), functions, |row| lengths.function(FunctionIx::new(row)))
            + sum(reached.locations.rows(), locations, |row| lengths.location(LocationIx::new(row)))
            + sum(reached.links.rows(), links, |row| lengths.link(LinkIx::new(row)))
            + sum(reached.stacks.rows(), stacks, |row| lengths.stack(StackIx::new(row)))
    }

    /// Cuts sibling profiles.
    fn profiles(&mut self, profiles: &[Profile], piece: &Piece) {
        let Some(one) = profiles.first() else { return };
        self.begin(profiles, piece.clone());
        for at in 0..one.samples.len() {
            let mark = self.reached.mark();
            let mut added = self.sample(profiles, at, mark);
            let is_empty = self.pieces.last().is_none_or(|piece| piece.samples.is_empty());
            // Where the part is nothing but this profile's headers, a new one would not help.
            if self.bytes + added > self.max_bytes && (self.pieces.len() > 1 || !is_empty) {
                self.reached.rewind(mark);
                if is_empty {
                    self.pieces.pop();
                    self.reached.rewind(self.before_piece);
                }
                self.close();
                self.begin(profiles, Piece { samples: at..at, ..piece.clone() });
                let mark = self.reached.mark();
                added = self.sample(profiles, at, mark);
            }
            self.bytes += added;
            if let Some(piece) = self.pieces.last_mut() {
                piece.samples.end = at + 1;
            }
        }
    }

    /// Reaches what the sample `at` of each profile needs. Returns the bytes that this adds.
    fn sample(&mut self, profiles: &[Profile], at: usize, mark: Mark) -> usize {
        let mut bytes = 0;
        for profile in profiles {
            let row = profile.samples.get(at);
            self.reached.sample(&self.batch.dictionary, row);
            bytes += self.lengths.sample(row);
        }
        bytes + self.reached_since(mark)
    }

    /// Begins a piece with these profiles, in a new part if not even the headers fit.
    fn begin(&mut self, profiles: &[Profile], piece: Piece) {
        let mut added = self.reach_headers(profiles, &piece);
        if self.bytes + added > self.max_bytes && !self.pieces.is_empty() {
            self.reached.rewind(self.before_piece);
            self.close();
            added = self.reach_headers(profiles, &piece);
        }
        self.bytes += added;
        self.pieces.push(piece);
    }

    /// Reaches what the profiles need without their samples. Returns the bytes that this adds.
    fn reach_headers(&mut self, profiles: &[Profile], piece: &Piece) -> usize {
        let mark = self.reached.mark();
        self.before_piece = mark;
        let mut bytes = self.headers(piece);
        let first = piece.samples.start == 0;
        for profile in profiles {
            let attributes = self.attributes(profile, first);
            self.reached.profile(&self.batch.dictionary, profile, attributes);
            bytes += self.lengths.profile(profile);
            if !first {
                bytes -= profile.original_payload.len();
            }
        }
        bytes + self.reached_since(mark)
    }

    /// The attributes of a piece of a profile, the first one or another.
    fn attributes<'p>(
        &self,
        profile: &'p Profile,
        first: bool,
    ) -> impl Iterator<Item = AttributeIx> + use<'a, 'p, L> {
        let (table, lost) = (&self.batch.dictionary.attributes, self.lost);
        profile.attributes.iter().copied().filter(move |row| {
            let counts_lost =
                Some(table.key(*row)) == lost && matches!(table.value(*row), Value::Int(_));
            first || !counts_lost
        })
    }

    /// Ends the open part.
    fn close(&mut self) {
        let pieces = std::mem::take(&mut self.pieces);
        if !pieces.is_empty() {
            let part = self.part(&pieces);
            self.parts.push(part);
        }
        self.reached.rewind(Mark::default());
        self.bytes = self.lengths.empty_dictionary();
    }

    fn finish(mut self) -> Vec<Profiles> {
        self.close();
        self.parts
    }

    fn part(&mut self, pieces: &[Piece]) -> Profiles {
        let batch = self.batch;
        let mut part = Profiles::new();
        self.reached.sort();
        self.switch.absorb(&mut part.dictionary, &batch.dictionary, &self.reached);
        let mut open = None;
        for piece in pieces {
            let from = &batch.resources[piece.resource];
            if open.map(|(resource, _)| resource) != Some(piece.resource) {
                part.resources.push(ResourceProfiles {
                    resource: from.resource.clone(),
                    scopes: Vec::new(),
                    schema_url: from.schema_url.clone(),
                });
                open = Some((piece.resource, None));
            }
            let Some(into) = part.resources.last_mut() else { continue };
            let Some(from) = piece.scope.and_then(|scope| from.scopes.get(scope)) else { continue };
            if open != Some((piece.resource, piece.scope)) {
                into.scopes.push(ScopeProfiles {
                    scope: from.scope.clone(),
                    profiles: Vec::new(),
                    schema_url: from.schema_url.clone(),
                });
                open = Some((piece.resource, piece.scope));
            }
            let Some(into) = into.scopes.last_mut() else { continue };
            for profile in &from.profiles[piece.profiles.clone()] {
                into.profiles.push(self.piece(profile, piece.samples.clone()));
            }
        }
        part
    }

    /// Some samples of a profile, with the dictionary of the part.
    fn piece(&self, from: &Profile, samples: Range<usize>) -> Profile {
        let first = samples.start == 0;
        let attributes = self.attributes(from, first);
        let mut piece = Profile {
            sample_type: self.switch.value_type(from.sample_type),
            samples: Samples::default(),
            period_type: self.switch.value_type(from.period_type),
            attributes: attributes.map(|row| self.switch.attribute(row)).collect(),
            time_unix_nano: from.time_unix_nano,
            duration_nano: from.duration_nano,
            period: from.period,
            dropped_attributes_count: from.dropped_attributes_count,
            ..Profile::default()
        };
        if first {
            piece.profile_id = from.profile_id;
            piece.original_payload_format.clone_from(&from.original_payload_format);
            piece.original_payload = from.original_payload.clone();
        }
        piece.samples.reserve(samples.len());
        let mut scratch = Vec::new();
        for sample in samples {
            self.switch.sample(from.samples.get(sample), &mut piece.samples, &mut scratch);
        }
        piece
    }
}
