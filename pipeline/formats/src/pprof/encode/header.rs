//! What a pprof file says once, put together from all profiles of a batch.

use std::borrow::Cow;
use std::collections::HashSet;

use super::rows::Rows;
use crate::pprof::attributes::{find, text};
use crate::pprof::default_type::declared;
use profpipe_profile::attribute_names::{
    PPROF_COMMENT, PPROF_DOC_URL, PPROF_DROP_FRAMES, PPROF_KEEP_FRAMES, SAMPLES_LOST,
};
use profpipe_profile::{Dictionary, Profile, Profiles, Value};

/// The fields of a file that are not tables.
#[derive(Debug, Default)]
pub(super) struct Header<'a> {
    pub(super) drop_frames: &'a str,
    pub(super) keep_frames: &'a str,
    pub(super) time_nanos: u64,
    pub(super) duration_nanos: u64,
    pub(super) period_type: (&'a str, &'a str),
    pub(super) period: i64,
    pub(super) comments: Vec<Cow<'a, str>>,
    pub(super) default_sample_type: &'a str,
    pub(super) doc_url: &'a str,
}

impl<'a> Header<'a> {
    /// The interval is the smallest that holds all; comments are the union, losses the sum; of all
    /// else the first that says anything wins.
    pub(super) fn of(profiles: &'a Profiles, rows: &Rows<'a>) -> Self {
        let dictionary = &profiles.dictionary;
        let mut header = Self::default();
        let mut lost: Option<i64> = None;
        let mut has_period = false;
        let mut seen = HashSet::new();
        for (at, group) in rows.groups.iter().enumerate() {
            let Some(profile) = group.members.first() else { continue };
            header.add_interval(profile, at == 0);
            header.add_texts(dictionary, profile, &mut seen);
            let period_type = (
                dictionary.strings.get(profile.period_type.kind),
                dictionary.strings.get(profile.period_type.unit),
            );
            if !has_period && (profile.period != 0 || period_type != ("", "")) {
                (header.period_type, header.period) = (period_type, profile.period);
                has_period = true;
            }
            // Profiles that were measured together state the same losses.
            let of_profile =
                |profile: &&Profile| find(dictionary, &profile.attributes, SAMPLES_LOST)?.as_int();
            if let Some(of_group) = group.members.iter().filter_map(of_profile).max() {
                lost = Some(lost.unwrap_or(0).saturating_add(of_group));
            }
        }
        if let Some(lost) = lost {
            header.comments.push(format!("{SAMPLES_LOST}={lost}").into());
        }
        header.default_sample_type = declared(profiles);
        header
    }

    fn add_interval(&mut self, profile: &Profile, is_first: bool) {
        let (time, duration) = (profile.time_unix_nano, profile.duration_nano);
        if is_first {
            (self.time_nanos, self.duration_nanos) = (time, duration);
        } else if time == 0 || self.time_nanos == 0 {
            // A profile without a time can be anywhere.
            self.time_nanos = self.time_nanos.max(time);
            self.duration_nanos = self.duration_nanos.max(duration);
        } else {
            let end = time.saturating_add(duration);
            let end = end.max(self.time_nanos.saturating_add(self.duration_nanos));
            self.time_nanos = self.time_nanos.min(time);
            self.duration_nanos = end - self.time_nanos;
        }
    }

    fn add_texts(
        &mut self,
        dictionary: &'a Dictionary,
        profile: &'a Profile,
        seen: &mut HashSet<&'a str>,
    ) {
        let is_first = seen.is_empty() && self.comments.is_empty();
        let of_profile = |name| text(dictionary, &profile.attributes, name);
        // The two belong together: what one profile keeps is an exception from what it drops.
        if self.drop_frames.is_empty() && self.keep_frames.is_empty() {
            self.drop_frames = of_profile(PPROF_DROP_FRAMES);
            self.keep_frames = of_profile(PPROF_KEEP_FRAMES);
        }
        if self.doc_url.is_empty() {
            self.doc_url = of_profile(PPROF_DOC_URL);
        }
        let comments = match find(dictionary, &profile.attributes, PPROF_COMMENT) {
            Some(Value::Array(comments)) => comments.as_slice(),
            Some(comment) => std::slice::from_ref(comment),
            None => &[],
        };
        for comment in comments.iter().filter_map(Value::as_str) {
            if seen.insert(comment) || is_first {
                self.comments.push(comment.into());
            }
        }
    }
}
