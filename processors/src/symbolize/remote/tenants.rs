//! How much each tenant may make us fetch, so that one cannot keep the gateway busy for the others.
//!
//! A bucket for each: so many files and so many bytes a minute, a minute's worth at once. Bytes are
//! counted as they come, so that a file is never given up halfway: a tenant may owe one file, and
//! then waits until that is paid.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tenants that are distinguished; beyond, those that come new share one bucket.
const MAX_TENANTS: usize = 4096;
/// How often those who want nothing are forgotten, at most.
const TIDY: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What a tenant may have in a minute.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Allowance {
    /// Files asked of servers.
    pub(in super::super) files: u32,
    /// Bytes of files.
    pub(in super::super) bytes: u64,
}

/// The tenants and what they have left.
#[derive(Debug)]
pub(super) struct Tenants {
    allowance: Allowance,
    buckets: HashMap<Arc<str>, Bucket>,
    others: Option<Bucket>,
    /// When those with a full bucket were last forgotten.
    tidied_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    files: f64,
    /// May be below zero.
    bytes: f64,
    at: Instant,
}

impl Bucket {
    fn full(allowance: Allowance, now: Instant) -> Self {
        Self { files: allowance.files.into(), bytes: allowance.bytes as f64, at: now }
    }

    fn fill(&mut self, allowance: Allowance, now: Instant) {
        let part = now.saturating_duration_since(self.at).as_secs_f64() / MINUTE.as_secs_f64();
        let (files, bytes) = (f64::from(allowance.files), allowance.bytes as f64);
        self.files = (self.files + part * files).min(files);
        self.bytes = (self.bytes + part * bytes).min(bytes);
        self.at = self.at.max(now);
    }

    fn is_full(&self, allowance: Allowance) -> bool {
        self.files >= allowance.files.into() && self.bytes >= allowance.bytes as f64
    }
}

impl Tenants {
    /// Nobody has had anything yet.
    pub(super) fn new(allowance: Allowance) -> Self {
        Self { allowance, buckets: HashMap::new(), others: None, tidied_at: None }
    }

    /// Takes one file from what a tenant has left; false if that is nothing.
    pub(super) fn admit(&mut self, tenant: &Arc<str>, now: Instant) -> bool {
        let bucket = self.bucket(tenant, now);
        if bucket.files < 1.0 || bucket.bytes <= 0.0 {
            return false;
        }
        bucket.files -= 1.0;
        true
    }

    /// Takes the bytes that have come.
    pub(super) fn charge(&mut self, tenant: &Arc<str>, bytes: u64, now: Instant) {
        self.bucket(tenant, now).bytes -= bytes as f64;
    }

    fn bucket(&mut self, tenant: &Arc<str>, now: Instant) -> &mut Bucket {
        let allowance = self.allowance;
        let is_due = self.tidied_at.is_none_or(|at| now.saturating_duration_since(at) >= TIDY);
        if self.buckets.len() >= MAX_TENANTS && !self.buckets.contains_key(tenant) && is_due {
            self.tidied_at = Some(now);
            // Who has a full bucket is as good as new.
            self.buckets.retain(|_, bucket| {
                bucket.fill(allowance, now);
                !bucket.is_full(allowance)
            });
        }
        let full = Bucket::full(allowance, now);
        let bucket = match self.buckets.len() >= MAX_TENANTS && !self.buckets.contains_key(tenant) {
            true => self.others.get_or_insert(full),
            false => self.buckets.entry(Arc::clone(tenant)).or_insert(full),
        };
        bucket.fill(allowance, now);
        bucket
    }
}
