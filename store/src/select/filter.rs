//! Which rows of a type a selection has.

use profpipe_profile::{Index, Profile};

use super::Selection;
use crate::error::QueryError;
use crate::table::{ProfileType, Rows, Table};

/// A selection, made ready to look at rows.
pub(crate) struct Filter<'t> {
    /// The profiles of the batch, if spans are wanted.
    profiles: Vec<&'t Profile>,
    pub(crate) of: &'t ProfileType,
    pub(crate) rows: &'t Rows,
    /// By set of labels.
    sets: Vec<bool>,
    /// By path; none if all are wanted.
    paths: Option<Vec<bool>>,
    first: i64,
    last: i64,
    /// By link; none if all samples are wanted.
    links: Option<Vec<bool>>,
}

impl<'t> Filter<'t> {
    pub(crate) fn new(table: &'t Table, selection: &Selection) -> Result<Self, QueryError> {
        let at = table.type_position(selection.profile_type.as_ref())?;
        let (of, rows) = (&table.types[at], &table.rows[at]);
        let mut sets = table.labels.matching(&selection.matchers, &of.id);
        if let Some(files) = &selection.files {
            let unknown = files.iter().find(|file| **file as usize >= table.files.len());
            if let Some(unknown) = unknown {
                return Err(QueryError::Invalid(format!("there is no file {unknown}")));
            }
            for (set, is_wanted) in sets.iter_mut().enumerate() {
                *is_wanted &= files.contains(&table.labels.file(set as u32));
            }
        }
        let nanos = |millis: i64| millis.saturating_mul(1_000_000);
        let links = links(table, selection);
        let profiles = table.profiles.iter().map(|(_, _, profile)| profile);
        Ok(Self {
            profiles: if links.is_some() { profiles.collect() } else { Vec::new() },
            of,
            rows,
            sets,
            paths: paths(table, selection),
            first: selection.from.map_or(i64::MIN, nanos),
            last: selection.until.map_or(i64::MAX, |until| nanos(until).saturating_add(999_999)),
            links,
        })
    }

    /// Whether a row is selected.
    pub(crate) fn accepts(&self, row: usize) -> bool {
        let time = self.rows.times[row];
        self.sets[self.rows.labels[row] as usize]
            && (time == 0 || (self.first <= time && time <= self.last))
            && self.paths.as_ref().is_none_or(|paths| paths[self.rows.paths[row] as usize])
            && self.links.as_ref().is_none_or(|links| links[self.link(row)])
    }

    /// The number of the link that a row's sample has.
    fn link(&self, row: usize) -> usize {
        let profile = self.profiles.get(self.rows.profiles[row] as usize);
        profile.map_or(0, |it| it.samples.links[self.rows.samples[row] as usize].at())
    }
}

/// Which paths are wanted; none for all.
fn paths(table: &Table, selection: &Selection) -> Option<Vec<bool>> {
    if selection.focus.is_none() && selection.call_site.is_empty() {
        return None;
    }
    let of_functions: Option<Vec<bool>> = selection
        .focus
        .as_ref()
        .map(|focus| table.functions.iter().map(|it| focus.is_match(&it.name)).collect());
    let has_focus = |path: &[u32]| {
        of_functions.as_ref().is_none_or(|is| path.iter().any(|function| is[*function as usize]))
    };
    let begins = |path: &[u32]| {
        path.len() >= selection.call_site.len()
            && selection
                .call_site
                .iter()
                .zip(path)
                .all(|(name, at)| table.function(*at).name == *name)
    };
    let path = |number: usize| table.paths.get(number as u32);
    Some((0..table.paths.len()).map(|at| begins(path(at)) && has_focus(path(at))).collect())
}

fn links(table: &Table, selection: &Selection) -> Option<Vec<bool>> {
    if selection.spans.is_empty() {
        return None;
    }
    let links = table.profiles.dictionary.links.rows.iter();
    Some(links.map(|link| selection.spans.contains(&link.span_id)).collect())
}
