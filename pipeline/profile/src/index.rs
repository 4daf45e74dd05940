//! Typed row numbers: one type per table, so that an index cannot be used in the wrong one.

/// A row number of some table.
pub trait Index: Copy + Eq + std::hash::Hash + std::fmt::Debug + Default {
    /// The row `at`, which the caller knows to exist.
    fn new(at: u32) -> Self;
    /// The row number, for indexing a column.
    fn at(self) -> usize;
    /// The row number as it stands on the wire.
    fn raw(self) -> u32;
    /// True for row 0, which means "none".
    fn is_none(self) -> bool {
        self.raw() == 0
    }
}

macro_rules! indices {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u32);

        impl $name {
            /// Row 0: none.
            pub const NONE: Self = Self(0);
        }

        impl Index for $name {
            fn new(at: u32) -> Self { Self(at) }
            fn at(self) -> usize { self.0 as usize }
            fn raw(self) -> u32 { self.0 }
        }
    )*};
}

indices! {
    /// A row of [`super::Strings`].
    StringIx
    /// A row of [`super::Attributes`].
    AttributeIx
    /// A row of [`super::Mappings`].
    MappingIx
    /// A row of [`super::Functions`].
    FunctionIx
    /// A row of [`super::Locations`].
    LocationIx
    /// A row of [`super::Stacks`].
    StackIx
    /// A row of [`super::Links`].
    LinkIx
}
