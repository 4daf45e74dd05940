//! The component types that a program has, and the words for what it has not.

use std::collections::BTreeSet;

use crate::component::{Factory, Kind};
use crate::config::did_you_mean;

/// The component types that a program has.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    factories: Vec<Factory>,
    /// Components that the program brings ready-made, by kind and id.
    pub(super) ready: BTreeSet<(Kind, String)>,
}

impl Catalog {
    /// A catalog of these types.
    pub fn new(factories: impl IntoIterator<Item = Factory>) -> Self {
        Self { factories: factories.into_iter().collect(), ready: BTreeSet::new() }
    }

    /// Adds a type; it hides an earlier one of the same kind and name.
    pub fn add(&mut self, factory: Factory) {
        self.factories.insert(0, factory);
    }

    pub(super) fn add_ready(&mut self, kind: Kind, id: &str) {
        self.ready.insert((kind, id.to_owned()));
    }

    pub(super) fn find(&self, kind: Kind, name: &str) -> Option<&Factory> {
        let of_kind = || self.factories.iter().filter(|factory| factory.kind == kind);
        let exact = of_kind().find(|factory| factory.name == name);
        exact.or_else(|| of_kind().find(|factory| factory.aliases.contains(&name)))
    }

    /// Why there is no such type, and what there is instead.
    pub(super) fn explain(&self, kind: Kind, name: &str) -> String {
        let other = self.factories.iter().find(|factory| factory.name == name);
        if let Some(other) = other {
            return format!("`{name}` is {}, not {}", word(other.kind), word(kind));
        }
        let names = || {
            let of_kind = self.factories.iter().filter(move |factory| factory.kind == kind);
            of_kind.map(|factory| factory.name)
        };
        let mut hint = did_you_mean(name, names());
        if hint.is_empty() && names().next().is_some() {
            hint = format!("; there are: {}", names().collect::<Vec<_>>().join(", "));
        }
        format!("there is no {} of type `{name}`{hint}", plain_word(kind))
    }
}

pub(super) fn plain_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Receiver => "receiver",
        Kind::Processor => "processor",
        Kind::Exporter => "exporter",
        Kind::Extension => "extension",
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Receiver => "a receiver",
        Kind::Processor => "a processor",
        Kind::Exporter => "an exporter",
        Kind::Extension => "an extension",
    }
}
