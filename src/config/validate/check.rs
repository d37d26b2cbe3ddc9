//! The checks that many settings share: durations, sizes, counts, words, patterns.
//! Promises that each mistake is reported and that a usable value comes back all the same, so that reading goes on.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use regex::Regex;

use crate::config::decode::nearest;
use crate::config::diagnostic::{Recorded, Report};
use crate::config::quantity;
use crate::config::raw::kind;
use crate::config::scalar::{Kind, Scalar};
use crate::config::source::Span;
use crate::units::{ByteSize, Percent};

/// Largest compiled regular expression, in bytes: the default of the crate is ten times that, per route.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Whether zero is a value or a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zero {
    /// It has a meaning, such as "at once".
    Allowed,
    /// It would make the setting useless.
    Rejected,
}

/// Reports mistakes and returns values.
pub(crate) struct Check<'a> {
    /// Where mistakes go.
    pub(crate) report: &'a mut Report,
}

impl Check<'_> {
    /// Records an error at a place.
    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) -> Recorded<'_> {
        self.report.error(span, message, help)
    }

    /// A duration, or `default` if it was left out or is wrong.
    pub(crate) fn duration(
        &mut self,
        field: &Option<Scalar<kind::Duration>>,
        default: Duration,
        zero: Zero,
    ) -> Duration {
        let Some(scalar) = field else { return default };
        match quantity::duration(scalar.value(), scalar.shown()) {
            Ok(Duration::ZERO) if zero == Zero::Rejected => {
                let default = quantity::spell_duration(default);
                let message = format!("\"{}\" leaves no time at all", scalar.shown());
                let help = format!("leave it out for {default}, or write a long time such as 24h to mean \"never\"");
                self.error(scalar.span(), message, help);
            }
            Ok(duration) => return duration,
            Err(error) => {
                self.error(scalar.span(), error.message, error.help);
            }
        }
        default
    }

    /// A size, or `default` if it was left out or is wrong.
    pub(crate) fn size<K: Kind>(&mut self, field: &Option<Scalar<K>>, default: ByteSize, zero: Zero) -> ByteSize {
        let Some(scalar) = field else { return default };
        match quantity::size(scalar.value(), scalar.shown()) {
            Ok(ByteSize(0)) if zero == Zero::Rejected => {
                let message = format!("\"{}\" leaves room for nothing", scalar.shown());
                self.error(
                    scalar.span(),
                    message,
                    format!("leave it out for {default}, or write a large size such as 100GiB"),
                );
            }
            Ok(size) => return size,
            Err(error) => {
                self.error(scalar.span(), error.message, error.help);
            }
        }
        default
    }

    /// A whole number within a range, or `default` if it was left out or is wrong.
    pub(crate) fn count<K: Kind>(
        &mut self,
        field: &Option<Scalar<K>>,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> u32 {
        let Some(scalar) = field else { return default };
        let number = scalar.value().parse::<u32>().ok().filter(|number| range.contains(number));
        number.unwrap_or_else(|| {
            let (least, most) = range.into_inner();
            let message = match scalar.value().parse::<i128>() {
                Ok(_) if most == u32::MAX => format!("\"{}\" is less than {least}", scalar.shown()),
                Ok(_) => format!("\"{}\" is not between {least} and {most}", scalar.shown()),
                Err(_) => format!("\"{}\" is not a whole number", scalar.shown()),
            };
            self.error(scalar.span(), message, format!("write a number such as {default}"));
            default
        })
    }

    /// A whole number of at least 1.
    pub(crate) fn positive<K: Kind>(&mut self, field: &Option<Scalar<K>>, default: u32) -> NonZeroU32 {
        debug_assert!(default > 0);
        NonZeroU32::new(self.count(field, default, 1..=u32::MAX)).unwrap_or(NonZeroU32::MIN)
    }

    /// A number above zero, with or without a fraction.
    pub(crate) fn decimal(&mut self, field: &Option<Scalar<kind::Number>>, default: f64) -> f64 {
        /// Beyond this, neighbouring numbers are no longer told apart by their fractions.
        const MAX: f64 = 1e9;
        let Some(scalar) = field else { return default };
        let text = scalar.value();
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let message = match text.parse::<f64>().ok().filter(|_| is_plain) {
            Some(number) if number > 0.0 && number <= MAX => return number,
            Some(number) if number > MAX => format!("\"{}\" is more than {MAX}", scalar.shown()),
            Some(_) => format!("\"{}\" is not more than 0", scalar.shown()),
            None => format!("\"{}\" is not a number", scalar.shown()),
        };
        self.error(scalar.span(), message, format!("write a number such as {default}"));
        default
    }

    /// A cap: a whole number of at least 1, or `unlimited`, which is also what leaving it out means.
    pub(crate) fn cap(&mut self, field: &Option<Scalar<kind::Cap>>) -> Option<NonZeroU32> {
        let scalar = field.as_ref().filter(|scalar| scalar.value() != "unlimited")?;
        let number = scalar.value().parse::<u32>().ok().and_then(NonZeroU32::new);
        if number.is_none() {
            let message = format!("\"{}\" is not a cap", scalar.shown());
            self.error(scalar.span(), message, "write a whole number of at least 1, or unlimited");
        }
        number
    }

    /// A share, or `default` if it was left out or is wrong.
    pub(crate) fn percent<K: Kind>(&mut self, field: &Option<Scalar<K>>, default: Percent, zero: Zero) -> Percent {
        let Some(scalar) = field else { return default };
        match quantity::percent(scalar.value(), scalar.shown()) {
            Ok(percent) if percent.get() == 0 && zero == Zero::Rejected => {
                let message = format!("\"{}\" is not between 1% and 100%", scalar.shown());
                self.error(scalar.span(), message, format!("write a share such as {default}"));
            }
            Ok(percent) => return percent,
            Err(error) => {
                self.error(scalar.span(), error.message, error.help);
            }
        }
        default
    }

    /// A status or a range of them: `503`, `5xx`, `502-504`.
    pub(crate) fn statuses<K: Kind>(&mut self, scalar: &Scalar<K>) -> Option<RangeInclusive<u16>> {
        let text = scalar.value();
        let class = text.len() == 3 && text.as_bytes()[1..].eq_ignore_ascii_case(b"xx");
        let (first, last) = match text.split_once('-') {
            _ if class => (status(&format!("{}00", &text[..1])), status(&format!("{}99", &text[..1]))),
            Some((first, last)) => (status(first.trim()), status(last.trim())),
            None => (status(text), status(text)),
        };
        match first.zip(last) {
            Some((first, last)) if first <= last => return Some(first..=last),
            Some((first, last)) => {
                let message = format!("\"{}\" runs backwards", scalar.shown());
                let help = match scalar.has_variables() {
                    true => "write the lower status first".to_owned(),
                    false => format!("write it as {last}-{first}"),
                };
                self.error(scalar.span(), message, help);
            }
            None => {
                let message = format!("\"{}\" is not a status", scalar.shown());
                self.error(scalar.span(), message, "write one such as 200, or a range such as 200-399 or 2xx");
            }
        }
        None
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, field: &Option<Scalar<kind::Flag>>) -> bool {
        let Some(scalar) = field else { return false };
        match scalar.value() {
            "true" => true,
            "false" => false,
            _ => {
                let message = format!("\"{}\" is neither true nor false", scalar.shown());
                self.error(scalar.span(), message, "write true or false");
                false
            }
        }
    }

    /// The value that stands beside the typed word, or the first one if it was left out or is wrong.
    pub(crate) fn word<K: Kind, T: Clone>(&mut self, field: &Option<Scalar<K>>, values: &[(&str, T)]) -> T {
        let Some(scalar) = field else { return values[0].1.clone() };
        debug_assert!(K::WORDS.iter().all(|word| values.iter().any(|(known, _)| known == word)));
        if let Some((_, value)) = values.iter().find(|(word, _)| *word == scalar.value()) {
            return value.clone();
        }
        let help = match nearest(scalar.value(), values.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write {}", K::EXPECTED),
        };
        self.error(scalar.span(), format!("\"{}\" is not one of the words here", scalar.shown()), help);
        values[0].1.clone()
    }

    /// A regular expression.
    pub(crate) fn regex<K: Kind>(&mut self, scalar: &Scalar<K>) -> Option<Regex> {
        match regex::RegexBuilder::new(scalar.value()).size_limit(REGEX_BYTES_MAX).build() {
            Ok(regex) => Some(regex),
            Err(error) => {
                // The crate draws the pattern over several lines; its last line is the sentence.
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                let reason = if scalar.has_variables() { "see its variable" } else { reason };
                let message = format!("\"{}\" is not a regular expression: {reason}", scalar.shown());
                self.error(scalar.span(), message, "to match a character such as ( itself, write \\( in single quotes");
                None
            }
        }
    }

    /// A method.
    pub(crate) fn method(&mut self, scalar: &Scalar<kind::Method>) -> Option<Method> {
        match Method::from_bytes(scalar.value().as_bytes()) {
            Ok(method) if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) => {
                let message = format!("\"{}\" is in lower case, and methods tell case apart", scalar.shown());
                self.error(scalar.span(), message, format!("write it as {}", scalar.shown().to_ascii_uppercase()));
                None
            }
            Ok(method) => Some(method),
            Err(_) => {
                let message = format!("\"{}\" is not a method", scalar.shown());
                self.error(scalar.span(), message, "write one such as GET");
                None
            }
        }
    }

    /// The name of a header field.
    pub(crate) fn header_name(&mut self, name: &str, shown: &str, span: Span) -> Option<HeaderName> {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        if parsed.is_none() {
            let help = "letters, digits and - only, without a colon";
            self.error(span, format!("\"{shown}\" is not the name of a header field"), help);
        }
        parsed
    }

    /// The value of a header field.
    pub(crate) fn header_value<K: Kind>(&mut self, scalar: &Scalar<K>) -> Option<HeaderValue> {
        let mut parsed = HeaderValue::from_str(scalar.value().trim()).ok();
        match &mut parsed {
            // What came from outside is often a secret: so that no debug output holds it.
            Some(value) => value.set_sensitive(scalar.has_variables()),
            None => {
                let message = format!("\"{}\" cannot be the value of a header field", scalar.shown());
                self.error(scalar.span(), message, "visible ASCII characters and spaces only, on one line");
            }
        }
        parsed
    }
}

/// Whether a setting that can be turned off is.
pub(crate) fn is_off<K: Kind>(field: &Option<Scalar<K>>) -> bool {
    field.as_ref().is_some_and(|scalar| matches!(scalar.value(), "off" | "false"))
}

/// Three digits, 100 to 599. RFC 9110 §15.
fn status(text: &str) -> Option<u16> {
    let is_number = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|status| is_number && (100..600).contains(status))
}
