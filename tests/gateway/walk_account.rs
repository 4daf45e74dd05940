//! The accounts that the program gives of its exporters when it stops, and when a reload removes one.

use std::collections::BTreeMap;
use std::path::Path;

use crate::process::queue;

/// What one line says of an exporter, in samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) taken: u64,
    pub(crate) delivered: u64,
    pub(crate) waiting: u64,
    /// Profiles that the backend rejected of what it took.
    pub(crate) rejected: u64,
    /// By reason.
    pub(crate) dropped: BTreeMap<String, u64>,
}

impl Account {
    /// The lines of a log, in order, by exporter.
    #[track_caller]
    pub(crate) fn read(log: &str) -> BTreeMap<String, Vec<Self>> {
        let mut found: BTreeMap<String, Vec<Self>> = BTreeMap::new();
        for line in log.lines() {
            let Some((_, line)) = line.split_once("exporters::") else { continue };
            let Some((id, line)) = line.split_once(": of ") else { continue };
            let Some((taken, rest)) = line.split_once(" samples ") else { continue };
            let (rest, rejected) = match rest.split_once("; of what it took the backend rejected ")
            {
                Some((rest, count)) => (rest, count.split(' ').next().unwrap().parse().unwrap()),
                None => (rest, 0),
            };
            let mut parts = rest.split(", ");
            let number = |text: &str| text.split(' ').next().unwrap().parse::<u64>().ok();
            let Some(delivered) = parts.next().and_then(number) else { continue };
            let mut account =
                Self { taken: taken.parse().unwrap(), delivered, rejected, ..Self::default() };
            for part in parts {
                let count = number(part).unwrap_or_else(|| panic!("{line}"));
                match part.split_once(' ').unwrap().1 {
                    what if what.starts_with("samples in") => account.waiting = count,
                    what => drop(account.dropped.insert(what.to_owned(), count)),
                }
            }
            found.entry(id.to_owned()).or_default().push(account);
        }
        found
    }

    /// What was dropped, for whatever reason.
    pub(crate) fn all_dropped(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// What left a queue by itself.
    pub(crate) fn lost_in_queue(&self) -> u64 {
        let is_of_queue =
            |why: &str| why.contains("in the queue") || why.contains("from the queue");
        self.dropped.iter().filter(|(why, _)| is_of_queue(why)).map(|(_, count)| count).sum()
    }
}

/// The samples that wait in the queue of a directory, by exporter.
pub(crate) fn waiting(directory: &Path) -> BTreeMap<String, u64> {
    if !directory.join("queue").exists() {
        return BTreeMap::new();
    }
    let said = queue(directory, &["inspect", "--format", "json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let destinations = said["destinations"].as_array().unwrap().iter();
    let of = |one: &serde_json::Value| {
        (one["id"].as_str().unwrap().to_owned(), one["pending"]["samples"].as_u64().unwrap())
    };
    destinations.map(of).collect()
}

/// The requests among the dead letters of an exporter.
pub(crate) fn dead(directory: &Path, exporter: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(directory.join("queue/dead")).into_iter().flatten() {
        for entry in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = entry.unwrap().path();
            let about = path.with_extension("json");
            if path.extension().is_some_and(|extension| extension == "otlp") && about.exists() {
                let about: serde_json::Value =
                    serde_json::from_slice(&std::fs::read(about).unwrap()).unwrap();
                if about["destination"] == exporter {
                    found.push(std::fs::read(path).unwrap());
                }
            }
        }
    }
    found
}
