//! JSON bodies: hardened parsing, and the way between JSON and typed inputs and outputs.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::{Map, Number, Value};

use crate::error::Error;
use crate::schema::Shaped;
use crate::validate::validate;

/// Objects and lists nest at most so deep.
pub const DEPTH_MAX: usize = 64;

/// Parses a request's body of at most `limit` bytes. An object that names a member twice is refused,
/// because two readers of such a body could disagree on what was asked.
///
/// # Errors
/// [`Error::TooLarge`], or [`Error::Serialization`] for anything that is not one sound JSON value.
pub fn parse(body: &[u8], limit: usize) -> Result<Value, Error> {
    if body.len() > limit {
        return Err(Error::TooLarge { limit });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Strict { depth: 0 }.deserialize(&mut deserializer).map_err(serialization)?;
    deserializer.end().map_err(serialization)?;
    Ok(value)
}

/// Validates a request and gives it its type.
///
/// # Errors
/// [`Error::Serialization`] or [`Error::Validation`], see [`validate`].
pub fn decode<T: Shaped + DeserializeOwned>(request: Value) -> Result<T, Error> {
    validate(T::shape(), &request)?;
    serde_json::from_value(request).map_err(serialization)
}

/// The body of an answer.
pub fn encode<T: Shaped + Serialize>(answer: &T) -> Vec<u8> {
    serde_json::to_vec(answer).expect("generated types have string keys only")
}

pub(crate) fn canonical<T: Shaped + DeserializeOwned + Serialize>(request: Value) -> Result<Value, Error> {
    let typed: T = decode(request)?;
    Ok(serde_json::to_value(typed).expect("generated types have string keys only"))
}

fn serialization(error: serde_json::Error) -> Error {
    Error::Serialization(error.to_string())
}

/// Reads one value, `depth` levels down.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Strict, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format_args!("Nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(Strict { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("Number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(inner)? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(serde::de::Error::custom("Duplicate member"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        match parse(body.as_bytes(), 1 << 20) {
            Err(Error::Serialization(message)) => message,
            other => panic!("{body} gave {other:?}"),
        }
    }

    #[test]
    fn sound_json_is_read_as_it_is() {
        let body = r#"{"a": [1, -2, 2.5, null, true, "é"], "b": {}}"#;
        assert_eq!(parse(body.as_bytes(), 1 << 20).unwrap(), serde_json::from_str::<Value>(body).unwrap());
    }

    #[test]
    fn a_member_named_twice_is_refused_at_any_depth() {
        assert!(refusal(r#"{"a": 1, "a": 1}"#).starts_with("Duplicate member"));
        assert!(refusal(r#"{"x": [{"a": 1, "b": 2, "\u0061": 3}]}"#).starts_with("Duplicate member"));
    }

    #[test]
    fn nesting_is_allowed_to_the_limit_and_not_beyond() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(DEPTH_MAX).as_bytes(), 1 << 20).is_ok());
        assert!(refusal(&nested(DEPTH_MAX + 1)).starts_with("Nested deeper"));
        assert!(refusal(&"[".repeat(100_000)).starts_with("Nested deeper"));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for body in ["", "{", "{} {}", "{\"a\": 1e999}", "\u{feff}{}", "nul", "{\"a\": NaN}", "[1,]"] {
            refusal(body);
        }
        assert!(parse(b"\"\xff\"", 10).is_err());
    }

    #[test]
    fn a_body_over_the_limit_is_not_parsed() {
        assert_eq!(parse(b"[1,2]", 4), Err(Error::TooLarge { limit: 4 }));
        assert!(parse(b"[1,2]", 5).is_ok());
    }
}
