//! What a driver says to an agent over its socket: stop, and the values of the references that the agent asked for
//! with [`crate::journal::Event::ReferencesNeeded`], and where reports go.
//!
//! Values go through here and nowhere else: not to the plan, not to the journal, not to a disk. Where they come
//! from is the driver's business.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::journal::{Event, Secret};

/// Bytes of one answer: 64 secrets of the largest size that Secrets Manager has (64 KiB).
pub const ANSWER_LIMIT: usize = 4 << 20;

const STOP: u8 = b'S';
const ANSWER: u8 = b'A';
const HEADER: usize = 5;

/// The answer to the references that a build needs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Values {
        /// By the parameter's name, as asked for.
        parameters: BTreeMap<String, String>,
        /// Whole secret strings; keys of JSON secrets are taken out by the agent.
        #[serde(with = "pairs")]
        secrets: BTreeMap<Secret, String>,
        /// What `env.git-credential-helper` offers (BS-055).
        #[serde(default)]
        git: Vec<GitCredential>,
    },
    /// Where reports go, or why not, by the name of their group; of [`crate::journal::Event::ReportsNeeded`].
    Reports(BTreeMap<String, Result<ReportTarget, String>>),
    /// Ends DOWNLOAD_SOURCE as FAILED with this context, such as `Decrypted Variables Error` (BS-047).
    Refused { status_code: String, message: String },
}

/// A report that is being made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportTarget {
    pub arn: String,
    /// Where its files go as they are, if the group wants them.
    pub export: Option<ReportExport>,
}

/// A place in the object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportExport {
    pub bucket: String,
    pub path: String,
    /// One archive instead of the files.
    pub zip: bool,
}

/// A user name and password for the git hosts whose URL begins with `url`, such as `https://github.com`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitCredential {
    pub url: String,
    pub username: String,
    pub password: String,
}

impl Answer {
    /// Whether it answers this question rather than another one. A refusal answers all: the build ends with it.
    pub(crate) fn is_to(&self, question: &Event) -> bool {
        match (self, question) {
            (
                Answer::Values { parameters, secrets, .. },
                Event::ReferencesNeeded { parameters: names, secrets: wanted, .. },
            ) => {
                names.iter().all(|name| parameters.contains_key(name))
                    && wanted.iter().all(|secret| secrets.contains_key(secret))
            }
            (Answer::Reports(targets), Event::ReportsNeeded { groups }) => {
                groups.iter().all(|group| targets.contains_key(&group.name))
            }
            (Answer::Reports(_), _) | (_, Event::ReportsNeeded { .. }) => false,
            _ => true,
        }
    }
}

/// Names what there are values of, never the values.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Values { parameters, secrets, git } => f
                .debug_struct("Values")
                .field("parameters", &parameters.keys())
                .field("secrets", &secrets.keys())
                .field("git", git)
                .finish(),
            Answer::Reports(targets) => f.debug_tuple("Reports").field(targets).finish(),
            Answer::Refused { status_code, message } => {
                f.debug_struct("Refused").field("status_code", status_code).field("message", message).finish()
            }
        }
    }
}

impl fmt::Debug for GitCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitCredential").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A map whose keys are no text, as JSON can hold it.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Secret;

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<Secret, String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Secret, String>, D::Error> {
        Ok(Vec::<(Secret, String)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// One thing that a driver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// The build shall be STOPPED.
    Stop,
    Answer(Answer),
}

impl Word {
    /// The bytes that say it: one for a stop; a letter, the length and JSON for an answer. One over
    /// [`ANSWER_LIMIT`] becomes a refusal that says so.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Word::Answer(answer) = self else { return vec![STOP] };
        let body = serde_json::to_vec(answer).expect("texts in maps are JSON");
        let Some(length) = u32::try_from(body.len()).ok().filter(|length| *length as usize <= ANSWER_LIMIT)
        else {
            return Word::Answer(too_long(body.len())).to_bytes();
        };
        [&[ANSWER][..], &length.to_le_bytes(), &body].concat()
    }
}

