//! Durations, sizes and shares as people write them: a number and its unit.
//! Promises exact values and a message that shows the right spelling. Does not know which setting a value belongs to.

use std::time::Duration;

use crate::units::{ByteSize, Percent};

/// The units of a duration, longest first, in nanoseconds.
const DURATION_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// The units of a size in bytes. As in Kubernetes and in the standard, `k` is 1,000 and `Ki` is 1,024.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Longest duration of the language: a year. Longer ones are mistakes, or mean "never".
pub const DURATION_MAX: Duration = Duration::from_secs(365 * 86_400);

/// What is wrong with a quantity, and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantityError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

fn error(message: String, help: impl Into<String>) -> QuantityError {
    QuantityError { message, help: help.into() }
}

/// Reads `250ms`, `2s`, `1.5s`, `1h30m`. `shown` is what messages quote: the text as typed, its variables unexpanded.
pub fn duration(text: &str, shown: &str) -> Result<Duration, QuantityError> {
    let bad = || error(format!("\"{shown}\" is not a duration"), "write a number and a unit: 250ms, 2s, 5m, 1h");
    if text.is_empty() {
        return Err(bad());
    }
    let mut nanos: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, unit, after) = next_part(rest).ok_or_else(bad)?;
        if unit.is_empty() {
            // `0` alone is what every other tool takes for zero.
            if text == "0" {
                return Ok(Duration::ZERO);
            }
            let example = if shown == text { number } else { "2" };
            return Err(error(format!("\"{shown}\" needs a unit, e.g. {example}s"), "units are ms, s, m, h and d"));
        }
        let unknown = || error(format!("\"{shown}\" has an unknown unit"), "units are ms, s, m, h and d");
        let (_, factor) = DURATION_UNITS.into_iter().find(|(word, _)| *word == unit).ok_or_else(unknown)?;
        nanos += scaled(number, factor).ok_or_else(bad)?;
        rest = after;
    }
    if nanos > DURATION_MAX.as_nanos() {
        return Err(error(format!("\"{shown}\" is more than a year"), "the longest duration is 365d"));
    }
    Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// Reads `64KiB`, `1.5MiB`, `100B`. `shown` is what messages quote, see [`duration`].
pub fn size(text: &str, shown: &str) -> Result<ByteSize, QuantityError> {
    let bad = || error(format!("\"{shown}\" is not a size"), "write a number and a unit: 512B, 64KiB, 1MiB");
    let (number, unit, after) = next_part(text).filter(|(.., after)| after.is_empty()).ok_or_else(bad)?;
    debug_assert!(after.is_empty());
    if unit.is_empty() {
        if number == "0" {
            return Ok(ByteSize(0));
        }
        let example = if shown == text { number } else { "64" };
        let message = format!("\"{shown}\" needs a unit, e.g. {example}KiB");
        return Err(error(message, "units are B, KiB, MiB, GiB, and kB, MB, GB for powers of ten"));
    }
    let same =
        |word: &str| word == unit || word.strip_suffix('B').is_some_and(|short| !short.is_empty() && short == unit);
    let Some((_, factor)) = SIZE_UNITS.into_iter().find(|(word, _)| same(word)) else {
        let near =
            SIZE_UNITS.into_iter().find(|(word, _)| word.eq_ignore_ascii_case(unit) || *word == format!("{unit}iB"));
        let message = format!("\"{shown}\" has an unknown unit");
        let help = match near.filter(|_| shown == text) {
            Some((word, _)) => format!("write it as {number}{word}"),
            None => "units are B, KiB, MiB, GiB, and kB, MB, GB for powers of ten".to_owned(),
        };
        return Err(error(message, help));
    };
    let bytes = scaled(number, factor).ok_or_else(bad)?;
    u64::try_from(bytes).map(ByteSize).map_err(|_| error(format!("\"{shown}\" is too large"), "use a smaller size"))
}

/// Reads `20%`. `shown` is what messages quote, see [`duration`].
pub fn percent(text: &str, shown: &str) -> Result<Percent, QuantityError> {
    let bad = || error(format!("\"{shown}\" is not a share"), "write whole percent: 20%");
    let (number, sign) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), "%"),
        None => (text, ""),
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let hundredths = scaled(number, 100).filter(|_| is_number).ok_or_else(bad)?;
    if sign.is_empty() {
        // 0.2 is a fifth in most other tools; 20 is what people write here.
        let meant = if number.contains('.') { hundredths } else { hundredths / 100 };
        let example = if shown == text && (1..=100).contains(&meant) { meant } else { 20 };
        return Err(error(format!("\"{shown}\" needs a %, e.g. {example}%"), "a share is written in whole percent"));
    }
    if !hundredths.is_multiple_of(100) {
        return Err(error(format!("\"{shown}\" is not whole percent"), "write a whole number and a %: 20%"));
    }
    let percent = u8::try_from(hundredths / 100).ok().and_then(Percent::new);
    percent.ok_or_else(|| error(format!("\"{shown}\" is more than all"), "the largest share is 100%"))
}

/// Reads `0.5` as billionths; `None` unless it is a number with at most nine places. For what Docker counts so.
pub fn billionths(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    scaled(text, 1_000_000_000).filter(|_| is_number).and_then(|number| u64::try_from(number).ok())
}

