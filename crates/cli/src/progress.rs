//! How far a long command is, where somebody watches.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line is drawn anew.
const BEAT: Duration = Duration::from_millis(100);
/// How wide the bar is.
const WIDTH: u64 = 30;

/// A bar on the terminal; nothing where standard error is none.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    total: u64,
    done: u64,
    drawn: Option<Instant>,
}

impl Progress {
    /// Tells whether a bar would be seen, so that counting what there is to do is worth it.
    pub(crate) fn is_seen() -> bool {
        io::stderr().is_terminal()
    }

    /// Begins; a total of 0 is none.
    pub(crate) fn of(total: u64, shown: bool) -> Self {
        Self {
            shown: shown && total > 0 && Self::is_seen(),
            total,
            done: 0,
            drawn: None,
        }
    }

    /// Notes that one more is done.
    pub(crate) fn step(&mut self) {
        self.done += 1;
        if self.shown && self.drawn.is_none_or(|drawn| drawn.elapsed() >= BEAT) {
            self.drawn = Some(Instant::now());
            draw(&format!("\r{}", self.line()));
        }
    }

    fn line(&self) -> String {
        let done = self.done.min(self.total);
        let full = done * WIDTH / self.total.max(1);
        let bar: String = (0..WIDTH)
            .map(|at| if at < full { '#' } else { '-' })
            .collect();
        format!("[{bar}] {done}/{}", self.total)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            draw("\r\x1b[K");
        }
    }
}

fn draw(text: &str) {
    // A terminal that has gone shows nothing, and needs nothing.
    drop(io::stderr().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_with_what_is_done_and_never_beyond() {
        let mut progress = Progress::of(4, false);
        assert_eq!(progress.line(), format!("[{}] 0/4", "-".repeat(30)));
        progress.step();
        progress.step();
        assert_eq!(
            progress.line(),
            format!("[{}{}] 2/4", "#".repeat(15), "-".repeat(15))
        );
        for _ in 0..5 {
            progress.step();
        }
        assert_eq!(progress.line(), format!("[{}] 4/4", "#".repeat(30)));
    }
}
