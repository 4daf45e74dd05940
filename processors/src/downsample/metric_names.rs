//! The names of the metrics of `downsample`.

/// Stacks that came in for sampling (processor).
pub const STACKS_IN: &str = "profpipe_downsample_stacks_in_total";

/// Stacks that were kept (processor).
pub const STACKS_OUT: &str = "profpipe_downsample_stacks_out_total";

/// Profiles that were sampled (processor).
pub const PROFILES_SAMPLED: &str = "profpipe_downsample_profiles_sampled_total";

/// Profiles that were not sampled, by reason (processor).
pub const PROFILES_REFUSED: &str = "profpipe_downsample_profiles_refused_total";

/// Time spent sampling (processor).
pub const MILLISECONDS: &str = "profpipe_downsample_milliseconds_total";
