//! The Go service that is pulled from and that pushes with Pyroscope's SDK: tests/peers/go/target.

use std::net::SocketAddr;
use std::process::Command;

use crate::http;
use crate::oracles::Oracles;
use crate::process::Running;

/// A service that is ended on drop.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    running: Running,
    _directory: tempfile::TempDir,
}

impl Target {
    pub(crate) fn start(oracles: &Oracles, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(oracles.program("target"));
        let mut running = Running::start("target", command.args(arguments), directory.path());
        let address = running.ready(|said| said.lines().next()?.parse().ok());
        Self { address, running, _directory: directory }
    }

    /// Waits until the SDK has sent all it had; gives the CPU seconds of the process until then.
    pub(crate) fn pushed(&mut self) -> f64 {
        self.running.ready(|said| said.split_once("pushed ")?.1.split_once('\n')?.0.parse().ok())
    }

    /// What a pull gets.
    pub(crate) fn pull(&self, path: &str) -> Vec<u8> {
        http::get(self.address, path).expect("an answer").good()
    }
}
