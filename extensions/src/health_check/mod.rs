//! The `health_check` extension: says over HTTP whether the pipelines run.

mod config;
