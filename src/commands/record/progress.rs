//! How the recording goes, on a terminal only.
//!
//! Where nobody else writes, a spinner has a line of its own. Where a command shares the terminal,
//! its text must not be touched: a few dim words at the right edge tell that we are at work, and
//! the cursor returns to where the command left it.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// What is shown, if anything.
pub(super) enum Progress {
    Nothing,
    Spinner(ProgressBar),
    /// The length of the words on the screen.
    Corner(usize),
}

impl Progress {
    /// Shows progress on standard error, if that is a terminal that understands it.
    pub(super) fn start(shares_terminal: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        if !std::io::stderr().is_terminal() || is_dumb {
            return Self::Nothing;
        }
        if shares_terminal {
            return Self::Corner(0);
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self::Spinner(bar)
    }

    pub(super) fn show(&mut self, elapsed: Duration, samples: u64, lost: u64) {
        let seconds = elapsed.as_secs();
        let lost = if lost > 0 { format!(", {lost} lost") } else { String::new() };
        match self {
            Self::Nothing => {}
            Self::Spinner(bar) => {
                bar.set_message(format!(
                    "recording for {seconds} s: {samples} samples{lost}; Ctrl-C stops and writes"
                ));
            }
            Self::Corner(length) => {
                let words = format!("[{seconds} s, {samples} samples{lost}]");
                let width = (*length).max(words.len());
                *length = words.len();
                Self::in_corner(&format!("\x1b[2m{words:>width$}\x1b[22m"), width);
            }
        }
    }

    /// What is going on after the recording.
    pub(super) fn finishing(&mut self) {
        match self {
            Self::Nothing => {}
            Self::Spinner(bar) => bar.set_message("finding names"),
            Self::Corner(_) => {
                self.clear();
                *self = Self::start(false);
                self.finishing();
            }
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::Nothing => {}
            Self::Spinner(bar) => bar.finish_and_clear(),
            Self::Corner(0) => {}
            Self::Corner(length) => Self::in_corner(&" ".repeat(*length), *length),
        }
    }

    /// Writes text of a width at the right edge of the cursor's line. A terminal that is not there
    /// any more is no reason to stop.
    fn in_corner(text: &str, width: usize) {
        let back = width.saturating_sub(1);
        let sequence = format!("\x1b7\x1b[999C\x1b[{back}D{text}\x1b8");
        let _ = std::io::stderr().write_all(sequence.as_bytes());
    }
}
