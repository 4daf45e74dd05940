//! A small batch for the tests of this crate.

use profpipe_profile::attribute_names::{SERVICE_NAME, THREAD_NAME};
use profpipe_profile::{
    Function, Line, LocationRef, MappingRef, Profile, Profiles, Resource, ResourceProfiles,
    SampleRef, Scope, ScopeProfiles, StringIx, ValueType,
};

/// One CPU profile of one service, taken at a second since the epoch.
pub(crate) fn profiles(service: &str, second: u64) -> Profiles {
    let mut batch = Profiles::new();
    add(&mut batch, service, second);
    batch
}

/// Adds a CPU profile of a service: one sample, `main` calls `leaf`.
pub(crate) fn add(batch: &mut Profiles, service: &str, second: u64) {
    let tables = &mut batch.dictionary;
    let filename = tables.strings.intern(&format!("/usr/bin/{service}"));
    let mapping = tables.mappings.intern(MappingRef {
        memory_start: 0x1000,
        memory_limit: 0x9000,
        filename,
        ..MappingRef::default()
    });
    let mut locations = Vec::new();
    for (name, line, address) in [("leaf", 7, 0x1010), ("main", 42, 0x2020)] {
        let name = tables.strings.intern(name);
        let filename = tables.strings.intern("app.c");
        let function = Function { name, system_name: name, filename, start_line: 1 };
        let function = tables.functions.intern(function);
        let lines = [Line { function, line, column: 0 }];
        let location = LocationRef { mapping, address, lines: &lines, attributes: &[] };
        locations.push(tables.locations.intern(location));
    }
    let stack = tables.stacks.intern(&locations);
    let key = tables.strings.intern(THREAD_NAME);
    let thread = tables.attributes.intern(key, "worker".into(), StringIx::NONE);
    let kind = tables.strings.intern("cpu");
    let unit = tables.strings.intern("nanoseconds");
    let cpu = ValueType { kind, unit };
    let mut profile = Profile {
        sample_type: cpu,
        time_unix_nano: second * 1_000_000_000,
        duration_nano: 10_000_000_000,
        period_type: cpu,
        period: 10_101_010,
        ..Profile::default()
    };
    profile.samples.push(SampleRef {
        stack,
        attributes: &[thread],
        values: &[10_101_010],
        ..SampleRef::default()
    });
    let mut resource = Resource::default();
    resource.set(SERVICE_NAME, service);
    let scope = Scope { name: "profpipe".into(), ..Scope::default() };
    let scopes = vec![ScopeProfiles { scope, profiles: vec![profile], ..ScopeProfiles::default() }];
    batch.resources.push(ResourceProfiles { resource, scopes, ..ResourceProfiles::default() });
}
