//! Times and names as people read them.

use std::time::{SystemTime, UNIX_EPOCH};

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

/// A moment on the command line, in seconds since 1970: `1790000000`, or before now, `-1w`, `-2d`, `-3h` (lncli's units: s, m,
/// h, d, w, M for 30.44 days, y for 365.25).
pub(super) fn moment(text: &str) -> Result<u64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    moment_from(now, text).ok_or_else(|| {
        format!("\"{text}\" is no time: write seconds since 1970, such as 1790000000, or -1w, -2d, -3h for before now")
    })
}

fn moment_from(now: u64, text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let back = text.strip_prefix('-')?;
    let unit = match back.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        'M' => 2_630_016,
        'y' => 31_557_600,
        _ => return None,
    };
    let number: u64 = back[..back.len() - 1].parse().ok()?;
    now.checked_sub(number.checked_mul(unit)?)
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

/// A short channel id as it is typed: block x transaction x output, such as `122x1x0`, or that as one number.
pub(super) fn channel_id(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no channel id: `leyden listchannels` shows them, such as 122x1x0");
    let parts: Vec<u64> = text.split('x').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    match parts[..] {
        [id] => Ok(id),
        [block, index, output] if block < 1 << 24 && index < 1 << 24 && output < 1 << 16 => {
            Ok((block << 40) | (index << 16) | output)
        }
        _ => Err(wrong()),
    }
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
    fn a_channel_id_is_taken_as_listchannels_shows_it_and_as_a_number() {
        assert_eq!(channel_id("539268x845x1"), Ok((539_268 << 40) | (845 << 16) | 1));
        assert_eq!(channel_id("592936573276913665"), Ok(592_936_573_276_913_665));
        for wrong in ["", "x", "1x2", "1x2x65536", "1x2x3x4", "16777216x0x0", "abc"] {
            assert!(channel_id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_so_long_before_now() {
        let at = |text| moment_from(10_000_000, text);
        assert_eq!(
            [at("5"), at("-1s"), at("-2d"), at("-1w")],
            [Some(5), Some(9_999_999), Some(9_827_200), Some(9_395_200)]
        );
        for wrong in ["", "-", "-w", "1w", "-1x", "-99y", "-5", "-1é"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }

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
