//! Points in time (ECMA-119 8.4.26.1 and 9.1.5).

use rules::Time;

/// Reads the seven bytes of a record.
pub(super) fn short(bytes: &[u8]) -> Time {
    let &[year, month, day, hour, minute, second, zone, ..] = bytes else {
        return Time::default();
    };
    let clock = [hour, minute, second].map(i64::from);
    seconds(
        1900 + i64::from(year),
        month.into(),
        day.into(),
        clock,
        zone,
    )
}

/// Reads sixteen digits and the time zone.
pub(super) fn long(bytes: &[u8]) -> Time {
    let Some((digits, &[zone, ..])) = bytes.split_at_checked(16) else {
        return Time::default();
    };
    let number = |range: std::ops::Range<usize>| {
        let digits = digits[range].iter();
        digits.fold(0, |sum, digit| {
            sum * 10 + i64::from(digit.wrapping_sub(b'0') % 10)
        })
    };
    let clock = [number(8..10), number(10..12), number(12..14)];
    let time = seconds(number(0..4), number(4..6), number(6..8), clock, zone);
    Time {
        nanos: number(14..16) as u32 * 10_000_000,
        ..time
    }
}

/// Counts from 1970. The zone is in quarters of an hour east of Greenwich.
fn seconds(year: i64, month: i64, day: i64, [hour, minute, second]: [i64; 3], zone: u8) -> Time {
    if month == 0 {
        return Time::default();
    }
    // Years from March on, so that the day that leap years have is the last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468;
    let local = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Time {
        seconds: local - i64::from(zone.cast_signed()) * 15 * 60,
        nanos: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_1970_at_greenwich() {
        let at = |bytes: [u8; 7]| short(&bytes).seconds;
        assert_eq!(at([70, 1, 1, 0, 0, 0, 0]), 0);
        assert_eq!(at([70, 1, 1, 1, 0, 0, 4]), 0);
        assert_eq!(at([100, 2, 29, 12, 34, 56, 0]), 951_827_696);
        assert_eq!(at([100, 3, 1, 0, 0, 0, 252]), 951_868_800 + 3600);
        assert_eq!(at([126, 12, 31, 23, 59, 59, 0]), 1_798_761_599);
        assert_eq!(long(b"2000022912345678\0").seconds, 951_827_696);
        assert_eq!(long(b"2000022912345678\0").nanos, 780_000_000);
        assert_eq!(long(b"short"), Time::default());
    }
}
