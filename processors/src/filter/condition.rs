//! A condition at work: with what it came to for rows of the tables of a batch.
//!
//! An answer is remembered for the row that it depends on, so that a regular expression sees each
//! function of a batch once, however many samples call it.

use profpipe_profile::{
    AttributeIx, Dictionary, Function, FunctionIx, Index, KeyValue, Line, LocationIx, LocationRef,
    Profile, Resource, SampleRef, Scope, StackIx, StringIx, Value,
};

use super::config::ErrorMode;
use super::language::{
    Datum, Environment, Expression, Fault, Field, Key, Kind, Level, Outcome, Path, Predicate,
    Which, hex,
};

/// Where a condition is written, and how its errors are taken.
#[derive(Debug, Clone)]
pub(super) struct ConditionSite {
    pub(super) at: String,
    pub(super) mode: ErrorMode,
}

/// A condition.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) place: ConditionSite,
    pub(super) expression: Expression,
}

impl Condition {
    pub(super) fn new(place: ConditionSite, expression: Expression) -> Self {
        Self { place, expression }
    }

    pub(super) fn level(&self) -> Level {
        self.expression.level
    }
}

/// What is asked about: a resource, or something deeper in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) resource: &'a Resource,
    pub(super) schema_url: &'a str,
    pub(super) scope: Option<(&'a Scope, &'a str)>,
    pub(super) profile: Option<(&'a Dictionary, &'a Profile)>,
    pub(super) sample: Option<SampleRef<'a>>,
}

impl Environment for Subject<'_> {
    fn get(&self, path: &Path) -> Datum<'_> {
        let found = match path.field.level() {
            Level::Resource => self.of_resource(path),
            Level::Scope => self.of_scope(path),
            Level::Profile => self.of_profile(path),
            Level::Sample => self.of_sample(path),
            Level::Frame => None,
        };
        found.unwrap_or(Datum::Nil)
    }
}

impl<'a> Subject<'a> {
    fn of_resource(&self, path: &Path) -> Option<Datum<'a>> {
        Some(match path.field {
            Field::ResourceSchemaUrl => Datum::text(self.schema_url),
            Field::ResourceDropped => Datum::Int(self.resource.dropped_attributes_count.into()),
            _ => keyed(&self.resource.attributes, &path.keys)?,
        })
    }

    fn of_scope(&self, path: &Path) -> Option<Datum<'a>> {
        let (scope, schema_url) = self.scope?;
        Some(match path.field {
            Field::ScopeName => Datum::text(&scope.name),
            Field::ScopeVersion => Datum::text(&scope.version),
            Field::ScopeSchemaUrl => Datum::text(schema_url),
            _ => keyed(&scope.attributes, &path.keys)?,
        })
    }

    fn of_profile(&self, path: &Path) -> Option<Datum<'a>> {
        let (dictionary, profile) = self.profile?;
        let text = |row: StringIx| Datum::text(dictionary.strings.get(row));
        Some(match path.field {
            Field::SampleType => text(profile.sample_type.kind),
            Field::SampleUnit => text(profile.sample_type.unit),
            Field::PeriodType => text(profile.period_type.kind),
            Field::PeriodUnit => text(profile.period_type.unit),
            Field::Period => Datum::Int(profile.period),
            Field::Time => Datum::Int(profile.time_unix_nano.cast_signed()),
            Field::Duration => Datum::Int(profile.duration_nano.cast_signed()),
            Field::ProfileId => Datum::Text(hex(&profile.profile_id).into()),
            Field::ProfileDropped => Datum::Int(profile.dropped_attributes_count.into()),
            Field::PayloadFormat => Datum::text(&profile.original_payload_format),
            _ => referenced(dictionary, &profile.attributes, &path.keys)?,
        })
    }

    fn of_sample(&self, path: &Path) -> Option<Datum<'a>> {
        let (dictionary, _) = self.profile?;
        let sample = self.sample?;
        let link = || dictionary.links.get(sample.link);
        Some(match path.field {
            Field::SampleValue => Datum::Int(sample.weight()),
            Field::StackDepth => Datum::Int(dictionary.stacks.get(sample.stack).len() as i64),
            Field::TraceId if sample.link.is_none() => return None,
            Field::SpanId if sample.link.is_none() => return None,
            Field::TraceId => Datum::Text(hex(&link().trace_id).into()),
            Field::SpanId => Datum::Text(hex(&link().span_id).into()),
            _ => referenced(dictionary, sample.attributes, &path.keys)?,
        })
    }
}

/// The attribute that the keys name.
fn keyed<'a>(attributes: &'a [KeyValue], keys: &[Key]) -> Option<Datum<'a>> {
    let (Key::Name(name), inner) = keys.split_first()? else { return None };
    let found = attributes.iter().find(|attribute| attribute.key == *name)?;
    within(&found.value, inner)
}

