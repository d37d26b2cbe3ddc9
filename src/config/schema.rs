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
    RecursiveTransform(allow_extensions).transform(&mut schema);
    schema.to_value()
}

/// Keys that begin with `x-` are the user's own, wherever the other keys are known.
fn allow_extensions(schema: &mut Schema) {
    let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    if is_closed {
        schema.insert("patternProperties".to_owned(), json!({ "^x-": {} }));
    }
}

/// A list, or one of its entries without the list.
pub fn one_or_many<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let one = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [one, { "type": "array", "items": one }, { "type": "null" }] })
}

/// A mapping that one text can stand for.
pub fn or_text(schema: &mut Schema) {
    or(schema, json!({ "type": "string" }));
}

/// The access log: the name of its format can stand for it.
pub fn or_log_format(schema: &mut Schema) {
    or(schema, json!({ "enum": ["json", "combined"] }));
}

fn or(schema: &mut Schema, short: Value) {
    let long = std::mem::take(schema);
    *schema = json_schema!({ "anyOf": [short, long] });
}
