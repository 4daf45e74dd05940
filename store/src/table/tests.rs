#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;

use profpipe_profile::{
    Function, Line, LinkIx, LocationRef, MappingRef, Profile, Profiles, Resource, ResourceProfiles,
    SampleRef, ScopeProfiles, StringIx, ValueType,
};

use super::*;
use crate::select::Selection;
use crate::{By, Column, Matchers, SeriesOptions, TreeOptions};

/// A sample: functions root first with `;` between, each with its module behind an `@` if it has one;
/// a weight; labels; a time in milliseconds, 0 for none.
pub(crate) type Row<'a> = (&'a str, i64, &'a [(&'a str, &'a str)], u64);

pub(crate) const SECOND: u64 = 1_000_000_000;

/// A batch of one profile of CPU time, ten seconds from second 1000 on.
pub(crate) fn batch(rows: &[Row<'_>]) -> Profiles {
    let mut batch = Profiles::new();
    let dictionary = &mut batch.dictionary;
    let cpu = ValueType {
        kind: dictionary.strings.intern("cpu"),
        unit: dictionary.strings.intern("nanoseconds"),
    };
    let mut profile = Profile {
        sample_type: cpu,
        period_type: cpu,
        period: 10,
        time_unix_nano: 1000 * SECOND,
        duration_nano: 10 * SECOND,
        ..Profile::default()
    };
    for (stack, weight, labels, time) in rows {
        let mut locations = Vec::new();
        for frame in stack.split(';').filter(|frame| !frame.is_empty()).rev() {
            let (name, module) = frame.split_once('@').unwrap_or((frame, "app"));
            let name = dictionary.strings.intern(name);
            let filename = dictionary.strings.intern(&format!("/bin/{module}"));
            let mapping =
                dictionary.mappings.intern(MappingRef { filename, ..MappingRef::default() });
            let function = dictionary.functions.intern(Function { name, ..Function::default() });
            let line = Line { function, ..Line::default() };
            let row = LocationRef { mapping, lines: &[line], ..LocationRef::default() };
            locations.push(dictionary.locations.intern(row));
        }
        let stack = dictionary.stacks.intern(&locations);
        let attributes: Vec<_> = labels
            .iter()
            .map(|(key, value)| {
                let key = dictionary.strings.intern(key);
                dictionary.attributes.intern(key, (*value).into(), StringIx::NONE)
            })
            .collect();
        let times = [time * 1_000_000];
        profile.samples.push(SampleRef {
            stack,
            attributes: &attributes,
            link: LinkIx::NONE,
            values: &[*weight],
            timestamps_unix_nano: if *time == 0 { &[] } else { &times },
        });
    }
    let scope = ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() };
    let mut resource = Resource::default();
    resource.set("service.name", "api");
    resource.set("host.name", "h1");
    batch.resources.push(ResourceProfiles {
        resource,
        scopes: vec![scope],
        schema_url: String::new(),
    });
    batch
}

