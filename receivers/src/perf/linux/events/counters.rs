//! What the hardware and the kernel count, by the names that `perf list` has for it.

use perf_event_open_sys::bindings as perf;

/// The type and number of an event for the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CounterId {
    pub(crate) kind: u32,
    pub(crate) config: u64,
}

impl CounterId {
    /// Whether the kernel counts it, and not the processor.
    pub(crate) fn is_of_kernel(self) -> bool {
        self.kind == perf::PERF_TYPE_SOFTWARE
    }
}

impl CounterId {
    /// Whether it never happens in user mode.
    pub(crate) fn is_in_kernel(self) -> bool {
        let of_kernel = [perf::PERF_COUNT_SW_CONTEXT_SWITCHES, perf::PERF_COUNT_SW_CPU_MIGRATIONS];
        self.is_of_kernel() && of_kernel.iter().any(|it| u64::from(*it) == self.config)
    }
}

/// Events of the hardware.
const HARDWARE: [(&str, u32); 10] = [
    ("cpu-cycles", perf::PERF_COUNT_HW_CPU_CYCLES),
    ("instructions", perf::PERF_COUNT_HW_INSTRUCTIONS),
    ("cache-references", perf::PERF_COUNT_HW_CACHE_REFERENCES),
    ("cache-misses", perf::PERF_COUNT_HW_CACHE_MISSES),
    ("branch-instructions", perf::PERF_COUNT_HW_BRANCH_INSTRUCTIONS),
    ("branch-misses", perf::PERF_COUNT_HW_BRANCH_MISSES),
    ("bus-cycles", perf::PERF_COUNT_HW_BUS_CYCLES),
    ("stalled-cycles-frontend", perf::PERF_COUNT_HW_STALLED_CYCLES_FRONTEND),
    ("stalled-cycles-backend", perf::PERF_COUNT_HW_STALLED_CYCLES_BACKEND),
    ("ref-cycles", perf::PERF_COUNT_HW_REF_CPU_CYCLES),
];
/// Events of the kernel.
const SOFTWARE: [(&str, u32); 6] = [
    ("context-switches", perf::PERF_COUNT_SW_CONTEXT_SWITCHES),
    ("cpu-migrations", perf::PERF_COUNT_SW_CPU_MIGRATIONS),
    ("minor-faults", perf::PERF_COUNT_SW_PAGE_FAULTS_MIN),
    ("major-faults", perf::PERF_COUNT_SW_PAGE_FAULTS_MAJ),
    ("alignment-faults", perf::PERF_COUNT_SW_ALIGNMENT_FAULTS),
    ("emulation-faults", perf::PERF_COUNT_SW_EMULATION_FAULTS),
];
/// Caches.
const CACHES: [(&str, u32); 7] = [
    ("L1-dcache", perf::PERF_COUNT_HW_CACHE_L1D),
    ("L1-icache", perf::PERF_COUNT_HW_CACHE_L1I),
    ("LLC", perf::PERF_COUNT_HW_CACHE_LL),
    ("dTLB", perf::PERF_COUNT_HW_CACHE_DTLB),
    ("iTLB", perf::PERF_COUNT_HW_CACHE_ITLB),
    ("branch", perf::PERF_COUNT_HW_CACHE_BPU),
    ("node", perf::PERF_COUNT_HW_CACHE_NODE),
];
/// What is done to a cache.
const OPERATIONS: [(&str, u32); 3] = [
    ("load", perf::PERF_COUNT_HW_CACHE_OP_READ),
    ("store", perf::PERF_COUNT_HW_CACHE_OP_WRITE),
    ("prefetch", perf::PERF_COUNT_HW_CACHE_OP_PREFETCH),
];

/// The event of a name such as `cache-misses`, `L1-dcache-load-misses`, `context-switches`, or `r1b0` for
/// a number that the processor's manual gives.
pub(crate) fn find(name: &str) -> Option<CounterId> {
    let of = |kind, known: &[(&str, u32)]| {
        let (_, config) = known.iter().find(|(other, _)| *other == name)?;
        Some(CounterId { kind, config: u64::from(*config) })
    };
    let raw = || {
        let config = u64::from_str_radix(name.strip_prefix('r')?, 16).ok()?;
        Some(CounterId { kind: perf::PERF_TYPE_RAW, config })
    };
    of(perf::PERF_TYPE_HARDWARE, &HARDWARE)
        .or_else(|| of(perf::PERF_TYPE_SOFTWARE, &SOFTWARE))
        .or_else(|| cache(name))
        .or_else(raw)
}

/// The event of a cache: `LLC-loads`, `LLC-load-misses` and the like.
fn cache(name: &str) -> Option<CounterId> {
    let (cache, rest) = CACHES
        .iter()
        .find_map(|(cache, number)| Some((number, name.strip_prefix(cache)?.strip_prefix('-')?)))?;
    let (operation, rest) = OPERATIONS
        .iter()
        .find_map(|(operation, number)| Some((number, rest.strip_prefix(operation)?)))?;
    let result = match rest {
        "s" | "es" => perf::PERF_COUNT_HW_CACHE_RESULT_ACCESS,
        "-misses" => perf::PERF_COUNT_HW_CACHE_RESULT_MISS,
        _ => return None,
    };
    let config = cache | operation << 8 | result << 16;
    Some(CounterId { kind: perf::PERF_TYPE_HW_CACHE, config: u64::from(config) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: names that `perf list` has, raw numbers, and what is no event.
    /// Guarantees: each has the numbers that the kernel's headers state, or none.
    #[test]
    fn knows_the_names() {
        for (name, kind, config) in [
            ("cache-misses", 0, 3),
            ("ref-cycles", 0, 9),
            ("context-switches", 1, 3),
            ("L1-dcache-loads", 3, 0),
            ("L1-dcache-load-misses", 3, 0x1_0000),
            ("LLC-store-misses", 3, 0x1_0102),
            ("iTLB-load-misses", 3, 0x1_0004),
            ("r1b0", 4, 0x1b0),
        ] {
            assert_eq!(find(name), Some(CounterId { kind, config }), "{name}");
        }
        for name in ["", "r", "rxyz", "cache-miss", "LLC-", "LLC-loads-misses", "L1-dcache-jumps"] {
            assert_eq!(find(name), None, "{name}");
        }
    }
}
