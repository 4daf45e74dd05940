//! The stand-in where perf events do not exist: a clear error.

use profpipe_engine::component::{Error, Receiver, Setup};

use super::Config;
use super::finding::{Finding, Level};

pub(super) fn build(_: Config, _: &Setup) -> Result<Box<dyn Receiver>, Error> {
    Err(Error::new(
        "the `perf` receiver needs Linux on x86-64 or arm64; use `inprocess` or `pprof` here",
    ))
}

pub(super) fn probe() -> Vec<Finding> {
    vec![Finding {
        name: "operating system",
        level: Level::Missing,
        detail: format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH),
        cost: "the native sampler needs Linux on x86-64 or arm64".into(),
        grant: String::new(),
    }]
}