pub(crate) fn file(name: &str, rows: &[Row<'_>]) -> InputFile {
    InputFile { name: name.to_owned(), bytes: 1, modified_nanos: 0, profiles: batch(rows) }
}

pub(crate) fn table(rows: &[Row<'_>]) -> Table {
    Table::new(vec![file("one", rows)]).unwrap()
}

pub(crate) fn selection(selector: &str) -> Selection {
    Selection { matchers: Matchers::parse(selector).unwrap(), ..Selection::default() }
}

/// Scenario: one profile, its types and labels.
/// Guarantees: the type is called as Pyroscope calls it, sums and times are right, labels have their
/// values by weight, and those of the hardware are none.
#[test]
fn a_table_says_what_there_is() {
    let table = table(&[
        ("main;a", 30, &[("region", "eu"), ("thread.name", "w")], 0),
        ("main;b", 70, &[("region", "us")], 0),
        ("", 5, &[], 0),
    ]);
    let one = table.default_type().unwrap();
    assert_eq!(one.id.as_str(), "process_cpu:cpu:nanoseconds:cpu:nanoseconds");
    assert_eq!((one.total, one.samples), (105, 3));
    let second = SECOND as i64;
    assert_eq!(one.time, Some((1000 * second, 1010 * second)));
    assert_eq!(table.label_names(), ["host_name", "region", "service_name", "thread_name"]);
    let labels = table.label_values(&selection("{region!=\"\"}"), 1).unwrap();
    let region = labels.iter().find(|label| label.name == "region").unwrap();
    assert_eq!((region.values.as_slice(), region.more), (&[("us".to_owned(), 70)][..], 1));
    assert!(!table.is_timed());
}

/// Scenario: selectors over labels of resources, samples and types; a label that nothing has.
/// Guarantees: they select what they say.
#[test]
fn selectors_select() {
    let table = table(&[("a", 1, &[("x", "1")], 0), ("b", 2, &[("x", "2")], 0), ("c", 4, &[], 0)]);
    for (selector, total) in [
        ("{}", 7),
        ("{x=\"1\"}", 1),
        ("{x=~\"1|2\"}", 3),
        ("{x=\"\"}", 4),
        ("{x!=\"1\"}", 6),
        ("{service_name=\"api\",x=~\".+\"}", 3),
        ("{__service_name__=\"api\"}", 7),
        ("{none=\"\"}", 7),
        ("{none=\"x\"}", 0),
        ("{__type__=\"cpu\"}", 7),
        ("{__profile_type__=~\"memory.*\"}", 0),
    ] {
        assert_eq!(table.select(&selection(selector)).unwrap().total, total, "{selector}");
    }
    let unknown = Selection {
        profile_type: Some(TypeId::parse("a:b:c:d:e").unwrap()),
        ..Selection::default()
    };
    assert!(matches!(table.select(&unknown), Err(QueryError::NotFound(_))));
    for wrong in ["", "cpu", "a:b:c:d", "a:b:c:d:e:f", "a:b:c:d:e:delta:x"] {
        assert!(TypeId::parse(wrong).is_err(), "{wrong}");
    }
    assert_eq!(TypeId::parse("a:b:c:d:e:delta").unwrap().as_str(), "a:b:c:d:e");
}

/// Scenario: samples with times of their own, selected by time and shown over time; one without.
/// Guarantees: both ends are within, the sum over steps is the total, and steps are where samples are.
#[test]
fn times_select_and_are_shown() {
    let table = table(&[
        ("a", 1, &[], 2000),
        ("a", 2, &[], 2999),
        ("b", 4, &[], 3000),
        ("b", 8, &[], 4000),
    ]);
    assert!(table.is_timed());
    let of = |from, until| Selection { from, until, ..Selection::default() };
    let total = |from, until| table.select(&of(from, until)).unwrap().total;
    assert_eq!(total(None, None), 15);
    assert_eq!(total(Some(2000), Some(3000)), 7);
    assert_eq!(total(Some(2001), Some(2999)), 2);
    assert_eq!(total(Some(5000), None), 0);
    let options = SeriesOptions { by: By::None, points: 2, rows: 10 };
    let series = table.series(&of(Some(2000), Some(3999)), &options).unwrap();
    assert_eq!((series.from, series.step), (2000, 1000));
    assert_eq!(series.rows[0].values, [3.0, 4.0]);
    let points = table.points(&of(Some(3000), Some(4000)), &[], 3000, 1000).unwrap();
    let sums: Vec<(i64, i64)> = points[0].1.iter().map(|(time, sum)| (*time, sum.0)).collect();
    assert_eq!(sums, [(3000, 6), (4000, 8)]);
}

/// Scenario: a profile of ten seconds whose samples have no times, in steps of a second.
/// Guarantees: its weight is spread over them, and the sum stays.
#[test]
fn intervals_are_spread() {
    let table = table(&[("a", 100, &[], 0)]);
    let options = SeriesOptions { by: By::Process, points: 10, rows: 10 };
    let of = Selection { from: Some(1_000_000), until: Some(1_009_999), ..Selection::default() };
    let series = table.series(&of, &options).unwrap();
    assert_eq!((series.step, series.rows[0].key.as_str()), (1000, "api"));
    assert!(series.rows[0].values.iter().all(|value| (value - 10.0).abs() < 1e-6), "{series:?}");
}

/// Scenario: several files of one name, and a selection of some of them.
/// Guarantees: files are told apart, by number and by label.
#[test]
fn files_are_told_apart() {
    let table =
        Table::new(vec![file("x", &[("a", 1, &[], 0)]), file("y", &[("a", 2, &[], 0)])]).unwrap();
    let files = |files: &[u32]| Selection { files: Some(files.to_vec()), ..Selection::default() };
    assert_eq!(table.select(&files(&[1])).unwrap().total, 2);
    assert_eq!(table.select(&files(&[])).unwrap().total, 0);
    assert_eq!(table.select(&selection("{file=\"x\"}")).unwrap().total, 1);
    assert!(table.select(&files(&[2])).is_err());
}

/// Scenario: no file, and files without profiles.
/// Guarantees: there is nothing, and no query fails otherwise.
#[test]
fn nothing_is_there() {
    for files in [
        Vec::new(),
        vec![InputFile {
            name: String::new(),
            bytes: 0,
            modified_nanos: 0,
            profiles: Profiles::new(),
        }],
    ] {
        let table = Table::new(files).unwrap();
        assert!(table.default_type().is_none());
        assert!(matches!(table.select(&Selection::default()), Err(QueryError::NotFound(_))));
        assert!(table.label_sets(&[Selection::default()]).unwrap().is_empty());
    }
}

proptest! {
    /// Scenario: any stacks and weights, any way to select and draw them; an oracle that adds up by maps.
    /// Guarantees: the sum of all functions' own weights is the total; totals count a function once a
    /// stack; a tree keeps every sum however it is pruned, and no child is larger than its parent.
    #[test]
    fn sums_hold(
        rows in prop::collection::vec(("[abc](@so)?(;[abc](@so)?){0,5}", 0_i64..100), 0..40),
        nodes in 1_usize..20, width in 0_u32..20, is_inverted: bool, folds: bool,
    ) {
        let rows: Vec<Row<'_>> = rows.iter().map(|(stack, weight)| (stack.as_str(), *weight, &[][..], 0)).collect();
        let table = table(&rows);
        let total: i64 = rows.iter().map(|row| row.1).sum();
        let selected = table.select(&Selection { folds_recursion: folds, ..Selection::default() }).unwrap();
        prop_assert_eq!(selected.total, total);
        let functions = selected.functions(Column::Own);
        let own: i64 = functions.rows.iter().map(|row| row.own).sum();
        prop_assert_eq!(own + functions.without_stack, total);
        for row in &functions.rows {
            let has = |stack: &str| stack.split(';').any(|frame| {
                frame.split_once('@').unwrap_or((frame, "app")) == (row.name, row.module)
            });
            let expected: i64 = rows.iter().filter(|row| has(row.0)).map(|row| row.1).sum();
            prop_assert_eq!(row.total, expected, "{}@{}", row.name, row.module);
        }
        let options = TreeOptions { nodes, width, is_inverted, root: None, keeps_ties: false };
        let tree = selected.tree(&options).unwrap();
        prop_assert_eq!(tree.nodes[0].total[0], total);
        let own: i64 = tree.nodes.iter().map(|node| node.own[0]).sum();
        prop_assert_eq!(own, total);
        let mut open: Vec<(i64, i64, i64)> = Vec::new();
        for node in &tree.nodes {
            open.truncate(node.depth as usize);
            let end = node.start + node.total[0];
            if let Some((start, parent_end, next)) = open.last_mut() {
                prop_assert!(node.start >= *start && end <= *parent_end && node.start == *next);
                *next = end;
            }
            open.push((node.start, end, node.start));
        }
    }
}
