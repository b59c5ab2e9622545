//! Finding the word that was probably meant.

/// Returns the known word nearest to `word`, if it is near enough to be meant.
///
/// Two edits at most, and fewer for short words: `foo` is not a misspelt `ro`.
pub(super) fn nearest<'a>(
    word: &[u8],
    known: impl Iterator<Item = &'a &'static str>,
) -> Option<&'static str> {
    let limit = match word.len() {
        0..=2 => return None,
        3 => 1,
        4..=64 => 2,
        _ => return None,
    };
    known
        .filter(|name| name.len().abs_diff(word.len()) <= limit)
        .map(|name| (distance(word, name.as_bytes()), *name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Returns how many letters to put in, take out or replace to get from `a` to `b`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_within_two_edits() {
        let known = ["ro", "udba", "noplink", "lowerdir", "dirren"];
        let table = [
            ("foo", None),
            ("udbs", Some("udba")),
            ("ubda", Some("udba")),
            ("nolpink", Some("noplink")),
            ("lowrdir", Some("lowerdir")),
            ("lwrdr", None),
            ("dirrren", Some("dirren")),
            ("", None),
        ];
        for (word, expected) in table {
            assert_eq!(nearest(word.as_bytes(), known.iter()), expected, "{word}");
        }
    }
}
