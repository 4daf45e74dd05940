//! Every built-in component, in one place.

use profpipe_engine::component::Factory;

/// The built-in components: receivers, processors, exporters, extensions.
pub fn components() -> impl Iterator<Item = &'static Factory> {
    profpipe_receivers::COMPONENTS
        .iter()
        .chain(profpipe_processors::COMPONENTS)
        .chain(profpipe_exporters::COMPONENTS)
        .chain(profpipe_extensions::COMPONENTS)
}
