//! What a component knows and the next one of its id is to know, too.
//!
//! A reload builds every component anew. What it can only learn from the data, such as the last counts of
//! programs that count from their start, is carried over here, by the component's id.
//!
//! What depends on the settings is carried over only if they are the same ([`CarriedState::of_same`]).
//! The engine that leaves and the one that comes have the state together for a while.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

type States = BTreeMap<(String, TypeId), Arc<dyn Any + Send + Sync>>;

/// State of components that outlives an engine.
#[derive(Default)]
pub struct CarriedState(Mutex<States>);

/// State, and the settings that it was made with.
struct Same<C, T>(Mutex<Option<(C, Arc<T>)>>);

impl<C, T> Default for Same<C, T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

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

    /// As [`CarriedState::of`], if the component had these settings before; otherwise a new one, and the old
    /// one is forgotten. Take as settings whatever the state depends on.
    pub fn of_same<C, T>(&self, component: &str, settings: &C) -> Arc<T>
    where
        C: PartialEq + Clone + Send + Sync + 'static,
        T: Default + Send + Sync + 'static,
    {
        let kept = self.of::<Same<C, T>>(component);
        let mut kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((known, state)) if known == settings => Arc::clone(state),
            _ => {
                let state = Arc::<T>::default();
                *kept = Some((settings.clone(), Arc::clone(&state)));
                state
            }
        }
    }

    /// Forgets the state of components that are gone.
    pub fn forget(&self, is_gone: impl Fn(&str) -> bool) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|(component, _), _| !is_gone(component));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::CarriedState;

    /// Scenario: a component asks for its state again and again: with the same settings, with others, after it
    /// was gone.
    /// Guarantees: it has the same state as long as nothing of that changed, and never that of another.
    #[test]
    fn state_goes_with_a_component_and_its_settings() {
        let carried = CarriedState::default();
        let of = |id: &str, settings: u8| carried.of_same::<u8, AtomicU32>(id, &settings);
        of("exporters::a", 1).store(7, Ordering::Relaxed);
        let seen = |state: Arc<AtomicU32>| state.load(Ordering::Relaxed);
        assert_eq!(seen(of("exporters::a", 1)), 7);
        assert_eq!(seen(of("exporters::b", 1)), 0);
        assert_eq!(seen(of("exporters::a", 2)), 0);
        assert_eq!(seen(of("exporters::a", 1)), 0, "what others had in between is not mixed up");
        of("exporters::a", 1).store(9, Ordering::Relaxed);
        carried.forget(|component| component == "exporters::a");
        assert_eq!(seen(of("exporters::a", 1)), 0);
    }
}
