//! The `resource` processor: changes the attributes of resources.

mod config;
#[cfg(test)]
mod tests;

use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Access, Error, Factory, Outbox, Processor, Stability};
use profpipe_profile::{Resource, Value};

use crate::actions::{Change, Target};

pub use config::Config;

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<Config>(
    "resource",
    Stability::Beta,
    "changes the attributes of resources",
);

struct ResourceProcessor {
    changes: Vec<Change>,
}

impl Processor for ResourceProcessor {
    fn process(&mut self, mut batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        if !self.changes.is_empty() {
            let edit = |resource: &mut Resource| {
                for change in &self.changes {
                    change.apply(resource);
                }
            };
            batch
                .edit_resources(edit)
                .map_err(|cause| Error::with_source("cannot read the batch", cause))?;
        }
        out.push(batch);
        Ok(())
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn wants(&self) -> Access {
        Access::Resources
    }
}

impl Target for Resource {
    fn get(&self, key: &str) -> Option<Value> {
        Resource::get(self, key).cloned()
    }

    fn set(&mut self, key: &str, value: Value) {
        Resource::set(self, key, value);
    }

    fn remove(&mut self, key: &str) {
        self.attributes.retain(|attribute| attribute.key != key);
    }

    fn keys(&self) -> Vec<String> {
        self.attributes.iter().map(|attribute| attribute.key.clone()).collect()
    }
}
