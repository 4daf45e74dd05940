//! The names of the metrics of `k8s_attributes`.

/// Pods that are known (processor, a gauge).
pub const PODS: &str = "profpipe_k8s_pods";

/// Events of watches (processor).
pub const EVENTS: &str = "profpipe_k8s_events_total";

/// Lists asked of the API server (processor).
pub const LISTS: &str = "profpipe_k8s_lists_total";

/// Requests to the API server that failed (processor).
pub const FAILURES: &str = "profpipe_k8s_failures_total";

/// Resources whose pod was found (processor).
pub const RESOURCES_FOUND: &str = "profpipe_k8s_resources_found_total";

/// Resources that have what a pod is found by, but whose pod was not found (processor).
pub const RESOURCES_MISSED: &str = "profpipe_k8s_resources_missed_total";

/// Bytes of batches that wait for their pods (processor, a gauge).
pub const PARKED_BYTES: &str = "profpipe_k8s_parked_bytes";
