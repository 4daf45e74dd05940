//! What counting calls has taken of the time that samples show.
//!
//! A counted call goes through the kernel: by a breakpoint, by a step over an instruction, or by a system call
//! where the processor runs a trampoline. Samples of that time have functions of the kernel that nothing
//! else leads to, or the page that the kernel runs instead, above the function that is counted.

use std::collections::{HashMap, HashSet};

use profpipe_formats::report;
use profpipe_profile::Profiles;

/// Frames that only counting leads to.
const COUNTING: [&str; 7] = [
    "[uprobes]",
    "asm_exc_int3",
    "exc_int3",
    "asm_exc_debug",
    "exc_debug_user",
    "__do_sys_uprobe",
    "uprobe_notify_resume",
];

/// The time in a sample type that counting has taken, by the names of the functions that it was taken of: each
/// that was called then.
pub(super) fn by_function(profiles: &Profiles, kind: &str) -> HashMap<String, i64> {
    let mut taken: HashMap<String, i64> = HashMap::new();
    let Ok(stacks) = report::collapse(profiles, Some(kind)) else { return taken };
    for (frames, weight) in stacks.iter() {
        let frames: Vec<&str> = frames.collect();
        let Some(first) = frames.iter().position(|frame| COUNTING.contains(frame)) else {
            continue;
        };
        let of: HashSet<&str> = frames.iter().take(first).copied().collect();
        for function in of {
            let sum = taken.entry(function.to_owned()).or_default();
            *sum = sum.saturating_add(weight);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use profpipe_formats::folded;

    use super::*;

    /// Scenario: samples in two functions of which one calls the other, in the code of both, in the breakpoint of
    /// the inner one, in the page beside it, and in a function of the kernel that it calls itself.
    /// Guarantees: what counting took is known of both, once of each sample, and nothing else is.
    #[test]
    fn counting_is_told_from_work() {
        let text = "main;outer 5\nmain;outer;inner 7\nmain;outer;inner;asm_exc_int3;exc_int3;f 11\n\
                    main;outer;inner;outer;inner;[uprobes] 13\nmain;outer;inner;do_syscall_64;f 17\n";
        let profiles = folded::decode(text.as_bytes()).unwrap_or_default();
        let (kind, _) = report::sample_types(&profiles).remove(0);
        let taken = by_function(&profiles, kind);
        assert_eq!(taken.get("inner"), Some(&24));
        assert_eq!(taken.get("outer"), Some(&24));
        assert_eq!(taken.get("f"), None);
    }
}
