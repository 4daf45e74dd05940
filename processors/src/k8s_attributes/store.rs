//! What is known of the cluster: objects by what they are found by.
//!
//! Only what [`Object`] has is kept, and of each kind at most [`MAX_OBJECTS`]. What the server says
//! is gone stays for [`GRACE`], because the last profiles of a pod arrive after its end.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::objects::{Kind, Object};

/// Objects of one kind at most.
const MAX_OBJECTS: usize = 250_000;
/// How long what is gone is still known.
const GRACE: Duration = Duration::from_secs(120);

/// What must agree: attributes and their values.
pub(super) type Query = Vec<(String, String)>;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Store {
    tables: BTreeMap<Kind, Table>,
    /// The pod of a container.
    containers: HashMap<String, String>,
    /// The pod of an address.
    addresses: HashMap<String, String>,
}

/// Objects of one kind.
#[derive(Debug, Default)]
struct Table {
    /// By identity.
    objects: HashMap<String, Entry>,
    /// Identities by name.
    names: HashMap<String, Vec<String>>,
    /// How many are not gone.
    present: usize,
    /// The number of the list under way, or of the last.
    list: u64,
    /// Everything was listed once.
    is_listed: bool,
    /// Asking for them fails for good, so that nobody should wait for it.
    is_failing: bool,
}

#[derive(Debug)]
struct Entry {
    object: Object,
    /// The list that it was last in.
    list: u64,
    gone: Option<Instant>,
}

impl Store {
    /// Begins to know objects of a kind.
    pub(super) fn watch(&mut self, kind: Kind) {
        self.tables.entry(kind).or_default();
    }

    /// Whether objects of a kind are known, or will be.
    pub(super) fn is_watched(&self, kind: Kind) -> bool {
        self.tables.get(&kind).is_some_and(|table| !table.is_failing)
    }

    /// Whether everything was listed once, but for what cannot be.
    pub(super) fn is_listed(&self) -> bool {
        self.tables.values().all(|table| table.is_listed || table.is_failing)
    }

    pub(super) fn set_failing(&mut self, kind: Kind, is_failing: bool) {
        if let Some(table) = self.tables.get_mut(&kind) {
            table.is_failing = is_failing;
        }
    }

