//! What a condition can ask about: the paths, at which level each is, and how it is remembered.

/// Where a condition stands, which says what a path without a prefix means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// `attributes` are those of the resource.
    Resource,
    /// … of the scope.
    Scope,
    /// … of the profile.
    Profile,
    /// … of the sample.
    Sample,
    /// … of the location.
    Frame,
    /// Every path says what it is of, and the deepest says what the condition is about.
    Inferred,
}

/// What a condition is about; the deeper, the more often it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Resource,
    Scope,
    Profile,
    Sample,
    Frame,
}

/// For which row of which table an atom's answer can be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It asks only about the profile and what it is of.
    Profile,
    /// It asks about one attribute of the sample: once for each row of the attribute table.
    Attribute(String),
    /// It asks about the stack: once for each row of the stack table.
    Stack,
    /// It asks about the function of a frame.
    Function,
    /// It asks about the mapping of a frame.
    Mapping,
    /// It is asked every time.
    Other,
}

/// A key in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Name(String),
    Position(usize),
}

/// Something that a condition can ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) field: Field,
    /// What stands in brackets; the first is the attribute.
    pub(crate) keys: Vec<Key>,
}

macro_rules! fields {
    ($($level:ident: $($name:literal)+ => $field:ident,)*) => {
        /// The fields of everything.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Field { $($field,)* }

        /// Every name of every field, with its level.
        const FIELDS: &[(&str, Field, Level)] =
            &[$($(($name, Field::$field, Level::$level),)+)*];
    };
}

fields! {
    Resource: "resource.attributes" => ResourceAttributes,
    Resource: "resource.schema_url" => ResourceSchemaUrl,
    Resource: "resource.dropped_attributes_count" => ResourceDropped,
    Scope: "scope.attributes" "instrumentation_scope.attributes" => ScopeAttributes,
    Scope: "scope.name" "instrumentation_scope.name" => ScopeName,
    Scope: "scope.version" "instrumentation_scope.version" => ScopeVersion,
    Scope: "scope.schema_url" => ScopeSchemaUrl,
    Profile: "profile.attributes" => ProfileAttributes,
    Profile: "profile.sample_type.type" => SampleType,
    Profile: "profile.sample_type.unit" => SampleUnit,
    Profile: "profile.period_type.type" => PeriodType,
    Profile: "profile.period_type.unit" => PeriodUnit,
    Profile: "profile.period" => Period,
    Profile: "profile.time_unix_nano" => Time,
    Profile: "profile.duration_unix_nano" "profile.duration_nano" => Duration,
    Profile: "profile.profile_id.string" => ProfileId,
    Profile: "profile.dropped_attributes_count" => ProfileDropped,
    Profile: "profile.original_payload_format" => PayloadFormat,
    Sample: "sample.attributes" "profilesample.attributes" => SampleAttributes,
    Sample: "sample.value" => SampleValue,
    Sample: "sample.depth" => StackDepth,
    Sample: "sample.trace_id.string" => TraceId,
    Sample: "sample.span_id.string" => SpanId,
    Frame: "frame.attributes" => FrameAttributes,
    Frame: "frame.function.name" => FunctionName,
    Frame: "frame.function.system_name" => FunctionSystemName,
    Frame: "frame.function.start_line" => FunctionLine,
    Frame: "frame.file" "frame.function.file" => File,
    Frame: "frame.line" => Line,
    Frame: "frame.address" => Address,
    Frame: "mapping.filename" "frame.mapping.filename" => MappingFile,
    Frame: "mapping.attributes" "frame.mapping.attributes" => MappingAttributes,
}

impl Field {
    pub(crate) fn level(self) -> Level {
        FIELDS.iter().find(|(_, field, _)| *field == self).map_or(Level::Frame, |found| found.2)
    }

    /// Whether it is a map, of which a key in brackets must be chosen.
    pub(crate) fn is_map(self) -> bool {
        use Field::{
            FrameAttributes, MappingAttributes, ProfileAttributes, ResourceAttributes,
            SampleAttributes, ScopeAttributes,
        };
        matches!(
            self,
            ResourceAttributes
                | ScopeAttributes
                | ProfileAttributes
                | SampleAttributes
                | FrameAttributes
                | MappingAttributes
        )
    }

    /// The attributes that `attributes` alone means.
    pub(crate) fn bare(context: Context) -> Option<Self> {
        Some(match context {
            Context::Resource => Self::ResourceAttributes,
            Context::Scope => Self::ScopeAttributes,
            Context::Profile => Self::ProfileAttributes,
            Context::Sample => Self::SampleAttributes,
            Context::Frame => Self::FrameAttributes,
            Context::Inferred => return None,
        })
    }

    /// The field of this name, as the Collector or we call it.
    pub(crate) fn named(name: &str, context: Context) -> Option<Self> {
        if name == "attributes" {
            return Self::bare(context);
        }
        let found = FIELDS.iter().find(|(known, ..)| *known == name).map(|found| found.1);
        // In its own context the Collector lets the prefix away.
        let prefix = match context {
            Context::Resource => "resource.",
            Context::Scope => "scope.",
            Context::Profile => "profile.",
            Context::Sample => "sample.",
            Context::Frame => "frame.",
            Context::Inferred => return found,
        };
        found.or_else(|| {
            let full = format!("{prefix}{name}");
            FIELDS.iter().find(|(known, ..)| *known == full).map(|found| found.1)
        })
    }

    /// The names that can stand in a condition of this context, for a message.
    pub(crate) fn accepted(context: Context) -> String {
        let deepest = context.deepest();
        let mut names = Vec::new();
        for (name, field, level) in FIELDS {
            let fits = match context {
                Context::Frame => *level == Level::Frame,
                _ => *level <= deepest,
            };
            let is_alias = name.starts_with("instrumentation_")
                || name.starts_with("profilesample.")
                || name.starts_with("frame.mapping")
                || matches!(*name, "frame.function.file" | "profile.duration_nano");
            if fits && !is_alias {
                names.push(format!("{name}{}", if field.is_map() { "[\"…\"]" } else { "" }));
            }
        }
        names.join(", ")
    }
}

impl Context {
    /// The deepest level that may be asked about.
    pub(crate) fn deepest(self) -> Level {
        match self {
            Self::Resource => Level::Resource,
            Self::Scope => Level::Scope,
            Self::Profile => Level::Profile,
            Self::Sample | Self::Inferred => Level::Sample,
            Self::Frame => Level::Frame,
        }
    }
}

impl Path {
    pub(crate) fn level(&self) -> Level {
        self.field.level()
    }

    /// How an atom that asks only about this is remembered.
    pub(crate) fn kind(&self) -> Kind {
        use Field::{
            File, FunctionLine, FunctionName, FunctionSystemName, MappingAttributes, MappingFile,
            SampleAttributes, StackDepth,
        };
        match (self.field, self.keys.first()) {
            (SampleAttributes, Some(Key::Name(name))) => Kind::Attribute(name.clone()),
            (StackDepth, _) => Kind::Stack,
            (FunctionName | FunctionSystemName | FunctionLine | File, _) => Kind::Function,
            (MappingAttributes | MappingFile, _) => Kind::Mapping,
            _ if self.level() <= Level::Profile => Kind::Profile,
            _ => Kind::Other,
        }
    }
}
