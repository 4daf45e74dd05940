//! The one check of indices: every index of every column is a row of the table it points into.
//!
//! A codec pushes rows as they come and runs this once; from then on indexing is plain. A column
//! is checked as a whole, without branches, and searched only if that fails.

use super::{Dictionary, Index, Profile, ValueType};

/// An index that is not a row of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfRange {
    /// Where it stands, as `location_table[3].mapping_index`.
    pub field: String,
    /// Its position in the column that was checked.
    pub item: usize,
    /// The index.
    pub index: u32,
    /// The rows of the table that it should point into.
    pub rows: usize,
}

impl OutOfRange {
    /// True if it is an attribute index of a sample.
    pub fn in_samples(&self) -> bool {
        self.field == SAMPLE_ATTRIBUTES
    }
}

const SAMPLE_ATTRIBUTES: &str = "Sample.attribute_indices";

/// Checks a column whose items all point into a table of `rows` rows.
fn column<I: Index>(
    items: impl Iterator<Item = I> + Clone,
    rows: usize,
    field: impl FnOnce(usize) -> String,
) -> Result<(), OutOfRange> {
    // The highest bit of a number or of its distance to the last row is set if it is past that.
    // Every table has row 0; past 2^31 rows this may cry wolf, and the search finds nothing.
    let last = rows.saturating_sub(1).min(i32::MAX as usize) as u32;
    let signs = items.clone().fold(0, |signs, item| {
        let row = item.raw();
        signs | row | last.wrapping_sub(row)
    });
    if signs >> 31 == 0 {
        return Ok(());
    }
    match items.enumerate().find(|(_, index)| index.at() >= rows) {
        Some((item, index)) => {
            Err(OutOfRange { field: field(item), item, index: index.raw(), rows })
        }
        None => Ok(()),
    }
}

impl Dictionary {
    /// Checks every index of every table.
    ///
    /// # Errors
    /// The first index found that is out of range.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let strings = self.strings.len();
        let attributes = self.attributes.len();
        let named = |table: &'static str, field: &'static str| {
            move |row: usize| format!("{table}[{row}].{field}")
        };
        let of_lists = |field: &'static str| move |_: usize| field.to_owned();

        column(
            self.attributes.keys.iter().copied(),
            strings,
            named("attribute_table", "key_strindex"),
        )?;
        column(
            self.attributes.units.iter().copied(),
            strings,
            named("attribute_table", "unit_strindex"),
        )?;

        let mappings = &self.mappings;
        column(
            mappings.filenames.iter().copied(),
            strings,
            named("mapping_table", "filename_strindex"),
        )?;
        column(
            mappings.attributes.items().iter().copied(),
            attributes,
            of_lists("Mapping.attribute_indices"),
        )?;

        let functions = self.functions.rows();
        column(
            functions.iter().map(|row| row.name),
            strings,
            named("function_table", "name_strindex"),
        )?;
        column(
            functions.iter().map(|row| row.system_name),
            strings,
            named("function_table", "system_name_strindex"),
        )?;
        column(
            functions.iter().map(|row| row.filename),
            strings,
            named("function_table", "filename_strindex"),
        )?;

        let locations = &self.locations;
        column(
            locations.mappings.iter().copied(),
            self.mappings.len(),
            named("location_table", "mapping_index"),
        )?;
        column(
            locations.lines.items().iter().map(|line| line.function),
            self.functions.len(),
            of_lists("Line.function_index"),
        )?;
        column(
            locations.attributes.items().iter().copied(),
            attributes,
            of_lists("Location.attribute_indices"),
        )?;
        column(
            self.stacks.locations.items().iter().copied(),
            self.locations.len(),
            of_lists("Stack.location_indices"),
        )
    }
}

impl Profile {
    /// Checks every index of the profile against the tables.
    ///
    /// # Errors
    /// The first index found that is out of range.
    pub fn check(&self, dictionary: &Dictionary) -> Result<(), OutOfRange> {
        let strings = dictionary.strings.len();
        let attributes = dictionary.attributes.len();
        let types = [self.sample_type, self.period_type];
        column(types.iter().map(|ValueType { kind, .. }| *kind), strings, |_| {
            "ValueType.type_strindex".to_owned()
        })?;
        column(types.iter().map(|ValueType { unit, .. }| *unit), strings, |_| {
            "ValueType.unit_strindex".to_owned()
        })?;
        column(self.attributes.iter().copied(), attributes, |_| {
            "Profile.attribute_indices".to_owned()
        })?;
        let samples = &self.samples;
        column(samples.stacks.iter().copied(), dictionary.stacks.len(), |row| {
            format!("samples[{row}].stack_index")
        })?;
        column(samples.links.iter().copied(), dictionary.links.len(), |row| {
            format!("samples[{row}].link_index")
        })?;
        column(samples.attributes.items().iter().copied(), attributes, |_| {
            SAMPLE_ATTRIBUTES.to_owned()
        })
    }
}
