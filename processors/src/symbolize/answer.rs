//! What is known about an address: the frames it stands for, or why it has no name.

use std::ops::Range;
use std::sync::Arc;

use super::protocol::{MAX_FRAMES, Names, WireFunction};

/// The answer for one address; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolution {
    /// The frames, innermost inlined function first; at least one.
    Named(Arc<[Frame]>),
    /// There is no name.
    Unnamed(Reason),
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    /// The function.
    pub(super) function: Arc<WireFunction>,
    /// The line, 0 if unknown.
    pub(super) line: u32,
    /// The column, 0 if unknown.
    pub(super) column: u32,
}

/// Why an address has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// The location says nothing about where its code is from.
    NoMapping,
    /// The mapping has no identity to look it up by.
    NoBuildId,
    /// Nobody has the module, and no debug directory its symbols.
    NotFound,
    /// The module has no symbol at this address.
    NoSymbol,
    /// The file for this module is of another build.
    WrongBuildId,
    /// The file for this module is broken.
    Unreadable,
    /// No server answers for the module now.
    Unavailable,
    /// The kernel hides its addresses from this process.
    KernelHidden,
    /// Reading the module takes too much memory or time, or kills the worker.
    Limit,
    /// There is no worker process.
    NoWorker,
    /// The answer did not come in time.
    Timeout,
}

impl Reason {
    /// All of them.
    pub(super) const ALL: [Self; 11] = [
        Self::NoMapping,
        Self::NoBuildId,
        Self::NotFound,
        Self::NoSymbol,
        Self::WrongBuildId,
        Self::Unreadable,
        Self::Unavailable,
        Self::KernelHidden,
        Self::Limit,
        Self::NoWorker,
        Self::Timeout,
    ];

    /// The reason as the attribute `profpipe.unsymbolized.reason` states it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::NoMapping => "no mapping",
            Self::NoBuildId => "no build id",
            Self::NotFound => "not found",
            Self::NoSymbol => "no symbol",
            Self::WrongBuildId => "wrong build id",
            Self::Unreadable => "unreadable",
            Self::Unavailable => "unavailable",
            Self::KernelHidden => "refused: kptr_restrict",
            Self::Limit => "refused: limit",
            Self::NoWorker => "no worker",
            Self::Timeout => "timeout",
        }
    }

    /// True if asking again soon gives the same answer.
    pub(super) fn is_lasting(self) -> bool {
        matches!(self, Self::NoSymbol)
    }
}

/// What is known about an address, and about those around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvedAddress {
    /// The address.
    pub(super) address: u64,
    /// The addresses, this one among them, for which the answer is the same.
    pub(super) same: Range<u64>,
    /// The answer.
    pub(super) answer: Resolution,
}

impl ResolvedAddress {
    /// What is known about one address alone.
    pub(super) fn only(address: u64, answer: Resolution) -> Self {
        Self { address, same: address..address.saturating_add(1), answer }
    }
}

/// The answers in a response of the worker for ranges from one address on, which follow one another;
/// none if the response contradicts itself or goes beyond `to`.
pub(super) fn ranges_from_wire(
    names: Names,
    from: u64,
    to: u64,
) -> Option<Vec<(Range<u64>, Resolution)>> {
    let mut at = from;
    let mut addresses = Vec::with_capacity(names.answers.len());
    for answer in &names.answers {
        let next = at.checked_add(answer.after).filter(|next| *next > at && *next <= to)?;
        if answer.before != 0 {
            return None;
        }
        addresses.push(at);
        at = next;
    }
    let answers = from_wire(names, &addresses)?;
    Some(answers.into_iter().map(|known| (known.same, known.answer)).collect())
}

/// The answers in a response of the worker to the question for `addresses`; none if the response
/// contradicts itself.
pub(super) fn from_wire(names: Names, addresses: &[u64]) -> Option<Vec<ResolvedAddress>> {
    if names.answers.is_empty() || names.answers.len() > addresses.len() {
        return None;
    }
    let functions: Vec<_> = names.functions.into_iter().map(Arc::new).collect();
    let mut frames = names.frames.as_slice();
    let mut answers = Vec::with_capacity(names.answers.len());
    for (&address, answer) in addresses.iter().zip(names.answers) {
        let count = answer.frames as usize;
        let same = address.checked_sub(answer.before)?..address.checked_add(answer.after)?;
        let (own, rest) = frames.split_at_checked(count)?;
        frames = rest;
        if count > MAX_FRAMES {
            return None;
        }
        let own: Option<Arc<[Frame]>> = own
            .iter()
            .map(|frame| {
                let function = Arc::clone(functions.get(frame.function as usize)?);
                Some(Frame { function, line: frame.line, column: frame.column })
            })
            .collect();
        let unnamed = Resolution::Unnamed(Reason::NoSymbol);
        let answer = if count == 0 { unnamed } else { Resolution::Named(own?) };
        answers.push(ResolvedAddress { address, same, answer });
    }
    Some(answers)
}
