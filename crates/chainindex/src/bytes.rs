//! Numbers in bytes, lowest byte first, and checksums.

use rules::Time;

use crate::Refused;

/// A part of the file; every read is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a>(pub(crate) &'a [u8]);

impl<'a> Part<'a> {
    /// Returns `length` bytes from `at` on.
    pub(crate) fn cut(self, at: u64, length: u64) -> Result<Self, Refused> {
        let outside = Refused::Damaged("a part lies outside of the file");
        let start = usize::try_from(at).map_err(|_| outside)?;
        let length = usize::try_from(length).map_err(|_| outside)?;
        let end = start.checked_add(length).ok_or(outside)?;
        self.0.get(start..end).map(Part).ok_or(outside)
    }

    fn fixed<const N: usize>(self, at: usize) -> Result<[u8; N], Refused> {
        let end = at.checked_add(N);
        let bytes = end.and_then(|end| self.0.get(at..end));
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(Refused::Damaged("a number lies outside of its part"))
    }

    pub(crate) fn u16(self, at: usize) -> Result<u16, Refused> {
        self.fixed(at).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(self, at: usize) -> Result<u32, Refused> {
        self.fixed(at).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(self, at: usize) -> Result<u64, Refused> {
        self.fixed(at).map(u64::from_le_bytes)
    }

    /// Returns a time that is kept as nanoseconds since 1970.
    pub(crate) fn time(self, at: usize) -> Result<Time, Refused> {
        let nanos = self.fixed(at).map(i64::from_le_bytes)?;
        Ok(Time {
            seconds: nanos.div_euclid(SECOND),
            nanos: nanos.rem_euclid(SECOND) as u32,
        })
    }
}

const SECOND: i64 = 1_000_000_000;

/// Returns a time as nanoseconds since 1970; `None` for one that is more than 292 years away from then.
pub(crate) fn nanoseconds(time: Time) -> Option<i64> {
    let seconds = time.seconds.checked_mul(SECOND)?;
    seconds.checked_add(i64::from(time.nanos))
}

/// A checksum, which finds every change of one word.
///
/// Each step maps the sum so far one to one for each word, and the words one to one for each sum, so that two inputs that differ in
/// one word only never have one sum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum(u64);

impl Sum {
    pub(crate) fn new() -> Self {
        Self(0x706c_7977_6f6f_6431)
    }

    /// Adds bytes; the last ones are filled up with zeros.
    pub(crate) fn add(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let sum = words.iter().fold(self, |sum, word| sum.word(*word));
        if rest.is_empty() {
            return sum;
        }
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        sum.word(word)
    }

    fn word(self, word: [u8; 8]) -> Self {
        let mixed = self.0.rotate_left(23) ^ u64::from_le_bytes(word);
        Self(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_1970_survive() {
        for (seconds, nanos) in [(0, 0), (-1, 999_999_999), (1_700_000_000, 1), (-5, 0)] {
            let time = Time { seconds, nanos };
            let bytes = nanoseconds(time).unwrap().to_le_bytes();
            assert_eq!(Part(&bytes).time(0), Ok(time));
        }
        let far = Time {
            seconds: 1 << 40,
            nanos: 0,
        };
        assert_eq!(nanoseconds(far), None);
    }

    #[test]
    fn reads_outside_are_refused() {
        let part = Part(&[1, 2, 3]);
        assert_eq!(part.u16(1), Ok(0x0302));
        assert!(part.u16(2).is_err());
        assert!(part.u64(usize::MAX).is_err());
        assert!(part.cut(1, u64::MAX).is_err());
        assert!(part.cut(4, 0).is_err());
        assert!(part.cut(3, 0).is_ok());
    }

    #[test]
    fn each_byte_matters_to_the_sum() {
        let bytes: Vec<u8> = (0..29).collect();
        let sum = Sum::new().add(&bytes).value();
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x10;
            assert_ne!(Sum::new().add(&other).value(), sum, "{at}");
        }
    }
}
