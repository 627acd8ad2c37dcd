//! Times and names as people read them.

use leyden_common::words::on_one_line;

/// Seconds since 1970 as UTC, such as `2009-01-03 18:15:05`; a dash for 0.
pub(super) fn time(seconds: i64) -> String {
    if seconds <= 0 {
        return "-".to_owned();
    }
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest % 3600 / 60, rest % 60)
}

/// The Gregorian date of a day since 1970. Years are counted from 1 March, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / DAYS_OF_400_YEARS, shifted % DAYS_OF_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The beginning of a long hexadecimal name; commands take such a beginning where it is unique.
pub(super) fn short(name: &str) -> String {
    const KEPT: usize = 12;
    match name.get(..KEPT) {
        Some(beginning) if name.len() > KEPT + 1 => format!("{beginning}…"),
        _ => name.to_owned(),
    }
}

/// A channel point by the beginning of its transaction id and its output: `4a5e1e4baab8…:0`.
pub(super) fn short_point(point: &str) -> String {
    match point.split_once(':') {
        Some((txid, index)) => format!("{}:{index}", short(txid)),
        None => short(point),
    }
}

/// A short channel id as block x transaction x output; a dash while there is none.
pub(super) fn scid(id: u64) -> String {
    if id == 0 { "-".to_owned() } else { leyden_channels::types::ShortChannelId(id).to_string() }
}

/// A transaction id from the internal byte order of a message.
pub(super) fn txid(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect()
}

/// A line about a channel that has something to tell beside LND's word for nothing.
pub(super) fn trouble(channel_point: &str, flags: &str) -> String {
    if has_trouble(flags) { format!("\n{}: {flags}", short_point(channel_point)) } else { String::new() }
}

pub(super) fn has_trouble(flags: &str) -> bool {
    !matches!(flags, "" | "ChanStatusDefault")
}

/// Such as `1 confirmation` or `2 confirmations`.
pub(super) fn counted(count: impl Into<u64>, what: &str) -> String {
    let count = count.into();
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

pub(super) fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// In place of what the macaroon does not allow to ask for.
pub(super) fn not_allowed(what: &str, permission: &str) -> String {
    format!("(The {what} are not shown: this macaroon does not allow {permission}.)")
}

/// Below everything else; nothing if there are none.
pub(super) fn warnings(warnings: &[String]) -> String {
    warnings.iter().map(|warning| format!("\n\nWARNING: {}", on_one_line(warning))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_right_across_leap_years() {
        for (seconds, expected) in [
            (0, "-"),
            (1_231_006_505, "2009-01-03 18:15:05"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (4_107_542_399, "2100-02-28 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (1_735_689_599, "2024-12-31 23:59:59"),
        ] {
            assert_eq!(time(seconds), expected);
        }
    }

    #[test]
    fn long_names_keep_their_beginning() {
        assert_eq!(short_point(&format!("{}:1", "ab".repeat(32))), "abababababab…:1");
        assert_eq!(short("abc"), "abc");
        assert_eq!(txid(&[1, 2, 0xff]), "ff0201");
        assert_eq!([0_u32, 1, 2].map(|count| counted(count, "block")), ["0 blocks", "1 block", "2 blocks"]);
        assert_eq!((scid(0), scid((539_268 << 40) | (845 << 16) | 1)), ("-".to_owned(), "539268x845x1".to_owned()));
    }
}
