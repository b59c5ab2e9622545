//! Lines of shell as commands and words, as far as reading them needs it.
//!
//! This is no shell: a word keeps its variables, and what is quoted twice may be cut wrongly.

use std::ops::Range;

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Where it stands in the line.
    pub(super) range: Range<usize>,
    /// What it says, without its quotes.
    pub(super) plain: String,
}

/// Cuts a line into commands, those within others among them. Redirections are left out.
pub(super) fn commands(line: &str) -> Vec<Vec<Word>> {
    let mut lexer = Lexer::default();
    let mut letters = line.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let next = letters.peek().map(|(_, next)| *next);
        match (lexer.quote, letter) {
            (Some('\''), '\'') | (Some('"'), '"') => lexer.quote = None,
            (Some('\''), _) => lexer.push(at, letter),
            (_, '\\') => {
                if let Some((_, escaped)) = letters.next() {
                    lexer.push(at, escaped);
                }
            }
            (_, '$') if next == Some('(') => {
                lexer.push(at, letter);
                letters.next();
                lexer.enter(at, '(');
            }
            (_, '`') if lexer.within.last().is_some_and(|(mark, _)| *mark == '`') => {
                lexer.leave(at);
            }
            (_, '`') => lexer.enter(at, '`'),
            (Some(_), _) => lexer.push(at, letter),
            (None, '\'' | '"') => {
                lexer.start(at);
                lexer.quote = Some(letter);
            }
            (None, '(') => lexer.enter(at, '('),
            (None, ')') => lexer.leave(at),
            (None, ';' | '&' | '|') => lexer.end_command(at),
            (None, '#') if lexer.word.is_none() => break,
            (None, blank) if blank.is_whitespace() => lexer.end_word(at),
            (None, _) => lexer.push(at, letter),
        }
    }
    lexer.end_command(line.len());
    lexer
        .commands
        .into_iter()
        .map(without_redirections)
        .collect()
}

#[derive(Default)]
struct Lexer {
    commands: Vec<Vec<Word>>,
    command: Vec<Word>,
    word: Option<(usize, String)>,
    quote: Option<char>,
    /// What a command within another began with, and the quote around it.
    within: Vec<(char, Option<char>)>,
}

impl Lexer {
    fn start(&mut self, at: usize) {
        self.word.get_or_insert_with(|| (at, String::new()));
    }

    fn push(&mut self, at: usize, letter: char) {
        self.start(at);
        if let Some((_, plain)) = &mut self.word {
            plain.push(letter);
        }
    }

    fn end_word(&mut self, at: usize) {
        if let Some((start, plain)) = self.word.take() {
            self.command.push(Word {
                range: start..at,
                plain,
            });
        }
    }

    fn end_command(&mut self, at: usize) {
        self.end_word(at);
        if !self.command.is_empty() {
            self.commands.push(std::mem::take(&mut self.command));
        }
    }

    fn enter(&mut self, at: usize, mark: char) {
        self.end_command(at);
        self.within.push((mark, self.quote.take()));
    }

    fn leave(&mut self, at: usize) {
        self.end_command(at);
        if let Some((_, quote)) = self.within.pop() {
            self.quote = quote;
        }
    }
}

fn without_redirections(command: Vec<Word>) -> Vec<Word> {
    let mut kept = Vec::new();
    let mut words = command.into_iter();
    while let Some(word) = words.next() {
        let behind = word.plain.trim_start_matches(|c: char| c.is_ascii_digit());
        if !behind.starts_with(['<', '>']) {
            kept.push(word);
        } else if behind.trim_start_matches(['<', '>']).is_empty() {
            words.next();
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(line: &str) -> Vec<String> {
        let words = |command: &Vec<Word>| {
            let words: Vec<_> = command.iter().map(|word| word.plain.as_str()).collect();
            words.join(" ")
        };
        commands(line).iter().map(words).collect()
    }

    #[test]
    fn a_line_is_cut_into_commands() {
        for (line, expected) in [
            ("a b  c", &["a b c"][..]),
            ("a;b&&c||d|e &", &["a", "b", "c", "d", "e"]),
            ("a 'b;c' \"d e\"f g\\ h", &["a b;c d ef g h"]),
            ("a >/dev/null 2> x b 2>&1", &["a b", "1"]),
            ("x=\"$(a b \"c\")\" d", &["x=$", "a b c", "d"]),
            ("x=`a b` c", &["x=", "a b", "c"]),
            (
                "if [ a ]; then (b); fi # c d",
                &["if [ a ]", "then", "b", "fi"],
            ),
            ("a#b # c", &["a#b"]),
            ("a \\", &["a"]),
            ("ä 'ö", &["ä ö"]),
            ("", &[]),
        ] {
            assert_eq!(cut(line), expected, "{line}");
        }
    }

    #[test]
    fn words_know_where_they_stand() {
        let line = "a -o x:\"b c\"=d; e\\ f";
        let commands = commands(line);
        let words = commands.iter().flatten();
        let raw: Vec<_> = words.map(|word| &line[word.range.clone()]).collect();
        assert_eq!(raw, ["a", "-o", "x:\"b c\"=d", "e\\ f"]);
    }
}
