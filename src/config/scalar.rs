//! A value as it was typed: its text, its text with variables replaced, and its place.
//! The type parameter says what the text should look like, for messages and for the JSON Schema. Parses nothing.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::source::Span;
use super::tree::Style;

/// One scalar of kind `K`.
pub struct Scalar<K> {
    typed: String,
    value: String,
    style: Style,
    span: Span,
    kind: PhantomData<fn() -> K>,
}

/// What a scalar should look like.
pub trait Kind {
    /// What messages call it, after "must be": `a duration such as 2s`.
    const EXPECTED: &'static str;
    /// The words that it may be; empty if there is more than words.
    const WORDS: &'static [&'static str] = &[];
    /// A regular expression that editors check; empty for none.
    const PATTERN: &'static str = "";
    /// Which JSON types an editor should take besides a string.
    const JSON: Json = Json::String;
}

/// A JSON type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Json {
    /// Text only.
    String,
    /// A whole number, or text with a variable.
    Number,
    /// A number with or without a fraction, or text with a variable.
    Decimal,
    /// True or false, or text with a variable.
    Bool,
    /// Text or `false`, for what `off` turns off.
    StringOrFalse,
    /// A whole number or `false`, for what `off` turns off.
    NumberOrFalse,
    /// Text, true or false.
    StringOrBool,
}

impl<K> Scalar<K> {
    /// What the tree holds, with its variables replaced.
    pub fn new(typed: &str, value: String, style: Style, span: Span) -> Self {
        Self { typed: typed.to_owned(), value, style, span, kind: PhantomData }
    }

    /// A value that nobody typed: what `config show --defaults` prints where a default is in force.
    pub fn made(value: impl ToString) -> Self {
        let value = value.to_string();
        Self { typed: value.replace('$', "$$"), value, style: Style::Plain, span: Span::NONE, kind: PhantomData }
    }

    /// The value, variables replaced.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What messages and `config show` print: `${VAR}`, never its value.
    pub fn shown(&self) -> &str {
        if self.has_variables() { &self.typed } else { &self.value }
    }

    /// Whether the value came, at least in part, from outside the file.
    pub fn has_variables(&self) -> bool {
        self.typed != self.value && self.typed.contains("${")
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The place of bytes `offset..offset + length` of the value: all of it where quotes, escapes or variables move bytes.
    pub fn part(&self, offset: usize, length: usize) -> Span {
        let is_verbatim = self.span.range().len() == self.value.len();
        if is_verbatim { self.span.part(offset, length) } else { self.span }
    }

    /// Whether it was typed without quotes, so that `off` and `null` mean what they mean in YAML.
    pub fn is_plain(&self) -> bool {
        self.style == Style::Plain
    }

    /// The same text as another kind.
    pub fn cast<L>(self) -> Scalar<L> {
        let Scalar { typed, value, style, span, .. } = self;
        Scalar { typed, value, style, span, kind: PhantomData }
    }

    /// The same text as a path below a folder, its variables unreplaced.
    pub fn below(&self, folder: &Path) -> Self {
        let folder = folder.display().to_string();
        let typed = format!("{}/{}", folder.replace('$', "$$"), self.typed);
        Self { typed, value: format!("{folder}/{}", self.value), ..self.clone() }
    }

    /// A piece of a text without variables, with the place of the whole.
    pub fn piece(&self, value: &str) -> Self {
        Self { span: self.span, ..Self::made(value) }
    }
}

impl<K> Clone for Scalar<K> {
    fn clone(&self) -> Self {
        let Scalar { typed, value, style, span, kind } = self;
        Self { typed: typed.clone(), value: value.clone(), style: *style, span: *span, kind: *kind }
    }
}

impl<K> std::fmt::Debug for Scalar<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The typed text, not the value: a log line must not hold a secret.
        write!(f, "{:?}", self.typed)
    }
}

impl<K: Kind> Serialize for Scalar<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let as_number = self.typed.parse::<u64>().ok().filter(|number| number.to_string() == self.typed);
        // Smaller ones would be written with an exponent, which the language does not read.
        let as_decimal =
            self.typed.parse::<f64>().ok().filter(|number| *number > 1e-4 && number.to_string() == self.typed);
        match (K::JSON, as_number, self.typed.as_str()) {
            (Json::Number | Json::NumberOrFalse | Json::Decimal, Some(number), _) => serializer.serialize_u64(number),
            (Json::Decimal, None, text) => match as_decimal {
                Some(number) => serializer.serialize_f64(number),
                None => serializer.serialize_str(text),
            },
            (Json::Bool | Json::StringOrBool, _, "true") => serializer.serialize_bool(true),
            (Json::String | Json::Number, _, text) => serializer.serialize_str(text),
            (_, _, "false") => serializer.serialize_bool(false),
            (_, _, text) => serializer.serialize_str(text),
        }
    }
}

impl<K: Kind> JsonSchema for Scalar<K> {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = K::WORDS;
        let variable = json_schema!({ "type": "string", "pattern": "\\$\\{" });
        let number = json_schema!({ "type": "integer", "minimum": 0 });
        let decimal = json_schema!({ "type": "number", "exclusiveMinimum": 0 });
        let pattern = json_schema!({ "type": "string", "pattern": format!("{}|\\$\\{{", K::PATTERN) });
        let text = match (K::PATTERN, words.is_empty()) {
            ("", true) => json_schema!({ "type": "string" }),
            ("", false) => json_schema!({ "anyOf": [{ "enum": words }, variable] }),
            (_, true) => pattern,
            (_, false) => json_schema!({ "anyOf": [{ "enum": words }, pattern] }),
        };
        match K::JSON {
            Json::String => text,
            Json::Number if words.is_empty() && K::PATTERN.is_empty() => json_schema!({ "anyOf": [number, variable] }),
            Json::Number => json_schema!({ "anyOf": [number, text] }),
            Json::Decimal if words.is_empty() => json_schema!({ "anyOf": [decimal, variable] }),
            Json::Decimal => json_schema!({ "anyOf": [decimal, text] }),
            Json::Bool => json_schema!({ "anyOf": [{ "type": "boolean" }, variable] }),
            Json::StringOrFalse => json_schema!({ "anyOf": [text, { "const": false }] }),
            Json::NumberOrFalse => json_schema!({ "anyOf": [number, text, { "const": false }] }),
            Json::StringOrBool => json_schema!({ "anyOf": [text, { "type": "boolean" }] }),
        }
    }
}
