//! How often somebody has asked for the end, and what that means for the command.
//!
//! A command may handle Ctrl-C, or use it, as debuggers do: the first goes to the command and means
//! nothing more. Who asks again soon afterwards wants the end: by Ctrl-C that of the recording, by a
//! signal of a supervisor that of the command, too. Time is an argument.

use std::time::{Duration, Instant};

/// A signal counts with those before it that came within this time.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// How long a command has to end before people are told what another signal does.
const HINT_AFTER: Duration = Duration::from_millis(500);

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// The command gets it and decides.
    PassOn,
    /// The recording is to end. The command has had its Ctrl-C twice, and goes on if it wants to.
    Leave,
    /// The command is to end, and the recording with it.
    Terminate,
    /// The same at once.
    Kill,
}

/// The signals that came one soon after another.
#[derive(Debug, Default)]
pub(super) struct Insistence {
    count: u32,
    last: Option<Instant>,
    hinted: bool,
}

impl Insistence {
    /// What the signal with this number, which came at `now`, asks for.
    pub(super) fn note(&mut self, signal: i32, now: Instant) -> Demand {
        if !matches!(signal, libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT) {
            return Demand::PassOn;
        }
        // Once the command was told to end there is no way back.
        let is_soon = |last| self.count >= 2 || now.saturating_duration_since(last) < WINDOW;
        self.count = if self.last.is_some_and(is_soon) { self.count + 1 } else { 1 };
        self.last = Some(now);
        match self.count {
            1 => Demand::PassOn,
            2 if signal == libc::SIGINT => Demand::Leave,
            2 => Demand::Terminate,
            _ => Demand::Kill,
        }
    }

    /// Whether it is time to say that the next one would end the recording: once, when it has not ended
    /// for a while after a first one.
    pub(super) fn hint_is_due(&mut self, now: Instant) -> bool {
        let since = |last| now.saturating_duration_since(last);
        let is_due = self.last.is_some_and(|last| (HINT_AFTER..WINDOW).contains(&since(last)));
        let is_due = is_due && self.count == 1 && !self.hinted;
        self.hinted |= is_due;
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: signals one soon after another, some of them far apart, some that mean something else.
    /// Guarantees: the second asks for the end, of the recording alone if it is a Ctrl-C, the third for
    /// the end at once; one that comes long after is a first one; a signal of the program's own never
    /// counts.
    #[test]
    fn who_asks_again_wants_the_end() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut asked = Insistence::default();
        assert_eq!(asked.note(libc::SIGUSR1, at(0)), Demand::PassOn);
        assert_eq!(asked.note(libc::SIGUSR1, at(0)), Demand::PassOn);
        assert_eq!(asked.note(libc::SIGINT, at(0)), Demand::PassOn);
        assert!(!asked.hint_is_due(at(0)) && asked.hint_is_due(at(1)) && !asked.hint_is_due(at(2)));
        assert_eq!(asked.note(libc::SIGINT, at(10)), Demand::PassOn);
        assert_eq!(asked.note(libc::SIGTERM, at(19)), Demand::Terminate);
        // It was told to end: however late the next comes.
        assert_eq!(asked.note(libc::SIGINT, at(60)), Demand::Kill);
        assert_eq!(asked.note(libc::SIGINT, at(120)), Demand::Kill);
        let mut asked = Insistence::default();
        assert_eq!(asked.note(libc::SIGTERM, at(0)), Demand::PassOn);
        assert_eq!(asked.note(libc::SIGINT, at(1)), Demand::Leave);
    }
}
