//! The words of the notation: escaping, cutting lines, device numbers.

/// Writes bytes as one word.
pub(super) fn word(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, &byte) in bytes.iter().enumerate() {
        let comment = index == 0 && byte == b'#';
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\') && !comment {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Writes bytes in quotes.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}

/// Cuts a line at spaces outside of quotes. Quotes and escapes stay in the words.
pub(super) fn split(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = None;
    let mut in_quotes = false;
    let mut escaped = false;
    for (index, character) in line.char_indices() {
        let space = character.is_ascii_whitespace() && !in_quotes;
        match (start, space) {
            (None, false) => start = Some(index),
            (Some(begin), true) => {
                words.push(&line[begin..index]);
                start = None;
            }
            _ => {}
        }
        in_quotes ^= character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
    }
    words.extend(start.map(|begin| &line[begin..]));
    words
}

/// Returns the bytes that a word or a quoted text stands for; nothing when it is malformed.
pub(super) fn bytes(word: &str) -> Option<Vec<u8>> {
    let inner = match word.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => word,
    };
    let mut bytes = Vec::new();
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'n' => b'\n',
            b't' => b'\t',
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other @ (b'"' | b'\\') => other,
            _ => return None,
        });
    }
    Some(bytes)
}

/// Packs a device number from the words `major:minor`, as `makedev` does.
pub(super) fn device(word: &str) -> Option<u64> {
    let (major, minor): (u64, u64) = pair(word)?;
    Some(
        (major & 0xffff_f000) << 32
            | (major & 0xfff) << 8
            | (minor & 0xffff_ff00) << 12
            | (minor & 0xff),
    )
}

/// Writes a device number as `major:minor`.
pub(super) fn device_words(rdev: u64) -> String {
    let major = (rdev >> 32 & 0xffff_f000) | (rdev >> 8 & 0xfff);
    let minor = (rdev >> 12 & 0xffff_ff00) | (rdev & 0xff);
    format!("{major}:{minor}")
}

/// Reads two numbers with a colon between them.
pub(super) fn pair<N: std::str::FromStr>(word: &str) -> Option<(N, N)> {
    let (first, second) = word.split_once(':')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_being_written() {
        let all: Vec<u8> = (0..=255).collect();
        for text in [
            &all[..],
            b"",
            b"#x",
            b"a b",
            b"\"\\\n\t",
            "\u{e4}".as_bytes(),
        ] {
            assert_eq!(bytes(&quoted(text)).as_deref(), Some(text));
            assert_eq!(split(&quoted(text)), [quoted(text)]);
            assert_eq!(bytes(&word(text)).as_deref(), Some(text));
        }
    }

    #[test]
    fn spaces_in_quotes_do_not_cut() {
        assert_eq!(split(r#" a  "b \" c" d=1 "#), ["a", r#""b \" c""#, "d=1"]);
        assert_eq!(split(""), [""; 0]);
    }

    #[test]
    fn device_numbers_survive_packing() {
        for (words, rdev) in [("1:3", 0x103), ("0:0", 0), ("259:1048575", 0xfff1_03ff)] {
            assert_eq!(device(words), Some(rdev), "{words}");
            assert_eq!(device_words(rdev), words);
        }
        assert_eq!(
            device_words(device("70000:300000").unwrap()),
            "70000:300000"
        );
    }
}
