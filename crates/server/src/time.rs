//! Moments as the AWS protocols write them, and the clock the server is given.
//!
//! What does not live here: reading the wall clock. The binary hands a [`Clock`] in; nothing below asks the
//! system for the time, so the tests decide what "now" is.

use std::sync::Arc;

/// Milliseconds since 1970-01-01T00:00:00Z, as a function so that tests can hold it still.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

const DAY_SECONDS: i64 = 86_400;

/// A moment broken into the fields of the Gregorian calendar, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Civil {
    year: i64,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    weekday: usize,
}

/// Days from 1970-01-01 to a date (Hinnant's `days_from_civil`): exact for every year SigV4 can write.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil(seconds: i64) -> Civil {
    let days = seconds.div_euclid(DAY_SECONDS);
    let rest = seconds.rem_euclid(DAY_SECONDS) as u32;
    let shifted = days + 719_468;
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = ((month_from_march + 2) % 12 + 1) as u32;
    let year = year_of_era + shifted.div_euclid(146_097) * 400 + i64::from(month <= 2);
    Civil {
        year,
        month,
        day: (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32,
        hour: rest / 3_600,
        minute: rest / 60 % 60,
        second: rest % 60,
        weekday: (days + 4).rem_euclid(7) as usize,
    }
}

/// `20261122T124407Z`, the only spelling SigV4 allows in `X-Amz-Date`.
pub fn basic(seconds: i64) -> String {
    let c = civil(seconds);
    format!("{:04}{:02}{:02}T{:02}{:02}{:02}Z", c.year, c.month, c.day, c.hour, c.minute, c.second)
}

/// `2026-11-22T12:44:07Z`, as S3 writes moments into its XML.
pub fn extended(seconds: i64) -> String {
    let c = civil(seconds);
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", c.year, c.month, c.day, c.hour, c.minute, c.second)
}

/// `Sun, 22 Nov 2026 12:44:07 GMT`, the `Date` header that SDKs correct their clocks from.
pub fn http_date(seconds: i64) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    let c = civil(seconds);
    let month = MONTHS[c.month as usize - 1];
    let day = DAYS[c.weekday];
    format!("{day}, {:02} {month} {:04} {:02}:{:02}:{:02} GMT", c.day, c.year, c.hour, c.minute, c.second)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads `20261122T124407Z` strictly: sixteen bytes, a date that exists, no leap second. `None` otherwise.
pub fn parse_basic(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    moment(
        digits(&bytes[0..4])?,
        digits(&bytes[4..6])? as u32,
        digits(&bytes[6..8])? as u32,
        [digits(&bytes[9..11])?, digits(&bytes[11..13])?, digits(&bytes[13..15])?],
    )
}

/// Reads the preferred form of an HTTP date, `Sun, 22 Nov 2026 12:44:07 GMT`. `None` for every other form.
pub fn parse_http_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 29 || !text.is_ascii() || &bytes[3..5] != b", " || !text.ends_with(" GMT") {
        return None;
    }
    if bytes[7] != b' ' || bytes[11] != b' ' || bytes[16] != b' ' || bytes[19] != b':' || bytes[22] != b':' {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == &text[8..11])? as u32 + 1;
    moment(
        digits(&bytes[12..16])?,
        month,
        digits(&bytes[5..7])? as u32,
        [digits(&bytes[17..19])?, digits(&bytes[20..22])?, digits(&bytes[23..25])?],
    )
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn moment(year: i64, month: u32, day: u32, [hour, minute, second]: [i64; 3]) -> Option<i64> {
    if !(1..=12).contains(&month) || day == 0 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    let back = civil(days * DAY_SECONDS);
    // 31 April comes back as 1 May: a date that does not exist is no date.
    (back.month == month && back.day == day)
        .then_some(days * DAY_SECONDS + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_back_as_it_was_written() {
        for seconds in [0, 951_782_399, 951_782_400, 1_440_938_160, 4_107_542_400, 253_402_300_799] {
            assert_eq!(parse_basic(&basic(seconds)), Some(seconds));
            assert_eq!(parse_http_date(&http_date(seconds)), Some(seconds));
        }
        assert_eq!(basic(1_440_938_160), "20150830T123600Z");
        assert_eq!(extended(1_440_938_160), "2015-08-30T12:36:00Z");
        assert_eq!(http_date(1_440_938_160), "Sun, 30 Aug 2015 12:36:00 GMT");
    }

    #[test]
    fn a_moment_that_does_not_exist_is_refused() {
        for text in [
            "",
            "20150830",
            "20150830T123600",
            "20150830T123600z",
            "20150830 123600Z",
            "20150230T123600Z",
            "20150830T243600Z",
            "20150830T126000Z",
            "20150830T123660Z",
            "20151330T123600Z",
            "20150800T123600Z",
            "2015-08-30T12:36:00Z",
            "100000830T123600Z",
            "+0150830T123600Z",
            "２0150830T1236Z",
        ] {
            assert_eq!(parse_basic(text), None, "{text}");
        }
    }
}
