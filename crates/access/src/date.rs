//! Times in policies: ISO 8601, or seconds since the epoch.

/// Milliseconds since the epoch. `2026-11-22`, `2026-11-22T19:20:00Z`, with fractions or an offset, or seconds.
pub(crate) fn parse(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(1_000);
    }
    if !text.is_ascii() || text.len() < 10 {
        return None;
    }
    let (date, time) = text.split_at(10);
    let days = days(date)?;
    let within = match time.strip_prefix('T') {
        Some(time) => time_of_day(time)?,
        None if time.is_empty() => 0,
        None => return None,
    };
    Some(days * 86_400_000 + within)
}

/// As `aws:CurrentTime` shows it.
pub(crate) fn written(ms: i64) -> String {
    let (days, within) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 1_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (within / 3_600, within / 60 % 60, within % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn days(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..])?);
    let days = days_from_civil(year, month, day);
    (civil(days) == (year, month, day)).then_some(days)
}

/// Milliseconds, from `19:20`, `19:20:01`, `19:20:01.5`, followed by nothing, `Z`, `+01:00` or `+0100`.
fn time_of_day(text: &str) -> Option<i64> {
    let zone_at = text.find(['Z', '+', '-']).unwrap_or(text.len());
    let (time, zone) = text.split_at(zone_at);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = clock.split(':').map(|part| digits(part).filter(|_| part.len() == 2));
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    digits(fraction)?;
    let ms = digits(&format!("{fraction:0<3}")[..3])?;
    Some(((hour * 60 + minute - offset_minutes(zone)?) * 60 + second) * 1_000 + ms)
}

fn offset_minutes(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first() {
        None => return Some(0),
        Some(b'Z') => return (zone.len() == 1).then_some(0),
        Some(b'-') => -1,
        Some(_) => 1,
    };
    let plain = zone[1..].replacen(':', "", 1);
    let (hours, minutes) = (plain.len() == 4).then(|| plain.split_at(2))?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn digits(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days since 1970-01-01 of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is a year's last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, expect) in [
            ("1970-01-01", Some(0)),
            ("1970-01-01T00:00:01Z", Some(1_000)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1970-01-01T01:00:00.25+0100", Some(250)),
            ("1969-12-31T23:00-01:00", Some(0)),
            ("2024-02-29T12:00:00Z", Some(1_709_208_000_000)),
            ("1709208000", Some(1_709_208_000_000)),
            ("2023-02-29", None),
            ("2024-13-01", None),
            ("2024-02-29 12:00:00", None),
            ("2024-02-29T24:00:00Z", None),
            ("2024-02-29T12:00:00ZZ", None),
            ("2024-02-29T12:00:00+1", None),
            ("tomorrow", None),
            ("", None),
            ("99999999999999999999", None),
            ("9223372036854775807", None),
        ] {
            assert_eq!(parse(text), expect, "{text}");
        }
        assert_eq!(written(1_709_208_000_123), "2024-02-29T12:00:00Z");
        for ms in (-4_000_000_000_000_i64..4_000_000_000_000).step_by(86_399_993_000) {
            let seconds = ms.div_euclid(1_000) * 1_000;
            assert_eq!(parse(&written(ms)), Some(seconds));
        }
    }
}
