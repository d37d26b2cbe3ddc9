//! Values that have more than one form: how each is read, printed and described to editors.
//! Promises that what is printed reads back as the same. Only forms live here; mappings are in `reading`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::{SerializeMap, Serializer};

use super::*;
use crate::config::decode::{Decode, Decoder};
use crate::config::tree::{Node, Text, Value};

impl<T: Decode> Decode for Switch<T> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar(Text { text, .. }) if matches!(text.as_str(), "off" | "false") => Some(Switch::Off),
            _ => T::decode(node, decoder).map(Switch::On),
        }
    }
}

impl<T: Serialize> Serialize for Switch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            // YAML 1.1 reads a bare `off` as false, so both readings agree on this one.
            Switch::Off => serializer.serialize_bool(false),
            Switch::On(on) => on.serialize(serializer),
        }
    }
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrOff", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let on = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [on, { "enum": ["off", false] }] })
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        T::decode(node, decoder).map(Box::new)
    }
}

impl Decode for RouteForm {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let n_before = decoder.report.n_errors();
        let form = match &node.value {
            Value::Scalar(_) => Decode::decode(node, decoder).map(RouteForm::Short),
            _ => Decode::decode(node, decoder).map(Box::new).map(RouteForm::Long),
        };
        Some(match form {
            Some(form) if decoder.report.n_errors() == n_before => form,
            Some(RouteForm::Long(route)) => RouteForm::Broken(route),
            _ => RouteForm::Broken(Box::default()),
        })
    }
}

impl Serialize for RouteForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            RouteForm::Short(text) => text.serialize(serializer),
            RouteForm::Long(route) | RouteForm::Broken(route) => route.serialize(serializer),
        }
    }
}

impl JsonSchema for RouteForm {
    fn schema_name() -> Cow<'static, str> {
        "RouteForm".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let short = generator.subschema_for::<Scalar<kind::Route>>();
        let long = generator.subschema_for::<Route>();
        json_schema!({ "anyOf": [short, long] })
    }
}

/// The long forms of [`ValueMatch`].
struct ValueKeys {
    exact: Option<Scalar<kind::Text>>,
    regex: Option<Scalar<kind::Text>>,
}

impl Decode for ValueMatch {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Value::Scalar(_) = &node.value {
            return Decode::decode(node, decoder).map(ValueMatch::Exact);
        }
        let keys = decoder.mapping(node, "a value, { regex: … }, or nothing for \"is there\"", |keys| ValueKeys {
            exact: keys.get("exact"),
            regex: keys.get("regex"),
        })?;
        match keys {
            ValueKeys { exact: Some(exact), regex: None } => Some(ValueMatch::Exact(exact)),
            ValueKeys { exact: None, regex: Some(regex) } => Some(ValueMatch::Regex(regex)),
            ValueKeys { exact: None, regex: None } => Some(ValueMatch::Present),
            ValueKeys { exact: Some(_), regex: Some(regex) } => {
                let message = format!("{} has both `exact` and `regex`", decoder.context());
                decoder.report.error(regex.span(), message, "keep one of them");
                None
            }
        }
    }
}

impl Serialize for ValueMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, value) = match self {
            ValueMatch::Present => return serializer.serialize_map(Some(0))?.end(),
            ValueMatch::Exact(value) => ("exact", value),
            ValueMatch::Regex(pattern) => ("regex", pattern),
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(key, value)?;
        map.end()
    }
}

impl JsonSchema for ValueMatch {
    fn schema_name() -> Cow<'static, str> {
        "ValueMatch".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = json_schema!({ "type": ["string", "number", "boolean"] });
        json_schema!({ "anyOf": [
            text,
            { "type": "null" },
            {
                "type": "object",
                "properties": {
                    "exact": { "type": ["string", "number", "boolean"], "description": "Must be this value." },
                    "regex": { "type": "string", "description": "Must match this pattern." },
                },
                "additionalProperties": false,
            },
        ] })
    }
}

impl Decode for Balance {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Value::Scalar(_) = &node.value {
            return Decode::decode(node, decoder).map(Balance::Word);
        }
        let example = "least_requests, peak_ewma, round_robin, random or { hash: … }";
        let hash: Option<HashKey> = decoder.mapping(node, example, |keys| keys.filled("hash"))?;
        if hash.is_none() {
            // A `hash` that could not be read was reported where it stands; this is the mapping without one.
            if matches!(&node.value, Value::Mapping(entries) if entries.iter().all(|entry| entry.key != "hash")) {
                decoder.expected(example, node);
            }
        }
        hash.map(Balance::Hash)
    }
}

impl Serialize for Balance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Balance::Word(word) => word.serialize(serializer),
            Balance::Hash(key) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("hash", key)?;
                map.end()
            }
        }
    }
}

impl JsonSchema for Balance {
    fn schema_name() -> Cow<'static, str> {
        "Balance".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<Scalar<kind::Balance>>();
        let hash_word = generator.subschema_for::<Scalar<kind::HashWord>>();
        let hash_field = generator.subschema_for::<HashField>();
        json_schema!({ "anyOf": [
            word,
            {
                "type": "object",
                "properties": { "hash": {
                    "anyOf": [hash_word, hash_field],
                    "description": "The same key goes to the same backend, on every instance.",
                } },
                "minProperties": 1,
                "additionalProperties": false,
            },
        ] })
    }
}

impl Decode for HashKey {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar(_) => Decode::decode(node, decoder).map(HashKey::Word),
            _ => {
                let field: HashField = Decode::decode(node, decoder)?;
                let n_fields = [&field.header, &field.cookie, &field.query].into_iter().flatten().count();
                if n_fields != 1 {
                    let message = format!("{} must name exactly one part of the request", decoder.context());
                    decoder.report.error(
                        node.span,
                        message,
                        "write one of { header }, { cookie }, { query }, or ip or path",
                    );
                    return None;
                }
                Some(HashKey::Field(field))
            }
        }
    }
}

impl Serialize for HashKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            HashKey::Word(word) => word.serialize(serializer),
            HashKey::Field(field) => field.serialize(serializer),
        }
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|named| (&named.name, &named.value)))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("NamesOf{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}

impl Default for Scalar<kind::Text> {
    /// What `set: { name: }` means: the empty text.
    fn default() -> Self {
        Scalar::made("")
    }
}
