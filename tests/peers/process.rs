//! Child processes of a test: free ports, waiting with a deadline, and an end by id on drop.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before the test fails. Machines may be slow; nothing waits this long
/// where all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A loopback address that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks again and again until the answer is right; gives the last one, right or not, to be compared.
pub(crate) fn settled<T>(mut ask: impl FnMut() -> T, right: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if right(&answer) || Instant::now() >= deadline {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A program that is ended when this is dropped. What it says is kept in a file.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command`; what it prints goes to `directory/NAME.log`.
    pub(crate) fn start(name: &str, command: &mut Command, directory: &Path) -> Self {
        let log = directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::piped()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.into(), child, log }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Closes its standard input.
    pub(crate) fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until it is ready; fails with what it said where it ended instead.
    #[track_caller]
    pub(crate) fn ready<T>(&mut self, mut ask: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.said();
            if let Some(answer) = ask(&said) {
                return answer;
            }
            let name = &self.name;
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{name} ended at once, {status}:\n{said}");
            }
            assert!(Instant::now() < deadline, "{name} is not ready after {PATIENCE:?}:\n{said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks it to stop and waits until it has.
    #[track_caller]
    pub(crate) fn stop(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status =
            eventually(&format!("{} to stop", self.name), || self.child.try_wait().unwrap());
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.said());
        self.said()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            let from = said.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
            eprintln!("-- {}, at last:\n{}", self.name, said.get(from..).unwrap_or_default());
        }
    }
}