fn too_long(bytes: usize) -> Answer {
    Answer::Refused {
        status_code: "CLIENT_ERROR".into(),
        message: format!("The build's parameters and secrets take {bytes} bytes, more than {ANSWER_LIMIT}"),
    }
}

/// Puts a driver's words together from whatever pieces its connection gives.
#[derive(Default)]
pub struct Hearing {
    pending: Vec<u8>,
}

/// What is pending may be half a secret.
impl fmt::Debug for Hearing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hearing").field("pending_bytes", &self.pending.len()).finish()
    }
}

impl Hearing {
    /// Takes in what arrived; returns the words that are complete.
    ///
    /// # Errors
    /// Bytes that are no word; such a connection is of no more use.
    pub fn feed(&mut self, bytes: &[u8]) -> io::Result<Vec<Word>> {
        self.pending.extend_from_slice(bytes);
        let mut words = Vec::new();
        let mut used = 0;
        while let Some((word, length)) = next(&self.pending[used..])? {
            words.push(word);
            used += length;
        }
        self.pending.drain(..used);
        Ok(words)
    }
}

/// The first whole word and its length.
fn next(bytes: &[u8]) -> io::Result<Option<(Word, usize)>> {
    match bytes.first() {
        None => return Ok(None),
        Some(&STOP) => return Ok(Some((Word::Stop, 1))),
        Some(&ANSWER) => {}
        Some(byte) => return Err(io::Error::other(format!("a driver says {byte:#04x}, which is no word"))),
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length > ANSWER_LIMIT {
        return Err(io::Error::other(format!("an answer of {length} bytes is over {ANSWER_LIMIT}")));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let answer = serde_json::from_slice(body).map_err(io::Error::other)?;
    Ok(Some((Word::Answer(answer), HEADER + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Answer {
        let secret = Secret { id: "prod/db".into(), stage: Some("AWSCURRENT".into()), version: None };
        Answer::Values {
            parameters: BTreeMap::from([("/a/b".into(), "value-1".into())]),
            secrets: BTreeMap::from([(secret, "value-2".into())]),
            git: vec![GitCredential {
                url: "https://x".into(),
                username: "u".into(),
                password: "value-3".into(),
            }],
        }
    }

    #[test]
    fn words_come_out_whole_however_the_bytes_arrive() {
        let refused = Answer::Refused { status_code: "code".into(), message: "why".into() };
        let words = [Word::Answer(values()), Word::Stop, Word::Answer(refused)];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_bytes()).collect();
        for size in 1..=bytes.len() {
            let mut hearing = Hearing::default();
            let heard: Vec<Word> =
                bytes.chunks(size).flat_map(|piece| hearing.feed(piece).unwrap()).collect();
            assert_eq!(heard, words, "in pieces of {size}");
        }
    }

    #[test]
    fn nonsense_is_an_error_and_not_an_allocation() {
        assert!(Hearing::default().feed(b"X").is_err());
        assert!(Hearing::default().feed(&[b'A', 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn an_answer_that_is_too_long_is_a_refusal() {
        let parameters = BTreeMap::from([("long".into(), "x".repeat(ANSWER_LIMIT))]);
        let answer = Answer::Values { parameters, secrets: BTreeMap::new(), git: Vec::new() };
        let heard = Hearing::default().feed(&Word::Answer(answer).to_bytes()).unwrap();
        assert!(matches!(&heard[..], [Word::Answer(Answer::Refused { .. })]));
    }

    #[test]
    fn values_are_not_shown_for_debugging() {
        let shown = format!("{:?}", Word::Answer(values()));
        assert!(shown.contains("/a/b") && shown.contains("prod/db"), "{shown}");
        assert!(!shown.contains("value-"), "{shown}");
    }
}
