//! Paths as text that can be read back, whatever bytes they have.
//!
//! A backslash, control bytes and what is not UTF-8 stand as a backslash and three octal
//! digits, as in the mount table.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Returns a path as text.
pub(crate) fn write(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter == '\\' || letter.is_ascii_control() {
                text.push_str(&format!("\\{:03o}", u32::from(letter)));
            } else {
                text.push(letter);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\{byte:03o}"));
        }
    }
    text
}

/// Returns the bytes that a text stands for.
pub(crate) fn read(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn any_path_is_read_back() {
        for bytes in [
            &b"/plain/path with blank"[..],
            b"/a\\b\n\x7f",
            b"/\xff\xc3\xa4\xc3",
            b"/\\101",
        ] {
            let text = write(Path::new(OsStr::from_bytes(bytes)));
            assert_eq!(read(&text), bytes, "{text}");
        }
        assert_eq!(write(Path::new("/ä b")), "/ä b");
    }
}
