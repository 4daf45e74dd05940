//! What keeps the sampler within its budget.
//!
//! Moves the levers of the session in windows and counts what work costs ([`govern`]), knows for
//! how long events really ran, from which weights follow ([`exposure`]), and how old the profiles
//! are that have not left ([`ages`]). Which numbers are the right ones is decided by the control
//! law behind `Overhead`; without a budget nothing here does anything but the ages.

pub(super) mod ages;
pub(super) mod exposure;
pub(super) mod govern;
