//! How a component is registered: its name, its configuration and how to build it.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use schemars::Schema;
use serde::Serialize;

use super::{Error, Exporter, Extension, Extensions, Offer, Processor, Receiver};
use crate::config::{Config, ConfigError, Section};
use crate::delivery::{self, DeliveryDefaults};
use crate::services::Services;

/// The configuration of a receiver.
pub trait ReceiverConfig: Config {
    /// Builds the receiver.
    ///
    /// # Errors
    /// If it cannot run on this host; says what to do.
    fn build(self, setup: &Setup) -> Result<Box<dyn Receiver>, Error>;
}

/// The configuration of a processor.
pub trait ProcessorConfig: Config {
    /// Types of receivers of which a pipeline needs at least one for this processor to do anything;
    /// empty: any will do.
    fn only_with() -> &'static [&'static str] {
        &[]
    }

    /// Builds the processor.
    ///
    /// # Errors
    /// If it cannot run on this host; says what to do.
    fn build(self, setup: &Setup) -> Result<Box<dyn Processor>, Error>;
}

/// The configuration of an exporter.
pub trait ExporterConfig: Config {
    /// How its batches are delivered where the configuration says nothing. The engine reads
    /// `timeout`, `retry_on_failure` and `sending_queue` itself; the configuration has no such
    /// fields.
    fn delivery() -> DeliveryDefaults {
        DeliveryDefaults::default()
    }

    /// Builds the exporter.
    ///
    /// # Errors
    /// If it cannot run on this host; says what to do.
    fn build(self, setup: &Setup) -> Result<Box<dyn Exporter>, Error>;
}

/// The configuration of an extension.
pub trait ExtensionConfig: Config {
    /// What the extension can be used for, so that a reference to the wrong one is found before
    /// anything is built. `None`: only building it can tell.
    fn offers() -> Option<&'static [Offer]> {
        None
    }

    /// Builds the extension.
    ///
    /// # Errors
    /// If it cannot run on this host; says what to do.
    fn build(self, setup: &Setup) -> Result<Arc<dyn Extension>, Error>;
}

/// What a component is given when it is built.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The component's id in the configuration: `type` or `type/name`.
    pub id: String,
    /// What the host program offers to components.
    pub services: Services,
    /// The extensions of the configuration; none while these are built themselves.
    pub extensions: Extensions,
    /// How much memory batches may take, as far as this component cares.
    pub memory: MemoryLimit,
}

/// How much memory batches may take: the least of what components of one configuration want.
#[derive(Debug, Clone)]
pub struct MemoryLimit(Arc<AtomicUsize>);

impl Default for MemoryLimit {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(usize::MAX)))
    }
}

impl MemoryLimit {
    /// Wants no more than so many bytes.
    pub fn at_most(&self, bytes: usize) {
        self.0.fetch_min(bytes, Ordering::AcqRel);
    }

    /// The least of what was wanted; none if nobody wanted any.
    pub fn get(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Acquire)).filter(|bytes| *bytes != usize::MAX)
    }
}

impl Setup {
    /// For a component of this id, without extensions.
    pub fn new(id: impl Into<String>, services: Services) -> Self {
        Self {
            id: id.into(),
            services,
            extensions: Extensions::default(),
            memory: MemoryLimit::default(),
        }
    }
}

/// The role of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Where profiles enter.
    Receiver,
    /// What happens to them on their way.
    Processor,
    /// Where they leave.
    Exporter,
    /// What serves components without being on the way of the data.
    Extension,
}

impl Kind {
    /// The section of a configuration that has them.
    pub fn section(self) -> &'static str {
        match self {
            Self::Receiver => "receivers",
            Self::Processor => "processors",
            Self::Exporter => "exporters",
            Self::Extension => "extensions",
        }
    }
}

/// How settled a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stability {
    /// Works, and may still change its configuration.
    Alpha,
    /// Changes its configuration only with a deprecation.
    Beta,
    /// Does not change.
    Stable,
}

/// A configuration that was read and validated.
pub type Parsed = Box<dyn Any + Send>;

/// A component that was built.
pub enum Built {
    /// A receiver.
    Receiver(Box<dyn Receiver>),
    /// A processor.
    Processor(Box<dyn Processor>),
    /// An exporter.
    Exporter(Box<dyn Exporter>),
    /// An extension.
    Extension(Arc<dyn Extension>),
}

