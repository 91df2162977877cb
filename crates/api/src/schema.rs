//! What a service model says about values: types, members, bounds. Static tables, never allocated.
//!
//! Only the description lives here; holding a value against it is [`validate`](crate::validate()).

use std::sync::OnceLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// One shape of a service model.
#[derive(Debug)]
pub struct Shape {
    pub name: &'static str,
    pub kind: Kind,
    /// Smallest length (characters, elements or entries) or number allowed.
    pub min: Option<i64>,
    /// Largest length (characters, elements or entries) or number allowed.
    pub max: Option<i64>,
    pub pattern: Option<&'static Pattern>,
    /// The words a string may be; empty when it is free.
    pub values: &'static [&'static str],
    /// Never to be echoed or logged.
    pub sensitive: bool,
}

#[derive(Debug)]
pub enum Kind {
    Structure(&'static [Member]),
    List(&'static Shape),
    Map(&'static Shape, &'static Shape),
    String,
    /// Base64 text on the wire; lengths are those of the bytes.
    Blob,
    Boolean,
    /// 32 bits, signed.
    Integer,
    /// 64 bits, signed.
    Long,
    Double,
    /// A JSON number: seconds since 1970 with a fraction (AP-002).
    Timestamp,
}

#[derive(Debug)]
pub struct Member {
    /// As it is written on the wire.
    pub name: &'static str,
    pub shape: &'static Shape,
    pub required: bool,
}

/// A regular expression of the model, compiled when first used.
#[derive(Debug)]
pub struct Pattern {
    text: &'static str,
    compiled: OnceLock<Regex>,
}

/// A Rust type that is generated from a shape.
pub trait Shaped {
    fn shape() -> &'static Shape;
}

/// The output of an operation that answers nothing: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

static EMPTY: Shape = Shape::structure("Empty", &[]);

impl Shaped for Empty {
    fn shape() -> &'static Shape {
        &EMPTY
    }
}

macro_rules! shaped {
    ($type:ident, $shape:ident) => {
        impl $crate::schema::Shaped for $type {
            fn shape() -> &'static $crate::schema::Shape {
                &shapes::$shape
            }
        }
    };
}
pub(crate) use shaped;

impl Shape {
    const fn new(name: &'static str, kind: Kind) -> Shape {
        Shape { name, kind, min: None, max: None, pattern: None, values: &[], sensitive: false }
    }

    pub const fn structure(name: &'static str, members: &'static [Member]) -> Shape {
        Shape::new(name, Kind::Structure(members))
    }

    pub const fn list(name: &'static str, element: &'static Shape) -> Shape {
        Shape::new(name, Kind::List(element))
    }

    pub const fn map(name: &'static str, key: &'static Shape, value: &'static Shape) -> Shape {
        Shape::new(name, Kind::Map(key, value))
    }

    pub const fn string(name: &'static str) -> Shape {
        Shape::new(name, Kind::String)
    }

    pub const fn blob(name: &'static str) -> Shape {
        Shape::new(name, Kind::Blob)
    }

    pub const fn boolean(name: &'static str) -> Shape {
        Shape::new(name, Kind::Boolean)
    }

    pub const fn integer(name: &'static str) -> Shape {
        Shape::new(name, Kind::Integer)
    }

    pub const fn long(name: &'static str) -> Shape {
        Shape::new(name, Kind::Long)
    }

    pub const fn double(name: &'static str) -> Shape {
        Shape::new(name, Kind::Double)
    }

    pub const fn timestamp(name: &'static str) -> Shape {
        Shape::new(name, Kind::Timestamp)
    }

    pub const fn min(self, min: i64) -> Shape {
        Shape { min: Some(min), ..self }
    }

    pub const fn max(self, max: i64) -> Shape {
        Shape { max: Some(max), ..self }
    }

    pub const fn pattern(self, pattern: &'static Pattern) -> Shape {
        Shape { pattern: Some(pattern), ..self }
    }

    pub const fn values(self, values: &'static [&'static str]) -> Shape {
        Shape { values, ..self }
    }

    pub const fn sensitive(self) -> Shape {
        Shape { sensitive: true, ..self }
    }

    /// The members of a structure; empty for every other kind.
    pub fn members(&self) -> &'static [Member] {
        match self.kind {
            Kind::Structure(members) => members,
            _ => &[],
        }
    }

    /// Whether values are single words or numbers, as opposed to structures, lists and maps.
    pub fn is_scalar(&self) -> bool {
        !matches!(self.kind, Kind::Structure(_) | Kind::List(_) | Kind::Map(..))
    }
}

impl Member {
    pub const fn optional(name: &'static str, shape: &'static Shape) -> Member {
        Member { name, shape, required: false }
    }

    pub const fn required(name: &'static str, shape: &'static Shape) -> Member {
        Member { name, shape, required: true }
    }
}

impl Pattern {
    pub const fn new(text: &'static str) -> Pattern {
        Pattern { text, compiled: OnceLock::new() }
    }

    /// As the model writes it, and as violations quote it.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// Whether the whole of `value` matches.
    pub fn matches(&self, value: &str) -> bool {
        self.compiled.get_or_init(|| compile(self.text)).is_match(value)
    }
}

/// The services match the whole value, and `\w` and `\d` mean ASCII to them.
fn compile(text: &str) -> Regex {
    let ascii = text.replace(r"\w", "[0-9A-Za-z_]").replace(r"\d", "[0-9]");
    Regex::new(&format!(r"\A(?:{ascii})\z")).expect("a test compiles every pattern of the models")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_value_or_nothing() {
        let pattern = Pattern::new(r"[A-Za-z0-9][A-Za-z0-9\-_]{1,149}");
        assert!(pattern.matches("my-project"));
        assert!(!pattern.matches("my-project\n"));
        assert!(!pattern.matches("my project"));
    }

    #[test]
    fn letters_of_every_script_are_letters_in_tags_but_not_in_word_classes() {
        assert!(Pattern::new(r"^([\p{L}\p{Z}\p{N}_.:/=@+\-]*)$").matches("équipe ４２"));
        assert!(!Pattern::new(r"[\w+=/:,.@-]*").matches("équipe"));
        assert!(!Pattern::new(r"^\d{12}$").matches("１２３４５６７８９０１２"));
    }
}
