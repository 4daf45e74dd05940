//! Builds the other people's tools that judge our files, outside the repository, from pinned Go
//! modules: google/pprof (tests/peers/go/go.mod) and the profiling SIG's profcheck.
//!
//! They lie in $PROFPIPE_PEERS, else in ~/.cache/profpipe-peers. A machine without Go skips what
//! needs them and says how to get them; in CI (CI set) google/pprof must be there. profcheck cannot
//! be built where the module proxy does not serve it; its rules are checked by `rules` in any case.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::built;

const PROFCHECK: &str = "github.com/open-telemetry/sig-profiling/profcheck/cmd/profcheck@v0.0.0-20260821055944-d2ab6d50401a";

/// The tools that are there.
#[derive(Debug)]
pub(crate) struct Oracles {
    bin: PathBuf,
    profcheck: Option<PathBuf>,
}

impl Oracles {
    /// The tools, built once a test run; `None`, told, where there is no Go.
    pub(crate) fn get() -> Option<&'static Self> {
        static ORACLES: OnceLock<Result<Oracles, String>> = OnceLock::new();
        match ORACLES.get_or_init(Self::build) {
            Ok(oracles) => Some(oracles),
            Err(why) => {
                profpipe_testing::skip!(
                    "{why}; install Go 1.26 or later (https://go.dev/dl) and run again"
                )
            }
        }
    }

    fn build() -> Result<Self, String> {
        let bin = built::bin()?;
        std::fs::create_dir_all(&bin).map_err(|error| format!("{}: {error}", bin.display()))?;
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/go");
        let mut build = Command::new("go");
        build.arg("build").arg("-C").arg(&module).arg("-o").arg(&bin);
        run(build
            .args(["./agree", "./target", "github.com/google/pprof"])
            .env("GOFLAGS", "-buildvcs=false"))?;
        let profcheck = bin.join("profcheck");
        if !profcheck.exists() {
            let mut install = Command::new("go");
            install.args(["install", PROFCHECK]).env("GOBIN", &bin).current_dir(&bin);
            if let Err(why) = run(&mut install) {
                eprintln!(
                    "profcheck is not to be had here, its rules are checked by our own port: {why}"
                );
            }
        }
        Ok(Self { profcheck: profcheck.exists().then_some(profcheck), bin })
    }

    /// Runs `agree` (tests/peers/go/agree), which must succeed.
    #[track_caller]
    pub(crate) fn agree(&self, arguments: &[&Path]) -> String {
        self.must("agree", arguments)
    }

    /// The path of a program of tests/peers/go.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Runs google/pprof, which must succeed.
    #[track_caller]
    pub(crate) fn pprof(&self, arguments: &[&Path]) -> String {
        self.must("pprof", arguments)
    }

    /// Has profcheck judge an OTLP file, where it is there.
    #[track_caller]
    pub(crate) fn profcheck(&self, file: &Path) {
        if self.profcheck.is_some() {
            self.must("profcheck", &[Path::new("-check-dupes"), file]);
        }
    }

    #[track_caller]
    fn must(&self, tool: &str, arguments: &[&Path]) -> String {
        match run(Command::new(self.bin.join(tool)).args(arguments)) {
            Ok(said) => said,
            Err(why) => panic!("{tool} {arguments:?}: {why}"),
        }
    }
}

/// What a command printed, or why it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{program}: {}{said}", String::from_utf8_lossy(&output.stderr)))
}
