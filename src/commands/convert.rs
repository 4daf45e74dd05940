//! `profpipe convert`: a profile from one format to another.

use std::collections::HashSet;
use std::process::ExitCode;

use anyhow::Context;
use profpipe_formats::report::Choice;
use profpipe_profile::Profiles;
use profpipe_profile::attribute_names::{PPROF_DEFAULT_SAMPLE_TYPE, PPROF_SAMPLE_TYPE_ORDER};

use crate::files::{FileFormat, Output};
use crate::{cli, files};

pub(crate) fn run(arguments: cli::Convert) -> anyhow::Result<ExitCode> {
    // Before reading: the wrong name of the output is the first thing to tell.
    let format = FileFormat::chosen(arguments.format, &arguments.output)?;
    let mut input = files::read(&arguments.input)?;
    let wanted = arguments.choice.sample_type.as_deref();
    if let Some(wanted) = wanted {
        keep_type(&mut input.profiles, wanted).with_context(|| input.names())?;
    }
    Output::of_format(&arguments.output, format)?.write(&input.profiles, None)?;
    input.say_notes();
    Ok(ExitCode::SUCCESS)
}

/// Leaves only the profiles of one sample type.
fn keep_type(profiles: &mut Profiles, wanted: &str) -> anyhow::Result<()> {
    let choice = Choice::new(profiles, Some(wanted))?;
    // More than one where units differ.
    let kept: HashSet<_> = choice.profiles.iter().map(|one| one.profile.sample_type).collect();
    for scope in profiles.resources.iter_mut().flat_map(|resource| &mut resource.scopes) {
        scope.profiles.retain(|profile| kept.contains(&profile.sample_type));
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
