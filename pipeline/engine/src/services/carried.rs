//! What a component knows and the next one of its id is to know, too.
//!
//! A reload builds every component anew. What it can only learn from the data, such as the last counts of
//! programs that count from their start, is carried over here, by the component's id.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

type States = BTreeMap<(String, TypeId), Arc<dyn Any + Send + Sync>>;

/// State of components that outlives an engine.
#[derive(Default)]
pub struct CarriedState(Mutex<States>);

impl fmt::Debug for CarriedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CarriedState").finish_non_exhaustive()
    }
}

impl CarriedState {
    /// The state of this type that the component has, a new one if there is none. `component` is as in
    /// metrics: `receivers::pprof`.
    pub fn of<T: Default + Send + Sync + 'static>(&self, component: &str) -> Arc<T> {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (component.to_owned(), TypeId::of::<T>());
        let state = states.entry(key).or_insert_with(|| Arc::new(T::default()));
        // It has the type that its key says.
        Arc::clone(state).downcast().unwrap_or_default()
    }

    /// Forgets the state of components that are gone.
    pub fn forget(&self, is_gone: impl Fn(&str) -> bool) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|(component, _), _| !is_gone(component));
    }
}
