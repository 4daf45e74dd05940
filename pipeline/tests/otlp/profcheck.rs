//! The rules of the profiling SIG's `profcheck`.
