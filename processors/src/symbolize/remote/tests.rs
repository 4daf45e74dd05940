//! The parts of fetching, each alone.