/// As [`keyed`], of rows of the attribute table.
fn referenced<'a>(
    dictionary: &'a Dictionary,
    rows: &[AttributeIx],
    keys: &[Key],
) -> Option<Datum<'a>> {
    let (Key::Name(name), inner) = keys.split_first()? else { return None };
    let key = |row: AttributeIx| dictionary.strings.get(dictionary.attributes.key(row));
    let row = rows.iter().find(|row| key(**row) == name)?;
    within(dictionary.attributes.value(*row), inner)
}

fn within<'a>(value: &'a Value, keys: &[Key]) -> Option<Datum<'a>> {
    let mut value = value;
    for key in keys {
        value = match (value, key) {
            (Value::Map(pairs), Key::Name(name)) => {
                pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value)?
            }
            (Value::Array(items), Key::Position(at)) => items.get(*at)?,
            _ => return None,
        };
    }
    Some(Datum::of(value))
}

/// A frame: a location, and the line of it, if it has any.
struct Frame<'a> {
    dictionary: &'a Dictionary,
    location: LocationRef<'a>,
    line: Option<Line>,
}

impl Environment for Frame<'_> {
    fn get(&self, path: &Path) -> Datum<'_> {
        self.of(path).unwrap_or(Datum::Nil)
    }
}

impl<'a> Frame<'a> {
    fn function(&self) -> Option<Function> {
        let row = self.line?.function;
        (!row.is_none()).then(|| self.dictionary.functions.get(row))
    }

    fn of(&self, path: &Path) -> Option<Datum<'a>> {
        let dictionary = self.dictionary;
        let name = |row: StringIx| Datum::name(dictionary.strings.get(row));
        let number = |number: i64| if number == 0 { Datum::Nil } else { Datum::Int(number) };
        let mapping = || dictionary.mappings.get(self.location.mapping);
        Some(match path.field {
            Field::FunctionName => name(self.function()?.name),
            Field::FunctionSystemName => name(self.function()?.system_name),
            Field::File => name(self.function()?.filename),
            Field::FunctionLine => number(self.function()?.start_line),
            Field::Line => number(self.line?.line),
            Field::Address => Datum::Int(self.location.address.cast_signed()),
            Field::MappingFile => name(mapping().filename),
            Field::MappingAttributes => referenced(dictionary, mapping().attributes, &path.keys)?,
            _ => referenced(dictionary, self.location.attributes, &path.keys)?,
        })
    }
}

/// What a condition of frames came to, by row.
#[derive(Debug)]
pub(super) struct FrameMemory<'c> {
    expression: &'c Expression,
    /// For each atom, by row of the function or the mapping table.
    rows: Vec<Vec<Outcome>>,
}

impl<'c> FrameMemory<'c> {
    pub(super) fn new(expression: &'c Expression, dictionary: &Dictionary) -> Self {
        let rows = expression.atoms.iter().map(|atom| match atom.kind {
            Kind::Function => vec![Outcome::Unknown; dictionary.functions.len()],
            Kind::Mapping => vec![Outcome::Unknown; dictionary.mappings.len()],
            _ => Vec::new(),
        });
        Self { expression, rows: rows.collect() }
    }

    /// Whether the condition holds for a line of a location, or for one that has none.
    pub(super) fn ask(
        &mut self,
        dictionary: &Dictionary,
        location: LocationIx,
        line: Option<Line>,
    ) -> Outcome {
        let row = location;
        let location = dictionary.locations.get(row);
        let frame = Frame { dictionary, location, line };
        let Self { expression, rows } = self;
        expression.tree.evaluate(&mut |number| {
            let at = match expression.atoms.get(number).map(|atom| &atom.kind) {
                // Without a line there is no function: row 0, which no function has.
                Some(Kind::Function) => {
                    Some(line.map_or(FunctionIx::NONE, |line| line.function).at())
                }
                Some(Kind::Mapping) => Some(location.mapping.at()),
                _ => None,
            };
            let known = at.and_then(|at| rows.get_mut(number)?.get_mut(at));
            match known {
                Some(known) => {
                    if *known == Outcome::Unknown {
                        *known = expression.ask_atom(number, &frame);
                    }
                    *known
                }
                None => expression.ask_atom(number, &frame),
            }
        })
    }

    /// Why there was no answer.
    pub(super) fn fault(
        &self,
        dictionary: &Dictionary,
        location: LocationIx,
        line: Option<Line>,
    ) -> Option<Fault> {
        let location = dictionary.locations.get(location);
        self.expression.fault(&Frame { dictionary, location, line })
    }
}

/// What a condition came to in a batch.
#[derive(Debug)]
pub(super) struct Asked<'c> {
    pub(super) condition: &'c Condition,
    atoms: Vec<Remembered<'c>>,
}

#[derive(Debug)]
enum Remembered<'c> {
    /// For the profile at hand.
    Once(Outcome),
    /// For each row of the attribute table, nothing where the key is another; and without any.
    Attribute { key: &'c str, rows: Vec<Option<Option<Outcome>>>, none: Outcome },
    /// For each row of the stack table.
    Stack { rows: Vec<Outcome>, frames: Option<StackMemory<'c>> },
    /// Nothing is.
    No,
}

/// What a condition of the frames of a stack came to.
#[derive(Debug)]
struct StackMemory<'c> {
    which: Which,
    /// For each row of the location table.
    locations: Vec<Outcome>,
    frames: FrameMemory<'c>,
}

