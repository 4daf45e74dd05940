//! Arithmetic on whole columns, with registers as wide as the processor has them. The results are the
//! same on all processors, bit by bit: no operation is fused with another.
#![allow(unsafe_code, reason = "functions for a processor must not be called on another")]

/// What rounding leaves of a 0 in a tableau.
pub(super) const NOISE: f64 = 1e-12;

macro_rules! by_lanes {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) $body:block)*) => {$(
        $(#[$doc])*
        pub(super) fn $name($($argument: $type),*) {
            #[inline(always)]
            fn plain($($argument: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                #[target_feature(enable = "avx2")]
                fn wide($($argument: $type),*) {
                    plain($($argument),*);
                }
                // SAFETY: the processor has what the function is compiled for.
                return unsafe { wide($($argument),*) };
            }
            plain($($argument),*);
        }
    )*};
}

by_lanes! {
    /// Adds a column to another.
    fn add(column: &mut [f64], other: &[f64]) {
        column.iter_mut().zip(other).for_each(|(place, other)| *place += other);
    }

    /// Takes a multiple of a column from another.
    fn take(column: &mut [f64], other: &[f64], factor: f64) {
        column.iter_mut().zip(other).for_each(|(place, other)| *place -= factor * other);
    }

    /// The same; what is only noise afterwards becomes 0.
    fn take_cleanly(column: &mut [f64], other: &[f64], factor: f64) {
        for (place, other) in column.iter_mut().zip(other) {
            let left = *place - factor * other;
            *place = if left.abs() < NOISE { 0.0 } else { left };
        }
    }
}
