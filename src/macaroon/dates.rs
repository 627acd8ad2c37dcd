//! Times as macaroons have them: RFC 3339.

/// The caveat of a token that is taken until then, in seconds since 1970.
pub(crate) fn time_before(deadline: u64) -> String {
    // The date of a day since 1970, years counted from March: the other way round in `rfc3339_seconds`.
    let (days, second) = (deadline / 86_400 + 719_468, deadline % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("time-before {year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Seconds since 1970 of `YYYY-MM-DDTHH:MM:SS[.fraction]`, followed by Z or by how far the clock is ahead, `+01:00`.
pub(super) fn rfc3339_seconds(text: &str) -> Option<u64> {
    let Some((local, ahead)) = offset(text) else { return utc_seconds(text) };
    utc_seconds(&format!("{local}Z"))?.checked_add_signed(-ahead)
}

/// A time, and by how many seconds it is ahead of Greenwich.
fn offset(text: &str) -> Option<(&str, i64)> {
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (sign, rest) = offset.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let valid = (0..24).contains(&hours) && (0..60).contains(&minutes);
    let seconds = Some((hours * 60 + minutes) * 60).filter(|_| valid)?;
    match sign {
        "+" => Some((local, seconds)),
        "-" => Some((local, -seconds)),
        _ => None,
    }
}

fn utc_seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.split('.').next()?.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    let valid = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid || !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    // Days since 1970 of a date of the Gregorian calendar, years counted from March.
    let shifted_year = if month > 2 { year } else { year - 1 };
    let era = shifted_year / 400;
    let year_of_era = shifted_year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_deadline_is_written_as_it_is_read() {
        assert_eq!(time_before(1_800_000_000), "time-before 2027-01-15T08:00:00Z");
        for deadline in [0, 951_782_399, 951_782_400, 951_868_800, 1_709_164_800, 4_107_542_399, 4_107_542_400, NOW] {
            let text = time_before(deadline);
            assert_eq!(rfc3339_seconds(text.strip_prefix("time-before ").unwrap()), Some(deadline), "{text}");
        }
    }

    #[test]
    fn dates_are_read_as_seconds() {
        assert_eq!(rfc3339_seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(rfc3339_seconds("2000-02-29T12:34:56.789Z"), Some(951_827_696));
        assert_eq!(rfc3339_seconds("2027-01-15T08:00:00Z"), Some(1_800_000_000));
        assert_eq!(rfc3339_seconds("2027-13-15T08:00:00Z"), None);
        assert_eq!(rfc3339_seconds("soon"), None);
    }
}
