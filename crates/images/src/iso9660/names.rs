//! Names without Rock Ridge, shown as the kernel shows them.

/// Returns a name of ECMA-119 itself: small letters, no version, no dot at the end.
pub(super) fn plain(name: &[u8]) -> Vec<u8> {
    let name = name.strip_suffix(b";1").unwrap_or(name);
    let name = name.strip_suffix(b".").unwrap_or(name);
    let shown = name.iter().map(|byte| match byte {
        b';' | b'/' => b'.',
        byte => byte.to_ascii_lowercase(),
    });
    shown.collect()
}

/// Returns a name of Joliet: UCS-2, big-endian.
pub(super) fn joliet(name: &[u8]) -> Vec<u8> {
    let units = name.chunks_exact(2);
    let units = units.map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
    let text: String = char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    let text = text.strip_suffix(";1").unwrap_or(&text);
    text.strip_suffix('.').unwrap_or(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_capitals_are_not_shown() {
        for (stored, shown) in [
            ("README.TXT;1", "readme.txt"),
            ("README.;1", "readme"),
            ("OLD.TXT;2", "old.txt.2"),
            ("DIR", "dir"),
        ] {
            assert_eq!(plain(stored.as_bytes()), shown.as_bytes());
        }
        let wide =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
        assert_eq!(joliet(&wide("Größe.txt;1")), "Größe.txt".as_bytes());
        assert_eq!(joliet(&wide("Ordner")), b"Ordner");
    }
}
