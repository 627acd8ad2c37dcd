//! Seconds as people read them.

/// Whole minutes of it, with hours: what is left is told as no more than it is.
pub(super) fn at_least(seconds: u64) -> String {
    told(seconds / 60)
}

/// Whole minutes that it takes, with hours: what is needed is told as no less than it is.
pub(super) fn at_most(seconds: u64) -> String {
    told(seconds.div_ceil(60))
}

fn told(minutes: u64) -> String {
    let counted = |count: u64, what: &str| if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") };
    match (minutes / 60, minutes % 60) {
        (0, minutes) => counted(minutes, "minute"),
        (hours, 0) => counted(hours, "hour"),
        (hours, minutes) => format!("{} {}", counted(hours, "hour"), counted(minutes, "minute")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_time_never_reads_like_enough() {
        assert_eq!((at_least(86_400), at_most(86_401)), ("24 hours".to_owned(), "24 hours 1 minute".to_owned()));
        assert_eq!((at_least(59), at_most(59)), ("0 minutes".to_owned(), "1 minute".to_owned()));
        assert_eq!((at_least(3_600), at_least(3_720)), ("1 hour".to_owned(), "1 hour 2 minutes".to_owned()));
        assert_ne!(at_least(7_199), at_most(7_200));
        assert!(!at_most(u64::MAX).is_empty());
    }
}
