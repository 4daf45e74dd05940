//! `profpipe convert`: a profile from one format to another.

use std::process::ExitCode;

use anyhow::Context;
use profpipe_formats::report::Choice;
use profpipe_profile::Profiles;
use profpipe_profile::attribute_names::{PPROF_DEFAULT_SAMPLE_TYPE, PPROF_SAMPLE_TYPE_ORDER};

use crate::files::FileFormat;
use crate::{cli, files};

pub(crate) fn run(arguments: cli::Convert) -> anyhow::Result<ExitCode> {
    // Before reading: the wrong name of the output is the first thing to tell.
    FileFormat::to_write(&arguments.output)?;
    let mut profiles = files::read(&arguments.input)?;
    let wanted = arguments.choice.sample_type.as_deref();
    if let Some(wanted) = wanted {
        keep_type(&mut profiles, wanted).with_context(|| arguments.input.display().to_string())?;
    }
    files::write(&arguments.output, &profiles, None)?;
    Ok(ExitCode::SUCCESS)
}

/// Leaves only the profiles of one sample type.
fn keep_type(profiles: &mut Profiles, wanted: &str) -> anyhow::Result<()> {
    let choice = Choice::new(profiles, Some(wanted))?;
    let (kind, unit) = (choice.kind.to_owned(), choice.unit.to_owned());
    let strings = &profiles.dictionary.strings;
    for scope in profiles.resources.iter_mut().flat_map(|resource| &mut resource.scopes) {
        scope.profiles.retain(|profile| {
            let sample_type = profile.sample_type;
            strings.get(sample_type.kind) == kind && strings.get(sample_type.unit) == unit
        });
        // They speak of the types that are gone.
        scope.scope.attributes.retain(|attribute| {
            ![PPROF_DEFAULT_SAMPLE_TYPE, PPROF_SAMPLE_TYPE_ORDER].contains(&attribute.key.as_str())
        });
    }
    for resource in &mut profiles.resources {
        resource.scopes.retain(|scope| !scope.profiles.is_empty());
    }
    profiles.resources.retain(|resource| !resource.scopes.is_empty());
    Ok(())
}
