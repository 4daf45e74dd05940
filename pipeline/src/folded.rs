//! Collapsed stacks, a line each: `root;caller;leaf 12`.
