//! What the processor and its threads say to each other: names that are wanted, and what came of them.

use std::collections::HashMap;
use std::sync::Arc;

use profpipe_engine::modules::{Module, ModuleId};

use super::answer::ResolvedAddress;
use super::build_id::BuildId;
use super::cache::{ModuleNumber, Scope};
use super::remote::Provision;

/// Names wanted.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// The numbers of the jobs that it is.
    pub(super) numbers: Vec<u64>,
    /// Nothing was asked for it yet.
    pub(super) is_fresh: bool,
    /// The answers are what symbol tables say; better ones come from elsewhere.
    pub(super) is_provisional: bool,
    /// What tables know was looked up.
    pub(super) is_looked_up: bool,
    /// The module's number.
    pub(super) module: ModuleNumber,
    /// What identifies it.
    pub(super) id: ModuleId,
    /// The module, if this host has seen it.
    pub(super) source: Option<Arc<Module>>,
    /// Its build id, by which files are found that this host has not seen mapped.
    pub(super) build_id: Option<BuildId>,
    /// It is the kernel of another host, which no server has in the form that is looked for.
    pub(super) is_kernel: bool,
    /// Whose uploaded files say what the module is.
    pub(super) scope: Scope,
    /// Whose batch asks, and the number of that tenant.
    pub(super) tenant: (Arc<str>, u32),
    /// The addresses, ascending.
    pub(super) addresses: Vec<u64>,
    /// What was fetched for it.
    pub(super) provisions: HashMap<BuildId, Provision>,
}

/// What is not known of a module.
#[derive(Debug)]
pub(super) struct UnresolvedAddresses {
    /// What identifies it.
    pub(super) id: ModuleId,
    /// Its build id.
    pub(super) build_id: Option<BuildId>,
    /// It is the kernel of another host.
    pub(super) is_kernel: bool,
    /// The addresses.
    pub(super) addresses: Vec<u64>,
}

/// A message to the client.
#[derive(Debug)]
pub(super) enum Message {
    /// Names are wanted.
    Job(Job),
    /// What a job waits for has come, or will not.
    Provided(u64, Provision),
    /// Nobody wants anything any more.
    End,
}

/// Answers to a part of a job.
#[derive(Debug)]
pub(super) struct Progress {
    /// The numbers of the jobs.
    pub(super) jobs: Vec<u64>,
    /// Better answers will come.
    pub(super) is_provisional: bool,
    /// Files are fetched for it, which takes longer.
    pub(super) is_fetching: bool,
    /// The module's number.
    pub(super) module: ModuleNumber,
    /// The number of the tenant that asked.
    pub(super) tenant: u32,
    /// Answers.
    pub(super) answers: Vec<ResolvedAddress>,
    /// The same question will have the same answer.
    pub(super) lasting: bool,
    /// Nothing more will come.
    pub(super) done: bool,
}

impl Progress {
    /// None yet, of a job.
    pub(super) fn of(job: &Job) -> Self {
        Self {
            jobs: job.numbers.clone(),
            is_provisional: job.is_provisional,
            is_fetching: false,
            module: job.module,
            tenant: job.tenant.1,
            answers: Vec::new(),
            lasting: false,
            done: false,
        }
    }
}
