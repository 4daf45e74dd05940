//! What of the choices a host allows.

use std::io;

use super::attr::{Choices, Clock, Kind};
use super::session::is_denied;
use super::target::Target;

/// Tries on one CPU what the host allows, from the best choices down.
pub(super) fn negotiate(
    mut choices: Choices,
    target: &Target,
    cpus: &[i32],
) -> io::Result<Choices> {
    let cpu = cpus.first().copied().unwrap_or(0);
    loop {
        let error = match target
            .open(&choices.sampling(Kind::Cpu, true), cpu)
            .and_then(|_| target.open(&choices.reporting(true), cpu))
        {
            Ok(_) => return Ok(choices),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EINVAL) if choices.count => choices.count = false,
            Some(libc::EINVAL) if choices.lost => choices.lost = false,
            Some(libc::EINVAL) if choices.build_id => choices.build_id = false,
            // No hardware counters here, or none left, or none that can do what we ask.
            _ if choices.clock == Clock::Cycles && !is_denied(&error) => {
                choices.clock = Clock::Timer;
                choices.lost = true;
                choices.build_id = true;
            }
            _ => return Err(error),
        }
    }
}
