//! The small types generated structures are made of: timestamps, secrets, enums that outlive their model.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A moment: seconds since 1970, UTC, with the milliseconds as a fraction (AP-002).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub f64);

impl Timestamp {
    // COMPAT: AP-002 seconds with a fraction on the wire, though AWS counts in milliseconds.
    pub fn from_millis(millis: i64) -> Timestamp {
        Timestamp(millis as f64 / 1000.0)
    }

    /// Rounded to the nearest millisecond; saturates at the ends of `i64`.
    pub fn millis(self) -> i64 {
        (self.0 * 1000.0).round() as i64
    }
}

/// A string the model marks as sensitive: it goes over the wire, but never into `Debug` output.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive(String);

impl Sensitive {
    pub fn new(secret: impl Into<String>) -> Sensitive {
        Sensitive(secret.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sensitive(***)")
    }
}

/// An enum of the model, carried as its word. Words the model does not know are kept as `Unknown`, so
/// that stored records survive a change of the model; [`validate`](crate::validate()) refuses them in requests.
macro_rules! wire_enum {
    (pub enum $name:ident { $($variant:ident = $word:literal,)* }) => {
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(clippy::enum_variant_names, reason = "the words are the model's")]
        pub enum $name {
            $($variant,)*
            /// None of the model's words. Made by `From` only, never for a word that has its own variant.
            Unknown(String),
        }

        impl $name {
            /// The model's words, in its order.
            pub const VALUES: &'static [&'static str] = &[$($word),*];

            pub fn as_str(&self) -> &str {
                match self {
                    $($name::$variant => $word,)*
                    $name::Unknown(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => $name::$variant,)*
                    other => $name::Unknown(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                Ok($name::from(word.as_ref()))
            }
        }
    };
}
pub(crate) use wire_enum;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codebuild::CacheMode;

    #[test]
    fn words_become_variants_and_unknown_words_survive_the_round_trip() {
        let modes: Vec<CacheMode> =
            serde_json::from_str(r#"["LOCAL_SOURCE_CACHE", "LOCAL_MOON_CACHE"]"#).unwrap();
        assert_eq!(modes, [CacheMode::LocalSourceCache, CacheMode::Unknown("LOCAL_MOON_CACHE".into())]);
        assert_eq!(serde_json::to_string(&modes).unwrap(), r#"["LOCAL_SOURCE_CACHE","LOCAL_MOON_CACHE"]"#);
        assert_eq!(CacheMode::VALUES[0], "LOCAL_DOCKER_LAYER_CACHE");
    }

    // LC-008, AP-002
    #[test]
    fn a_timestamp_keeps_its_milliseconds() {
        let moment = Timestamp::from_millis(1_472_848_787_882);
        assert_eq!(serde_json::to_string(&moment).unwrap(), "1472848787.882");
        assert_eq!(moment.millis(), 1_472_848_787_882);
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Some(Sensitive::new("hunter2"))), "Some(Sensitive(***))");
        assert_eq!(serde_json::to_string(&Sensitive::new("hunter2")).unwrap(), "\"hunter2\"");
    }
}
