//! The source lines of a function with what they cost, as `profpipe list` prints them.

use profpipe_formats::report::{self, Routine};
use profpipe_profile::attribute_names::BUILD_ID_GNU;
use profpipe_profile::{Dictionary, Profiles};
use profpipe_store::QueryError;
use serde_json::{Value, json};

use super::Question;
use crate::answer::Answer;
use crate::parameters::invalid;

/// The most lines of one function that are sent: what a profile says of lines may be anything.
const MAX_LINES: i64 = 5_000;

/// `api/source`
pub(super) fn source(question: &Question<'_>) -> Result<Answer, QueryError> {
    let Question { parameters, table, options } = question;
    let Some(function) = parameters.some("function") else {
        return Err(invalid("function", "", "the name of a function"));
    };
    let profiles = table.export(&parameters.selection()?)?;
    let expression = regex_of(function)?;
    let listing = report::list(&profiles, None, &expression)
        .map_err(|error| QueryError::NotFound(error.to_string()))?;
    let functions: Vec<Value> = listing
        .routines
        .iter()
        .map(|routine| {
            let lines = match routine.file.as_str() {
                "" => Err("the profile does not say which source file it is in".to_owned()),
                file => options.exports.source(file, &build_ids(&profiles, routine)),
            };
            describe(routine, lines)
        })
        .collect();
    Ok(Answer::json(&json!({ "functions": functions })))
}

fn describe(routine: &Routine, source: Result<Vec<String>, String>) -> Value {
    let (start, end) = routine.range();
    let end = end.min(start.saturating_add(MAX_LINES));
    let (found, why, texts) = match source {
        Ok(texts) => (true, String::new(), texts),
        Err(why) => (false, why, Vec::new()),
    };
    let costs = |number: i64| {
        let of_line = routine.lines.iter().filter(move |(line, ..)| *line == number);
        of_line.fold((0_i64, 0_i64), |(own, total), (_, _, cost)| {
            (own.saturating_add(cost.own), total.saturating_add(cost.total))
        })
    };
    let text = |number: i64| {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        at.and_then(|at| texts.get(at)).map(String::as_str)
    };
    let line = |number: i64| {
        let (own, total) = costs(number);
        json!({ "line": number, "self": own, "total": total, "text": text(number) })
    };
    let lines: Vec<Value> = match found {
        true => (start..=end).take_while(|number| text(*number).is_some()).map(line).collect(),
        // Without the text only the lines that cost anything say something.
        false => {
            let mut numbers: Vec<i64> = routine.lines.iter().map(|line| line.0).collect();
            numbers.dedup();
            numbers.into_iter().map(line).collect()
        }
    };
    json!({ "name": routine.name, "file": routine.file, "found": found, "why": why, "lines": lines })
}

fn regex_of(function: &str) -> Result<regex::Regex, QueryError> {
    regex::Regex::new(&format!("^{}$", regex::escape(function)))
        .map_err(|_| invalid("function", function, "a name of a function of usual length"))
}

/// The build ids of the binaries that the code of a function is in.
fn build_ids(profiles: &Profiles, routine: &Routine) -> Vec<String> {
    let dictionary: &Dictionary = &profiles.dictionary;
    let mut found: Vec<String> = Vec::new();
    for instruction in &routine.instructions {
        let mapping = dictionary.mappings.get(instruction.mapping);
        let id = mapping.attributes.iter().find_map(|at| {
            let is_id = dictionary.strings.get(dictionary.attributes.key(*at)) == BUILD_ID_GNU;
            is_id.then(|| dictionary.attributes.value(*at).as_str().map(str::to_owned)).flatten()
        });
        found.extend(id.filter(|id| !found.contains(id)));
    }
    found
}
