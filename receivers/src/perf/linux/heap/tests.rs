//! Garbage in rings, and what is not freed.
