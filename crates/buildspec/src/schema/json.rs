//! The table of keys as a JSON Schema (draft 2020-12), for editors.

use serde_json::{Map, Value, json};

use super::{BUILDSPEC, Exclusion, Key, Names, Shape, Standing, Table};
use crate::limits;
use crate::model::Version;

/// The JSON Schema of buildspec 0.2 with its batch section, as text that ends with a line feed.
///
/// It judges a buildspec as a YAML library hands it on, whether that types scalars or leaves them as text. It knows the keys and
/// the kinds of their values; what is left to the reader is what values mean together.
pub fn json_schema() -> String {
    let mut definitions = Map::new();
    define(&BUILDSPEC, &mut definitions);
    let mut schema = Map::new();
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!("AWS CodeBuild buildspec 0.2"));
    schema.insert("$ref".into(), reference(&BUILDSPEC)["$ref"].take());
    definitions.insert("text".into(), text());
    definitions.insert("boolean".into(), boolean());
    schema.insert("$defs".into(), Value::Object(definitions));
    let mut written =
        serde_json::to_string_pretty(&sorted(Value::Object(schema))).expect("a JSON value is JSON");
    written.push('\n');
    written
}

/// Keys in one order, whichever map serde_json was compiled to use.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Text of a buildspec is any scalar: a YAML library may have made a number or a boolean of it.
fn text() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

fn boolean() -> Value {
    let words = ["yes", "no", "true", "false", "on", "off", "y", "n"];
    let patterns: Vec<String> = words.iter().map(|word| any_case(word)).collect();
    json!({ "anyOf": [{ "type": "boolean" }, { "type": "string", "pattern": format!("^({})$", patterns.join("|")) }] })
}

/// Definitions of the table and all below it.
fn define(table: &Table, definitions: &mut Map<String, Value>) {
    if definitions.contains_key(table.name) {
        return;
    }
    definitions.insert(table.name.into(), definition(table));
    for key in table.keys {
        if let Shape::Section(below) | Shape::List(below) | Shape::Sections { of: below, .. } = key.shape {
            define(below, definitions);
        }
    }
}

fn definition(table: &Table) -> Value {
    let keys = || table.keys.iter().filter(|key| key.is_of(Version::V02));
    let properties: Map<String, Value> = keys().map(|key| (key.name.into(), property(key))).collect();
    let required: Vec<&str> =
        keys().filter(|key| key.standing == Standing::Required).map(|key| key.name).collect();
    let mut definition = json!({
        "description": table.about,
        // A section without content is an absent section, unless something is required in it.
        "type": if required.is_empty() { json!(["object", "null"]) } else { json!("object") },
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        definition["required"] = json!(required);
    }
    match table.exclusion {
        Exclusion::Nothing => {}
        Exclusion::ExactlyOne(names) => definition["oneOf"] = present_each(names),
        Exclusion::AtLeastOne(names) => definition["anyOf"] = present_each(names),
        Exclusion::AtMostOne(names) => definition["not"] = json!({ "required": names }),
    }
    definition
}

/// One schema for each name, that the name is there.
fn present_each(names: &[&str]) -> Value {
    names.iter().map(|name| json!({ "required": [name] })).collect()
}

fn property(key: &Key) -> Value {
    let required = key.standing == Standing::Required;
    let mut property = match shape(&key.shape) {
        // Null is as good as absent.
        shape if required => shape,
        shape => json!({ "anyOf": [shape, { "type": "null" }] }),
    };
    if !key.about.is_empty() {
        property["description"] = json!(key.about);
    }
    if key.standing == Standing::Deprecated {
        property["deprecated"] = json!(true);
    }
    property
}

fn shape(shape: &Shape) -> Value {
    match shape {
        Shape::Version => json!({ "enum": [0.2, "0.2"] }),
        Shape::Text => reference_to("text"),
        Shape::Boolean => reference_to("boolean"),
        Shape::Count => json!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": limits::BATCH_BUILDS },
            { "type": "string", "pattern": "^[0-9]+$" },
        ] }),
        Shape::Choice(words) => json!({ "enum": words }),
        Shape::AnyCase(words) => {
            let patterns: Vec<String> = words.iter().map(|word| any_case(word)).collect();
            json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": format!("^({})$", patterns.join("|")) }] })
        }
        Shape::OnFailure => {
            let forms =
                format!("^({}|{}|{}(-.*)?)$", any_case("ABORT"), any_case("CONTINUE"), any_case("RETRY"));
            json!({ "anyOf": [{ "enum": ["ABORT", "CONTINUE", "RETRY"] }, { "type": "string", "pattern": forms }] })
        }
        Shape::Texts(most) => {
            let mut list = json!({ "type": "array", "items": reference_to("text") });
            if let Some(most) = most {
                list["maxItems"] = json!(most);
            }
            list
        }
        Shape::Choices(words) => json!({ "type": "array", "items": { "enum": words } }),
        Shape::Named { empty } => {
            let value = reference_to("text");
            let value = if *empty { json!({ "anyOf": [value, { "type": "null" }] }) } else { value };
            named(value)
        }
        Shape::NamedLists => named(json!({ "type": ["array", "null"], "items": reference_to("text") })),
        Shape::Section(table) => reference(table),
        Shape::Sections { of, most, names } => sections(of, *most, *names),
        Shape::List(table) => json!({ "type": "array", "items": reference(table), "minItems": 1 }),
    }
}

/// A map of variables' names.
fn named(value: Value) -> Value {
    json!({ "type": "object", "propertyNames": { "pattern": "^[^=]+$" }, "additionalProperties": value })
}

fn sections(of: &Table, most: Option<usize>, names: Names) -> Value {
    let mut sections = json!({ "type": "object", "additionalProperties": reference(of) });
    if let Some(most) = most {
        sections["maxProperties"] = json!(most);
    }
    if names == Names::ArtifactIdentifiers {
        sections["propertyNames"] = json!({ "pattern": "^[A-Za-z0-9_][A-Za-z0-9_-]{0,126}$" });
    }
    sections
}

fn reference(table: &Table) -> Value {
    reference_to(table.name)
}

fn reference_to(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// A pattern for the word in any case; JSON Schema's expressions have no flag for it.
fn any_case(word: &str) -> String {
    let letter = |c: char| match c.is_ascii_alphabetic() {
        true => format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()),
        false => c.to_string(),
    };
    word.chars().map(letter).collect()
}