    /// The number of objects of a kind, without those that are gone.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.tables.get(&kind).map_or(0, |table| table.present)
    }

    /// A list begins; what is not in it is gone.
    pub(super) fn begin_list(&mut self, kind: Kind) {
        if let Some(table) = self.tables.get_mut(&kind) {
            table.list += 1;
        }
    }

    /// The list is whole.
    pub(super) fn end_list(&mut self, kind: Kind, now: Instant) {
        let Some(table) = self.tables.get_mut(&kind) else { return };
        table.is_listed = true;
        table.is_failing = false;
        let list = table.list;
        for entry in table.objects.values_mut() {
            if entry.list != list && entry.gone.is_none() {
                entry.gone = Some(now);
                table.present -= 1;
            }
        }
    }

    /// An object is there, or has changed. False if there is no room for it.
    pub(super) fn put(&mut self, kind: Kind, object: Object) -> bool {
        let Some(table) = self.tables.get_mut(&kind) else { return true };
        if object.uid.is_empty() {
            return true;
        }
        if table.objects.len() >= MAX_OBJECTS && !table.objects.contains_key(&object.uid) {
            return false;
        }
        if let Some(pod) = &object.pod {
            for id in pod.containers.iter().flat_map(|container| &container.ids) {
                self.containers.insert(id.clone(), object.uid.clone());
            }
            // Pods on the network of their host share its address.
            for ip in pod.ips.iter().filter(|_| !pod.host_network && !pod.is_over) {
                self.addresses.insert(ip.clone(), object.uid.clone());
            }
        }
        let of_name = table.names.entry(object.name.clone()).or_default();
        if !of_name.contains(&object.uid) {
            of_name.push(object.uid.clone());
        }
        let uid = object.uid.clone();
        let entry = Entry { object, list: table.list, gone: None };
        let old = table.objects.insert(uid, entry);
        if old.as_ref().is_none_or(|old| old.gone.is_some()) {
            table.present += 1;
        }
        if let Some(old) = old {
            self.forget_old(&old.object);
        }
        true
    }

    /// Containers and addresses that a pod had before and has no more.
    fn forget_old(&mut self, old: &Object) {
        let now = self.tables.get(&Kind::Pod).and_then(|table| table.objects.get(&old.uid));
        let (Some(old_pod), Some(now)) =
            (&old.pod, now.and_then(|entry| entry.object.pod.as_ref()))
        else {
            return;
        };
        let ids = |pod: &super::objects::Pod| -> Vec<String> {
            pod.containers.iter().flat_map(|container| container.ids.clone()).collect()
        };
        let still = ids(now);
        for id in ids(old_pod).into_iter().filter(|id| !still.contains(id)) {
            self.containers.remove(&id);
        }
        for ip in old_pod.ips.iter().filter(|ip| !now.ips.contains(ip)) {
            if self.addresses.get(ip) == Some(&old.uid) {
                self.addresses.remove(ip);
            }
        }
    }

    /// The server says that an object is gone.
    pub(super) fn remove(&mut self, kind: Kind, uid: &str, now: Instant) {
        let Some(table) = self.tables.get_mut(&kind) else { return };
        if let Some(entry) = table.objects.get_mut(uid)
            && entry.gone.is_none()
        {
            entry.gone = Some(now);
            table.present -= 1;
        }
    }

    /// Forgets what is gone for long.
    pub(super) fn purge(&mut self, now: Instant) {
        let is_over = |gone: Option<Instant>| {
            gone.is_some_and(|gone| now.saturating_duration_since(gone) >= GRACE)
        };
        for table in self.tables.values_mut() {
            let over = table.objects.iter().filter(|(_, entry)| is_over(entry.gone));
            let over: Vec<String> = over.map(|(uid, _)| uid.clone()).collect();
            for uid in over {
                let Some(entry) = table.objects.remove(&uid) else { continue };
                if let Some(of_name) = table.names.get_mut(&entry.object.name) {
                    of_name.retain(|other| *other != uid);
                    if of_name.is_empty() {
                        table.names.remove(&entry.object.name);
                    }
                }
                let Some(pod) = &entry.object.pod else { continue };
                for id in pod.containers.iter().flat_map(|container| &container.ids) {
                    if self.containers.get(id) == Some(&uid) {
                        self.containers.remove(id);
                    }
                }
                for ip in &pod.ips {
                    if self.addresses.get(ip) == Some(&uid) {
                        self.addresses.remove(ip);
                    }
                }
            }
        }
    }

    pub(super) fn by_uid(&self, kind: Kind, uid: &str) -> Option<&Object> {
        Some(&self.tables.get(&kind)?.objects.get(uid)?.object)
    }

    /// The object of this name; one that is there before one that is gone.
    pub(super) fn named(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        let table = self.tables.get(&kind)?;
        let entries = table.names.get(name)?.iter().filter_map(|uid| table.objects.get(uid));
        let of_namespace =
            entries.filter(|entry| namespace.is_empty() || entry.object.namespace == namespace);
        let newest = of_namespace.max_by_key(|entry| (entry.gone.is_none(), entry.gone));
        newest.map(|entry| &entry.object)
    }

    /// The pod of the first query that finds one.
    pub(super) fn find(&self, queries: &[Query]) -> Option<&Object> {
        queries.iter().find_map(|query| self.pod(query))
    }

    fn pod(&self, query: &Query) -> Option<&Object> {
        let of = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, text)| &**text);
        let uid = of("k8s.pod.uid")
            .or_else(|| self.containers.get(of("container.id")?).map(String::as_str))
            .or_else(|| self.addresses.get(of("k8s.pod.ip")?).map(String::as_str));
        let found = match uid {
            Some(uid) => self.by_uid(Kind::Pod, uid)?,
            None => {
                let namespace = of("k8s.namespace.name").unwrap_or_default();
                self.named(Kind::Pod, namespace, of("k8s.pod.name")?)?
            }
        };
        query.iter().all(|(key, text)| agrees(found, key, text)).then_some(found)
    }
}

fn agrees(object: &Object, key: &str, text: &str) -> bool {
    let Some(pod) = &object.pod else { return false };
    match key {
        "container.id" => {
            pod.containers.iter().any(|container| container.ids.iter().any(|id| id == text))
        }
        "k8s.pod.uid" => object.uid == text,
        "k8s.pod.ip" => pod.ips.iter().any(|ip| ip == text),
        "k8s.pod.name" => object.name == text,
        "k8s.namespace.name" => object.namespace == text,
        _ => false,
    }
}
