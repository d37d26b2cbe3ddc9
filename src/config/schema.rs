//! The JSON Schema of the language, from the types that read it: editors complete and check with it.
//! Promises every key, short forms included. Checks less than `validate`: what needs two keys at once is not in it.

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Value, json};

use super::raw;

/// The schema as JSON.
pub fn json_schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<raw::Config>();
    RecursiveTransform(open_up).transform(&mut schema);
    schema.to_value()
}

/// Any key may be left out, or be left without a value, and keys that begin with `x-` are the user's own.
fn open_up(schema: &mut Schema) {
    let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    if is_closed {
        schema.remove("required");
        schema.insert("patternProperties".to_owned(), json!({ "^x-": {} }));
    }
}

/// A list, or one of its entries without the list.
pub fn one_or_many<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let one = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [one, { "type": "array", "items": one }, { "type": "null" }] })
}

/// Names and values, as a mapping or as Compose's list of `NAME=value`.
pub fn pairs(_: &mut SchemaGenerator) -> Schema {
    let value = json!({ "type": ["string", "number", "boolean", "null"] });
    let list = json!({ "type": "array", "items": { "type": "string" } });
    json_schema!({ "anyOf": [{ "type": "object", "additionalProperties": value }, list, { "type": "null" }] })
}

/// A mapping that one text can stand for.
pub fn or_text(schema: &mut Schema) {
    or(schema, json!({ "type": "string" }));
}

/// The access log: the name of its format can stand for it.
pub fn or_log_format(schema: &mut Schema) {
    or(schema, json!({ "enum": ["json", "combined"] }));
}

/// A mapping that one whole number can stand for.
pub fn or_count(schema: &mut Schema) {
    or(schema, json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "\\$\\{" }] }));
}

/// Hedging: when it starts can stand for it, and `true` for its default.
pub fn or_hedge(schema: &mut Schema) {
    or(schema, json!({ "anyOf": [{ "enum": ["p95", true] }, { "type": "string" }] }));
}

/// A mapping of which `true` stands for the defaults.
pub fn or_true(schema: &mut Schema) {
    or(schema, json!({ "const": true }));
}

fn or(schema: &mut Schema, short: Value) {
    let long = std::mem::take(schema);
    *schema = json_schema!({ "anyOf": [short, long] });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::diagnostic::Report;
    use crate::config::source::Sources;
    use crate::config::tree::{self, Node, Value as Yaml};

    const REFERENCE: &str = include_str!("../../config/reference.yaml");

    /// Follows a value and the schema side by side and collects `Struct.key` for every key on the way.
    fn collect_used(schema: &Value, root: &Value, node: &Node, used: &mut BTreeSet<String>) {
        if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
            collect_used(&root["$defs"][name], root, node, used);
        }
        for alternative in schema["anyOf"].as_array().into_iter().flatten() {
            collect_used(alternative, root, node, used);
        }
        match &node.value {
            Yaml::List(items) => items.iter().for_each(|item| collect_used(&schema["items"], root, item, used)),
            Yaml::Mapping(entries) => {
                for entry in entries {
                    let property = &schema["properties"][&entry.key];
                    used.extend(property["description"].as_str().map(str::to_owned));
                    collect_used(property, root, &entry.value, used);
                    collect_used(&schema["additionalProperties"], root, &entry.value, used);
                }
            }
            Yaml::Scalar(_) => {}
        }
    }

    fn collect_all(schema: &Value, all: &mut Vec<(String, String)>) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let description = property["description"].as_str().unwrap_or("has no description");
            all.push((key.clone(), description.to_owned()));
        }
        match schema {
            Value::Object(entries) => entries.values().for_each(|inner| collect_all(inner, all)),
            Value::Array(items) => items.iter().for_each(|inner| collect_all(inner, all)),
            _ => {}
        }
    }

    #[test]
    fn every_key_of_the_schema_is_in_the_reference() {
        let schema = json_schema();
        let (mut sources, mut report) = (Sources::default(), Report::default());
        let file = sources.add("reference.yaml", REFERENCE.to_owned());
        // Keys that stand there as comments because they exclude their neighbours.
        let alone =
            ["cookie: session", "query: user", "tcp: true", "grpc: shop", "target_rps", "target_latency", "command"];
        let text = alone.iter().fold(REFERENCE.to_owned(), |text, key| text.replace(&format!("# {key}"), key));
        let tree = tree::parse(file, &text, &mut report).expect("the reference is YAML");
        let mut used = BTreeSet::new();
        collect_used(&schema, &schema, &tree, &mut used);
        let mut all = Vec::new();
        collect_all(&schema, &mut all);
        assert!(all.len() > 70, "{}", all.len());
        let missing: Vec<_> = all.iter().filter(|(_, description)| !used.contains(description)).collect();
        assert!(missing.is_empty(), "not in config/reference.yaml: {missing:#?}");
    }
}
