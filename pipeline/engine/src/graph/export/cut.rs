//! Cutting batches that are larger than a destination takes.

use std::sync::Arc;

use crate::batch::Batch;
use crate::delivery::Sizer;
use profpipe_formats::otlp;
use profpipe_profile::Profiles;

/// How often a part is cut again.
pub(super) const MAX_CUT_LEVELS: u32 = 10;

/// Parts of about half the size, or nothing if the batch cannot be cut. Works for long: not on a
/// thread of the runtime.
pub(super) fn halves(batch: &Batch) -> Option<Vec<Batch>> {
    let profiles = batch.shared().ok()?;
    let half = otlp::encoded_len(&profiles) / 2;
    let parts = otlp::split(Arc::unwrap_or_clone(profiles), half);
    (parts.len() > 1).then(|| parts.into_iter().map(|part| part_of(batch, part)).collect())
}

/// Parts of at most this size, as far as the batch can be cut. Works for long: not on a thread of
/// the runtime.
pub(super) fn to_size(batch: &Batch, sizer: Sizer, max: u64) -> Vec<Batch> {
    let Ok(profiles) = batch.shared() else { return vec![batch.clone()] };
    let parts = match sizer {
        Sizer::Bytes => {
            otlp::split(Arc::unwrap_or_clone(profiles), usize::try_from(max).unwrap_or(usize::MAX))
        }
        Sizer::Items | Sizer::Requests => {
            let mut parts = Vec::new();
            by_samples(Arc::unwrap_or_clone(profiles), max, MAX_CUT_LEVELS, &mut parts);
            parts
        }
    };
    parts.into_iter().map(|part| part_of(batch, part)).collect()
}

/// There is no cut at a number of samples, but one at a number of bytes: aims, and aims again at
/// what is still too large.
fn by_samples(profiles: Profiles, max: u64, levels: u32, parts: &mut Vec<Profiles>) {
    let samples = profiles.sample_count() as u64;
    if samples <= max || samples <= 1 || levels == 0 {
        parts.push(profiles);
        return;
    }
    let bytes = otlp::encoded_len(&profiles) as u64;
    let aim = (u128::from(bytes) * u128::from(max) / u128::from(samples)) as u64;
    let aim = usize::try_from(aim.min(bytes / 2)).unwrap_or(usize::MAX);
    let cut = otlp::split(profiles, aim);
    let levels = if cut.len() > 1 { levels - 1 } else { 0 };
    for part in cut {
        by_samples(part, max, levels, parts);
    }
}

fn part_of(batch: &Batch, part: Profiles) -> Batch {
    let mut part = Batch::new(part);
    part.context = batch.context.clone();
    part.charge = batch.charge.clone();
    part
}
