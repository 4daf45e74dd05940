//! The answers of the past, by module and range of addresses, bounded in bytes.
//!
//! Two generations: what is used moves to the young one, and when that is half the budget the old
//! one is forgotten. So what a steady load uses stays, at the price of one look into a tree.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashSet;
use profpipe_pipeline::modules::ModuleId;

use super::answer::{Answer, Frame};
use super::protocol::WireFunction;

/// The number of a module in this process.
pub(super) type ModuleNumber = u32;

/// An address of a module.
pub(super) type Key = (ModuleNumber, u64);

/// Answers, and the numbers of modules.
#[derive(Debug)]
pub(super) struct Cache {
    numbers: HashMap<ModuleId, ModuleNumber>,
    next_number: ModuleNumber,
    young: Generation,
    old: Generation,
    /// Every function that some answer uses, once.
    functions: HashSet<Arc<WireFunction>>,
    function_bytes: usize,
    budget: usize,
}

#[derive(Debug, Default)]
struct Generation {
    /// By the first address of each range; with the address after its last.
    answers: BTreeMap<Key, (u64, Answer)>,
    bytes: usize,
}

impl Generation {
    /// The answer whose range has the address in it, and that range.
    fn find(&self, (module, address): Key) -> Option<(Range<u64>, &Answer)> {
        let (&(of, start), (end, answer)) = self.answers.range(..=(module, address)).next_back()?;
        (of == module && address < *end).then_some((start..*end, answer))
    }
}

/// More modules than this, and all numbers are given out afresh.
const MAX_MODULES: usize = 16_384;

impl Cache {
    /// An empty cache of at most about `budget` bytes.
    pub(super) fn new(budget: usize) -> Self {
        Self {
            numbers: HashMap::new(),
            next_number: 1,
            young: Generation::default(),
            old: Generation::default(),
            functions: HashSet::new(),
            function_bytes: 0,
            budget,
        }
    }

    /// The number of a module, if it has one.
    pub(super) fn number(&self, id: &ModuleId) -> Option<ModuleNumber> {
        self.numbers.get(id).copied()
    }

    /// The number of a module, given now if it has none. A number is never given twice.
    pub(super) fn assign(&mut self, id: &ModuleId) -> ModuleNumber {
        if let Some(number) = self.number(id) {
            return number;
        }
        if self.numbers.len() >= MAX_MODULES {
            self.numbers.clear();
        }
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1).max(1);
        self.numbers.insert(id.clone(), number);
        number
    }

    /// The answer for an address.
    pub(super) fn get(&mut self, key: Key) -> Option<Answer> {
        if let Some((_, answer)) = self.young.find(key) {
            return Some(answer.clone());
        }
        let (same, answer) = self.old.find(key)?;
        let answer = answer.clone();
        self.old.answers.remove(&(key.0, same.start));
        self.insert(key.0, same, answer.clone());
        Some(answer)
    }

    /// Keeps the answer for a range of addresses, and returns it with its functions shared with
    /// other answers.
    pub(super) fn keep(
        &mut self,
        module: ModuleNumber,
        same: Range<u64>,
        answer: Answer,
    ) -> Answer {
        let answer = match answer {
            Answer::Named(frames) => {
                let frames = frames.iter().map(|frame| Frame {
                    function: self.share(&frame.function),
                    line: frame.line,
                    column: frame.column,
                });
                Answer::Named(frames.collect())
            }
            unnamed @ Answer::Unnamed(_) => unnamed,
        };
        self.insert(module, same, answer.clone());
        answer
    }

    fn share(&mut self, function: &Arc<WireFunction>) -> Arc<WireFunction> {
        if let Some(known) = self.functions.get(function) {
            return Arc::clone(known);
        }
        self.functions.insert(Arc::clone(function));
        self.function_bytes += function_bytes(function);
        Arc::clone(function)
    }

    fn insert(&mut self, module: ModuleNumber, same: Range<u64>, answer: Answer) {
        self.young.bytes += answer_bytes(&answer);
        let old = self.young.answers.insert((module, same.start), (same.end, answer));
        self.young.bytes -= old.map_or(0, |(_, answer)| answer_bytes(&answer));
        if self.young.bytes + self.function_bytes / 2 > self.budget / 2 {
            self.old = std::mem::take(&mut self.young);
            self.functions.retain(|function| Arc::strong_count(function) > 1);
            self.function_bytes =
                self.functions.iter().map(|function| function_bytes(function)).sum();
            // Functions alone can fill the budget: then nothing of the past is kept.
            if self.function_bytes > self.budget {
                self.old = Generation::default();
                self.functions.clear();
                self.function_bytes = 0;
            }
        }
    }

    /// The bytes in use, about.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes + self.function_bytes
    }
}

fn answer_bytes(answer: &Answer) -> usize {
    // The entry of the table, and the frames with the counters of their `Arc`.
    let frames = match answer {
        Answer::Named(frames) => 16 + frames.len() * size_of::<Frame>(),
        Answer::Unnamed(_) => 0,
    };
    64 + frames
}

fn function_bytes(function: &WireFunction) -> usize {
    size_of::<WireFunction>()
        + 48
        + function.name.len()
        + function.system_name.len()
        + function.file.len()
}
