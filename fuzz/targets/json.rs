//! Any bytes as a JSON body: read exactly when a lenient reader can read it and it is neither too deep nor says anything twice,
//! and then read as that reader does.

#![no_main]

use std::fmt;

use json::{DEPTH_MAX, parse};
use libfuzzer_sys::fuzz_target;
use schema::{Member, Shape};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use validate::validate;

// The room has the shapes of whole services, which take long to instrument; these modules need nothing of them.
#[allow(dead_code)]
#[path = "../../crates/api/src"]
mod api {
    pub mod json;
    #[allow(unused_imports, unused_macros)]
    pub mod schema;
    pub mod validate;
}
mod error {
    #[derive(Debug, PartialEq)]
    pub enum Error {
        Serialization(String),
        Validation(String),
        TooLarge { limit: usize },
    }
}
use api::{json, schema, validate};

const LIMIT: usize = 1 << 16;

static TEXT: Shape = Shape::string("Text");
static LONG: Shape = Shape::long("Long");
static LIST: Shape = Shape::list("List", &ALL);
static MAP: Shape = Shape::map("Map", &TEXT, &ALL);
static ALL: Shape = Shape::structure(
    "All",
    &[
        Member::optional("t", &TEXT),
        Member::optional("l", &LONG),
        Member::optional("list", &LIST),
        Member::optional("map", &MAP),
    ],
);

/// What a body says: how deep, and whether twice.
struct Body {
    depth: usize,
    is_twice: bool,
}

impl Body {
    fn around(inner: impl IntoIterator<Item = Body>) -> Body {
        let start = Body { depth: 0, is_twice: false };
        let deepest = |all: Body, one: Body| Body {
            depth: all.depth.max(one.depth),
            is_twice: all.is_twice || one.is_twice,
        };
        let all = inner.into_iter().fold(start, deepest);
        Body { depth: all.depth + 1, ..all }
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Body, D::Error> {
        deserializer.deserialize_any(Slow)
    }
}

struct Slow;

const PLAIN: Body = Body { depth: 0, is_twice: false };

impl<'de> Visitor<'de> for Slow {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Body, E> {
        Ok(PLAIN)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Body, E> {
        Ok(PLAIN)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Body, E> {
        Ok(PLAIN)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Body, E> {
        Ok(PLAIN)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Body, E> {
        Ok(PLAIN)
    }

    fn visit_str<E>(self, _: &str) -> Result<Body, E> {
        Ok(PLAIN)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Body, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = elements.next_element()? {
            all.push(element);
        }
        Ok(Body::around(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Body, A::Error> {
        let (mut names, mut all) = (Vec::new(), Vec::new());
        while let Some((name, value)) = members.next_entry::<String, Body>()? {
            names.push(name);
            all.push(value);
        }
        let body = Body::around(all);
        let count = names.len();
        names.sort();
        names.dedup();
        Ok(Body { is_twice: body.is_twice || names.len() < count, ..body })
    }
}

/// Without its fractions, which are read to the last but one bit.
fn whole(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => Value::Null,
        Value::Array(all) => all.iter().map(whole).collect(),
        Value::Object(all) => all.iter().map(|(name, value)| (name.clone(), whole(value))).collect(),
        other => other.clone(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let read = parse(bytes, LIMIT);
    let body = serde_json::from_slice::<Body>(bytes);
    let is_sound = body.as_ref().is_ok_and(|body| body.depth <= DEPTH_MAX && !body.is_twice);
    assert_eq!(read.is_ok(), is_sound, "{read:?}");
    let Ok(value) = read else { return };
    assert_eq!(serde_json::from_slice::<Value>(bytes).expect("it is sound"), value);
    let written = serde_json::to_vec(&value).expect("it has string keys only");
    let again = parse(&written, 16 * LIMIT).expect("it was read before");
    assert_eq!(whole(&again), whole(&value), "what is written is read as it was");
    // Whether it fits a shape does not depend on how it was written.
    assert_eq!(validate(&ALL, &value).is_ok(), validate(&ALL, &again).is_ok());
});