/// The shortest exact spelling that [`duration`] reads back.
pub fn spell_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    // Days are read but not written: `24h` is what people expect to see.
    let fits = |factor: u64| nanos.is_multiple_of(u128::from(factor));
    let (unit, factor) = DURATION_UNITS.into_iter().skip(1).find(|&(_, factor)| fits(factor)).unwrap_or(("ns", 1));
    format!("{}{unit}", nanos / u128::from(factor))
}

/// Splits off the first number with its unit: `1h30m` is `("1", "h", "30m")`.
fn next_part(text: &str) -> Option<(&str, &str, &str)> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(number_end);
    let unit_from = rest.len() - rest.trim_start().len();
    let unit_length = rest[unit_from..].find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len() - unit_from);
    let (unit, after) = rest[unit_from..].split_at(unit_length);
    (!number.is_empty()).then_some((number, unit, after))
}

/// `number` × `factor` without floating point; `None` unless that is a whole number below 10^27.
fn scaled(number: &str, factor: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.len() > 18 || fraction.len() > 9 || fraction.is_empty() {
        return None;
    }
    let tenths = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let whole: u128 = whole.parse().ok()?;
    let parts = whole * tenths + fraction.parse::<u128>().ok()?;
    let product = parts * u128::from(factor);
    product.is_multiple_of(tenths).then(|| product / tenths)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases = [
            ("250ms", 250),
            ("2s", 2_000),
            ("1.5s", 1_500),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2 s", 2_000),
            ("1d", 86_400_000),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(duration(text, text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_wrong_duration_shows_the_right_spelling() {
        let cases = [
            ("2", "\"2\" needs a unit, e.g. 2s"),
            ("1.5", "\"1.5\" needs a unit, e.g. 1.5s"),
            ("1h30", "\"1h30\" needs a unit, e.g. 30s"),
            ("2sec", "\"2sec\" has an unknown unit"),
            ("-1s", "\"-1s\" is not a duration"),
            ("soon", "\"soon\" is not a duration"),
            ("", "\"\" is not a duration"),
            ("1..5s", "\"1..5s\" is not a duration"),
            ("0.5ns", "\"0.5ns\" is not a duration"),
            ("366d", "\"366d\" is more than a year"),
            ("99999999999999999999s", "\"99999999999999999999s\" is not a duration"),
        ];
        for (text, message) in cases {
            assert_eq!(duration(text, text).unwrap_err().message, message);
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases =
            [("512B", 512), ("64KiB", 65_536), ("1.5MiB", 1_572_864), ("1Gi", 1 << 30), ("10kB", 10_000), ("0", 0)];
        for (text, bytes) in cases {
            assert_eq!(size(text, text), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn shares_are_read_in_whole_percent() {
        for (text, percent) in [("0%", 0), ("20%", 20), ("100 %", 100), ("007%", 7)] {
            assert_eq!(super::percent(text, text).map(Percent::get), Ok(percent), "{text}");
        }
    }

    #[test]
    fn a_wrong_share_shows_the_right_spelling() {
        let cases = [
            ("20", "\"20\" needs a %, e.g. 20%"),
            ("0.2", "\"0.2\" needs a %, e.g. 20%"),
            ("0.999", "\"0.999\" is not a share"),
            ("900", "\"900\" needs a %, e.g. 20%"),
            ("12.5%", "\"12.5%\" is not whole percent"),
            ("101%", "\"101%\" is more than all"),
            ("99999999999%", "\"99999999999%\" is more than all"),
            ("-5%", "\"-5%\" is not a share"),
            ("%", "\"%\" is not a share"),
            ("", "\"\" is not a share"),
            ("half", "\"half\" is not a share"),
        ];
        for (text, message) in cases {
            assert_eq!(percent(text, text).unwrap_err().message, message);
        }
        assert_eq!(percent("30", "${SHARE}").unwrap_err().message, "\"${SHARE}\" needs a %, e.g. 20%");
    }

    #[test]
    fn a_wrong_size_shows_the_right_spelling() {
        let cases = [
            ("64", "\"64\" needs a unit, e.g. 64KiB", "units are"),
            ("64kib", "\"64kib\" has an unknown unit", "write it as 64KiB"),
            ("1m", "\"1m\" has an unknown unit", "units are"),
            ("1M5", "\"1M5\" is not a size", "write a number and a unit"),
            ("big", "\"big\" is not a size", "write a number and a unit"),
            ("1TiB", "\"1TiB\" has an unknown unit", "units are"),
            ("999999999999999999GiB", "\"999999999999999999GiB\" is too large", "smaller"),
        ];
        for (text, message, help) in cases {
            let error = size(text, text).unwrap_err();
            assert!(error.message.starts_with(message), "{}", error.message);
            assert!(error.help.contains(help), "{}", error.help);
        }
    }

    proptest! {
        #[test]
        fn a_duration_that_is_spelled_is_read_back(nanos in 0..DURATION_MAX.as_nanos() as u64) {
            let value = Duration::from_nanos(nanos);
            prop_assert_eq!(duration(&spell_duration(value), ""), Ok(value));
        }

        #[test]
        fn a_size_that_is_spelled_is_read_back(bytes in 0..u64::MAX >> 10) {
            prop_assert_eq!(size(&ByteSize(bytes).to_string(), ""), Ok(ByteSize(bytes)));
        }

        #[test]
        fn no_text_makes_a_quantity_panic(text in ".{0,24}") {
            let _ = duration(&text, &text);
            let _ = size(&text, &text);
            let _ = percent(&text, &text);
        }
    }
}