/// A registered component type.
#[derive(Clone, Copy)]
pub struct Factory {
    /// Its role.
    pub kind: Kind,
    /// The type, as users write it.
    pub name: &'static str,
    /// Older spellings.
    pub aliases: &'static [&'static str],
    /// How settled it is.
    pub stability: Stability,
    /// One line about it.
    pub about: &'static str,
    /// The JSON schema of its configuration.
    pub schema: fn() -> Schema,
    /// Its default configuration.
    pub defaults: fn() -> serde_json::Value,
    /// Reads and validates its section of a configuration; every mistake at once.
    pub parse: fn(&Section) -> Result<Parsed, Vec<ConfigError>>,
    /// What is suspicious in a section without mistakes.
    pub advise: fn(&Section) -> Vec<ConfigError>,
    /// Where its servers listen: the field, and its `host:port`.
    pub(crate) listens: fn(&Section) -> Vec<(&'static str, String)>,
    /// Builds it from what `parse` returned.
    pub build: fn(Parsed, &Setup) -> Result<Built, Error>,
    /// How the batches of an exporter are delivered where its section says nothing.
    pub(crate) delivery: fn() -> DeliveryDefaults,
    /// The receivers of which a processor needs one.
    pub(crate) only_with: fn() -> &'static [&'static str],
    /// Whether a receiver's batches are taken on this host.
    pub(crate) samples_this_host: bool,
    /// What an extension can be used for, if that is known before it is built.
    pub(crate) offers: fn() -> Option<&'static [Offer]>,
}

impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Factory").field("kind", &self.kind).field("name", &self.name).finish()
    }
}

impl Factory {
    /// Registers a receiver by its configuration.
    pub const fn receiver<C: ReceiverConfig>(
        name: &'static str,
        stability: Stability,
        about: &'static str,
    ) -> Self {
        Self::new::<C>(Kind::Receiver, name, stability, about, |parsed, setup| {
            own::<C>(parsed)?.build(setup).map(Built::Receiver)
        })
    }

    /// Registers a processor by its configuration.
    pub const fn processor<C: ProcessorConfig>(
        name: &'static str,
        stability: Stability,
        about: &'static str,
    ) -> Self {
        let factory = Self::new::<C>(Kind::Processor, name, stability, about, |parsed, setup| {
            own::<C>(parsed)?.build(setup).map(Built::Processor)
        });
        Self { only_with: C::only_with, ..factory }
    }

    /// Registers an exporter by its configuration.
    pub const fn exporter<C: ExporterConfig>(
        name: &'static str,
        stability: Stability,
        about: &'static str,
    ) -> Self {
        let factory = Self::new::<C>(Kind::Exporter, name, stability, about, |parsed, setup| {
            own::<C>(parsed)?.build(setup).map(Built::Exporter)
        });
        Self {
            schema: || delivery::extend_schema(schemars::schema_for!(C)),
            defaults: || {
                let own = serde_json::to_value(C::default()).unwrap_or_default();
                delivery::extend_defaults(own, C::delivery())
            },
            parse: parse_exporter::<C>,
            advise: |section| delivery::separate(section, |_| true).0.advice::<C>(),
            delivery: C::delivery,
            ..factory
        }
    }

    /// Registers an extension by its configuration.
    pub const fn extension<C: ExtensionConfig>(
        name: &'static str,
        stability: Stability,
        about: &'static str,
    ) -> Self {
        let factory = Self::new::<C>(Kind::Extension, name, stability, about, |parsed, setup| {
            own::<C>(parsed)?.build(setup).map(Built::Extension)
        });
        Self { offers: C::offers, ..factory }
    }

    /// The same receiver, which samples this host: its batches say so ([`Origin::ThisHost`]).
    ///
    /// [`Origin::ThisHost`]: crate::batch::Origin::ThisHost
    pub const fn of_this_host(mut self) -> Self {
        self.samples_this_host = true;
        self
    }

    /// The same component under older names too.
    pub const fn with_aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn new<C: Config>(
        kind: Kind,
        name: &'static str,
        stability: Stability,
        about: &'static str,
        build: fn(Parsed, &Setup) -> Result<Built, Error>,
    ) -> Self {
        Self {
            kind,
            name,
            aliases: &[],
            stability,
            about,
            schema: || schemars::schema_for!(C),
            defaults: || serde_json::to_value(C::default()).unwrap_or_default(),
            parse: |section| section.read_valid::<C>().map(|config| Box::new(config) as Parsed),
            advise: |section| section.advice::<C>(),
            listens: |section| section.read::<C>().map(|c| c.listens()).unwrap_or_default(),
            build,
            delivery: DeliveryDefaults::default,
            offers: || None,
            only_with: || &[],
            samples_this_host: false,
        }
    }
}

/// Reads an exporter's own part of its section, and the engine's for its mistakes.
fn parse_exporter<C: ExporterConfig>(section: &Section) -> Result<Parsed, Vec<ConfigError>> {
    let schema = schemars::schema_for!(C);
    let known = |key: &str| schema.pointer("/properties").is_some_and(|all| all.get(key).is_some());
    let (own, ours) = delivery::separate(section, known);
    match (own.read_valid::<C>(), delivery::check(&ours, C::delivery())) {
        (Ok(config), Ok(())) => Ok(Box::new(config)),
        (own, ours) => {
            let mut errors = own.err().unwrap_or_default();
            errors.extend(ours.err().unwrap_or_default());
            Err(errors)
        }
    }
}

fn own<C: 'static>(parsed: Parsed) -> Result<C, Error> {
    parsed
        .downcast()
        .map(|config| *config)
        .map_err(|_| Error::new("a component was built from another component's configuration"))
}
