//! How many tests passed and failed, read from what the runners print.

use std::ops::AddAssign;

/// Results of one runner, or of several added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Count {
    /// Reads one line of output; `None` unless it is a summary that we know.
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        let line = without_escapes(line);
        if let Some(rest) = line.strip_prefix("test result:") {
            return Self::of_parts(rest.split_once('.')?.1, ';');
        }
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("Summary [") {
            return Self::of_parts(rest.split_once("run:")?.1, ',');
        }
        let (passed, failed) = line.split_once(" passed, ")?;
        Some(Self {
            passed: passed.parse().ok()?,
            failed: failed.strip_suffix(" failed")?.parse().ok()?,
        })
    }

    fn of_parts(parts: &str, separator: char) -> Option<Self> {
        let mut count = Self::default();
        for part in parts.split(separator) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => count.passed += number,
                "failed" | "timed" | "exec" => count.failed += number,
                _ => {}
            }
        }
        Some(count)
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

fn without_escapes(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            characters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_summaries_are_read() {
        let some = |passed, failed| Some(Count { passed, failed });
        for (line, expected) in [
            ("12 passed, 3 failed", some(12, 3)),
            (
                "test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
                some(7, 0),
            ),
            (
                "     Summary [   0.012s] 9 tests run: 8 passed (1 slow), 1 failed, 2 skipped",
                some(8, 1),
            ),
            (
                "     Summary [   0.5s] 3 tests run: 1 passed, 1 failed, 1 timed out, 0 skipped",
                some(1, 2),
            ),
            (
                "\u{1b}[32;1m     Summary\u{1b}[0m [   1s] 1 test run: 1 passed, 0 skipped",
                some(1, 0),
            ),
            // nextest shows the output of a failed test, indented: it has been counted
            (
                "    test result: FAILED. 0 passed; 1 failed; 0 ignored",
                None,
            ),
            ("all 12 passed, 3 failed yesterday", None),
            ("hello", None),
        ] {
            assert_eq!(Count::of_line(line), expected, "{line}");
        }
    }
}
