//! Engines that another configuration has replaced: they deliver what they still hold while the next one
//! runs, and close the accounts of what the reload removed.
//!
//! Components of one id share their counters, whichever engine they are in. So an account is closed only
//! when every earlier engine is gone, too, and if no later configuration has brought the component back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use profpipe::pipeline::engine::Leaving;
use profpipe::{Plan, Services};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::account;

/// How many engines may still be delivering while another runs.
const MAX_LEAVING: usize = 4;

/// The engines that are leaving.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    tasks: JoinSet<()>,
    /// Resolves when the one that left last is gone.
    last: Option<oneshot::Receiver<()>>,
    /// What the configuration that runs has, as in metrics.
    present: Arc<Mutex<BTreeSet<String>>>,
}

impl Departures {
    /// Waits until another engine may leave.
    pub(crate) async fn room(&mut self) {
        while self.tasks.len() >= MAX_LEAVING {
            self.tasks.join_next().await;
        }
    }

    /// Another configuration runs from now on.
    pub(crate) fn runs(&self, plan: &Plan) {
        *self.present.lock().unwrap_or_else(PoisonError::into_inner) = labels(plan);
    }

    /// Lets an engine of this configuration leave.
    pub(crate) fn leave(&mut self, left: Leaving, plan: &Plan, services: &Services) {
        let (mut had, services) = (labels(plan), services.clone());
        let present = Arc::clone(&self.present);
        let (gone, last) = oneshot::channel();
        let before = self.last.replace(last);
        self.tasks.spawn(async move {
            if let Err(error) = left.finish().await {
                tracing::warn!("{error}");
            }
            if let Some(before) = before {
                // One that was cut off has resolved, too.
                let _ = before.await;
            }
            let present = present.lock().unwrap_or_else(PoisonError::into_inner).clone();
            had.retain(|label| !present.contains(label));
            close_accounts(&services, &had, &present);
            // Nobody may wait for it.
            let _ = gone.send(());
        });
    }

    /// Waits for all, as long as one may take.
    pub(crate) async fn all_gone(&mut self, grace: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // What is late is left behind.
        let _ = tokio::time::timeout(grace, all).await;
    }
}

/// Series and state end with the component that they are of, and its account is closed.
fn close_accounts(services: &Services, gone: &BTreeSet<String>, present: &BTreeSet<String>) {
    let id_of = |label: &str| label.split_once("::").map_or(label, |(_, id)| id).to_owned();
    let ids: BTreeSet<String> = gone.iter().map(|label| id_of(label)).collect();
    let kept: BTreeSet<String> = present.iter().map(|label| id_of(label)).collect();
    let is_gone = |component: &str| {
        // What a component counts itself has its id alone, which may be that of another kind, too.
        let is_bare = !component.contains("::");
        gone.contains(component) || is_bare && ids.contains(component) && !kept.contains(component)
    };
    account::say(&services.metrics, &services.queues, is_gone);
    services.metrics.forget_components(is_gone);
    services.queues.close_accounts(&services.metrics, is_gone);
    services.carried.forget(is_gone);
}

/// The components of a configuration, as in metrics.
fn labels(plan: &Plan) -> BTreeSet<String> {
    plan.components().map(|(kind, id, _)| format!("{}::{id}", kind.section())).collect()
}
