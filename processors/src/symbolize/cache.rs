//! The answers of the past, by module and range of addresses, bounded in bytes.
//!
//! Two generations: what is used moves to the young one, and when that is half the budget the old
//! one is forgotten. So what a steady load uses stays, at the price of one look into a tree.
//!
//! A module that no batch has had for minutes is forgotten with all its answers, however much room
//! there is: where programs come and go without end, their answers would fill the budget.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use profpipe_engine::component::Setup;
use profpipe_engine::modules::ModuleId;

use super::answer::{Frame, Resolution};
use super::config::SymbolizeConfig;
use super::protocol::WireFunction;

/// The number of a module in this process.
pub(super) type ModuleNumber = u32;

/// For whom a module is known: everybody, or a tenant whose own files say what it is.
pub(super) type Scope = Option<Arc<str>>;

/// An address of a module.
pub(super) type Key = (ModuleNumber, u64);

/// The answers of a processor, which it and the one that a reload puts in its place have together.
#[derive(Debug)]
pub(super) struct KnownAnswers(Mutex<Cache>);

impl Default for KnownAnswers {
    fn default() -> Self {
        Self(Mutex::new(Cache::new(0)))
    }
}

impl KnownAnswers {
    /// Those of the processor before this one, if it had the same settings.
    pub(super) fn of(config: &SymbolizeConfig, setup: &Setup) -> Arc<Self> {
        let component = format!("processors::{}", setup.id);
        let known = setup.services.carried.of_same::<_, Self>(&component, config);
        known.lock().budget = usize::try_from(config.cache_size.0).unwrap_or(usize::MAX);
        known
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Cache> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers, and the numbers of modules.
#[derive(Debug)]
pub(super) struct Cache {
    /// The numbers of modules, each with the sweep before which it was last asked for.
    numbers: HashMap<(Scope, ModuleId), (ModuleNumber, u64)>,
    sweeps: u64,
    /// When the next sweep is due.
    next_sweep: Option<Instant>,
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
    answers: BTreeMap<Key, (u64, Resolution)>,
    bytes: usize,
}

impl Generation {
    /// The answer whose range has the address in it, and that range.
    fn find(&self, (module, address): Key) -> Option<(Range<u64>, &Resolution)> {
        let (&(of, start), (end, answer)) = self.answers.range(..=(module, address)).next_back()?;
        (of == module && address < *end).then_some((start..*end, answer))
    }
}

/// More modules than this, and all numbers are given out afresh.
const MAX_MODULES: usize = 16_384;
/// How often modules that no batch has are looked for.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// The sweeps for which such a module is kept.
pub(super) const UNUSED_SWEEPS: u64 = 4;

impl Cache {
    /// An empty cache of at most about `budget` bytes.
    pub(super) fn new(budget: usize) -> Self {
        Self {
            numbers: HashMap::new(),
            sweeps: 0,
            next_sweep: None,
            next_number: 1,
            young: Generation::default(),
            old: Generation::default(),
            functions: HashSet::new(),
            function_bytes: 0,
            budget,
        }
    }

    /// The number of a module, if it has one.
    pub(super) fn number(&self, scope: &Scope, id: &ModuleId) -> Option<ModuleNumber> {
        self.numbers.get(&(scope.clone(), id.clone())).map(|(number, _)| *number)
    }

    /// Forgets the modules of a tenant: its files may say something else now.
    pub(super) fn forget_scope(&mut self, tenant: &Arc<str>) {
        self.numbers.retain(|(scope, _), _| scope.as_ref() != Some(tenant));
    }

    /// The number of a module, given now if it has none. A number is never given twice.
    pub(super) fn assign(&mut self, scope: &Scope, id: &ModuleId) -> ModuleNumber {
        let key = (scope.clone(), id.clone());
        if let Some((number, used)) = self.numbers.get_mut(&key) {
            *used = self.sweeps;
            return *number;
        }
        if self.numbers.len() >= MAX_MODULES {
            self.numbers.clear();
        }
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1).max(1);
        self.numbers.insert(key, (number, self.sweeps));
        number
    }

    /// Forgets the modules that were not asked for in a while, with their answers, if it is time.
    pub(super) fn sweep(&mut self, now: Instant) {
        let next = *self.next_sweep.get_or_insert(now + SWEEP_INTERVAL);
        if now < next {
            return;
        }
        self.next_sweep = Some(now + SWEEP_INTERVAL);
        self.sweeps += 1;
        let oldest = self.sweeps.saturating_sub(UNUSED_SWEEPS);
        let before = self.numbers.len();
        self.numbers.retain(|_, (_, used)| *used >= oldest);
        if self.numbers.len() == before {
            return;
        }
        if self.numbers.capacity() > 4 * self.numbers.len().max(256) {
            self.numbers.shrink_to_fit();
        }
        let alive: HashSet<_> = self.numbers.values().map(|(number, _)| *number).collect();
        for generation in [&mut self.young, &mut self.old] {
            generation.answers.retain(|(module, _), _| alive.contains(module));
            let answers = generation.answers.values();
            generation.bytes = answers.map(|(_, answer)| answer_bytes(answer)).sum();
        }
        self.forget_functions();
    }

    /// Forgets the functions that no answer uses.
    fn forget_functions(&mut self) {
        self.functions.retain(|function| Arc::strong_count(function) > 1);
        if self.functions.capacity() > 4 * self.functions.len().max(256) {
            self.functions.shrink_to_fit();
        }
        self.function_bytes = self.functions.iter().map(|function| function_bytes(function)).sum();
    }

    /// The answer for an address.
    pub(super) fn get(&mut self, key: Key) -> Option<Resolution> {
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
        answer: Resolution,
    ) -> Resolution {
        let answer = match answer {
            Resolution::Named(frames) => {
                let frames = frames.iter().map(|frame| Frame {
                    function: self.share(&frame.function),
                    line: frame.line,
                    column: frame.column,
                });
                Resolution::Named(frames.collect())
            }
            unnamed @ Resolution::Unnamed(_) => unnamed,
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

    fn insert(&mut self, module: ModuleNumber, same: Range<u64>, answer: Resolution) {
        self.young.bytes += answer_bytes(&answer);
        let old = self.young.answers.insert((module, same.start), (same.end, answer));
        self.young.bytes -= old.map_or(0, |(_, answer)| answer_bytes(&answer));
        if self.young.bytes + self.function_bytes / 2 > self.budget / 2 {
            self.old = std::mem::take(&mut self.young);
            self.forget_functions();
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

fn answer_bytes(answer: &Resolution) -> usize {
    // The entry of the table, whose nodes are half empty where addresses ascend, and the frames with
    // the counters of their `Arc` and what the allocator adds. What is counted in all and what the
    // C library has given out differed by 2% at most (before: by a third).
    let frames = match answer {
        Resolution::Named(frames) => 32 + frames.len() * size_of::<Frame>(),
        Resolution::Unnamed(_) => 0,
    };
    96 + frames
}

fn function_bytes(function: &WireFunction) -> usize {
    // With the counters of its `Arc`, its place in the set and what the allocator adds to each text.
    size_of::<WireFunction>()
        + 80
        + function.name.len()
        + function.system_name.len()
        + function.file.len()
}
