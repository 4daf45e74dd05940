//! The names of the metrics of `filter`.

/// Samples that a condition dropped, by the place of the condition in the configuration
/// (processor).
pub const DROPPED_SAMPLES: &str = "profpipe_filter_dropped_samples_total";

/// The values of these samples, by the type of the profile too (processor).
pub const DROPPED_VALUE: &str = "profpipe_filter_dropped_value_total";

/// Frames of dictionaries that were left out of stacks (processor).
pub const FRAMES_LEFT_OUT: &str = "profpipe_filter_frames_left_out_total";

/// Texts that were replaced (processor).
pub const TEXTS_REDACTED: &str = "profpipe_filter_texts_redacted_total";

/// Times that a condition had no answer (processor).
pub const CONDITION_ERRORS: &str = "profpipe_filter_condition_errors_total";