impl<'c> Asked<'c> {
    /// A condition that was not asked yet; without a dictionary if none is about samples.
    pub(super) fn new(condition: &'c Condition, dictionary: Option<&Dictionary>) -> Self {
        let atoms = condition.expression.atoms.iter().map(|atom| {
            match (&atom.kind, dictionary, &atom.question) {
                (Kind::Profile, ..) => Remembered::Once(Outcome::Unknown),
                (Kind::Attribute(key), Some(dictionary), _) => Remembered::Attribute {
                    key,
                    rows: vec![None; dictionary.attributes.len()],
                    none: Outcome::Unknown,
                },
                (Kind::Stack, Some(dictionary), question) => Remembered::Stack {
                    rows: vec![Outcome::Unknown; dictionary.stacks.len()],
                    frames: match question {
                        Predicate::Stack(which, inner) => Some(StackMemory {
                            which: *which,
                            locations: vec![Outcome::Unknown; dictionary.locations.len()],
                            frames: FrameMemory::new(inner, dictionary),
                        }),
                        _ => None,
                    },
                },
                _ => Remembered::No,
            }
        });
        Self { condition, atoms: atoms.collect() }
    }

    /// Begins another resource, scope or profile.
    pub(super) fn begin(&mut self) {
        for atom in &mut self.atoms {
            if let Remembered::Once(known) = atom {
                *known = Outcome::Unknown;
            }
        }
    }

    /// Whether the condition holds.
    pub(super) fn ask(&mut self, subject: &Subject<'_>) -> Outcome {
        let expression = &self.condition.expression;
        let atoms = &mut self.atoms;
        expression.tree.evaluate(&mut |number| {
            let fresh = || expression.ask_atom(number, subject);
            match (atoms.get_mut(number), subject.profile, subject.sample) {
                (Some(Remembered::Once(known)), ..) => {
                    if *known == Outcome::Unknown {
                        *known = fresh();
                    }
                    *known
                }
                (
                    Some(Remembered::Attribute { key, rows, none }),
                    Some((dictionary, _)),
                    Some(sample),
                ) => {
                    for row in sample.attributes {
                        let Some(known) = rows.get_mut(row.at()) else { continue };
                        let found = *known.get_or_insert_with(|| {
                            let name = dictionary.strings.get(dictionary.attributes.key(*row));
                            (name == *key).then(fresh)
                        });
                        if let Some(outcome) = found {
                            return outcome;
                        }
                    }
                    if *none == Outcome::Unknown {
                        *none = fresh();
                    }
                    *none
                }
                (Some(Remembered::Stack { rows, frames }), Some((dictionary, _)), Some(sample)) => {
                    let Some(known) = rows.get_mut(sample.stack.at()) else { return fresh() };
                    if *known == Outcome::Unknown {
                        *known = match frames {
                            Some(frames) => frames.ask(dictionary, sample.stack),
                            None => fresh(),
                        };
                    }
                    *known
                }
                _ => fresh(),
            }
        })
    }

    /// Why there was no answer.
    pub(super) fn fault(&self, subject: &Subject<'_>) -> String {
        let fault = self.condition.expression.fault(subject);
        fault.map_or_else(|| "a value of a frame is of the wrong type".to_owned(), |fault| fault.0)
    }
}

impl StackMemory<'_> {
    fn ask(&mut self, dictionary: &Dictionary, stack: StackIx) -> Outcome {
        let locations = dictionary.stacks.get(stack);
        let asked = match self.which {
            Which::Any => locations,
            Which::Leaf => locations.get(..1).unwrap_or_default(),
            Which::Root => locations.last().map_or(&[][..], std::slice::from_ref),
        };
        let mut worst = Outcome::False;
        for location in asked {
            match self.location(dictionary, *location) {
                Outcome::True => return Outcome::True,
                Outcome::Fault => worst = Outcome::Fault,
                _ => {}
            }
        }
        worst
    }

    fn location(&mut self, dictionary: &Dictionary, row: LocationIx) -> Outcome {
        let Some(known) = self.locations.get_mut(row.at()) else { return Outcome::False };
        if *known == Outcome::Unknown {
            let lines = dictionary.locations.get(row).lines;
            *known = match self.which {
                Which::Leaf => self.frames.ask(dictionary, row, lines.first().copied()),
                Which::Root => self.frames.ask(dictionary, row, lines.last().copied()),
                Which::Any if lines.is_empty() => self.frames.ask(dictionary, row, None),
                Which::Any => {
                    let mut worst = Outcome::False;
                    for line in lines {
                        match self.frames.ask(dictionary, row, Some(*line)) {
                            Outcome::True => {
                                worst = Outcome::True;
                                break;
                            }
                            Outcome::Fault => worst = Outcome::Fault,
                            _ => {}
                        }
                    }
                    worst
                }
            };
        }
        *known
    }
}
